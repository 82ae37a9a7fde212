//! Patterns and shared pieces of the schema: names, URLs, quantities, label-like maps.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A Kubernetes quantity in the forms that this resource takes: `100m`, `0.5`, `64Mi`, `1Gi`. At most 20 characters.
pub const QUANTITY: &str = r"^[0-9]+([.][0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$";
/// Name of a Secret, a pull secret, a host: a DNS subdomain.
pub const DNS_SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// Name of a namespace.
pub const DNS_LABEL: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// Key inside a Secret.
pub const SECRET_KEY: &str = r"^[-._a-zA-Z0-9]+$";
/// Name of an environment variable.
pub const ENV_NAME: &str = r"^[A-Za-z_][A-Za-z0-9_]*$";
/// An address range, IPv4 or IPv6; the operator checks it fully.
pub const CIDR: &str = r"^[0-9a-fA-F:.]+/[0-9]{1,3}$";
/// Digest of an image.
pub const DIGEST: &str = r"^sha256:[0-9a-f]{64}$";
/// Tag of an image.
pub const TAG: &str = r"^[A-Za-z0-9_][-A-Za-z0-9_.]*$";
/// Repository of an image, with or without registry and port.
pub const REPOSITORY: &str = r"^[a-z0-9]([-a-z0-9._:/]*[a-z0-9])?$";
/// Name of an AWS region.
pub const REGION: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// Prefix of DynamoDB tables.
pub const TABLE_PREFIX: &str = r"^[a-zA-Z0-9_-]+$";
/// A mail address, roughly: the mail server decides.
pub const MAIL_ADDRESS: &str = r"^[^@\s,;<>]+@[^@\s,;<>]+$";

/// A map of at most 16 pairs with values of at most 1024 characters: annotations, node labels.
pub fn label_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 1024},
    })
}

/// RFC 3339 time of the status.
pub fn date_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time"})
}
