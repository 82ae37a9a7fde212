//! What `migrate` grants and takes, and what it says of a role that it cannot hold to the rules.

use anyhow::{Context as _, Result};
use fuse_harness::postgres::{Postgres, as_service};
use fuse_ledger::{Ledger, LedgerError, Migrated, SCHEMA_VERSION};
use fuse_platform::{Metrics, Secret};
use uuid::Uuid;

use super::Scene;
use crate::support::{at, config};

const OPERATIONS: &str = include_str!("../../../../../docs/operations.md");

/// A database of its own, and roles that only this test uses.
struct Server {
    postgres: &'static Postgres,
    url: String,
    tag: String,
}

impl Server {
    fn start() -> Result<Self> {
        let postgres = Postgres::shared()?;
        Ok(Self {
            postgres,
            url: postgres.database()?,
            tag: Uuid::now_v7().simple().to_string(),
        })
    }

    /// As an administrator.
    fn sql(&self, sql: &str) -> Result<String> {
        self.postgres.sql_at(&self.url, sql)
    }

    /// A role of this name, which is part of a URL as it is, with the rights that `create role` names.
    fn role(&self, name: &str, rights: &str) -> Result<String> {
        let role = format!("{name}_{}", self.tag);
        self.sql(&format!(
            "create role \"{role}\" login password 'secret' {rights}"
        ))?;
        Ok(role)
    }

    fn url_as(&self, role: &str) -> Result<String> {
        let (_, place) = self.url.rsplit_once('@').context("a user in the URL")?;
        let quoted: String = role.bytes().map(|byte| format!("%{byte:02X}")).collect();
        Ok(format!("postgres://{quoted}:secret@{place}"))
    }

    fn ledger_as(&self, role: &str) -> Result<Ledger> {
        Ok(Ledger::new(&config(&self.url_as(role)?), &Metrics::new())?)
    }

    /// `migrate` as one role for another.
    async fn migrate(&self, service: &str, owner: &str) -> Result<Migrated> {
        let owner = Secret::from_text(self.url_as(owner)?);
        Ok(self.ledger_as(service)?.migrate_as(Some(&owner)).await?)
    }
}

/// It can do what a service does.
async fn works(ledger: &Ledger) -> Result<()> {
    let user = Uuid::now_v7();
    ledger
        .create_user(user, "Ada", at("2026-03-02T10:00:00Z"))
        .await?;
    anyhow::ensure!(ledger.user_exists(user).await?);
    anyhow::ensure!(ledger.schema_version().await? == Some(SCHEMA_VERSION));
    ledger.observe(at("2026-03-02T10:00:00Z")).await?;
    Ok(())
}

#[tokio::test]
async fn repeating_the_migration_takes_what_was_granted_meanwhile() -> Result<()> {
    let scene = Scene::start().await?;
    let granted = scene.dump().await?;
    let more = "grant all on all tables in schema public to fuse_service, public;
        grant update (quantity) on holdings to fuse_service, public;
        grant all on all functions in schema public to fuse_service, public;
        grant all on schema public to fuse_service, public";
    scene.fixture.by_hand(more).await?.map_err(anyhow::Error::msg)?;
    scene.done("create table mine (n int)").await?;
    scene
        .done("drop table mine; update holdings set quantity = quantity + 1, version = version + 1")
        .await?;
    let owner = Secret::from_text(scene.fixture.url.as_str());
    let migrated = scene.fixture.ledger.migrate_as(Some(&owner)).await?;
    assert_eq!(
        (migrated.service.is_owner, migrated.service.loopholes),
        (false, Vec::new())
    );
    for (sql, words) in [
        ("create table mine (n int)", "permission denied for schema"),
        (
            "update holdings set quantity = 9, version = 9",
            "permission denied for table holdings",
        ),
        ("delete from users", "permission denied for table users"),
        (
            "select refuse_change()",
            "permission denied for function refuse_change",
        ),
    ] {
        scene.refused(sql, words).await?;
    }
    let rules = |dump: &str| dump.lines().last().map(str::to_owned);
    assert_eq!(rules(&scene.dump().await?), rules(&granted));
    works(&scene.fixture.ledger).await
}

#[tokio::test]
async fn two_migrations_at_once_grant_the_same() -> Result<()> {
    let server = Server::start()?;
    let owner = Secret::from_text(server.url.as_str());
    let ledger = Ledger::new(&config(&as_service(&server.url)), &Metrics::new())?;
    let all = (0..6).map(|_| ledger.migrate_as(Some(&owner)));
    for migrated in futures::future::join_all(all).await {
        assert_eq!(migrated?.version, SCHEMA_VERSION);
    }
    works(&ledger).await
}

/// A newer program has granted what its services need; some of them may still run while this one is rolled back to.
#[tokio::test]
async fn an_older_program_leaves_the_grants_of_a_newer_one_alone() -> Result<()> {
    let scene = Scene::start().await?;
    scene
        .fixture
        .by_hand(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
             values (9999, 'later', true, '', 0);
             create table later (n int); grant insert on later to fuse_service",
        )
        .await?
        .map_err(anyhow::Error::msg)?;
    let owner = Secret::from_text(scene.fixture.url.as_str());
    assert_eq!(scene.fixture.ledger.migrate_as(Some(&owner)).await?.version, 9999);
    scene.done("insert into later values (1)").await
}

