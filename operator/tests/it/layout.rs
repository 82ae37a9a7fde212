//! The shape of the crate: what decides may not talk.

use std::path::Path;

use anyhow::Result;

/// Modules that may name a client; all others are pure or read stores.
const TALKERS: &[&str] = &[
    "apply.rs",
    "controller.rs",
    "controller/watches.rs",
    "events.rs",
    "main.rs",
    "status_writer.rs",
];

#[test]
fn only_a_few_modules_name_a_client() -> Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut talkers = Vec::new();
    visit(&source, &source, &mut talkers)?;
    talkers.sort();
    assert_eq!(talkers, TALKERS);
    Ok(())
}

fn visit(root: &Path, directory: &Path, talkers: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            visit(root, &path, talkers)?;
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let names_client = ["kube::Client", "Api<", "kube::Config", "Api::"]
            .iter()
            .any(|word| text.contains(word));
        if names_client {
            talkers.push(path.strip_prefix(root)?.display().to_string());
        }
        assert!(text.lines().count() < 500, "{} is too long", path.display());
    }
    Ok(())
}
