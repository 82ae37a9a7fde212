//! Domain values of clients. Prices, quantities and amounts: plain decimal text, at most nine decimals, greater than zero, never rounded.

use fuse_domain::{Amount, AmountError, Price, Quantity, SymbolError};

use super::Fields;
use crate::problem::FieldCode;

/// A required price.
pub fn price(fields: &mut Fields<'_>, name: &str) -> Option<Price> {
    let text = fields.text(name, "a price as a decimal string, such as \"150.25\"")?;
    Price::parse_client(&text)
        .map_err(|error| refuse(fields, name, &error))
        .ok()
}

/// A required quantity.
pub fn quantity(fields: &mut Fields<'_>, name: &str) -> Option<Quantity> {
    let text = fields.text(name, "a quantity as a decimal string, such as \"1\" or \"4.5\"")?;
    Quantity::parse_client(&text)
        .map_err(|error| refuse(fields, name, &error))
        .ok()
}

/// A required amount of money.
pub fn notional(fields: &mut Fields<'_>, name: &str) -> Option<Amount> {
    let text = fields.text(name, "an amount of money as a decimal string, such as \"1000\"")?;
    amount(fields, name, &text)
}

/// An amount of money, if there is one.
pub fn optional_amount(fields: &mut Fields<'_>, name: &str) -> Option<Amount> {
    let text = fields.optional_text(name)?;
    amount(fields, name, &text)
}

fn amount(fields: &mut Fields<'_>, name: &str, text: &str) -> Option<Amount> {
    Amount::parse_client(text)
        .map_err(|error| refuse(fields, name, &error))
        .ok()
}

fn refuse(fields: &mut Fields<'_>, name: &str, error: &AmountError) {
    fields.refuse(name, amount_code(error), sentence(&error.to_string()));
}

/// The code of a text that is no number we take.
pub fn amount_code(error: &AmountError) -> FieldCode {
    match error {
        AmountError::Empty => FieldCode::Empty,
        AmountError::NotANumber => FieldCode::NotANumber,
        AmountError::NotPositive | AmountError::Negative => FieldCode::NotPositive,
        AmountError::TooManyDecimals { .. } => FieldCode::TooManyDecimals,
        AmountError::TooLarge => FieldCode::TooLarge,
        AmountError::TooManyDigits => FieldCode::TooManyDigits,
    }
}

/// The code of a text that is no symbol.
pub fn symbol_code(error: SymbolError) -> FieldCode {
    match error {
        SymbolError::Empty => FieldCode::Empty,
        SymbolError::TooLong => FieldCode::TooLong,
        SymbolError::IllegalCharacter => FieldCode::BadCharacter,
    }
}

/// First letter upper case, a full stop at the end.
pub fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first: String = characters
        .next()
        .map_or_else(String::new, |c| c.to_uppercase().collect());
    let rest = characters.as_str();
    let stop = if rest.ends_with('.') { "" } else { "." };
    format!("{first}{rest}{stop}")
}