#[tokio::test]
async fn a_role_that_is_not_there_is_named_with_the_statement_that_makes_it() -> Result<()> {
    let server = Server::start()?;
    let owner = Secret::from_text(server.url.as_str());
    let ledger = server.ledger_as("No Such")?;
    let error = ledger.migrate_as(Some(&owner)).await.expect_err("no such role");
    assert!(
        matches!(error, LedgerError::RoleMissing { .. }) && !error.retryable(),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains("create role \"No Such\" login password '…'"),
        "{text}"
    );
    assert_eq!(
        server.sql("select count(*) from pg_class where relname = 'orders'")?,
        "0"
    );
    Ok(())
}

#[tokio::test]
async fn a_name_is_a_name_whatever_it_is_made_of() -> Result<()> {
    let server = Server::start()?;
    let role = format!("It's \"{}\"; drop table a;-- %I", server.tag);
    server.sql(&format!(
        "create role \"{}\" login password 'secret'",
        role.replace('"', "\"\"")
    ))?;
    let ledger = server.ledger_as(&role)?;
    let owner = Secret::from_text(server.url.as_str());
    let migrated = ledger.migrate_as(Some(&owner)).await?;
    assert_eq!(
        (migrated.service.name, migrated.service.loopholes),
        (role, Vec::new())
    );
    works(&ledger).await
}

#[tokio::test]
async fn a_role_that_owns_the_tables_or_could_get_around_them_is_told_so() -> Result<()> {
    let server = Server::start()?;
    let owner = server.role("owner", "")?;
    server.sql(&format!("grant create on schema public to \"{owner}\""))?;
    let alone = server.migrate(&owner, &owner).await?;
    assert!(
        alone.service.is_owner && alone.service.loopholes.is_empty(),
        "{alone:?}"
    );
    works(&server.ledger_as(&owner)?).await?;

    let creates = server.role("creates", "")?;
    server.sql(&format!("grant create on schema public to \"{creates}\""))?;
    let writes = server.role("writes", &format!("in role \"{}\"", server.role("group", "")?))?;
    server.sql(&format!("grant update on orders to \"group_{}\"", server.tag))?;
    let cases = [
        (server.role("super", "superuser")?, "is a superuser".to_owned()),
        (
            server.role("makes", "createrole")?,
            "may make itself a member".to_owned(),
        ),
        (
            server.role("member", &format!("in role \"{owner}\""))?,
            format!("has the rights of {owner}, which owns tables"),
        ),
        (creates, "may create objects in the schema public".to_owned()),
        (writes, "may write into orders through another role".to_owned()),
    ];
    for (role, words) in cases {
        let migrated = server.migrate(&role, &owner).await?;
        let loopholes = migrated.service.loopholes;
        assert!(
            loopholes.iter().any(|loophole| loophole.contains(&words)),
            "{role}: {loopholes:?}"
        );
    }
    let clean = server.role("clean", "")?;
    let migrated = server.migrate(&clean, &owner).await?;
    assert_eq!(migrated.service.loopholes, Vec::<String>::new());
    works(&server.ledger_as(&clean)?).await
}

/// The statements of the handbook, as they are written there.
#[tokio::test]
async fn the_handbooks_statements_make_two_roles_that_hold() -> Result<()> {
    let server = Server::start()?;
    let (owner, service) = (format!("owner_{}", server.tag), format!("service_{}", server.tag));
    let database = format!("db_{}", server.tag);
    for statement in handbook("A new database")? {
        let statement = statement
            .replace("fuse_owner", &owner)
            .replace("fuse_service", &service)
            .replace("database fuse", &format!("database {database}"))
            .replace('…', "secret");
        server.sql(&statement)?;
    }
    let (place, _) = server.url.rsplit_once('/').context("a database in the URL")?;
    let server = Server {
        url: format!("{place}/{database}"),
        ..server
    };
    let migrated = server.migrate(&service, &owner).await?;
    assert_eq!(migrated.service.loopholes, Vec::<String>::new());
    assert_eq!(
        server.sql(
            "select count(*) from pg_tables where schemaname = 'public' and tableowner not like 'owner_%'"
        )?,
        "0"
    );
    works(&server.ledger_as(&service)?).await
}

/// From one role that did everything to two.
#[tokio::test]
async fn the_handbooks_statements_take_the_tables_from_the_service() -> Result<()> {
    let server = Server::start()?;
    let (owner, service) = (format!("owner_{}", server.tag), server.role("service", "")?);
    let database = server.url.rsplit('/').next().context("a database")?.to_owned();
    server.sql(&format!(
        "alter database {database} owner to {service}; alter schema public owner to {service}"
    ))?;
    assert!(server.migrate(&service, &service).await?.service.is_owner);
    for statement in handbook("A database that one role did everything in")? {
        let statement = statement
            .replace("fuse_owner", &owner)
            .replace("fuse_service", &service)
            .replace('…', "secret");
        server.sql(&statement)?;
    }
    let migrated = server.migrate(&service, &owner).await?;
    assert_eq!(
        (migrated.service.is_owner, migrated.service.loopholes),
        (false, Vec::new())
    );
    works(&server.ledger_as(&service)?).await
}

/// The statements of the first block behind these words in docs/operations.md.
fn handbook(words: &str) -> Result<Vec<String>> {
    let (_, behind) = OPERATIONS
        .split_once(words)
        .with_context(|| format!("no {words:?}"))?;
    let (_, block) = behind.split_once("```sql\n").context("no block of SQL")?;
    let (block, _) = block.split_once("```").context("a block without an end")?;
    let lines = block
        .lines()
        .map(|line| line.split("--").next().unwrap_or_default());
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    let statements = text
        .split(';')
        .map(str::trim)
        .filter(|statement| !statement.is_empty());
    Ok(statements.map(str::to_owned).collect())
}
