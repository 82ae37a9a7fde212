//! A JSON object as the body: first pass into raw values, then one read per field.

use std::cell::RefCell;
use std::fmt;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use http::header;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{DeserializeSeed, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::problem::{ApiError, Code, FieldCode, FieldError, Place, Problem};
use crate::state::AppState;

/// Most fields that a body may have; ours have eight at most.
const FIELDS_MAX: usize = 64;

/// The bytes of a request with `Content-Type: application/json`, within the configured size and time.
pub struct JsonBody(pub Bytes);

impl FromRequest<AppState> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::field(
                Code::UnsupportedMediaType,
                Place::Header,
                "/Content-Type",
                FieldCode::NotOneOf,
                "Send the body with Content-Type: application/json.",
            ));
        }
        let limit = state.limits.body_max_bytes;
        let body = Limited::new(request.into_body(), limit);
        let collected = tokio::time::timeout(state.limits.body_timeout, body.collect()).await;
        match collected {
            Ok(Ok(collected)) => Ok(Self(collected.to_bytes())),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::new(
                Code::BodyTooLarge,
                format!("A body may have at most {limit} bytes."),
            )),
            Ok(Err(error)) => {
                Err(ApiError::new(Code::InvalidJson, "The body ended before it was complete.").because(error))
            }
            Err(_elapsed) => Err(ApiError::new(
                Code::BodyTimeout,
                format!(
                    "The body did not arrive within {} seconds.",
                    state.limits.body_timeout.as_secs()
                ),
            )),
        }
    }
}

fn is_json(headers: &http::HeaderMap) -> bool {
    let Some(value) = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    let mut parts = value.split(';');
    let essence = parts.next().unwrap_or_default().trim();
    let utf8 = parts.all(|part| {
        let part = part.trim().to_ascii_lowercase();
        !part.starts_with("charset=") || part.trim_matches('"').ends_with("utf-8")
    });
    essence.eq_ignore_ascii_case("application/json") && utf8
}

/// The fields of a JSON object, still raw, and what is wrong with them so far.
pub struct Fields<'a> {
    fields: Vec<(String, &'a RawValue, bool)>,
    errors: Vec<FieldError>,
}

impl<'a> Fields<'a> {
    /// First pass. Fails at once only when the body is not one JSON object.
    pub fn parse(body: &'a [u8]) -> Result<Self, ApiError> {
        let current = RefCell::new(None);
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let parsed = Raw { current: &current }
            .deserialize(&mut deserializer)
            .and_then(|fields| deserializer.end().map(|()| fields));
        match parsed {
            Ok(pairs) => Ok(Self::collect(pairs)),
            Err(error) => Err(not_an_object(body, &error, current.into_inner())),
        }
    }

    fn collect(pairs: Vec<(String, &'a RawValue)>) -> Self {
        let mut this = Self {
            fields: Vec::with_capacity(pairs.len()),
            errors: Vec::new(),
        };
        for (name, value) in pairs {
            if this.fields.iter().any(|(known, ..)| *known == name) {
                let detail = "The field is there twice.";
                this.refuse(&name, FieldCode::Duplicate, detail);
            } else {
                this.fields.push((name, value, false));
            }
        }
        this
    }

    /// Records that the value of `name` is wrong.
    pub fn refuse(&mut self, name: &str, code: FieldCode, detail: impl Into<String>) {
        let pointer = format!("/{}", escape(name));
        self.errors
            .push(FieldError::new(Place::Body, pointer, code, detail));
    }

    /// Records that entry `index` of the array `name` is wrong.
    pub fn refuse_entry(&mut self, name: &str, index: usize, code: FieldCode, detail: String) {
        let pointer = format!("/{}/{index}", escape(name));
        self.errors
            .push(FieldError::new(Place::Body, pointer, code, detail));
    }

    /// The raw value; JSON `null` counts as absent.
    fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let (_, value, seen) = self.fields.iter_mut().find(|(known, ..)| known == name)?;
        *seen = true;
        (value.get() != "null").then_some(*value)
    }

