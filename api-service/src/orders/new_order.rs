//! What a client wants to buy, read from the body of an order or of its preview: every mistake is named at once.

use fuse_domain::{Amount, AmountError, OrderRequest, Price, Quantity, Side, Symbol, shares_for};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

use super::portfolio_not_found;
use crate::auth::Caller;
use crate::input::{self, Fields};
use crate::problem::{ApiError, FieldCode};
use crate::state::AppState;

const CLIENT_ORDER_ID_MAX_CHARS: usize = 64;

/// What to buy: a quantity, or as much as an amount of money pays for. Only described here: the body is read by
/// [`NewOrder::read`], which collects every mistake.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewOrder)]
#[expect(dead_code, reason = "the shape for the description of the interface")]
pub struct NewOrderBody {
    #[schema(example = "AAPL")]
    symbol: String,
    /// Always `buy`.
    #[schema(example = "buy")]
    side: String,
    /// Greater than 0, at most 9 decimals. Either this or `notional`.
    #[schema(example = "4.5")]
    quantity: Option<String>,
    /// Money to spend at most, greater than 0, at most 9 decimals: the quantity is this divided by the limit price, rounded down at 9
    /// decimals. Either this or `quantity`.
    #[schema(example = "1000")]
    notional: Option<String>,
    /// At most 2 % (configurable) from the quote; at most 9 decimals.
    #[schema(example = "150.25")]
    limit_price: String,
    /// Needed with the key of a service; absent: the default portfolio of the key's user.
    portfolio_id: Option<Uuid>,
    /// Your own name for it, unique among your orders.
    #[schema(max_length = 64)]
    client_order_id: Option<String>,
}

/// The same, parsed.
#[derive(Clone, Debug)]
pub struct NewOrder {
    /// What is to be bought.
    pub request: OrderRequest,
    /// The amount of money that the quantity was made from.
    pub notional: Option<Amount>,
    /// `None`: the owner's default portfolio.
    pub portfolio_id: Option<Uuid>,
    /// The client's own name for it.
    pub client_order_id: Option<String>,
}

/// How much is wanted, as it was said.
#[derive(Clone, Copy)]
enum Size {
    Quantity(Quantity),
    Notional(Amount),
}

impl NewOrder {
    /// Reads a body. A key of a service must say whose portfolio.
    pub fn read(body: &[u8], caller: &Caller) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let symbol = symbol(&mut fields);
        let side = side(&mut fields);
        let size = size(&mut fields);
        let limit_price = input::price(&mut fields, "limitPrice");
        let quantity = quantity(&mut fields, size, limit_price);
        let portfolio_id = fields.optional_id("portfolioId");
        let client_order_id = fields.optional_label("clientOrderId", CLIENT_ORDER_ID_MAX_CHARS);
        if caller.only_user().is_none() && !fields.has("portfolioId") {
            let detail =
                "The key belongs to a service, which has no portfolio of its own; say whose portfolio.";
            fields.refuse("portfolioId", FieldCode::Required, detail);
        }
        fields.finish()?;
        let complete = (symbol, side, quantity, limit_price);
        let (Some(symbol), Some(side), Some(quantity), Some(limit_price)) = complete else {
            return Err(ApiError::internal(
                "a field is absent that nobody complained about",
            ));
        };
        Ok(Self {
            request: OrderRequest {
                symbol,
                side,
                quantity,
                limit_price,
            },
            notional: match size {
                Some(Size::Notional(notional)) => Some(notional),
                _ => None,
            },
            portfolio_id,
            client_order_id,
        })
    }

    /// Whose order it is: the key's user, or for a service the owner of the portfolio.
    pub async fn owner(&self, state: &AppState, caller: &Caller) -> Result<Uuid, ApiError> {
        if let Some(user_id) = caller.only_user() {
            return Ok(user_id);
        }
        let portfolio_id = self
            .portfolio_id
            .ok_or_else(|| ApiError::internal("a service's order without portfolio"))?;
        let owner = state.ledger.owner_of_any_portfolio(portfolio_id).await?;
        owner.ok_or_else(portfolio_not_found)
    }

    /// Hash of the values, not of the bytes: 1 and 1.0 are the same quantity, and white space means nothing. It is stored and compared
    /// with for good, so a new field must leave the hash of an order without it as it is.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        let quantity = self.request.quantity.to_string();
        let mut canonical = vec![
            self.request.symbol.as_str().into(),
            self.request.side.as_str().into(),
            // An amount of money is what was said; the quantity only follows from it.
            self.notional.is_none().then_some(quantity).into(),
            self.request.limit_price.to_string().into(),
            self.portfolio_id.map(|id| id.to_string()).into(),
            self.client_order_id.clone().into(),
        ];
        canonical.extend(self.notional.map(|notional| notional.to_string().into()));
        Sha256::digest(serde_json::Value::Array(canonical).to_string()).into()
    }
}

