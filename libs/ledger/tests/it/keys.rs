//! API keys.

use anyhow::Result;
use fuse_domain::Amount;
use fuse_ledger::{Ensured, KeyLimits, KeyRefused, KeyText, NewKey, Owner, PresentedKey, Scope};
use uuid::Uuid;

use crate::support::{Fixture, at, fixture};

fn new_key(owner: Owner) -> NewKey {
    NewKey {
        id: Uuid::now_v7(),
        name: "a test's key".into(),
        owner,
        scopes: [Scope::Read, Scope::Trade].into(),
        limits: KeyLimits::default(),
        created_at: at("2026-03-02T10:00:00Z"),
        expires_at: Some(at("2026-04-01T00:00:00Z")),
    }
}

async fn made(fixture: &Fixture, owner: Owner) -> Result<(fuse_ledger::ApiKey, KeyText)> {
    fixture
        .ledger
        .create_key(new_key(owner))
        .await?
        .ok_or_else(|| anyhow::anyhow!("no such owner"))
}

#[tokio::test]
async fn a_key_opens_until_it_expires_or_is_revoked() -> Result<()> {
    let fixture = fixture().await?;
    let (key, text) = made(&fixture, Owner::User(fixture.user)).await?;
    let presented = PresentedKey::parse(text.reveal())?;
    let found = fixture
        .ledger
        .find_key(presented.id)
        .await?
        .expect("it was just made");
    assert_eq!(found, key);
    assert_eq!(found.verify(&presented, at("2026-03-31T23:59:59Z")), Ok(()));
    assert_eq!(
        found.verify(&presented, at("2026-04-01T00:00:00Z")),
        Err(KeyRefused::Expired)
    );
    assert!(found.allows(Scope::Trade) && !found.allows(Scope::Report) && !found.allows(Scope::Admin));

    let other = PresentedKey::parse(KeyText::generate(key.id).reveal())?;
    assert_eq!(
        found.verify(&other, at("2026-03-03T00:00:00Z")),
        Err(KeyRefused::Mismatch)
    );

    let revoked_at = at("2026-03-03T00:00:00Z");
    let revoked = fixture
        .ledger
        .revoke_key(key.id, revoked_at)
        .await?
        .expect("it exists");
    assert_eq!(revoked.verify(&presented, revoked_at), Err(KeyRefused::Revoked));
    let again = fixture
        .ledger
        .revoke_key(key.id, at("2026-03-04T00:00:00Z"))
        .await?
        .expect("it exists");
    assert_eq!(again.revoked_at, Some(revoked_at));
    assert_eq!(fixture.ledger.revoke_key(Uuid::now_v7(), revoked_at).await?, None);
    assert_eq!(fixture.ledger.find_key(Uuid::now_v7()).await?, None);
    Ok(())
}

#[tokio::test]
async fn the_text_of_a_key_is_nowhere_in_the_database() -> Result<()> {
    let fixture = fixture().await?;
    let (_, text) = made(&fixture, Owner::Service).await?;
    let secret = &text.reveal()[38..];
    let stored = fixture.text("select json_agg(k)::text from api_keys k").await?;
    assert!(stored.contains("a test's key") && !stored.contains(secret));
    Ok(())
}

#[tokio::test]
async fn a_key_of_an_unknown_user_is_not_made() -> Result<()> {
    let fixture = fixture().await?;
    assert!(
        fixture
            .ledger
            .create_key(new_key(Owner::User(Uuid::now_v7())))
            .await?
            .is_none()
    );
    let empty = NewKey {
        scopes: [].into(),
        ..new_key(Owner::Service)
    };
    let refused = fixture.ledger.create_key(empty).await;
    assert!(
        matches!(refused, Err(fuse_ledger::LedgerError::Refused(_))),
        "{refused:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_mounted_key_is_ensured_once() -> Result<()> {
    let fixture = fixture().await?;
    let text = KeyText::generate(Uuid::now_v7());
    let presented = PresentedKey::parse(text.reveal())?;
    let new = || NewKey {
        scopes: [Scope::Admin].into(),
        ..new_key(Owner::Service)
    };
    assert_eq!(
        fixture.ledger.ensure_key(presented, new()).await?,
        Ensured::Created
    );
    assert_eq!(
        fixture.ledger.ensure_key(presented, new()).await?,
        Ensured::Present
    );
    let impostor = PresentedKey::parse(KeyText::generate(presented.id).reveal())?;
    assert_eq!(
        fixture.ledger.ensure_key(impostor, new()).await?,
        Ensured::OtherSecret
    );
    let found = fixture
        .ledger
        .find_key(presented.id)
        .await?
        .expect("it was ensured");
    assert_eq!(found.verify(&presented, at("2026-03-03T00:00:00Z")), Ok(()));
    assert!(Scope::ALL.into_iter().all(|scope| found.allows(scope)));
    Ok(())
}

#[tokio::test]
async fn keys_are_listed_by_owner_in_pages() -> Result<()> {
    let fixture = fixture().await?;
    let mut mine = Vec::new();
    for _ in 0..3 {
        mine.push(made(&fixture, Owner::User(fixture.user)).await?.0.id);
    }
    made(&fixture, Owner::Service).await?;
    let page = fixture.ledger.list_keys(Some(fixture.user), None, 2).await?;
    let rest = fixture
        .ledger
        .list_keys(Some(fixture.user), page.last().map(|key| key.id), 2)
        .await?;
    let ids: Vec<Uuid> = page.iter().chain(&rest).map(|key| key.id).collect();
    assert_eq!(ids, mine);
    assert_eq!(fixture.ledger.list_keys(None, None, 10).await?.len(), 4);
    Ok(())
}

#[tokio::test]
async fn a_keys_limits_are_kept_exactly() -> Result<()> {
    let fixture = fixture().await?;
    let limited = |max_notional: &str, max_orders_per_day| NewKey {
        limits: KeyLimits {
            max_notional: Some(Amount::parse(max_notional).expect("an amount written in a test")),
            max_orders_per_day: Some(max_orders_per_day),
        },
        ..new_key(Owner::User(fixture.user))
    };
    let new = limited("9999999999999999999.999999999", 2_147_483_647);
    let wanted = new.limits;
    let (key, _) = fixture.ledger.create_key(new).await?.expect("the user exists");
    assert_eq!(key.limits, wanted);
    let found = fixture.ledger.find_key(key.id).await?.expect("it was just made");
    assert_eq!(found.limits, wanted);
    let (free, _) = made(&fixture, Owner::Service).await?;
    assert_eq!(free.limits, KeyLimits::default());
    for wrong in [
        limited("0", 1),
        limited("1", 0),
        limited("0.0000000001", 1),
        limited("1", 2_147_483_648),
    ] {
        let limits = wrong.limits;
        let refused = fixture.ledger.create_key(wrong).await;
        assert!(
            matches!(refused, Err(fuse_ledger::LedgerError::Refused(_))),
            "{limits:?}: {refused:?}"
        );
    }
    Ok(())
}
