//! The program itself: commands, configuration, the description of the interface.

use anyhow::Result;
use fuse_harness::postgres::{Postgres, as_service};
use fuse_harness::proc::Proc;
use serde_json::Value;

use crate::support::{BOOTSTRAP, PATIENCE, World, run};

fn env(database: &str) -> Vec<(&'static str, String)> {
    vec![("FUSE_DATABASE__URL", database.to_owned())]
}

fn at(database: &str) -> [(&'static str, &str); 1] {
    [("FUSE_DATABASE__URL", database)]
}

#[test]
fn migrating_twice_and_an_older_program_are_harmless() -> Result<()> {
    let postgres = Postgres::shared()?;
    let database = postgres.database()?;
    let first = run(&["migrate"], &env(&database))?;
    assert!(first.contains("went from version 0 to"), "{first}");
    let second = run(&["migrate"], &env(&database))?;
    assert!(second.contains("already: nothing to do"), "{second}");
    postgres.sql_at(
        &database,
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time) values (9999, 'later', true, '', 0)",
    )?;
    let newer = run(&["migrate"], &env(&database))?;
    assert!(newer.contains("version 9999, newer than"), "{newer}");
    Ok(())
}

#[test]
fn migrating_says_what_the_services_role_may_and_what_it_lacks() -> Result<()> {
    let postgres = Postgres::shared()?;
    let database = postgres.database()?;
    let alone = run(&["migrate"], &env(&database))?;
    assert!(
        alone.contains("the role fuse of database.url owns the tables and could switch them off")
            && alone.contains("database.migration_url"),
        "{alone}"
    );
    let mut two = env(&as_service(&database));
    two.push(("FUSE_DATABASE__MIGRATION_URL", database.clone()));
    let apart = run(&["migrate"], &two)?;
    assert!(
        apart.contains("already: nothing to do") && !apart.contains("Note"),
        "{apart}"
    );
    let powerful = "create role powerful superuser login password 'x'";
    postgres.sql_at(&database, powerful)?;
    let (_, place) = database.rsplit_once('@').expect("a user in the URL");
    two[0].1 = format!("postgres://powerful:x@{place}");
    let around = run(&["migrate"], &two)?;
    assert!(
        around.contains("could get around the rules of the schema: it is a superuser"),
        "{around}"
    );
    two[0].1 = format!("postgres://nobody:x@{place}");
    let error = run(&["migrate"], &two).expect_err("no such role").to_string();
    assert!(
        error.contains("exit status: 1") && error.contains("create role nobody login password"),
        "{error}"
    );
    Ok(())
}

#[test]
fn distributing_without_the_extension_is_refused() -> Result<()> {
    let postgres = Postgres::shared()?;
    let database = postgres.database()?;
    let error = run(&["migrate", "--distribute"], &env(&database)).expect_err("there is no Citus");
    let error = error.to_string();
    assert!(
        error.contains("exit status: 1:") && error.contains("the Citus extension is not in this database"),
        "{error}"
    );
    let tables = postgres.sql_at(
        &database,
        "select count(*) from pg_tables where schemaname = 'public'",
    )?;
    assert_eq!(tables, "0");
    Ok(())
}

#[test]
fn migrating_waits_for_a_database_that_is_away_but_not_for_ever() -> Result<()> {
    let mut postgres = Postgres::start()?;
    let database = postgres.database()?;
    postgres.stop()?;
    let mut short = env(&database);
    short.push(("FUSE_DATABASE__MIGRATE_WAIT_SECS", "1".to_owned()));
    let error = run(&["migrate"], &short).expect_err("there is no database");
    assert!(
        error.to_string().contains("the database cannot be used now"),
        "{error}"
    );

    let waiting = Proc::build("migrate", env!("CARGO_BIN_EXE_api-service"))
        .arg("migrate")
        .env_clear()
        .envs(env(&database))
        .start()?;
    waiting.wait_for_line("it to wait", PATIENCE, |line| {
        line.contains("waiting for it").then_some(())
    })?;
    postgres.restart()?;
    assert!(waiting.wait_exit(PATIENCE)?.success(), "{}", waiting.log());
    assert!(
        waiting.log().contains("went from version 0 to"),
        "{}",
        waiting.log()
    );
    Ok(())
}

/// A check that could not be made must not look like one that found something, nor like one that found nothing.
#[test]
fn verify_says_by_its_exit_code_why_it_could_not_check() -> Result<()> {
    let mut postgres = Postgres::start()?;
    let (database, empty) = (postgres.database()?, postgres.database()?);
    run(&["migrate"], &env(&database))?;
    let check = |args: &[&str], settings: &[(&str, &str)], code: i32, told: &str| -> Result<()> {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_api-service"))
            .arg("verify")
            .args(args)
            .env_clear()
            .env("FUSE_DATABASE__ACQUIRE_TIMEOUT_MILLIS", "1000")
            .envs(settings.iter().copied())
            .output()?;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(told), "{told} is missing in:\n{said}");
        assert_eq!(String::from_utf8(output.stdout)?, "", "no verdict");
        Ok(())
    };
    check(&[], &at(&empty), 1, "the database schema is not ready")?;
    check(&["--anchor"], &at(&database), 2, "--anchor")?;
    check(&["--anchors", "1:0"], &at(&database), 2, "--anchors")?;
    check(&["everything"], &at(&database), 2, "everything")?;
    check(&[], &[], 78, "FUSE_DATABASE__URL")?;
    check(&[], &at("mysql://x"), 78, "FUSE_DATABASE__URL")?;
    postgres.stop()?;
    check(&[], &at(&database), 1, "cannot be used now")?;
    // What is wrong with the configuration is told before anything is tried.
    let misspelt = [at(&database)[0], ("FUSE_DATABASE__URI", "x")];
    check(&[], &misspelt, 78, "FUSE_DATABASE__URI")
}

