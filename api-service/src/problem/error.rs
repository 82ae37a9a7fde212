//! The one error of the handlers: a public problem and a private cause.

use std::error::Error;

use axum::response::{IntoResponse, Response};
use fuse_ledger::LedgerError;

use super::{Code, FieldCode, FieldError, Place, Problem};

/// What a handler fails with. The cause is logged where the request ends and never reaches a client.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// What the client sees.
    pub problem: Box<Problem>,
    /// What only the log sees.
    pub cause: Option<String>,
}

/// The private cause on its way to the request log.
#[derive(Clone, Debug)]
pub struct Cause(pub String);

impl ApiError {
    /// A failure with `code` and a public sentence.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    /// One wrong value.
    pub fn field(
        code: Code,
        place: Place,
        pointer: &str,
        field_code: FieldCode,
        detail: impl Into<String>,
    ) -> Self {
        let detail = detail.into();
        Problem::new(code, detail.clone())
            .with_errors(vec![FieldError::new(place, pointer, field_code, detail)])
            .into()
    }

    /// A failure of ours; `cause` goes to the log.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Self {
            problem: Box::new(Problem::new(
                Code::InternalError,
                "The request could not be answered; the request id finds the reason in the service's log.",
            )),
            cause: Some(cause.to_string()),
        }
    }

    /// With a private cause.
    #[must_use]
    pub fn because(mut self, cause: impl std::fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self {
            problem: Box::new(problem),
            cause: None,
        }
    }
}

impl From<LedgerError> for ApiError {
    fn from(error: LedgerError) -> Self {
        database(&error)
    }
}

/// The one translation of the ledger's failures.
#[must_use]
pub fn database(error: &LedgerError) -> ApiError {
    let cause = chain(error);
    if error.retryable() {
        ApiError::new(
            Code::DatabaseUnavailable,
            "The database does not answer at the moment. Send the request again.",
        )
        .because(cause)
    } else {
        ApiError::internal(cause)
    }
}

/// An error and its sources in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (*self.problem).into_response();
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(Cause(cause));
        }
        response
    }
}