    /// Whether the field is there, without reading it.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(known, ..)| known == name)
    }

    /// Whether the field has a value other than null. Counts as reading it.
    pub fn is_given(&mut self, name: &str) -> bool {
        self.take(name).is_some()
    }

    /// A string, if there is one.
    pub fn optional_text(&mut self, name: &str) -> Option<String> {
        let raw = self.take(name)?;
        match serde_json::from_str::<String>(raw.get()) {
            Ok(text) => Some(text),
            Err(_) => {
                let detail = "This must be a JSON string, such as \"10.5\".";
                self.refuse(name, FieldCode::WrongType, detail);
                None
            }
        }
    }

    /// A string that must be there.
    pub fn text(&mut self, name: &str, meaning: &str) -> Option<String> {
        if self.take(name).is_none() {
            self.refuse(name, FieldCode::Required, format!("Needed: {meaning}."));
            return None;
        }
        self.optional_text(name)
    }

    /// A string of 1 to `max` characters without control characters, if there is one.
    pub fn optional_label(&mut self, name: &str, max: usize) -> Option<String> {
        let text = self.optional_text(name)?;
        self.label(name, text, max)
    }

    /// Checks that `text` has 1 to `max` characters and no control characters.
    pub fn label(&mut self, name: &str, text: String, max: usize) -> Option<String> {
        let length = text.chars().count();
        if text.trim().is_empty() {
            self.refuse(name, FieldCode::Empty, "This must not be empty.");
        } else if length > max {
            let detail = format!("At most {max} characters; these are {length}.");
            self.refuse(name, FieldCode::TooLong, detail);
        } else if text.chars().any(char::is_control) {
            let detail = "Control characters are not allowed.";
            self.refuse(name, FieldCode::BadCharacter, detail);
        } else {
            return Some(text);
        }
        None
    }

    /// A UUID, if there is one.
    pub fn optional_id(&mut self, name: &str) -> Option<Uuid> {
        let text = self.optional_text(name)?;
        let id = Uuid::try_parse(&text).ok();
        if id.is_none() {
            let detail = "This must be an id such as 0198a8f2-7c3e-7d10-a8a1-3a1f0a4bb0c1.";
            self.refuse(name, FieldCode::NotAnId, detail);
        }
        id
    }

    /// A time, if there is one.
    pub fn optional_time(&mut self, name: &str) -> Option<jiff::Timestamp> {
        let text = self.optional_text(name)?;
        let time = text.parse().ok();
        if time.is_none() {
            let detail = "This must be an RFC 3339 time such as 2026-12-31T23:59:00Z.";
            self.refuse(name, FieldCode::NotATime, detail);
        }
        time
    }

    /// An array of strings that must be there.
    pub fn texts(&mut self, name: &str, meaning: &str) -> Option<Vec<String>> {
        let Some(raw) = self.take(name) else {
            self.refuse(name, FieldCode::Required, format!("Needed: {meaning}."));
            return None;
        };
        let texts = serde_json::from_str(raw.get()).ok();
        if texts.is_none() {
            self.refuse(name, FieldCode::WrongType, "This must be an array of strings.");
        }
        texts
    }

    /// A whole number from 1 to `max`, if there is one.
    pub fn optional_count(&mut self, name: &str, max: u32) -> Option<u32> {
        let raw = self.take(name)?;
        let count = serde_json::from_str::<u32>(raw.get()).ok();
        let count = count.filter(|count| (1..=max).contains(count));
        if count.is_none() {
            let is_number = serde_json::from_str::<serde_json::Number>(raw.get()).is_ok();
            let code = if is_number {
                FieldCode::OutOfRange
            } else {
                FieldCode::WrongType
            };
            let detail = format!("This must be a whole number from 1 to {max}, without quotation marks.");
            self.refuse(name, code, detail);
        }
        count
    }

    /// Refuses a field that has no place beside the others, with a reason better than "unknown".
    pub fn unsupported(&mut self, name: &str, detail: &str) {
        if self.take(name).is_some() {
            self.refuse(name, FieldCode::NotSupported, detail);
        }
    }

    /// Refuses every field that was not read; fails when anything was wrong.
    pub fn finish(mut self) -> Result<(), ApiError> {
        let unread: Vec<String> = self
            .fields
            .iter()
            .filter(|(_, _, seen)| !seen)
            .map(|(name, ..)| name.clone())
            .collect();
        for name in unread {
            self.refuse(&name, FieldCode::UnknownField, "This field is not known here.");
        }
        if self.errors.is_empty() {
            return Ok(());
        }
        let detail = match self.errors.len() {
            1 => "One field is wrong.".to_owned(),
            count => format!("{count} fields are wrong."),
        };
        Err(Problem::new(Code::InvalidFields, detail)
            .with_errors(self.errors)
            .into())
    }
}

