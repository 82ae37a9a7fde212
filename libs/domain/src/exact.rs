//! Decimals of any size, exactly. Every product, sum and comparison of money goes through here, because
//! `rust_decimal` rounds silently when a scale does not fit.

use std::cmp::Ordering;
use std::fmt;

use num_bigint::{BigInt, Sign};
use rust_decimal::Decimal;

use crate::money::AmountError;

/// Longest number text that is looked at; longer is refused before any arithmetic.
const TEXT_BYTES_MAX: usize = 128;
/// Largest power of ten that a number text may spell out, so that `1e999999999` costs nothing.
const EXPONENT_MAX: i64 = 128;

/// `mantissa / 10^scale`, normalised: no trailing zero in the mantissa unless the scale is 0, so equal values
/// are equal fields.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Exact {
    mantissa: BigInt,
    scale: u32,
}

/// A number text taken apart, before anything is computed: `digits * 10^exponent`.
pub(crate) struct Literal {
    pub negative: bool,
    pub zero: bool,
    /// Decimals as written, trailing zeros included; what a client's limit counts.
    pub decimals_written: usize,
    /// Digits before the point as written.
    pub integers_written: usize,
    pub has_exponent: bool,
    digits: String,
    exponent: i64,
}

impl Literal {
    /// Takes JSON's number grammar: no plus sign, no leading zero, no bare point, no blanks, no NaN.
    pub fn read(text: &str) -> Result<Literal, AmountError> {
        if text.is_empty() {
            return Err(AmountError::Empty);
        }
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (number, exponent) = match rest.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, Some(read_exponent(exponent)?)),
            None => (rest, None),
        };
        let (integer, fraction) = match number.split_once('.') {
            Some((integer, fraction)) => (integer, Some(fraction)),
            None => (number, None),
        };
        let leading_zero = integer.len() > 1 && integer.starts_with('0');
        if !all_digits(integer) || leading_zero || !fraction.is_none_or(all_digits) {
            return Err(AmountError::NotANumber);
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(AmountError::TooManyDigits);
        }
        let fraction = fraction.unwrap_or("");
        let written = format!("{integer}{fraction}");
        let digits = written.trim_end_matches('0').to_owned();
        let trimmed = (written.len() - digits.len()) as i64;
        Ok(Literal {
            negative,
            zero: digits.is_empty(),
            decimals_written: fraction.len(),
            integers_written: integer.len(),
            has_exponent: exponent.is_some(),
            exponent: exponent
                .unwrap_or(0)
                .saturating_sub(fraction.len() as i64)
                .saturating_add(trimmed),
            digits,
        })
    }

    pub fn value(&self) -> Result<Exact, AmountError> {
        if self.zero {
            return Ok(Exact::zero());
        }
        if self.exponent > EXPONENT_MAX {
            return Err(AmountError::TooLarge);
        }
        if self.exponent < -EXPONENT_MAX {
            return Err(AmountError::TooManyDecimals {
                max: AmountError::DECIMALS_MAX,
            });
        }
        let magnitude: BigInt = self.digits.parse().map_err(|_| AmountError::NotANumber)?;
        let mantissa = if self.negative { -magnitude } else { magnitude };
        let power = self.exponent.unsigned_abs() as u32;
        Ok(if self.exponent >= 0 {
            Exact::new(mantissa * pow10(power), 0)
        } else {
            Exact::new(mantissa, power)
        })
    }
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// An exponent too long for the type saturates: its value is out of every limit anyway.
fn read_exponent(text: &str) -> Result<i64, AmountError> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !all_digits(digits) {
        return Err(AmountError::NotANumber);
    }
    let size = digits.parse::<i64>().unwrap_or(i64::MAX);
    Ok(if negative { -size } else { size })
}

fn pow10(power: u32) -> BigInt {
    BigInt::from(10).pow(power)
}

impl Exact {
    pub fn new(mut mantissa: BigInt, mut scale: u32) -> Exact {
        let ten = BigInt::from(10);
        while scale > 0 && (&mantissa % &ten).sign() == Sign::NoSign {
            mantissa /= &ten;
            scale -= 1;
        }
        Exact { mantissa, scale }
    }

    pub fn zero() -> Exact {
        Exact {
            mantissa: BigInt::ZERO,
            scale: 0,
        }
    }

    pub fn parse(text: &str) -> Result<Exact, AmountError> {
        Literal::read(text)?.value()
    }

    pub fn from_decimal(value: Decimal) -> Exact {
        Exact::new(BigInt::from(value.mantissa()), value.scale())
    }

    pub fn is_negative(&self) -> bool {
        self.mantissa.sign() == Sign::Minus
    }

    pub fn is_zero(&self) -> bool {
        self.mantissa.sign() == Sign::NoSign
    }

    pub fn mul(&self, other: &Exact) -> Exact {
        Exact::new(&self.mantissa * &other.mantissa, self.scale + other.scale)
    }

