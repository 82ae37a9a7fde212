//! Orders by an amount of money: how many shares it buys at the limit price, and what is left of it.

use num_bigint::BigInt;

use crate::amount::Amount;
use crate::exact::Exact;
use crate::money::{AmountError, Price, Quantity};

/// The shares that an amount of money buys at a price: rounded down at 9 decimals, as many as a client may write,
/// so that never more than the amount is spent. What the rounding leaves is told by [`remainder`].
///
/// `NotPositive` when it does not buy the smallest part of a share, `TooLarge` when it buys more shares than a client
/// may write.
pub fn shares_for(notional: Amount, price: Price) -> Result<Quantity, AmountError> {
    let shares = notional
        .exact()
        .div_down(&price.exact(), AmountError::CLIENT_DECIMALS_MAX)
        .ok_or(AmountError::NotPositive)?;
    let limit = Exact::new(BigInt::from(10).pow(AmountError::CLIENT_INTEGERS_MAX), 0);
    if shares >= limit {
        return Err(AmountError::TooLarge);
    }
    Quantity::from_decimal(shares.to_decimal()?)
}

/// What is left of an amount of money when a quantity is bought at a price, exactly. `Negative` when it does not
/// suffice.
pub fn remainder(notional: Amount, price: Price, quantity: Quantity) -> Result<Amount, AmountError> {
    let spent = price.exact().mul(&quantity.exact());
    Amount::from_exact(&notional.exact().sub(&spent))
}
