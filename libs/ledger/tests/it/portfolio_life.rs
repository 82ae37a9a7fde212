//! What is pending in a portfolio, what was bought for it, and its end.

use anyhow::Result;
use fuse_domain::{Fill, OrderStatus, Outcome, Price, Quantity, Reason};
use fuse_ledger::{
    NewPortfolio, PENDING_MAX, Portfolio, PortfolioDeleted, Resolution, Resolve, Resolved, Settled,
    SubmitOrder, VerifyOptions,
};
use uuid::Uuid;

use crate::support::{Fixture, at, fill, fixture, request};

const WHEN: &str = "2026-03-02T10:00:00Z";

async fn another(fixture: &Fixture) -> Result<Portfolio> {
    let new = NewPortfolio {
        id: Uuid::now_v7(),
        user_id: fixture.user,
        name: "Savings".into(),
        created_at: at(WHEN),
    };
    let made = fixture.ledger.create_portfolio(new).await?;
    made.ok_or_else(|| anyhow::anyhow!("no such user"))
}

fn into(fixture: &Fixture, portfolio: &Portfolio, key: &str) -> SubmitOrder {
    SubmitOrder {
        portfolio_id: Some(portfolio.id),
        ..fixture.submit(key, request("A", "1.5", "2"), WHEN)
    }
}

#[tokio::test]
async fn open_orders_are_read_with_their_portfolio() -> Result<()> {
    let fixture = fixture().await?;
    let read = async || {
        let found = fixture.ledger.portfolio(Some(fixture.user), fixture.user).await?;
        anyhow::Ok(found.expect("the default one"))
    };
    assert_eq!(read().await?.pending, fuse_ledger::Pending::default());
    fixture
        .traded("filled", request("A", "1", "1"), fill("1", "1"), WHEN)
        .await?;
    let lost = Outcome::Unknown(Reason::VendorReset);
    let unknown = fixture
        .traded("unknown", request("B", "4.5", "3.25"), lost, WHEN)
        .await?;
    let savings = another(&fixture).await?;
    fixture.placed(into(&fixture, &savings, "elsewhere")).await?;
    let submitted = fixture
        .placed(fixture.submit("submitted", request("C", "1", "1"), WHEN))
        .await?;

    let found = read().await?;
    assert_eq!(found.holdings.len(), 1);
    assert_eq!((found.pending.submitted, found.pending.unknown), (1, 1));
    let ids: Vec<Uuid> = found.pending.orders.iter().map(|order| order.id).collect();
    assert_eq!(ids, [submitted.id, unknown.id], "newest first");
    let second = &found.pending.orders[1];
    assert_eq!(
        (second.symbol.as_str(), second.status, second.created_at),
        ("B", OrderStatus::Unknown, at(WHEN))
    );
    assert_eq!(
        (second.quantity.to_string(), second.limit_price.to_string()),
        ("4.5".into(), "3.25".into())
    );
    Ok(())
}

#[tokio::test]
async fn a_portfolio_tells_the_newest_open_orders_and_counts_all() -> Result<()> {
    let fixture = fixture().await?;
    let lost = Outcome::Unknown(Reason::VendorReset);
    fixture
        .traded("oldest", request("A", "1", "1"), lost, WHEN)
        .await?;
    for number in 0..PENDING_MAX {
        fixture
            .placed(fixture.submit(&format!("k{number}"), request("A", "1", "1"), WHEN))
            .await?;
    }
    let found = fixture.ledger.portfolio(None, fixture.user).await?;
    let pending = found.expect("the default one").pending;
    assert_eq!(pending.orders.len(), usize::from(PENDING_MAX));
    assert_eq!((pending.submitted, pending.unknown), (i64::from(PENDING_MAX), 1));
    Ok(())
}

