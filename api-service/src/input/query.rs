//! Query parameters: known ones once each, everything else refused.

use std::borrow::Cow;

use axum::extract::FromRequestParts;
use fuse_domain::{AmountError, Price, Symbol};
use http::request::Parts;
use uuid::Uuid;

use super::domain::{amount_code, sentence, symbol_code};
use crate::problem::{ApiError, Code, FieldCode, FieldError, Place, Problem};

/// Most parameters that a query may have.
const PARAMETERS_MAX: usize = 32;

/// The parameters, still text, and what is wrong with them so far.
pub struct Params {
    values: Vec<(String, String, bool)>,
    errors: Vec<FieldError>,
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

impl Params {
    /// Splits and decodes; a double or undecodable parameter is recorded.
    #[must_use]
    pub fn parse(query: &str) -> Self {
        let mut this = Self {
            values: Vec::new(),
            errors: Vec::new(),
        };
        for pair in query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .take(PARAMETERS_MAX)
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).unwrap_or(Cow::Borrowed("?")).into_owned();
            match decode(value) {
                _ if this.values.iter().any(|(known, ..)| *known == name) => {
                    this.refuse(&name, FieldCode::Duplicate, "The parameter is there twice.");
                }
                Some(value) => this.values.push((name, value.into_owned(), false)),
                None => this.refuse(&name, FieldCode::BadCharacter, "Not percent-encoded UTF-8."),
            }
        }
        this
    }

    /// Records that the value of `name` is wrong.
    pub fn refuse(&mut self, name: &str, code: FieldCode, detail: impl Into<String>) {
        let short: String = name.chars().take(64).collect();
        self.errors
            .push(FieldError::new(Place::Query, format!("/{short}"), code, detail));
    }

    /// The text of a parameter, if it is there.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let (_, value, seen) = self.values.iter_mut().find(|(known, ..)| known == name)?;
        *seen = true;
        Some(value.clone())
    }

    /// A text of 1 to `max` characters, if the parameter is there.
    pub fn label(&mut self, name: &str, max: usize) -> Option<String> {
        let text = self.text(name)?;
        let length = text.chars().count();
        if text.trim().is_empty() {
            self.refuse(
                name,
                FieldCode::Empty,
                "This must not be empty; leave the parameter out.",
            );
        } else if length > max {
            self.refuse(name, FieldCode::TooLong, format!("At most {max} characters."));
        } else {
            return Some(text);
        }
        None
    }

    /// How many items a page holds: 1 to `max`.
    pub fn limit(&mut self, default: u16, max: u16) -> u16 {
        let Some(text) = self.text("limit") else {
            return default;
        };
        match text.parse::<u16>() {
            Ok(limit) if (1..=max).contains(&limit) => limit,
            _ => {
                let detail = format!("This must be a whole number from 1 to {max}.");
                self.refuse("limit", FieldCode::OutOfRange, detail);
                default
            }
        }
    }

    /// An id, if the parameter is there.
    pub fn id(&mut self, name: &str) -> Option<Uuid> {
        let text = self.text(name)?;
        let id = Uuid::try_parse(&text).ok();
        if id.is_none() {
            self.refuse(name, FieldCode::NotAnId, "This must be an id.");
        }
        id
    }

    /// A time, if the parameter is there.
    pub fn time(&mut self, name: &str) -> Option<jiff::Timestamp> {
        let text = self.text(name)?;
        let time = text.parse().ok();
        if time.is_none() {
            let detail =
                "This must be an RFC 3339 time such as 2026-12-31T23:59:00Z (percent-encode a plus sign).";
            self.refuse(name, FieldCode::NotATime, detail);
        }
        time
    }

    /// `true` or `false`, if the parameter is there.
    pub fn flag(&mut self, name: &str) -> Option<bool> {
        let parse = |text: &str| match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        self.one_of(name, parse, &["true", "false"])
    }

    /// One of some words, if the parameter is there.
    pub fn one_of<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Option<T>,
        words: &[&str],
    ) -> Option<T> {
        let text = self.text(name)?;
        let value = parse(&text);
        if value.is_none() {
            let detail = format!("This must be one of {}.", words.join(", "));
            self.refuse(name, FieldCode::NotOneOf, detail);
        }
        value
    }

    /// A price with as many decimals as a quote may have, if the parameter is there.
    pub fn price(&mut self, name: &str) -> Option<Price> {
        let text = self.text(name)?;
        // The vendor's numbers may have exponents, a client's may not.
        let is_plain = text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'));
        let price = if is_plain {
            Price::parse(&text)
        } else {
            Err(AmountError::NotANumber)
        };
        price
            .map_err(|error| {
                let reason = sentence(&error.to_string());
                let detail = format!("{reason} Write a plain decimal such as 10.5.");
                self.refuse(name, amount_code(&error), detail);
            })
            .ok()
    }

    /// One to `max` symbols with commas between them, if the parameter is there.
    pub fn symbols(&mut self, name: &str, max: usize) -> Option<Vec<Symbol>> {
        let text = self.text(name)?;
        if text.is_empty() {
            let detail =
                "Write symbols with commas between them, such as AAPL,MSFT, or leave the parameter out.";
            self.refuse(name, FieldCode::Empty, detail);
            return None;
        }
        let count = text.split(',').count();
        if count > max {
            let detail = format!("These are {count} symbols; ask for at most {max} at once.");
            self.refuse(name, FieldCode::OutOfRange, detail);
            return None;
        }
        let mut symbols = Vec::with_capacity(count);
        for (number, text) in text.split(',').enumerate() {
            match Symbol::parse(text) {
                Ok(symbol) => symbols.push(symbol),
                Err(error) => {
                    let (place, reason) = (number + 1, sentence(&error.to_string()));
                    let detail = format!("Symbol {place}: {reason} Write them such as AAPL,MSFT.");
                    self.refuse(name, symbol_code(error), detail);
                    return None;
                }
            }
        }
        Some(symbols)
    }

    /// Refuses every parameter that was not read; fails when anything was wrong.
    pub fn finish(mut self) -> Result<(), ApiError> {
        let unread: Vec<String> = self
            .values
            .iter()
            .filter(|(_, _, seen)| !seen)
            .map(|(name, ..)| name.clone())
            .collect();
        for name in unread {
            self.refuse(
                &name,
                FieldCode::UnknownField,
                "This parameter is not known here.",
            );
        }
        if self.errors.is_empty() {
            return Ok(());
        }
        let detail = match self.errors.len() {
            1 => "One query parameter is wrong.".to_owned(),
            count => format!("{count} query parameters are wrong."),
        };
        Err(Problem::new(Code::InvalidQuery, detail)
            .with_errors(self.errors)
            .into())
    }
}