fn symbol(fields: &mut Fields<'_>) -> Option<Symbol> {
    let text = fields.text("symbol", "the symbol of a stock, such as \"AAPL\"")?;
    Symbol::parse(&text)
        .map_err(|error| {
            fields.refuse(
                "symbol",
                input::symbol_code(error),
                input::sentence(&error.to_string()),
            )
        })
        .ok()
}

fn side(fields: &mut Fields<'_>) -> Option<Side> {
    let text = fields.text("side", "\"buy\"")?;
    Side::parse(&text)
        .map_err(|_| fields.refuse("side", FieldCode::NotOneOf, "This must be \"buy\"."))
        .ok()
}

fn size(fields: &mut Fields<'_>) -> Option<Size> {
    match (fields.is_given("quantity"), fields.is_given("notional")) {
        (true, false) => input::quantity(fields, "quantity").map(Size::Quantity),
        (false, true) => input::notional(fields, "notional").map(Size::Notional),
        (is_both, _) => {
            let (code, detail) = if is_both {
                (FieldCode::NotAllowed, "Give quantity or notional, not both.")
            } else {
                (
                    FieldCode::Required,
                    "Needed: quantity, a number of shares, or notional, an amount of money, as a decimal string.",
                )
            };
            fields.refuse("quantity", code, detail);
            fields.refuse("notional", code, detail);
            None
        }
    }
}

fn quantity(fields: &mut Fields<'_>, size: Option<Size>, limit_price: Option<Price>) -> Option<Quantity> {
    let notional = match size? {
        Size::Quantity(quantity) => return Some(quantity),
        Size::Notional(notional) => notional,
    };
    shares_for(notional, limit_price?)
        .map_err(|error| {
            let (code, detail) = match error {
                AmountError::NotPositive => (
                    FieldCode::OutOfRange,
                    "At this limit price it buys less than 0.000000001 shares, the least that can be ordered.",
                ),
                _ => (
                    FieldCode::TooLarge,
                    "At this limit price it buys more shares than can be ordered.",
                ),
            };
            fields.refuse("notional", code, detail);
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(quantity: &str, notional: Option<&str>) -> NewOrder {
        NewOrder {
            request: OrderRequest {
                symbol: Symbol::parse("AAPL").expect("a symbol"),
                side: Side::Buy,
                quantity: Quantity::parse(quantity).expect("a quantity"),
                limit_price: Price::parse("150.25").expect("a price"),
            },
            notional: notional.map(|text| Amount::parse(text).expect("an amount")),
            portfolio_id: None,
            client_order_id: Some("mine".to_owned()),
        }
    }

    /// Orders are kept for good with their hashes: one that changes makes every repeat another request.
    #[test]
    fn the_hash_of_an_order_never_changes() {
        let hash = |order: NewOrder| {
            let hash = order.hash();
            hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let text = |canonical: &str| {
            let digest = Sha256::digest(canonical);
            digest
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        assert_eq!(
            hash(order("4.50", None)),
            text(r#"["AAPL","buy","4.5","150.25",null,"mine"]"#)
        );
        assert_eq!(
            hash(order("6.655574043", Some("1000.00"))),
            text(r#"["AAPL","buy",null,"150.25",null,"mine","1000"]"#)
        );
    }
}