#[tokio::test]
async fn history_is_what_was_bought_newest_first() -> Result<()> {
    let fixture = fixture().await?;
    let mut bought = Vec::new();
    for number in 0..5 {
        let key = format!("k{number}");
        let order = fixture
            .traded(&key, request("A", "2", "3"), fill("2.5", "2"), WHEN)
            .await?;
        bought.push(order.id);
        let failed = Outcome::Failed(Reason::VendorRejected);
        fixture
            .traded(&format!("f{number}"), request("A", "2", "3"), failed, WHEN)
            .await?;
    }
    bought.reverse();
    let page = async |after, limit| {
        let ledger = &fixture.ledger;
        ledger
            .portfolio_history(fixture.user, fixture.user, after, limit)
            .await
    };
    let first = page(None, 3).await?;
    let rest = page(first.next, 3).await?;
    assert_eq!((first.next, rest.next), (Some(bought[2]), None));
    let ids: Vec<Uuid> = first
        .items
        .iter()
        .chain(&rest.items)
        .map(|item| item.order_id)
        .collect();
    assert_eq!(ids, bought);
    let one = &first.items[0];
    assert_eq!(
        (one.symbol.as_str(), one.at, one.is_resolution),
        ("A", at(WHEN), false)
    );
    assert_eq!(one.fill.total.to_string(), "5");
    let savings = another(&fixture).await?;
    let none = fixture
        .ledger
        .portfolio_history(fixture.user, savings.id, None, 3)
        .await?;
    assert!(none.items.is_empty() && none.next.is_none());
    Ok(())
}

#[tokio::test]
async fn an_order_that_was_unknown_is_a_resolution_in_the_history() -> Result<()> {
    let fixture = fixture().await?;
    let lost = Outcome::Unknown(Reason::VendorReset);
    let order = fixture.traded("u", request("A", "2", "3"), lost, WHEN).await?;
    let resolved = fixture
        .by_hand(&format!(
            "update orders set status = 'filled', reason = null, fill_price = 3, fill_quantity = 2, fill_total = 6
             where order_id = '{0}';
             insert into order_events (user_id, order_id, from_status, status, fill_price, fill_quantity, fill_total, at,
                 actor, note)
             values ('{1}', '{0}', 'unknown', 'filled', 3, 2, 6, '2026-03-03T09:00:00Z', 'vendor', 'told by phone')",
            order.id, fixture.user
        ))
        .await?;
    resolved.map_err(anyhow::Error::msg)?;
    let page = fixture
        .ledger
        .portfolio_history(fixture.user, fixture.user, None, 3)
        .await?;
    let [item] = &page.items[..] else {
        anyhow::bail!("{page:?}")
    };
    assert_eq!((item.is_resolution, item.at), (true, at("2026-03-03T09:00:00Z")));
    Ok(())
}

#[tokio::test]
async fn only_an_empty_portfolio_goes_and_it_is_gone_for_everybody() -> Result<()> {
    let fixture = fixture().await?;
    let ledger = &fixture.ledger;
    let user = Some(fixture.user);
    let savings = another(&fixture).await?;
    let delete = async |user, id, expected| ledger.delete_portfolio(user, id, expected, at(WHEN)).await;

    assert_eq!(
        delete(user, fixture.user, None).await?,
        PortfolioDeleted::IsDefault
    );
    assert_eq!(
        delete(user, Uuid::now_v7(), None).await?,
        PortfolioDeleted::NotFound
    );
    assert_eq!(
        delete(Some(Uuid::now_v7()), savings.id, None).await?,
        PortfolioDeleted::NotFound
    );
    assert_eq!(
        delete(user, savings.id, Some(2)).await?,
        PortfolioDeleted::Changed
    );
    let order = fixture.placed(into(&fixture, &savings, "open")).await?;
    assert_eq!(delete(user, savings.id, None).await?, PortfolioDeleted::NotEmpty);
    let failed = Outcome::Failed(Reason::VendorRejected);
    ledger.settle(fixture.settlement(order.id, failed, WHEN)).await?;

    assert_eq!(delete(user, savings.id, Some(1)).await?, PortfolioDeleted::Now);
    assert_eq!(delete(user, savings.id, None).await?, PortfolioDeleted::NotFound);
    assert_eq!(ledger.portfolio(user, savings.id).await?, None);
    assert_eq!(ledger.portfolio_owner(None, savings.id).await?, None);
    assert_eq!(
        ledger.portfolio_owner(None, fixture.user).await?,
        Some(fixture.user)
    );
    let left = ledger.portfolios(fixture.user, None, 10).await?;
    assert_eq!(
        left.iter().map(|left| left.id).collect::<Vec<_>>(),
        [fixture.user]
    );
    assert!(ledger.order(user, order.id).await?.is_some(), "its orders stay");

    let full = another(&fixture).await?;
    let order = fixture.placed(into(&fixture, &full, "full")).await?;
    ledger
        .settle(fixture.settlement(order.id, fill("2", "1.5"), WHEN))
        .await?;
    assert_eq!(delete(user, full.id, None).await?, PortfolioDeleted::NotEmpty);
    Ok(())
}