    pub fn add(&self, other: &Exact) -> Exact {
        let scale = self.scale.max(other.scale);
        Exact::new(self.mantissa_at(scale) + other.mantissa_at(scale), scale)
    }

    pub fn sub(&self, other: &Exact) -> Exact {
        let scale = self.scale.max(other.scale);
        Exact::new(self.mantissa_at(scale) - other.mantissa_at(scale), scale)
    }

    pub fn abs(&self) -> Exact {
        Exact {
            mantissa: BigInt::from(self.mantissa.magnitude().clone()),
            scale: self.scale,
        }
    }

    /// `self / other`, rounded half to even at `decimals`; `None` when `other` is zero.
    pub fn div_half_even(&self, other: &Exact, decimals: u32) -> Option<Exact> {
        if other.is_zero() {
            return None;
        }
        let numerator = self.mantissa.magnitude() * pow10(other.scale + decimals).magnitude();
        let denominator = other.mantissa.magnitude() * pow10(self.scale).magnitude();
        let (whole, rest) = (&numerator / &denominator, &numerator % &denominator);
        let round_up = match (rest * 2u32).cmp(&denominator) {
            Ordering::Less => false,
            Ordering::Greater => true,
            Ordering::Equal => whole.bit(0),
        };
        let whole = BigInt::from(if round_up { whole + 1u32 } else { whole });
        let negative = self.is_negative() != other.is_negative();
        Some(Exact::new(if negative { -whole } else { whole }, decimals))
    }

    /// `self / other` cut after `decimals`, for values that are not negative; `None` when `other` is zero.
    pub fn div_down(&self, other: &Exact, decimals: u32) -> Option<Exact> {
        if other.is_zero() {
            return None;
        }
        let numerator = &self.mantissa * pow10(other.scale + decimals);
        let denominator = &other.mantissa * pow10(self.scale);
        Some(Exact::new(numerator / denominator, decimals))
    }

    /// A positive value with at most as many decimals as make it fit [`AmountError::DIGITS_MAX`] digits,
    /// rounded up or down; the largest such number when it is too large.
    pub fn fitted(&self, round_up: bool) -> Decimal {
        let limit = pow10(AmountError::DIGITS_MAX);
        let mut value = self.clone();
        while value.scale > 0 && (value.scale > AmountError::DECIMALS_MAX || value.mantissa >= limit) {
            let whole: BigInt = &value.mantissa / 10;
            let inexact = &whole * 10 != value.mantissa;
            value = Exact {
                mantissa: whole + u32::from(round_up && inexact),
                scale: value.scale - 1,
            };
        }
        let value = Exact::new(value.mantissa, value.scale);
        value.to_decimal().unwrap_or_else(|_| largest_decimal())
    }

    /// The same value as a `Decimal`, or the error that says which limit it breaks.
    pub fn to_decimal(&self) -> Result<Decimal, AmountError> {
        let mantissa = self.to_mantissa(AmountError::DIGITS_MAX, AmountError::DECIMALS_MAX)?;
        Decimal::try_from_i128_with_scale(mantissa, self.scale).map_err(|_| AmountError::TooManyDigits)
    }

    /// The mantissa, when the value has at most `digits_max` digits and `decimals_max` decimals.
    pub fn to_mantissa(&self, digits_max: u32, decimals_max: u32) -> Result<i128, AmountError> {
        let magnitude = self.mantissa.magnitude();
        if magnitude >= pow10(digits_max + self.scale).magnitude() {
            return Err(AmountError::TooLarge);
        }
        if self.scale > decimals_max {
            return Err(AmountError::TooManyDecimals { max: decimals_max });
        }
        if magnitude >= pow10(digits_max).magnitude() {
            return Err(AmountError::TooManyDigits);
        }
        i128::try_from(&self.mantissa).map_err(|_| AmountError::TooManyDigits)
    }

    pub fn scale(&self) -> u32 {
        self.scale
    }

    fn mantissa_at(&self, scale: u32) -> BigInt {
        &self.mantissa * pow10(scale - self.scale)
    }
}

fn largest_decimal() -> Decimal {
    let nines = (BigInt::from(10).pow(AmountError::DIGITS_MAX)) - 1;
    let mantissa = i128::try_from(nines).expect("28 nines fit an i128");
    Decimal::try_from_i128_with_scale(mantissa, 0).expect("28 nines fit a Decimal")
}

impl Ord for Exact {
    fn cmp(&self, other: &Exact) -> Ordering {
        let scale = self.scale.max(other.scale);
        self.mantissa_at(scale).cmp(&other.mantissa_at(scale))
    }
}

impl PartialOrd for Exact {
    fn partial_cmp(&self, other: &Exact) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The one place where a number becomes text: plain decimal, no exponent, no trailing zeros, no negative
/// zero.
impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.mantissa.magnitude().to_string();
        let scale = self.scale as usize;
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (integer, fraction) = padded.split_at(padded.len() - scale);
        let point = if scale == 0 { "" } else { "." };
        f.pad_integral(!self.is_negative(), "", &format!("{integer}{point}{fraction}"))
    }
}
