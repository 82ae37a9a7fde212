//! What it must have come to, whatever met.

use anyhow::{Result, ensure};
use fuse_domain::{Fill, OrderStatus, Quantity};
use fuse_ledger::Placed;

use super::{Case, Name, PRICE_NANOS};

impl Case<'_> {
    /// One order, one call of the vendor, one end and one answer under each key, for good.
    pub async fn check_outcomes(&self) -> Result<()> {
        let names: Vec<(Name, u8)> = self
            .seen()
            .iter()
            .map(|(name, seen)| (*name, seen.body))
            .collect();
        for (name, body) in names {
            for replica in 0..2 {
                let again = self.place(name, replica, body, true).await?;
                ensure!(matches!(again, Placed::Replay(_)), "{name:?}: {again:?}");
                let other = self.place(name, replica, 1 - body, true).await?;
                ensure!(other == Placed::KeyReused, "{name:?}: {other:?}");
            }
        }
        let seen = std::mem::take(&mut *self.seen());
        for (name, seen) in &seen {
            ensure!(
                seen.new.len() == 1 && seen.calls <= 1,
                "{name:?}: executed more than once: {seen:?}"
            );
            let id = seen.new[0].id;
            ensure!(
                seen.in_flight.iter().all(|other| *other == id),
                "{name:?}: {seen:?}"
            );
            ensure!(
                seen.replays.windows(2).all(|two| two[0] == two[1]),
                "{name:?}: {seen:?}"
            );
            let order = self.fixture.ledger.order(None, id).await?;
            let now = order.map(|order| (order.status, order.fill));
            let end = match seen.ends[..] {
                [] => (OrderStatus::Unknown, None),
                [end] => end,
                _ => anyhow::bail!("{name:?}: ended more than once: {seen:?}"),
            };
            ensure!(now == Some(end), "{name:?} is {now:?}: {seen:?}");
        }
        *self.seen() = seen;
        Ok(())
    }

    /// Against integers: billionths of a share, and billionths of a billionth of money.
    pub async fn check_holdings(&self) -> Result<()> {
        for (index, owner) in self.owners.iter().enumerate() {
            let fills: Vec<Fill> = self
                .seen()
                .iter()
                .filter(|((of, _), _)| *of == index)
                .flat_map(|(_, seen)| seen.ends.iter().filter_map(|(_, fill)| *fill))
                .collect();
            let nanos: u128 = fills.iter().map(|fill| nanos(fill.quantity)).sum();
            let held = self
                .fixture
                .text(&format!(
                    "select coalesce(sum(trunc(quantity * 1e9)), 0) || ' ' || coalesce(sum(trunc(cost * 1e18)), 0)
                         || ' ' || coalesce(sum(version), 0) from holdings where user_id = '{owner}'"
                ))
                .await?;
            let expected = format!("{nanos} {} {}", nanos * PRICE_NANOS, fills.len());
            ensure!(held == expected, "held {held}, filled {expected}");
        }
        Ok(())
    }
}

/// Billionths of a share; quantities here are below one.
fn nanos(quantity: Quantity) -> u128 {
    let text = quantity.to_string();
    let decimals = text.strip_prefix("0.").expect("less than one share");
    format!("{decimals:0<9}").parse().expect("digits")
}
