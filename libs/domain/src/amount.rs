//! Totals of money. They need more digits than the factors they are made of, so they are wider than a
//! `Decimal`.

use std::cmp::Ordering;
use std::fmt;

use num_bigint::BigInt;
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::exact::{Exact, Literal};
use crate::money::{AmountError, Quantity, parse_client};

/// Digits of an [`Amount`]: what an `i128` always holds. A quote with float noise (17 digits) times a
/// client's quantity fits, which the 28 digits of a `Decimal` would not guarantee.
const DIGITS_MAX: u32 = 38;

/// Decimals of [`average_price`].
const AVERAGE_DECIMALS: u32 = 9;
/// Decimals of [`profit_loss_percent`].
const PERCENT_DECIMALS: u32 = 4;

macro_rules! amount {
    ($(#[$doc:meta])* $name:ident, $signed:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name {
            mantissa: i128,
            scale: u32,
        }

        impl $name {
            pub const ZERO: $name = $name { mantissa: 0, scale: 0 };

            /// Reads a number's text, such as `numeric::text` gives it.
            pub fn parse(text: &str) -> Result<$name, AmountError> {
                let literal = Literal::read(text)?;
                if !$signed && literal.negative && !literal.zero {
                    return Err(AmountError::Negative);
                }
                $name::from_exact(&literal.value()?)
            }

            pub fn from_decimal(value: Decimal) -> Result<$name, AmountError> {
                $name::from_exact(&Exact::from_decimal(value))
            }

            /// The same value as a `Decimal`; an error when it has more than 28 digits. Into SQL, bind the
            /// text as numeric instead.
            pub fn as_decimal(self) -> Result<Decimal, AmountError> {
                self.exact().to_decimal()
            }

            pub(crate) fn from_exact(value: &Exact) -> Result<$name, AmountError> {
                if !$signed && value.is_negative() {
                    return Err(AmountError::Negative);
                }
                let mantissa = value.to_mantissa(DIGITS_MAX, DIGITS_MAX)?;
                Ok($name { mantissa, scale: value.scale() })
            }

            pub(crate) fn exact(self) -> Exact {
                Exact::new(BigInt::from(self.mantissa), self.scale)
            }

            /// The exact sum, or an error when it does not fit.
            pub fn checked_add(self, other: $name) -> Result<$name, AmountError> {
                $name::from_exact(&self.exact().add(&other.exact()))
            }

            /// The exact difference, or an error when it does not fit.
            pub fn checked_sub(self, other: $name) -> Result<SignedAmount, AmountError> {
                SignedAmount::from_exact(&self.exact().sub(&other.exact()))
            }
        }

        impl Default for $name {
            fn default() -> $name {
                $name::ZERO
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &$name) -> Ordering {
                self.exact().cmp(&other.exact())
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &$name) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        text_number!($name);
    };
}

/// Display, Debug, serde as a string, `FromStr`: the same for all of them.
macro_rules! text_number {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.exact().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl std::str::FromStr for $name {
            type Err = AmountError;

            fn from_str(text: &str) -> Result<$name, AmountError> {
                $name::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                $name::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }
    };
}

amount! {
    /// An exact amount of money, zero or more, at most 38 digits: the total of a fill, a cost, a market
    /// value. A JSON string.
    Amount, false
}

amount! {
    /// An exact amount of money of any sign, at most 38 digits: a profit or loss. A JSON string.
    SignedAmount, true
}

/// An exact sum over many orders, of money or of shares, without any limit: adding can not fail and its order
/// does not matter, so sums of parts equal the sum of the whole. A JSON string.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Total(Exact);

impl Total {
    /// Reads the text of a total.
    pub fn parse(text: &str) -> Result<Total, AmountError> {
        Exact::parse(text).map(Total)
    }

    pub fn add_amount(&mut self, amount: Amount) {
        self.0 = self.0.add(&amount.exact());
    }

    pub fn add_quantity(&mut self, quantity: Quantity) {
        self.0 = self.0.add(&quantity.exact());
    }

    pub fn add_total(&mut self, other: &Total) {
        self.0 = self.0.add(&other.0);
    }

    /// The exact difference, of any sign.
    pub fn minus(&self, other: &Total) -> Total {
        Total(self.0.sub(&other.0))
    }

    pub fn is_zero(&self) -> bool {
        self.0.is_zero()
    }

    fn exact(&self) -> &Exact {
        &self.0
    }
}

impl Default for Total {
    fn default() -> Total {
        Total(Exact::zero())
    }
}

impl From<Amount> for Total {
    fn from(amount: Amount) -> Total {
        Total(amount.exact())
    }
}

text_number!(Total);

impl Amount {
    /// Reads what a client sent: plain decimal text, greater than zero, at most 9 decimals and 19 digits before the
    /// point.
    pub fn parse_client(text: &str) -> Result<Amount, AmountError> {
        Amount::from_decimal(parse_client(text)?)
    }
}

/// Cost of one share, for display only: rounded half to even at 9 decimals. Never compute with it; cost and
/// quantity are the truth. The error is for a result that does not fit 28 digits.
pub fn average_price(cost: Amount, quantity: Quantity) -> Result<Decimal, AmountError> {
    let average = cost.exact().div_half_even(&quantity.exact(), AVERAGE_DECIMALS);
    average.ok_or(AmountError::NotPositive)?.to_decimal()
}

/// Profit or loss as percent of the cost, for display only: rounded half to even at 4 decimals; `None` when
/// there is no cost or the figure is beyond 28 digits.
pub fn profit_loss_percent(cost: Amount, profit_loss: SignedAmount) -> Option<Decimal> {
    let hundred = Exact::new(BigInt::from(100), 0);
    let percent = profit_loss
        .exact()
        .mul(&hundred)
        .div_half_even(&cost.exact(), PERCENT_DECIMALS)?;
    percent.to_decimal().ok()
}
