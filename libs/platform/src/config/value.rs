//! Types that a configuration key can have.

use std::net::SocketAddr;

/// A type that is read from one text.
pub trait ConfigValue: Sized {
    /// What to write, as the end of the sentence "write …", with an example.
    const EXPECTED: &'static str;

    /// Parses the text. The error says why it is refused, as the end of "… is refused: it is …" would not fit
    /// everything, a whole clause: "it has no port".
    ///
    /// # Errors
    /// A clause for the mistake list.
    fn from_text(text: &str) -> Result<Self, String>;
}

impl ConfigValue for String {
    const EXPECTED: &'static str = "a text";

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl ConfigValue for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| "it is neither true nor false".to_owned())
    }
}

impl ConfigValue for SocketAddr {
    const EXPECTED: &'static str = "an IP address with a port, such as 127.0.0.1:8080 or 0.0.0.0:8080";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| "it is not an IP address with a port".to_owned())
    }
}

macro_rules! whole_number {
    ($($number:ty),*) => {$(
        impl ConfigValue for $number {
            const EXPECTED: &'static str = "a whole number";

            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("it is not a whole number from {} to {}", <$number>::MIN, <$number>::MAX))
            }
        }
    )*};
}
whole_number!(u16, u32, u64, usize);

impl ConfigValue for jiff::tz::TimeZone {
    const EXPECTED: &'static str = "the IANA name of a time zone, such as Etc/UTC or Europe/Berlin";

    fn from_text(text: &str) -> Result<Self, String> {
        Self::get(text).map_err(|_| "no such time zone is known".to_owned())
    }
}

/// An `http` or `https` URL without user, query or fragment; no slash at its end, so that paths are appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl(String);

impl HttpUrl {
    /// The URL as text, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `https`.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl std::fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for HttpUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::from_text(text)
    }
}

impl ConfigValue for HttpUrl {
    const EXPECTED: &'static str =
        "an http or https URL without user, query or fragment, such as https://vendor.example.com";

    fn from_text(text: &str) -> Result<Self, String> {
        let uri: http::Uri = text.parse().map_err(|_| "it is not a URL".to_owned())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err("it does not begin with http:// or https://".to_owned());
        }
        let authority = uri.authority().ok_or_else(|| "it names no host".to_owned())?;
        if authority.as_str().contains('@') {
            return Err("it holds a user or password".to_owned());
        }
        if authority.host().is_empty() {
            return Err("it names no host".to_owned());
        }
        if uri.query().is_some() || text.contains('#') {
            return Err("it has a query or fragment".to_owned());
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}
