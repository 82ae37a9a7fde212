//! What holdings are worth. Where no quote is known there is no value; nothing is invented, also not in a
//! sum.

use rust_decimal::Decimal;

use crate::amount::{Amount, SignedAmount, Total, profit_loss_percent};
use crate::money::{AmountError, Price, Quantity};

/// A holding at a price, exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Valuation {
    pub market_value: Amount,
    /// Market value minus cost.
    pub profit_loss: SignedAmount,
    /// For display only, see [`profit_loss_percent`].
    pub profit_loss_percent: Option<Decimal>,
}

/// The error is for a product that does not fit an [`Amount`].
pub fn value_holding(quantity: Quantity, cost: Amount, price: Price) -> Result<Valuation, AmountError> {
    let market_value = price.times(quantity)?;
    let profit_loss = market_value.checked_sub(cost)?;
    Ok(Valuation {
        market_value,
        profit_loss,
        profit_loss_percent: profit_loss_percent(cost, profit_loss),
    })
}

/// The sums of a portfolio; the value and the profit are there only when every holding has one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortfolioValue {
    pub cost: Total,
    pub market_value: Option<Total>,
    pub profit_loss: Option<Total>,
}

/// Adds up holdings, each with its cost and, where a quote is known, its value.
pub fn value_portfolio(holdings: impl IntoIterator<Item = (Amount, Option<Valuation>)>) -> PortfolioValue {
    let mut cost = Total::default();
    let mut market_value = Some(Total::default());
    for (holding_cost, valuation) in holdings {
        cost.add_amount(holding_cost);
        match (&mut market_value, valuation) {
            (Some(sum), Some(valuation)) => sum.add_amount(valuation.market_value),
            _ => market_value = None,
        }
    }
    let profit_loss = market_value.as_ref().map(|value| value.minus(&cost));
    PortfolioValue {
        cost,
        market_value,
        profit_loss,
    }
}
