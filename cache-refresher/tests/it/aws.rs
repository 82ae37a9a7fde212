//! The same binary as in AWS: a region, no endpoint of ours, credentials by the SDK's own chain, and no more permissions
//! than the documentation asks for.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use fuse_harness::documents::dynamodb_actions;
use fuse_harness::proc::Proc;

use crate::fixture::{SOON, World};

#[test]
fn a_region_and_the_sdks_own_chain_are_enough_and_the_documented_actions_are_those_used() -> Result<()> {
    let world = World::start()?;
    let home = tempfile::tempdir()?;
    let credentials = home.path().join("credentials");
    std::fs::write(
        &credentials,
        "[default]\naws_access_key_id = test\naws_secret_access_key = test\n",
    )?;
    // The SDK's own variables lead it to the stand-in; ours say nothing about where DynamoDB is.
    let once = || {
        Proc::build("cache-refresher", env!("CARGO_BIN_EXE_cache-refresher"))
            .args(["--once"])
            .env_clear()
            .envs([
                ("FUSE_VENDOR__BASE_URL", world.vendor.vendor_url()),
                ("FUSE_VENDOR__API_KEY", world.vendor_key().to_owned()),
                ("FUSE_DYNAMODB__REGION", "eu-central-1".to_owned()),
                ("FUSE_DYNAMODB__TABLE_PREFIX", "test".to_owned()),
                ("AWS_ENDPOINT_URL_DYNAMODB", world.dynamodb.endpoint()),
            ])
            .env("AWS_SHARED_CREDENTIALS_FILE", &credentials)
            .env("AWS_CONFIG_FILE", home.path().join("absent"))
            .start()
    };
    for _ in 0..2 {
        let done = once()?;
        assert_eq!(done.wait_exit(SOON)?.code(), Some(0), "{}", done.log());
        world.vendor.tick(1);
    }
    let used: BTreeSet<String> = world.dynamodb.requests().into_keys().collect();
    let documented = dynamodb_actions("docs/operations.md", "| cache-refresher")?;
    assert_eq!(dynamodb_actions("cache-refresher/README.md", "")?, documented);
    let missing: Vec<_> = used.difference(&documented).collect();
    assert!(missing.is_empty(), "used and not documented: {missing:?}");
    let needless: Vec<_> = documented
        .difference(&used)
        // Only for a table of an older version, which has no index.
        .filter(|action| *action != "UpdateTable")
        .collect();
    assert!(needless.is_empty(), "documented and not used: {needless:?}");
    world.current().context("a snapshot")?;
    Ok(())
}
