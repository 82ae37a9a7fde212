//! How far an offer may be from the quote. Source: the vendor refuses a buy whose price is more than 2 % off
//! the current price.

use std::fmt;

use num_bigint::BigInt;
use rust_decimal::Decimal;

use crate::exact::{Exact, Literal};
use crate::money::Price;

/// Parts of the whole: a percent with 4 decimals is a whole number of millionths.
const WHOLE: u32 = 1_000_000;
const PERCENT_DECIMALS: u32 = 4;

/// The widest distance of an offer from the quote, in percent of the quote: 0 to 99.9999 with at most 4
/// decimals; 2 by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tolerance {
    millionths: u32,
}

/// Why a text is no tolerance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tolerance is a percentage from 0 to 99.9999 with at most 4 decimals, such as 2")]
pub struct ToleranceError;

impl Tolerance {
    pub fn parse(text: &str) -> Result<Tolerance, ToleranceError> {
        let literal = Literal::read(text).map_err(|_| ToleranceError)?;
        if literal.has_exponent || literal.negative {
            return Err(ToleranceError);
        }
        let percent = literal.value().map_err(|_| ToleranceError)?;
        let scaled = percent.mul(&Exact::new(BigInt::from(10u32.pow(PERCENT_DECIMALS)), 0));
        // Whole after scaling by 10^4 means at most 4 decimals; 6 digits mean below 100 %.
        let millionths = scaled.to_mantissa(6, 0).map_err(|_| ToleranceError)?;
        Ok(Tolerance {
            millionths: u32::try_from(millionths).map_err(|_| ToleranceError)?,
        })
    }

    /// Whether the offer is near enough: `|offer - quote| * 100 <= percent * quote`, exactly, the edge
    /// included.
    pub fn accepts(&self, quote: Price, offer: Price) -> bool {
        let (quote, offer) = (quote.exact(), offer.exact());
        let distance = offer.sub(&quote).abs();
        distance.mul(&whole(WHOLE)) <= quote.mul(&whole(self.millionths))
    }

    /// Whether a price moved by at least this much: `|now - before| * 100 >= percent * before`, exactly, the edge
    /// included. A price that did not move at all never did.
    pub fn is_reached(&self, before: Price, now: Price) -> bool {
        if before == now {
            return false;
        }
        let (before, now) = (before.exact(), now.exact());
        let distance = now.sub(&before).abs();
        distance.mul(&whole(WHOLE)) >= before.mul(&whole(self.millionths))
    }

    /// The lowest and highest offer that [`Tolerance::accepts`] takes. Exact when 28 digits hold the edge;
    /// else rounded inwards, so that every offer inside is accepted.
    pub fn allowed_range(&self, quote: Price) -> (Decimal, Decimal) {
        let quote = quote.exact();
        let edge = |millionths: u32| quote.mul(&Exact::new(BigInt::from(millionths), 6));
        (
            edge(WHOLE - self.millionths).fitted(true),
            edge(WHOLE + self.millionths).fitted(false),
        )
    }
}

fn whole(value: u32) -> Exact {
    Exact::new(BigInt::from(value), 0)
}

impl Default for Tolerance {
    fn default() -> Tolerance {
        Tolerance { millionths: 20_000 }
    }
}

impl fmt::Display for Tolerance {
    /// The percentage, without a sign: `2`, `0.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Exact::new(BigInt::from(self.millionths), PERCENT_DECIMALS).fmt(f)
    }
}

impl std::str::FromStr for Tolerance {
    type Err = ToleranceError;

    fn from_str(text: &str) -> Result<Tolerance, ToleranceError> {
        Tolerance::parse(text)
    }
}