/// Nobody can be told that a replica is ready, before its port for clients is open.
#[test]
fn a_replica_whose_port_is_taken_never_opens_the_one_that_says_ready() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let replica = Proc::build("api-service", env!("CARGO_BIN_EXE_api-service"))
        .env_clear()
        .envs(env("postgres://fuse@127.0.0.1:1/fuse"))
        .env("FUSE_VENDOR__BASE_URL", "http://127.0.0.1:1")
        .env("FUSE_VENDOR__API_KEY", "a-key")
        .env("FUSE_DYNAMODB__ENDPOINT", "http://127.0.0.1:1")
        .env("FUSE_DYNAMODB__REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("FUSE_ADMIN__LISTEN", "127.0.0.1:0")
        .env("FUSE_HTTP__LISTEN", taken.local_addr()?.to_string())
        .start()?;
    assert_eq!(replica.wait_exit(PATIENCE)?.code(), Some(1));
    let log = replica.log();
    assert!(log.contains("cannot listen on"), "{log}");
    assert!(!log.contains("admin listening"), "{log}");
    Ok(())
}

#[test]
fn keys_are_managed_from_the_command_line() -> Result<()> {
    let database = Postgres::shared()?.database()?;
    let env = env(&database);
    run(&["migrate"], &env)?;
    let json = |text: String| -> Result<Value> { Ok(serde_json::from_str(&text)?) };
    let made = json(run(
        &[
            "keys",
            "create",
            "--name",
            "ops",
            "--scopes",
            "report,admin",
            "--expires-in",
            "30d",
        ],
        &env,
    )?)?;
    assert!(
        made["key"].as_str().is_some_and(|key| key.starts_with("fuse_")) && made["expiresAt"].is_string(),
        "{made}"
    );
    let user = json(run(
        &[
            "keys", "create", "--name", "Anna", "--user", "new", "--scopes", "read",
        ],
        &env,
    )?)?;
    assert!(user["userId"].is_string(), "{user}");
    let id = made["id"].as_str().expect("an id");
    let revoked = json(run(&["keys", "revoke", id], &env)?)?;
    assert!(revoked["revokedAt"].is_string());
    let list = run(&["keys", "list"], &env)?;
    assert_eq!(list.lines().count(), 2);
    assert!(!list.contains("\"key\""), "texts are never shown again");
    assert!(run(&["keys", "create", "--name", "x", "--scopes", "fly"], &env).is_err());
    assert!(run(&["keys", "revoke", "0198a8f2-7c3e-7d10-a8a1-3a1f0a4bb0c1"], &env).is_err());
    Ok(())
}

#[test]
fn every_mistake_of_the_configuration_is_named_at_once() -> Result<()> {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_api-service"))
        .env_clear()
        .env("FUSE_DATABASE__URL", "mysql://x")
        .env("FUSE_VENDOR__API_KEY_FILE", "/nonexistent/key")
        .env("FUSE_ORDERS__PRICE_TOLERANCE_PERCENT", "200")
        .env("FUSE_AUTH__BOOTSTRAP_ADMIN_KEY", "short")
        .env("FUSE_LIMITS__REQUEST_TIMEOUT_SECS", "11")
        .env("FUSE_CORS__ORIGINS", "example.com")
        .env("FUSE_HTP__LISTEN", "127.0.0.1:0")
        .output()?;
    assert_eq!(output.status.code(), Some(78));
    let told = String::from_utf8(output.stderr)?;
    for named in [
        "FUSE_DATABASE__URL",
        "FUSE_VENDOR__BASE_URL",
        "/nonexistent/key",
        "FUSE_ORDERS__PRICE_TOLERANCE_PERCENT",
        "auth.bootstrap_admin_key",
        "limits.request_timeout_secs",
        "cors.origins",
        "FUSE_HTTP__LISTEN?",
    ] {
        assert!(told.contains(named), "{named} is missing in:\n{told}");
    }
    assert!(!told.contains("short\""), "no secret is printed:\n{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_served_and_printed() -> Result<()> {
    let world = World::start().await?;
    let served = world.get("/openapi.json").gives(200).await?;
    let document = served.json();
    let printed: Value = serde_json::from_str(&run(&["openapi"], &[])?)?;
    assert_eq!(document, printed);
    assert!(
        document["openapi"]
            .as_str()
            .is_some_and(|version| version.starts_with("3.1"))
    );
    let order = &document["paths"]["/v1/orders"]["post"];
    for status in [
        "201", "202", "400", "401", "403", "404", "409", "413", "415", "422", "500", "502", "503", "504",
    ] {
        assert!(order["responses"][status].is_object(), "{status}");
    }
    let problem = &order["responses"]["422"]["content"]["application/problem+json"]["schema"]["$ref"];
    assert_eq!(problem, "#/components/schemas/Problem");
    every_reference_leads_somewhere(&document, &document);
    // A cross-origin page is not answered unless it is configured.
    let answer = world
        .get("/openapi.json")
        .header("origin", "https://evil.example")
        .key(BOOTSTRAP)
        .gives(200)
        .await?;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    Ok(())
}

fn every_reference_leads_somewhere(document: &Value, part: &Value) {
    match part {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                let pointer = reference.trim_start_matches('#');
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
            members
                .values()
                .for_each(|part| every_reference_leads_somewhere(document, part));
        }
        Value::Array(parts) => parts
            .iter()
            .for_each(|part| every_reference_leads_somewhere(document, part)),
        _ => {}
    }
}
