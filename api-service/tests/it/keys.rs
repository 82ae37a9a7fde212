//! API keys: made, shown once, listed, revoked, expired.

use anyhow::Result;
use fuse_harness::wait;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::support::{BOOTSTRAP, PATIENCE, Setup, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_once_and_revoked_for_good() -> Result<()> {
    let env = vec![("FUSE_AUTH__KEY_FRESH_SECS", "1".to_owned())];
    let world = World::with(Setup {
        env,
        ..Setup::default()
    })
    .await?;
    let create = |body: serde_json::Value| world.post("/v1/api-keys", &body).key(BOOTSTRAP);
    let answer = create(json!({"name": "Anna", "userId": "new", "scopes": ["read", "trade"]}))
        .gives(201)
        .await?;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let made = answer.json();
    let (id, key) = (
        made["id"].as_str().expect("an id"),
        made["key"].as_str().expect("the text"),
    );
    assert_eq!(
        (&made["scopes"], &made["expiresAt"]),
        (&json!(["read", "trade"]), &json!(null))
    );
    world
        .post("/v1/orders", &world.good_order())
        .key(key)
        .fresh()
        .gives(201)
        .await?;
    let stored = world.sql("select encode(sha256, 'hex') from api_keys")?;
    assert!(!stored.contains(&key[38..]), "only a hash is stored");

    let list = world.get("/v1/api-keys").key(BOOTSTRAP).gives(200).await?;
    assert!(!list.text.contains(&key[38..]), "the text is not shown again");
    let of_user = format!("/v1/api-keys?userId={}", made["userId"].as_str().expect("a user"));
    assert_eq!(
        world.get(&of_user).key(BOOTSTRAP).gives(200).await?.json()["items"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );

    let revoke = || {
        world
            .call(Method::DELETE, &format!("/v1/api-keys/{id}"))
            .key(BOOTSTRAP)
    };
    let revoked = revoke().gives(200).await?.json();
    assert!(revoked["revokedAt"].is_string());
    world
        .get("/v1/stocks")
        .key(key)
        .refused(401, "key_revoked", &[])
        .await?;
    assert_eq!(
        revoke().gives(200).await?.json(),
        revoked,
        "a repeat changes nothing"
    );
    let order = world.post("/v1/orders", &world.good_order()).key(key).fresh();
    order.refused(401, "key_revoked", &[]).await?;
    assert_eq!(world.vendor_buys(), (1, 1));
    let missing = format!("/v1/api-keys/{}", Uuid::now_v7());
    world
        .call(Method::DELETE, &missing)
        .key(BOOTSTRAP)
        .refused(404, "key_not_found", &[])
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_revoked_elsewhere_is_refused_within_its_time() -> Result<()> {
    let world = World::start().await?;
    world.get("/v1/stocks").key(&world.key).gives(200).await?;
    world.sql("update api_keys set revoked_at = now()")?;
    let seen = std::time::Instant::now();
    wait::until_async("the key to be refused", PATIENCE, || async {
        let answer = world.get("/v1/stocks").key(&world.key).send().await.ok()?;
        (answer.status == 401).then_some(())
    })
    .await?;
    assert!(
        seen.elapsed().as_secs() < 15,
        "two seconds and what a busy machine takes: {:?}",
        seen.elapsed()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_and_a_guessed_key_open_nothing() -> Result<()> {
    let world = World::start().await?;
    world.sql(
        "update api_keys set created_at = now() - interval '2 hours', expires_at = now() - interval '1 hour'",
    )?;
    world
        .get("/v1/stocks")
        .key(&world.key)
        .refused(401, "key_expired", &[])
        .await?;
    let id = Uuid::parse_str(&world.sql("select key_id from api_keys")?)?;
    let guessed = fuse_ledger::KeyText::generate(id);
    // Nothing is told about the key before its secret matched.
    world
        .get("/v1/stocks")
        .key(guessed.reveal())
        .refused(401, "key_invalid", &[])
        .await?;
    assert_eq!(
        world
            .api
            .metric("fuse_auth_failures_total{reason=\"mismatch\"}")
            .await?,
        1.0
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_key_request_names_every_field() -> Result<()> {
    let world = World::start().await?;
    let create = |body: serde_json::Value| world.post("/v1/api-keys", &body).key(BOOTSTRAP);
    create(json!({}))
        .refused(422, "invalid_fields", &["/name required", "/scopes required"])
        .await?;
    let body = json!({"name": "", "userId": "me", "scopes": ["read", "fly"], "expiresAt": "2020-01-01T00:00:00Z", "x": 1});
    let errors = [
        "/name empty",
        "/userId not_an_id",
        "/scopes/1 not_one_of",
        "/expiresAt out_of_range",
        "/x unknown_field",
    ];
    create(body).refused(422, "invalid_fields", &errors).await?;
    let reaching = json!({"name": "x", "userId": "new", "scopes": ["read", "admin", "report"]});
    create(reaching)
        .refused(
            422,
            "invalid_fields",
            &["/scopes/1 not_allowed", "/scopes/2 not_allowed"],
        )
        .await?;
    create(json!({"name": "x", "scopes": []}))
        .refused(422, "invalid_fields", &["/scopes empty"])
        .await?;
    create(json!({"name": "x", "scopes": "read"}))
        .refused(422, "invalid_fields", &["/scopes wrong_type"])
        .await?;
    assert_eq!(world.sql("select count(*) from api_keys")?, "1");
    Ok(())
}
