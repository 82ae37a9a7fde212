//! A computed report as a page and as text.
//!
//! The MJML skeleton becomes HTML first, and values are put into that HTML last, with escaping on: whatever a
//! value holds, it stays text. Both forms list the same orders, a bounded number of each section.

mod view;

use std::sync::OnceLock;

use fuse_domain::DailyReport;
use minijinja::{Environment, UndefinedBehavior};
use mrml::prelude::render::RenderOptions;

use self::view::View;

const MJML: &str = include_str!("report.mjml");
const TEXT: &str = include_str!("report.txt.jinja");

/// The two forms of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// A whole page, without any foreign host.
    pub html: String,
    /// Plain text, LF line ends.
    pub plain: String,
}

/// Renders a report, with a notice at its head if there is one. The same report gives the same bytes.
///
/// # Errors
/// What the template engine says; a mistake in the templates, which a test shows.
pub fn render(report: &DailyReport, notice: Option<&str>) -> Result<Rendered, String> {
    let view = minijinja::Value::from(minijinja::value::Serde(View::of(report, notice)));
    let mut environment = Environment::new();
    // A misspelt name in a template is an error and not an empty cell.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let skeleton = skeleton()?;
    let put = |error: minijinja::Error| format!("{error:#}");
    // The name decides on escaping: .html is escaped, .txt is not.
    environment.add_template("report.html", skeleton).map_err(put)?;
    environment.add_template("report.txt", TEXT).map_err(put)?;
    let fill = |name: &str| {
        environment
            .get_template(name)
            .and_then(|template| template.render(view.clone()))
            .map_err(put)
    };
    Ok(Rendered {
        html: fill("report.html")?,
        plain: fill("report.txt")?,
    })
}

/// The subject of the mail.
pub fn subject(report: &DailyReport) -> String {
    let totals = &report.totals;
    let mut subject = format!(
        "Fuse report {}: {}, {} filled",
        report.date,
        counted(totals.orders, "order"),
        totals.filled
    );
    if totals.unknown > 0 {
        subject.push_str(&format!(", {} UNKNOWN", totals.unknown));
    }
    subject
}

fn counted(count: u64, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}

/// The MJML as HTML, made once per process.
fn skeleton() -> Result<&'static str, String> {
    static SKELETON: OnceLock<Result<String, String>> = OnceLock::new();
    let made = SKELETON.get_or_init(|| {
        let parsed = mrml::parse(MJML).map_err(|error| error.to_string())?;
        // No fonts from anywhere: the report names only those that are there.
        let options = RenderOptions {
            fonts: std::collections::HashMap::new(),
            ..RenderOptions::default()
        };
        parsed.element.render(&options).map_err(|error| error.to_string())
    });
    made.as_deref().map_err(Clone::clone)
}
