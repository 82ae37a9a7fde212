//! Numbers as fractions of big integers, read from text by other means than the code under test.

use num_bigint::{BigInt, BigUint};
use proptest::prelude::*;

#[derive(Debug, Clone)]
pub struct Rational {
    pub numerator: BigInt,
    pub denominator: BigInt,
}

impl Rational {
    pub fn of(text: &str) -> Rational {
        let decimals = text
            .split_once('.')
            .map_or(0, |(_, fraction)| fraction.len() as u32);
        let numerator = text.replace('.', "").parse().expect("digits");
        Rational {
            numerator,
            denominator: BigInt::from(10).pow(decimals),
        }
    }

    pub fn whole(number: i64) -> Rational {
        Rational {
            numerator: number.into(),
            denominator: 1.into(),
        }
    }

    pub fn times(&self, other: &Rational) -> Rational {
        Rational {
            numerator: &self.numerator * &other.numerator,
            denominator: &self.denominator * &other.denominator,
        }
    }

    pub fn over(&self, other: &Rational) -> Rational {
        Rational {
            numerator: &self.numerator * &other.denominator,
            denominator: &self.denominator * &other.numerator,
        }
    }

    pub fn plus(&self, other: &Rational) -> Rational {
        Rational {
            numerator: &self.numerator * &other.denominator + &other.numerator * &self.denominator,
            denominator: &self.denominator * &other.denominator,
        }
    }

    pub fn minus(&self, other: &Rational) -> Rational {
        self.plus(&Rational {
            numerator: -&other.numerator,
            denominator: other.denominator.clone(),
        })
    }

    pub fn abs(&self) -> Rational {
        Rational {
            numerator: BigInt::from(self.numerator.magnitude().clone()),
            denominator: self.denominator.clone(),
        }
    }

    pub fn at_most(&self, other: &Rational) -> bool {
        &self.numerator * &other.denominator <= &other.numerator * &self.denominator
    }

    pub fn equals(&self, other: &Rational) -> bool {
        self.at_most(other) && other.at_most(self)
    }
}

/// `mantissa / 10^scale` as plain text.
pub fn text_of(mantissa: &BigUint, scale: usize) -> String {
    let digits = format!("{:0>width$}", mantissa.to_string(), width = scale + 1);
    let (integer, fraction) = digits.split_at(digits.len() - scale);
    if scale == 0 {
        integer.to_owned()
    } else {
        format!("{integer}.{fraction}")
    }
}

/// Texts of positive numbers with up to `digits` digits and up to `decimals` decimals, small and large ones
/// alike.
pub fn number(digits: usize, decimals: usize) -> impl Strategy<Value = String> {
    let mantissa = (1..=digits).prop_flat_map(|length| {
        (1u8..=9, prop::collection::vec(0u8..=9, length - 1)).prop_map(|(first, rest)| {
            let text: String = std::iter::once(first)
                .chain(rest)
                .map(|digit| char::from(b'0' + digit))
                .collect();
            text.parse::<BigUint>().expect("digits")
        })
    });
    (mantissa, 0..=decimals).prop_map(|(mantissa, scale)| text_of(&mantissa, scale))
}
