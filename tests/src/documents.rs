//! What the documents of this repository promise, in a form that tests can compare.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};

use crate::services::workspace_root;

/// The text of a document; its path is from the workspace's folder.
///
/// # Errors
/// When it cannot be read.
pub fn read(document: &str) -> Result<String> {
    std::fs::read_to_string(workspace_root()?.join(document)).with_context(|| format!("read {document}"))
}

/// The DynamoDB actions that a document names in the lines that begin so.
///
/// # Errors
/// When it cannot be read, or names none.
pub fn dynamodb_actions(document: &str, lines_begin: &str) -> Result<BTreeSet<String>> {
    let actions: BTreeSet<String> = read(document)?
        .lines()
        .filter(|line| line.starts_with(lines_begin))
        .flat_map(|line| line.split('`'))
        .filter_map(|word| word.strip_prefix("dynamodb:"))
        .map(str::to_owned)
        .collect();
    ensure!(!actions.is_empty(), "no permissions were found in {document}");
    Ok(actions)
}
