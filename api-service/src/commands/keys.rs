//! `api-service keys`: keys from the command line, for whoever can reach the database.

use fuse_ledger::{ApiKey, KeyLimits, Ledger, NewKey, Owner};
use fuse_platform::config::{DatabaseConfig, Reader};
use fuse_platform::{BoxError, Context};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::args::{KeysCommand, ScopeArg, UserArg};

/// Records read at once.
const PAGE: u16 = 500;

/// What `keys` needs.
#[derive(Debug)]
pub struct KeysConfig {
    database: DatabaseConfig,
}

impl KeysConfig {
    /// Reads the keys.
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            database: DatabaseConfig::read(reader),
        }
    }
}

/// Runs one command; its answer is JSON on standard output.
pub async fn keys(context: Context, config: KeysConfig, command: &KeysCommand) -> Result<(), BoxError> {
    let ledger = Ledger::new(&config.database, &context.metrics)?;
    let now = Timestamp::now();
    match command {
        KeysCommand::Create {
            name,
            user,
            scopes,
            expires_in,
            max_notional,
            max_orders_per_day,
        } => {
            let is_beyond_a_user = |scope: &ScopeArg| matches!(scope, ScopeArg::Report | ScopeArg::Admin);
            if user.is_some() && scopes.iter().any(is_beyond_a_user) {
                return Err(
                    "the scopes report and admin are for services; leave --user out, or the scopes".into(),
                );
            }
            let owner = owner(&ledger, *user, name, now).await?;
            let new = NewKey {
                id: Uuid::now_v7(),
                name: name.clone(),
                owner,
                scopes: scopes.iter().map(|scope| (*scope).into()).collect(),
                limits: KeyLimits {
                    max_notional: *max_notional,
                    max_orders_per_day: *max_orders_per_day,
                },
                created_at: now,
                expires_at: expires_in.map(|span| end(now, span)).transpose()?,
            };
            create(&ledger, new).await
        }
        KeysCommand::List => list(&ledger).await,
        KeysCommand::Revoke { id } => {
            let key = ledger.revoke_key(*id, now).await?;
            let key = key.ok_or_else(|| format!("there is no key {id}"))?;
            println!("{}", record(&key));
            Ok(())
        }
    }
}

async fn owner(
    ledger: &Ledger,
    user: Option<UserArg>,
    name: &str,
    now: Timestamp,
) -> Result<Owner, BoxError> {
    let id = match user {
        None => return Ok(Owner::Service),
        Some(UserArg::New) => Uuid::now_v7(),
        Some(UserArg::Id(id)) => id,
    };
    ledger.create_user(id, name, now).await?;
    Ok(Owner::User(id))
}

async fn create(ledger: &Ledger, new: NewKey) -> Result<(), BoxError> {
    let made = ledger.create_key(new).await?;
    let (key, text) = made.ok_or("the user does not exist")?;
    let mut answer = record(&key);
    answer["key"] = text.reveal().into();
    println!("{answer}");
    Ok(())
}

async fn list(ledger: &Ledger) -> Result<(), BoxError> {
    let mut after = None;
    loop {
        let page = ledger.list_keys(None, after, PAGE).await?;
        for key in &page {
            println!("{}", record(key));
        }
        match page.last() {
            Some(last) if page.len() == usize::from(PAGE) => after = Some(last.id),
            _ => return Ok(()),
        }
    }
}

fn end(now: Timestamp, span: Span) -> Result<Timestamp, jiff::Error> {
    // Days are days of 24 hours here, as in every other duration of ours.
    now.to_zoned(TimeZone::UTC)
        .checked_add(span)
        .map(|end| end.timestamp())
}

fn record(key: &ApiKey) -> serde_json::Value {
    json!({
        "id": key.id,
        "name": key.name,
        "userId": key.owner.user_id(),
        "scopes": key.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
        "createdAt": key.created_at.to_string(),
        "expiresAt": key.expires_at.map(|time| time.to_string()),
        "revokedAt": key.revoked_at.map(|time| time.to_string()),
        "maxNotional": key.limits.max_notional.map(|max| max.to_string()),
        "maxOrdersPerDay": key.limits.max_orders_per_day,
    })
}
