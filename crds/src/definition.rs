//! The manifest of the custom resource definition, made from the types.
//!
//! `crds/fusetradingservices.yaml` and its copy in the chart are these texts, byte for byte (`crds/tests/drift.rs`).

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::v1alpha1::FuseTradingService;

/// The definition could not be turned into text; means that the types hold something that YAML cannot say.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// The schema as JSON.
    #[error("the schema is not a custom resource definition: {0}")]
    Json(#[from] serde_json::Error),
    /// The definition as YAML.
    #[error("the definition cannot be written as YAML: {0}")]
    Yaml(#[from] serde_yaml_ng::Error),
}

const HEADER: &str = "# Generated from the Rust types in crds/src by `cargo xtask generate`; do not edit.\n";

/// The definition as an object.
///
/// # Errors
/// [`DefinitionError::Json`] when the derived schema is no valid definition, which a test rules out.
pub fn crd() -> Result<CustomResourceDefinition, DefinitionError> {
    let mut value = serde_json::to_value(FuseTradingService::crd())?;
    strip_nullable(&mut value);
    Ok(serde_json::from_value(value)?)
}

/// The definition as YAML with a header comment: the content of `crds/fusetradingservices.yaml`.
///
/// # Errors
/// As [`crd`], and when YAML cannot express it.
pub fn crd_yaml() -> Result<String, DefinitionError> {
    Ok(format!("{HEADER}{}", serde_yaml_ng::to_string(&crd()?)?))
}

/// The same definition as a chart template: Helm must keep it (and with it every user's resources) on uninstall.
///
/// # Errors
/// As [`crd_yaml`].
pub fn chart_yaml() -> Result<String, DefinitionError> {
    let mut definition = crd()?;
    definition
        .metadata
        .annotations
        .get_or_insert_default()
        .insert("helm.sh/resource-policy".into(), "keep".into());
    Ok(format!("{HEADER}{}", serde_yaml_ng::to_string(&definition)?))
}

/// Optional fields come out `nullable`, which would let a stored `tag: null` count as a tag in `has(self.tag)`.
/// Without it the API server refuses an explicit null by name.
fn strip_nullable(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("nullable") == Some(&Value::Bool(true)) {
                map.remove("nullable");
            }
            map.values_mut().for_each(strip_nullable);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nullable),
        _ => {}
    }
}