/// Escapes a name for a JSON pointer, and cuts it: it comes from the client and goes back to it.
fn escape(name: &str) -> String {
    let short: String = name.chars().take(64).collect();
    short.replace('~', "~0").replace('/', "~1")
}

fn not_an_object(body: &[u8], error: &serde_json::Error, field: Option<String>) -> ApiError {
    if body.iter().all(u8::is_ascii_whitespace) {
        return ApiError::field(
            Code::InvalidJson,
            Place::Body,
            "",
            FieldCode::Required,
            "The body is empty; a JSON object is needed.",
        );
    }
    if error.is_data() {
        return ApiError::field(
            Code::InvalidJson,
            Place::Body,
            "",
            FieldCode::WrongType,
            "The body must be one JSON object of reasonable size.",
        );
    }
    let pointer = field.map_or_else(String::new, |name| format!("/{}", escape(&name)));
    let detail = format!(
        "The body is not JSON from line {}, column {} on.",
        error.line(),
        error.column()
    );
    ApiError::field(
        Code::InvalidJson,
        Place::Body,
        &pointer,
        FieldCode::Syntax,
        detail,
    )
}

/// Reads an object into pairs, keeps doubles, and remembers which field it was in when the text stopped being JSON.
struct Raw<'c> {
    current: &'c RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Raw<'_> {
    type Value = Vec<(String, &'de RawValue)>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Raw<'_> {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if pairs.len() == FIELDS_MAX {
                return Err(A::Error::custom("too many fields"));
            }
            *self.current.borrow_mut() = Some(name.clone());
            pairs.push((name, map.next_value()?));
            *self.current.borrow_mut() = None;
        }
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(body: &str, read: impl FnOnce(&mut Fields<'_>)) -> Vec<(String, &'static str)> {
        let error = match Fields::parse(body.as_bytes()) {
            Err(error) => error,
            Ok(mut fields) => {
                read(&mut fields);
                match fields.finish() {
                    Ok(()) => return Vec::new(),
                    Err(error) => error,
                }
            }
        };
        let errors = error.problem.errors.iter();
        errors
            .map(|entry| (entry.pointer.clone(), entry.code.as_str()))
            .collect()
    }

    fn check(body: &str, expected: &[(&str, &str)]) {
        let found = errors(body, |fields| {
            fields.text("symbol", "a stock");
            fields.optional_id("portfolioId");
        });
        let found: Vec<(&str, &str)> = found.iter().map(|(p, c)| (p.as_str(), *c)).collect();
        assert_eq!(found, expected, "{body}");
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        check(r#"{"symbol":"A"}"#, &[]);
        check(r#"{"symbol":"A","portfolioId":null}"#, &[]);
        check("", &[("", "required")]);
        check("[]", &[("", "wrong_type")]);
        check("\"x\"", &[("", "wrong_type")]);
        check("{", &[("", "syntax")]);
        check(r#"{"symbol":"A"} x"#, &[("", "syntax")]);
        check(r#"{"symbol":NaN}"#, &[("/symbol", "syntax")]);
        check("{}", &[("/symbol", "required")]);
        check(r#"{"symbol":null}"#, &[("/symbol", "required")]);
        check(
            r#"{"symbol":7,"portfolioId":"x","a/b":1}"#,
            &[
                ("/symbol", "wrong_type"),
                ("/portfolioId", "not_an_id"),
                ("/a~1b", "unknown_field"),
            ],
        );
        check(r#"{"symbol":"A","symbol":"B"}"#, &[("/symbol", "duplicate")]);
        check(
            &format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000)),
            &[("", "wrong_type")],
        );
        let deep = format!(
            "{{\"deep\":{}1{},\"symbol\":\"A\"}}",
            "[".repeat(10_000),
            "]".repeat(10_000)
        );
        check(&deep, &[("/deep", "unknown_field")]);
    }
}
