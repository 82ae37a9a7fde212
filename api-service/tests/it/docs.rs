//! The documents say what the code does, and nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};
use api_service::http::routes_and_methods;
use api_service::problem::{Code, FieldCode};
use fuse_domain::Reason;

fn read(name: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    std::fs::read_to_string(&path).with_context(|| format!("read docs/{name}"))
}

/// First cells of the rows of the table under a heading.
fn rows(text: &str, heading: &str) -> Vec<Vec<String>> {
    let section = text
        .split("\n## ")
        .find(|section| section.starts_with(heading))
        .unwrap_or_default();
    section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            line.trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().trim_matches('`').to_owned())
                .collect()
        })
        .collect()
}

#[test]
fn every_code_is_documented_with_its_status() -> Result<()> {
    let text = read("errors.md")?;
    let documented: BTreeSet<(String, String)> = rows(&text, "Problems")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let real: BTreeSet<(String, String)> = Code::ALL
        .iter()
        .map(|code| (code.as_str().to_owned(), code.status().as_u16().to_string()))
        .collect();
    assert_eq!(documented, real);
    Ok(())
}

#[test]
fn every_code_of_a_field_is_documented() -> Result<()> {
    let documented: BTreeSet<String> = rows(&read("errors.md")?, "Fields")
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    let real: BTreeSet<String> = FieldCode::ALL
        .iter()
        .map(|code| code.as_str().to_owned())
        .collect();
    assert_eq!(documented, real);
    Ok(())
}

#[test]
fn every_reason_of_an_order_is_documented_with_its_status() -> Result<()> {
    let text = read("errors.md")?;
    let documented: BTreeSet<(String, String)> = rows(&text, "Reasons")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let real: BTreeSet<(String, String)> = Reason::ALL
        .iter()
        .map(|reason| (reason.as_str().to_owned(), reason.status().as_str().to_owned()))
        .collect();
    assert_eq!(documented, real);
    Ok(())
}

#[test]
fn every_route_is_documented() -> Result<()> {
    let documented: BTreeSet<String> = read("api.md")?
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(str::to_owned)
        .collect();
    let real: BTreeSet<String> = routes_and_methods()
        .into_iter()
        .map(|(path, method)| format!("{method} {path}"))
        .collect();
    assert_eq!(documented, real);
    Ok(())
}