/// `application/x-www-form-urlencoded` decoding: plus is a space, then percent escapes.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['+', '%']) {
        return Some(Cow::Borrowed(text));
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced)
        .decode_utf8()
        .ok()?
        .into_owned();
    Some(Cow::Owned(decoded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expected: &[(&str, &str)]) {
        let mut params = Params::parse(query);
        params.limit(10, 100);
        params.label("search", 5);
        let errors = match params.finish() {
            Ok(()) => Vec::new(),
            Err(error) => error.problem.errors,
        };
        let found: Vec<(&str, &str)> = errors
            .iter()
            .map(|entry| (entry.pointer.as_str(), entry.code.as_str()))
            .collect();
        assert_eq!(found, expected, "{query}");
    }

    #[test]
    fn every_mistake_is_named_with_its_parameter() {
        check("", &[]);
        check("limit=100&search=a%20b+c", &[]);
        check(
            "limit=0&search=",
            &[("/limit", "out_of_range"), ("/search", "empty")],
        );
        check(
            "limit=101&limit=1",
            &[("/limit", "duplicate"), ("/limit", "out_of_range")],
        );
        check(
            "limit=-1&search=abcdef",
            &[("/limit", "out_of_range"), ("/search", "too_long")],
        );
        check(
            "search=%ff&page=2",
            &[("/search", "bad_character"), ("/page", "unknown_field")],
        );
    }
}
