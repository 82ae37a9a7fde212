//! The two manifests in the repository are what the types say, byte for byte, and keep within the size budget.

use std::path::Path;

const SIZE_MAX: usize = 256 * 1024;

fn check(file: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let committed =
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(
        committed == generated,
        "{} is out of date: run `cargo xtask generate`",
        path.display()
    );
    assert!(
        committed.len() < SIZE_MAX,
        "{} has {} bytes",
        path.display(),
        committed.len()
    );
}

#[test]
fn manifest_is_current() {
    check(
        "fusetradingservices.yaml",
        &fuse_crds::crd_yaml().expect("the types make a definition"),
    );
}

#[test]
fn chart_copy_is_current_and_kept_on_uninstall() {
    let text = fuse_crds::chart_yaml().expect("the types make a definition");
    assert!(text.contains("helm.sh/resource-policy: keep"));
    assert!(!text.contains("{{"), "Helm would take it for a template");
    check("../charts/fuse-crds/templates/fusetradingservices.yaml", &text);
}

#[test]
fn integers_are_signed_and_every_string_has_a_limit() {
    let text = serde_json::to_value(fuse_crds::crd().expect("valid")).expect("valid");
    let schema = &text["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut unlimited = Vec::new();
    walk("spec", schema, &mut unlimited);
    assert_eq!(unlimited, Vec::<String>::new());
}

fn walk(path: &str, schema: &serde_json::Value, unlimited: &mut Vec<String>) {
    let missing = match schema["type"].as_str() {
        Some("string") => schema["maxLength"].is_null() && schema["enum"].is_null(),
        Some("array") => schema["maxItems"].is_null(),
        Some("integer") => schema["format"]
            .as_str()
            .is_some_and(|format| format.starts_with('u')),
        Some("object") => !schema["additionalProperties"].is_null() && schema["maxProperties"].is_null(),
        _ => false,
    };
    if missing {
        unlimited.push(path.to_owned());
    }
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            walk(&format!("{path}.{name}"), property, unlimited);
        }
    }
    for (part, child) in [("[]", &schema["items"]), ("{}", &schema["additionalProperties"])] {
        if child.is_object() {
            walk(&format!("{path}{part}"), child, unlimited);
        }
    }
}