async fn is_valid(fixture: &Fixture) -> Result<bool> {
    let found = fixture.ledger.verify(&VerifyOptions::default(), |_| ()).await?;
    Ok(found.is_valid())
}

#[tokio::test]
async fn a_deleted_portfolio_with_orders_that_bought_nothing_is_as_it_should_be() -> Result<()> {
    let fixture = fixture().await?;
    let savings = another(&fixture).await?;
    let order = fixture.placed(into(&fixture, &savings, "failed")).await?;
    let failed = Outcome::Failed(Reason::VendorRejected);
    fixture
        .ledger
        .settle(fixture.settlement(order.id, failed, WHEN))
        .await?;
    let user = Some(fixture.user);
    let deleted = fixture
        .ledger
        .delete_portfolio(user, savings.id, None, at(WHEN))
        .await?;
    assert_eq!(deleted, PortfolioDeleted::Now);
    assert!(is_valid(&fixture).await?);
    Ok(())
}

/// A deletion that committed between the two writes of an order, however it got past the look at open orders.
#[tokio::test]
async fn a_portfolio_that_something_is_bought_for_comes_back() -> Result<()> {
    let fixture = fixture().await?;
    let savings = another(&fixture).await?;
    let is_shown = async || {
        let found = fixture.ledger.portfolio(Some(fixture.user), savings.id).await?;
        anyhow::Ok(found.map(|found| (found.portfolio.version, found.holdings.len())))
    };
    let delete_behind_the_back = async || {
        let sql = format!(
            "set session_replication_role = replica;
             update portfolios set deleted_at = '{WHEN}' where portfolio_id = '{}'",
            savings.id
        );
        fixture.by_hand(&sql).await?.map_err(anyhow::Error::msg)?;
        assert_eq!(is_shown().await?, None);
        anyhow::Ok(())
    };
    let settled = fixture.placed(into(&fixture, &savings, "settled")).await?;
    delete_behind_the_back().await?;
    let told = fixture
        .ledger
        .settle(fixture.settlement(settled.id, fill("2", "1.5"), WHEN))
        .await?;
    assert_eq!(told, Settled::Now);
    assert_eq!(is_shown().await?, Some((2, 1)));
    assert!(is_valid(&fixture).await?);

    let unknown = fixture.placed(into(&fixture, &savings, "resolved")).await?;
    let lost = Outcome::Unknown(Reason::VendorReset);
    fixture
        .ledger
        .settle(fixture.settlement(unknown.id, lost, WHEN))
        .await?;
    delete_behind_the_back().await?;
    let bought = Fill::new(Price::parse("2")?, Quantity::parse("1.5")?)?;
    let told = Resolution {
        actor: "the vendor".to_owned(),
        note: "by phone".to_owned(),
    };
    let resolved = fixture
        .ledger
        .resolve(Resolve {
            order_id: unknown.id,
            fill: Some(bought),
            told,
            at: at(WHEN),
        })
        .await?;
    assert!(matches!(resolved, Resolved::Now(_)), "{resolved:?}");
    assert_eq!(is_shown().await?, Some((3, 1)));
    assert!(is_valid(&fixture).await?);
    Ok(())
}
