//! What can go wrong while talking to the API server, and what to do about it.

use std::time::Duration;

/// A write or a look-up that failed. Tells what was tried; the cause is kept.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct ApplyError {
    /// Verb, kind and name.
    pub what: String,
    #[source]
    pub source: WriteError,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The API server refuses this object as it is: schema, policy, quota.
    #[error("refused: {0}")]
    Rejected(String),
    /// Somebody else was quicker, or the object is another one now.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The object, its namespace or its kind is not there (any more).
    #[error("not found: {0}")]
    NotFound(String),
    /// The namespace goes away; so will the service.
    #[error("the namespace is being deleted")]
    NamespaceTerminating,
    /// The operator lacks a permission.
    #[error("not permitted: {0}")]
    Forbidden(String),
    /// No answer within the deadline.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// Anything else: network, overload, an answer that cannot be read.
    #[error("{0}")]
    Unavailable(#[source] Box<kube::Error>),
}

impl WriteError {
    /// All words that [`WriteError::category`] can say.
    pub const CATEGORIES: &'static [&'static str] = &[
        "rejected",
        "conflict",
        "not_found",
        "namespace_terminating",
        "forbidden",
        "timed_out",
        "unavailable",
    ];

    /// For metrics and logs.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Rejected(_) => "rejected",
            Self::Conflict(_) => "conflict",
            Self::NotFound(_) => "not_found",
            Self::NamespaceTerminating => "namespace_terminating",
            Self::Forbidden(_) => "forbidden",
            Self::TimedOut(_) => "timed_out",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// When to try again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Rejected(_) | Self::NamespaceTerminating => Retry::AwaitChange,
            Self::Conflict(_) => Retry::AtOnce,
            Self::NotFound(_) | Self::Forbidden(_) | Self::TimedOut(_) | Self::Unavailable(_) => {
                Retry::Transient
            }
        }
    }
}

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Not before something changes.
    AwaitChange,
    /// Later, with growing pauses.
    Transient,
    /// Immediately: the stores know better by now.
    AtOnce,
}

impl From<kube::Error> for WriteError {
    fn from(error: kube::Error) -> Self {
        let kube::Error::Api(status) = &error else {
            return Self::Unavailable(Box::new(error));
        };
        let message = status.message.clone();
        match status.code {
            403 | 404 if message.contains("because it is being terminated") => Self::NamespaceTerminating,
            // RBAC says `User "…" cannot …`; policies and quotas say something else.
            403 if message.contains("User \"") || message.contains("cannot set blockOwnerDeletion") => {
                Self::Forbidden(message)
            }
            400 | 403 | 413 | 422 => Self::Rejected(message),
            404 => Self::NotFound(message),
            409 => Self::Conflict(message),
            _ => Self::Unavailable(Box::new(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn api(code: u16, message: &str) -> WriteError {
        kube::Error::Api(Box::new(Status::failure(message, "").with_code(code))).into()
    }

    #[test]
    fn answers_become_categories() {
        let quota = "pods \"x\" is forbidden: exceeded quota: q";
        let rbac = "services \"x\" is forbidden: User \"system:serviceaccount:a:b\" cannot patch resource";
        let terminating = "unable to create new content in namespace n because it is being terminated";
        for (error, category, retry) in [
            (api(422, "invalid"), "rejected", Retry::AwaitChange),
            (api(403, quota), "rejected", Retry::AwaitChange),
            (api(403, rbac), "forbidden", Retry::Transient),
            (api(403, terminating), "namespace_terminating", Retry::AwaitChange),
            (api(409, "uid mismatch"), "conflict", Retry::AtOnce),
            (api(404, "not found"), "not_found", Retry::Transient),
            (api(503, "away"), "unavailable", Retry::Transient),
            (api(429, "slow down"), "unavailable", Retry::Transient),
        ] {
            assert_eq!((error.category(), error.retry()), (category, retry), "{error}");
            assert!(WriteError::CATEGORIES.contains(&category));
        }
    }
}
