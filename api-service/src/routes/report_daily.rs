//! `GET /v1/reports/daily/{date}`: the report of a day, in the form that the client accepts.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};

use crate::auth::Reporter;
use crate::input::{Params, PathDate};
use crate::problem::{ApiError, Code, FieldCode, Place};
use crate::state::AppState;

/// The forms that exist, the preferred one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Html,
}

/// Read a daily report
///
/// JSON or HTML by `Accept`. Readable from the moment it is computed, whatever happens to the mail.
#[utoipa::path(
    get, path = "/v1/reports/daily/{date}", tag = "reports",
    params(
        ("date" = String, Path, format = Date, example = "2026-12-31"),
        ("Accept" = Option<String>, Header, description = "`application/json` (also when absent) or `text/html`"),
    ),
    responses(
        (status = 200, description = "The report", content(
            (serde_json::Value = "application/json"),
            (String = "text/html"),
        )),
        (status = 404, description = "`report_not_found`"),
        (status = 406, description = "`not_acceptable`"),
    )
)]
pub async fn report_daily(
    State(state): State<AppState>,
    Reporter(caller): Reporter,
    PathDate(date): PathDate,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    params.finish()?;
    // A report holds the orders of all users.
    if caller.only_user().is_some() {
        return Err(ApiError::new(
            Code::ScopeMissing,
            "Reports are for the keys of services.",
        ));
    }
    let form = form(&headers)?;
    let report = state.ledger.report(date).await?;
    let content = report.and_then(|report| report.content).ok_or_else(|| {
        ApiError::new(
            Code::ReportNotFound,
            format!("There is no report of {date} (yet); it is made once the day is over."),
        )
    })?;
    let (media_type, text) = match form {
        Form::Json => ("application/json", content.json),
        Form::Html => ("text/html; charset=utf-8", content.html),
    };
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    // The page is made of our own markup and escaped values; it needs no script and no foreign host.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    Ok(response)
}

/// The acceptable form with the highest quality; JSON when equal.
fn form(headers: &HeaderMap) -> Result<Form, ApiError> {
    let accepts: Vec<&str> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    if accepts.is_empty() {
        return Ok(Form::Json);
    }
    let json = quality(&accepts, "application", "json");
    let html = quality(&accepts, "text", "html");
    match (json, html) {
        (0, 0) => Err(ApiError::field(
            Code::NotAcceptable,
            Place::Header,
            "/Accept",
            FieldCode::NotOneOf,
            "This report can be had as application/json or text/html.",
        )),
        (json, html) if html > json => Ok(Form::Html),
        _ => Ok(Form::Json),
    }
}

/// Quality in thousandths that the most specific matching range gives (RFC 9110, section 12.5.1); 0 is refused.
fn quality(accepts: &[&str], kind: &str, subtype: &str) -> u16 {
    let mut best = (0, 0);
    for range in accepts {
        let mut parts = range.split(';').map(str::trim);
        let media_range = parts.next().unwrap_or_default().to_ascii_lowercase();
        let specificity = match media_range.split_once('/') {
            Some((k, s)) if k == kind && s == subtype => 3,
            Some((k, "*")) if k == kind => 2,
            Some(("*", "*")) => 1,
            _ => continue,
        };
        let weight = parts
            .find_map(|part| part.strip_prefix("q="))
            .map_or(1000, thousandths);
        if specificity > best.0 {
            best = (specificity, weight);
        }
    }
    best.1
}

/// `0.8` is 800; what is not a weight counts as 1.
fn thousandths(text: &str) -> u16 {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = format!("{whole}{decimals:0<3}")
        .chars()
        .take(whole.len() + 3)
        .collect();
    digits.parse().map_or(1000, |value: u16| value.min(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: Option<&'static str>, expected: Option<Form>) {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        }
        assert_eq!(form(&headers).ok(), expected, "{accept:?}");
    }

    #[test]
    fn the_form_is_the_best_that_is_accepted() {
        check(None, Some(Form::Json));
        check(Some("*/*"), Some(Form::Json));
        check(Some("application/json"), Some(Form::Json));
        check(Some("text/html"), Some(Form::Html));
        check(Some("text/*"), Some(Form::Html));
        check(
            Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
            Some(Form::Html),
        );
        check(Some("text/html;q=0.5, application/json;q=0.7"), Some(Form::Json));
        check(Some("text/html;q=0.75, application/json;q=0.7"), Some(Form::Html));
        check(Some("application/json;q=0, */*"), Some(Form::Html));
        check(Some("text/csv"), None);
        check(Some("application/json;q=0"), None);
        check(Some(""), None);
    }
}
