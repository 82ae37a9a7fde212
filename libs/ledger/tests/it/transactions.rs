//! One statement is one transaction: a cancelled `begin()` leaves a pooled connection inside a transaction, and the next
//! user's write is answered and then lost (see src/pool.rs). Load finds that only by chance, so the source is looked at.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// How sqlx opens a transaction from the client.
const CALLS: &[&str] = &["begin", "begin_with", "try_begin", "transaction"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// Lines of a source that open a transaction, by their numbers; the rule is about code, not about comments.
fn begins(source: &str) -> Vec<usize> {
    let opens = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        CALLS
            .iter()
            .any(|call| code.contains(&format!(".{call}(")) || code.contains(&format!("::{call}(")))
    };
    let numbered = source.lines().zip(1..);
    numbered
        .filter(|(line, _)| opens(line))
        .map(|(_, number)| number)
        .collect()
}

#[test]
fn no_source_of_the_ledger_opens_a_transaction_from_the_client() -> Result<()> {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files)?;
    ensure!(
        files.iter().any(|file| file.ends_with("orders/writer.rs")),
        "not the sources: {files:?}"
    );
    let mut found = Vec::new();
    for file in &files {
        for line in begins(&std::fs::read_to_string(file)?) {
            found.push(format!("{}:{line}", file.display()));
        }
    }
    ensure!(
        found.is_empty(),
        "write one statement or a function of the schema instead:\n{}",
        found.join("\n")
    );
    Ok(())
}

#[test]
fn each_way_to_open_a_transaction_is_seen() {
    let source = "let tx = pool.begin().await?;\n// pool.begin()\nfn begin() {}\nlet tx = Connection::begin(&mut it);\n\
        connection.transaction(|tx| work(tx))\npool\n    .try_begin()\n.begin_with(\"begin\")";
    assert_eq!(begins(source), [1, 4, 5, 7, 8]);
}
