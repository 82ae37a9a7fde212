//! Prices and quantities: positive decimals of at most 28 digits, kept exactly as they were written.

use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::exact::{Exact, Literal};

/// Why a text or a result is not a number that can be kept exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AmountError {
    #[error("a number is missing")]
    Empty,
    #[error("not a decimal number")]
    NotANumber,
    #[error("must be greater than zero")]
    NotPositive,
    #[error("must not be negative")]
    Negative,
    #[error("has more than {max} decimals")]
    TooManyDecimals { max: u32 },
    #[error("is too large")]
    TooLarge,
    #[error("has more digits than can be kept exactly")]
    TooManyDigits,
}

impl AmountError {
    /// Digits that a price or quantity may have.
    pub const DIGITS_MAX: u32 = 28;
    /// Decimals that a quote's price may have.
    pub const DECIMALS_MAX: u32 = 28;
    /// Decimals that a client may send.
    pub const CLIENT_DECIMALS_MAX: u32 = 9;
    /// Digits before the point that a client may send; with the decimals this is SQL's `numeric(28,9)`.
    pub const CLIENT_INTEGERS_MAX: u32 = 19;

    /// Stable code for problem documents and metrics.
    pub fn code(self) -> &'static str {
        match self {
            AmountError::Empty => "empty",
            AmountError::NotANumber => "not_a_number",
            AmountError::NotPositive => "not_positive",
            AmountError::Negative => "negative",
            AmountError::TooManyDecimals { .. } => "too_many_decimals",
            AmountError::TooLarge => "too_large",
            AmountError::TooManyDigits => "too_many_digits",
        }
    }
}

/// Plain decimal text of a value: no exponent, no trailing zeros. Every decimal that leaves the service is
/// written by this.
pub fn decimal_text(value: Decimal) -> String {
    Exact::from_decimal(value).to_string()
}

/// Normalised text of a JSON number of any sign that fits 28 digits exactly; for figures that are passed on
/// and never computed with.
pub fn number_text(text: &str) -> Result<String, AmountError> {
    let value = Exact::parse(text)?;
    value.to_decimal()?;
    Ok(value.to_string())
}

fn parse_positive(text: &str) -> Result<Decimal, AmountError> {
    let literal = Literal::read(text)?;
    // The sign comes before the size, so that -1e400 is told what is wrong with it first.
    if literal.zero || literal.negative {
        return Err(AmountError::NotPositive);
    }
    literal.value()?.to_decimal()
}

/// The stricter form for what clients send: plain decimal text, limits counted as written.
pub(crate) fn parse_client(text: &str) -> Result<Decimal, AmountError> {
    let literal = Literal::read(text)?;
    if literal.has_exponent {
        return Err(AmountError::NotANumber);
    }
    if literal.zero || literal.negative {
        return Err(AmountError::NotPositive);
    }
    if literal.integers_written > AmountError::CLIENT_INTEGERS_MAX as usize {
        return Err(AmountError::TooLarge);
    }
    if literal.decimals_written > AmountError::CLIENT_DECIMALS_MAX as usize {
        return Err(AmountError::TooManyDecimals {
            max: AmountError::CLIENT_DECIMALS_MAX,
        });
    }
    literal.value()?.to_decimal()
}

macro_rules! positive_decimal {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Decimal);

        impl $name {
            /// Reads a JSON number's text, exponent forms too; refuses whatever does not fit 28 digits
            /// exactly.
            pub fn parse(text: &str) -> Result<$name, AmountError> {
                parse_positive(text).map($name)
            }

            /// Reads what a client sent: plain decimal text, at most 9 decimals and 19 digits before the
            /// point.
            pub fn parse_client(text: &str) -> Result<$name, AmountError> {
                parse_client(text).map($name)
            }

            /// Takes a value from the database; refuses zero, negative and more than 28 digits.
            pub fn from_decimal(value: Decimal) -> Result<$name, AmountError> {
                let exact = Exact::from_decimal(value);
                if exact.is_zero() || exact.is_negative() {
                    return Err(AmountError::NotPositive);
                }
                exact.to_decimal().map($name)
            }

            pub fn as_decimal(self) -> Decimal {
                self.0
            }

            pub(crate) fn exact(self) -> Exact {
                Exact::from_decimal(self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.exact().fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = AmountError;

            fn from_str(text: &str) -> Result<$name, AmountError> {
                $name::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = AmountError;

            fn try_from(text: String) -> Result<$name, AmountError> {
                $name::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    };
}

positive_decimal! {
    /// Money for one share, greater than zero, at most 28 digits. A JSON string; `numeric` in SQL.
    Price
}

positive_decimal! {
    /// A number of shares, fractions allowed, greater than zero, at most 28 digits. A JSON string; `numeric`
    /// in SQL.
    Quantity
}

impl Price {
    /// The exact product, or an error when it does not fit an [`Amount`].
    pub fn times(self, quantity: Quantity) -> Result<Amount, AmountError> {
        Amount::from_exact(&self.exact().mul(&quantity.exact()))
    }
}

impl Quantity {
    /// The exact sum, or an error when it has more than 28 digits.
    pub fn checked_add(self, other: Quantity) -> Result<Quantity, AmountError> {
        self.exact().add(&other.exact()).to_decimal().map(Quantity)
    }
}
