//! Users and portfolios.

use anyhow::Result;
use fuse_ledger::{DEFAULT_PORTFOLIO_NAME, NewPortfolio};
use uuid::Uuid;

use crate::support::{at, fill, fixture, request};

#[tokio::test]
async fn a_user_comes_with_a_default_portfolio_and_is_made_once() -> Result<()> {
    let fixture = fixture().await?;
    let now = at("2026-03-02T10:00:00Z");
    fixture
        .ledger
        .create_user(fixture.user, "another name", now)
        .await?;
    assert_eq!(fixture.text("select name from users").await?, "Ada");
    let portfolios = fixture.ledger.portfolios(fixture.user, None, 10).await?;
    let [default] = &portfolios[..] else {
        anyhow::bail!("{portfolios:?}")
    };
    assert_eq!(
        (default.id, default.name.as_str(), default.version),
        (fixture.user, DEFAULT_PORTFOLIO_NAME, 1)
    );
    assert!(fixture.ledger.user_exists(fixture.user).await?);
    assert!(!fixture.ledger.user_exists(Uuid::now_v7()).await?);
    Ok(())
}

#[tokio::test]
async fn orders_go_to_the_portfolio_that_they_name() -> Result<()> {
    let fixture = fixture().await?;
    let new = NewPortfolio {
        id: Uuid::now_v7(),
        user_id: fixture.user,
        name: "Pension <b>".into(),
        created_at: at("2026-03-02T10:00:00Z"),
    };
    let pension = fixture
        .ledger
        .create_portfolio(new.clone())
        .await?
        .expect("the user exists");
    let nobody = NewPortfolio {
        id: Uuid::now_v7(),
        user_id: Uuid::now_v7(),
        ..new
    };
    assert_eq!(fixture.ledger.create_portfolio(nobody).await?, None);

    let order = fuse_ledger::SubmitOrder {
        portfolio_id: Some(pension.id),
        ..fixture.submit("a", request("B.A", "1.50", "2"), "2026-03-02T10:00:00Z")
    };
    let order = fixture.placed(order).await?;
    fixture
        .ledger
        .settle(fixture.settlement(order.id, fill("2", "1.50"), "2026-03-02T10:00:01Z"))
        .await?;
    let default = fixture
        .ledger
        .portfolio(Some(fixture.user), fixture.user)
        .await?
        .expect("the default one");
    assert!(default.holdings.is_empty());
    let held = fixture
        .ledger
        .portfolio(Some(fixture.user), pension.id)
        .await?
        .expect("just made");
    let holdings: Vec<_> = held
        .holdings
        .iter()
        .map(|h| (h.symbol.as_str(), h.quantity.to_string()))
        .collect();
    assert_eq!(holdings, [("B.A", "1.5".to_owned())]);
    assert_eq!(
        (held.portfolio.version, held.portfolio.updated_at),
        (2, at("2026-03-02T10:00:01Z"))
    );
    let page = fixture
        .ledger
        .portfolios(fixture.user, Some(fixture.user), 10)
        .await?;
    assert_eq!(page.len(), 1);
    Ok(())
}

#[tokio::test]
async fn another_users_portfolio_does_not_exist() -> Result<()> {
    let fixture = fixture().await?;
    let stranger = Uuid::now_v7();
    fixture
        .ledger
        .create_user(stranger, "Bob", at("2026-03-02T10:00:00Z"))
        .await?;
    assert_eq!(
        fixture.ledger.portfolio(Some(stranger), fixture.user).await?,
        None
    );
    assert_eq!(fixture.ledger.portfolio(None, Uuid::now_v7()).await?, None);
    assert!(fixture.ledger.portfolio(None, fixture.user).await?.is_some());
    let order = fuse_ledger::SubmitOrder {
        user_id: stranger,
        portfolio_id: Some(fixture.user),
        ..fixture.submit("a", request("A", "1", "1"), "2026-03-02T10:00:00Z")
    };
    assert_eq!(
        fixture.ledger.place(order).await?,
        fuse_ledger::Placed::PortfolioNotFound
    );
    Ok(())
}
