//! What can go wrong with the snapshot store, told apart by what helps.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use uuid::Uuid;

/// An operation on the snapshot store that did not succeed. Texts carry no addresses or keys.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not reachable, too slow, throttled or failing inside: try again later.
    #[error("DynamoDB is not available ({operation}: {detail})")]
    Unavailable { operation: &'static str, detail: String },
    /// The table is not there (yet): whoever makes the first pass makes it.
    #[error(
        "DynamoDB has no table {table}: the first pass creates it when dynamodb.create_table is true and the role allows dynamodb:CreateTable; else create it beforehand (string keys pk and sk, on-demand, index movers on the strings mover_pk and mover_sk that includes the attribute movers, TTL on expires_at)"
    )]
    TableMissing { table: String },
    /// The credentials do not allow the operation.
    #[error(
        "DynamoDB refuses {operation} on table {table} ({code}): give this role dynamodb:{operation}, or create the table beforehand (string keys pk and sk, on-demand, index movers on the strings mover_pk and mover_sk that includes the attribute movers, TTL on expires_at)"
    )]
    NotAllowed {
        operation: &'static str,
        table: String,
        code: String,
    },
    /// The table exists with other keys than ours.
    #[error("DynamoDB table {table} has other keys than pk (hash) and sk (range): it is not ours")]
    WrongKeys { table: String },
    /// Pages of the snapshot are gone or expired.
    #[error("snapshot {id} is incomplete: {found} of {expected} pages are left")]
    Incomplete { id: Uuid, found: usize, expected: usize },
    /// An item does not read back as what we write.
    #[error("the snapshot store holds an unreadable item: {what}")]
    Corrupt { what: String },
    /// More than an item may hold; nothing was sent.
    #[error("{what} has {bytes} bytes, which is more than DynamoDB takes")]
    Oversize { what: String, bytes: usize },
    /// DynamoDB refused the request itself; repeating it changes nothing.
    #[error("DynamoDB refused {operation} ({code})")]
    Refused { operation: &'static str, code: String },
}

impl StoreError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::TableMissing { .. } | Self::Incomplete { .. } => true,
            Self::NotAllowed { .. }
            | Self::WrongKeys { .. }
            | Self::Corrupt { .. }
            | Self::Oversize { .. }
            | Self::Refused { .. } => false,
        }
    }

    /// Stable name for logs and labels.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "unavailable",
            Self::TableMissing { .. } => "table_missing",
            Self::NotAllowed { .. } => "not_allowed",
            Self::WrongKeys { .. } => "wrong_keys",
            Self::Incomplete { .. } => "incomplete",
            Self::Corrupt { .. } => "corrupt",
            Self::Oversize { .. } => "oversize",
            Self::Refused { .. } => "refused",
        }
    }

    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }
}

/// Sorts an SDK error. The SDK's own texts are left out: they carry endpoints.
pub(super) fn sort<E, R>(operation: &'static str, table: &str, error: &SdkError<E, R>) -> StoreError
where
    E: ProvideErrorMetadata,
{
    let unavailable = |detail: &str| StoreError::Unavailable {
        operation,
        detail: detail.into(),
    };
    match error {
        SdkError::ConstructionFailure(_) => unavailable("the request could not be built"),
        SdkError::TimeoutError(_) => unavailable("timeout"),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => unavailable("timeout"),
        SdkError::DispatchFailure(failure) if failure.is_io() => unavailable("no connection"),
        SdkError::DispatchFailure(_) => unavailable("no connection or no credentials"),
        SdkError::ResponseError(_) => unavailable("unreadable answer"),
        SdkError::ServiceError(service) => {
            sort_code(operation, table, service.err().code().unwrap_or("no code"))
        }
        _ => unavailable("unexpected failure"),
    }
}

fn sort_code(operation: &'static str, table: &str, code: &str) -> StoreError {
    match code {
        "ResourceNotFoundException" => StoreError::TableMissing { table: table.into() },
        "AccessDeniedException"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "MissingAuthenticationTokenException"
        | "ExpiredTokenException" => StoreError::NotAllowed {
            operation,
            table: table.into(),
            code: code.into(),
        },
        "ValidationException" | "ItemCollectionSizeLimitExceededException" => StoreError::Refused {
            operation,
            code: code.into(),
        },
        _ => StoreError::Unavailable {
            operation,
            detail: code.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_codes_are_sorted_by_what_helps() {
        for (code, name, retryable) in [
            ("ResourceNotFoundException", "table_missing", true),
            ("AccessDeniedException", "not_allowed", false),
            ("ValidationException", "refused", false),
            ("ProvisionedThroughputExceededException", "unavailable", true),
            ("InternalServerError", "unavailable", true),
            ("something new", "unavailable", true),
        ] {
            let error = sort_code("PutItem", "fuse-market", code);
            assert_eq!((error.code(), error.retryable()), (name, retryable), "{code}");
        }
    }
}
