use std::fmt;

use serde::{Deserialize, Serialize};

/// A stock symbol as the vendor writes it, case kept: 1 to 20 ASCII letters, digits and `. - _ ^ =`, with at
/// least one letter or digit. The last rule keeps `.` and `..` out of the paths of the URLs that symbols
/// become part of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Symbol(String);

/// Why a text is no symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SymbolError {
    #[error("a symbol must not be empty")]
    Empty,
    #[error("a symbol has at most {max} characters", max = Symbol::LENGTH_MAX)]
    TooLong,
    #[error("a symbol consists of ASCII letters, digits and . - _ ^ = with at least one letter or digit")]
    IllegalCharacter,
}

impl SymbolError {
    /// Stable code for problem documents and metrics.
    pub fn code(self) -> &'static str {
        match self {
            SymbolError::Empty => "empty",
            SymbolError::TooLong => "too_long",
            SymbolError::IllegalCharacter => "illegal_character",
        }
    }
}

impl Symbol {
    pub const LENGTH_MAX: usize = 20;

    pub fn parse(text: &str) -> Result<Symbol, SymbolError> {
        if text.is_empty() {
            return Err(SymbolError::Empty);
        }
        if text.chars().count() > Symbol::LENGTH_MAX {
            return Err(SymbolError::TooLong);
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_^=".contains(&byte);
        if !text.bytes().all(legal) || !text.bytes().any(|byte| byte.is_ascii_alphanumeric()) {
            return Err(SymbolError::IllegalCharacter);
        }
        Ok(Symbol(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for Symbol {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Symbol {
    type Err = SymbolError;

    fn from_str(text: &str) -> Result<Symbol, SymbolError> {
        Symbol::parse(text)
    }
}

impl TryFrom<String> for Symbol {
    type Error = SymbolError;

    fn try_from(text: String) -> Result<Symbol, SymbolError> {
        Symbol::parse(&text)
    }
}

impl From<Symbol> for String {
    fn from(symbol: Symbol) -> String {
        symbol.0
    }
}
