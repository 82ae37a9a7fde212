//! API keys: who may do what. Only hashes are stored; a revoked or expired key stays as a record.

mod limits;
mod text;

use std::collections::BTreeSet;

use jiff::Timestamp;
use sqlx::postgres::PgRow;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

pub use self::limits::KeyLimits;
pub use self::text::{KeyText, KeyTextError, PresentedKey};
use crate::{Ledger, LedgerError, row};

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Stocks, orders and portfolios of the owner.
    Read,
    /// Placing orders, creating portfolios.
    Trade,
    /// Daily reports.
    Report,
    /// Keys, resolutions, everything of everybody.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Trade, Self::Report, Self::Admin];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Trade => "trade",
            Self::Report => "report",
            Self::Admin => "admin",
        }
    }

    /// By its name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// Whom a key acts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Sees and does only what is this user's.
    User(Uuid),
    /// Belongs to no user: another system, or an administrator.
    Service,
}

impl Owner {
    /// The user, if it is one.
    pub fn user_id(self) -> Option<Uuid> {
        match self {
            Self::User(id) => Some(id),
            Self::Service => None,
        }
    }
}

/// A stored key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// UUIDv7, also in the key's text.
    pub id: Uuid,
    /// SHA-256 of the key's text.
    pub sha256: [u8; 32],
    /// What its maker called it.
    pub name: String,
    /// Whom it acts for.
    pub owner: Owner,
    /// What it allows, never empty.
    pub scopes: BTreeSet<Scope>,
    /// What it may order.
    pub limits: KeyLimits,
    /// When it was made.
    pub created_at: Timestamp,
    /// From here on it is refused.
    pub expires_at: Option<Timestamp>,
    /// Since then it is refused.
    pub revoked_at: Option<Timestamp>,
}

/// Why a well-formed key opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// The id exists, the secret is another one.
    #[error("the API key is not known")]
    Mismatch,
    /// Past its end.
    #[error("the API key has expired")]
    Expired,
    /// Taken back.
    #[error("the API key was revoked")]
    Revoked,
}

impl ApiKey {
    /// Whether the presented key is this one and still good. The hashes are compared in constant time,
    /// and before anything is told about the key.
    ///
    /// # Errors
    /// The reason, for a metric's label and the log; a client learns only that the key is refused.
    pub fn verify(&self, presented: &PresentedKey, now: Timestamp) -> Result<(), KeyRefused> {
        if !bool::from(self.sha256.ct_eq(&presented.sha256)) || self.id != presented.id {
            return Err(KeyRefused::Mismatch);
        }
        if self.revoked_at.is_some() {
            return Err(KeyRefused::Revoked);
        }
        if self.expires_at.is_some_and(|end| now >= end) {
            return Err(KeyRefused::Expired);
        }
        Ok(())
    }

    /// Whether the key allows this. `Admin` allows everything.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }
}

/// A key to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// UUIDv7.
    pub id: Uuid,
    /// 1 to 200 characters.
    pub name: String,
    /// Whom it acts for; a user must exist.
    pub owner: Owner,
    /// At least one.
    pub scopes: BTreeSet<Scope>,
    /// What it may order.
    pub limits: KeyLimits,
    /// Now.
    pub created_at: Timestamp,
    /// When it ends, if ever.
    pub expires_at: Option<Timestamp>,
}

/// The outcome of [`Ledger::ensure_key`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    /// It was not there and is now.
    Created,
    /// It was there already, the same one.
    Present,
    /// Another secret is stored under its id; nothing was changed.
    OtherSecret,
}

const COLUMNS: &str = "key_id, sha256, name, user_id, scopes, created_at, expires_at, revoked_at,
    max_notional::text as max_notional, max_orders_per_day";

impl Ledger {
    /// Makes a key. Its text is in the answer and nowhere else. `None` when the owner does not exist.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict`, or `Refused` when the name or the scopes are empty, or a limit is none.
    pub async fn create_key(&self, new: NewKey) -> Result<Option<(ApiKey, KeyText)>, LedgerError> {
        let text = KeyText::generate(new.id);
        let stored = self.insert_key("create_key", &new, text.sha256()).await?;
        Ok(stored.map(|key| (key, text)))
    }

    /// Makes sure that a key whose text was made elsewhere (a mounted Secret) works. Repeating it is harmless.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict`, or `Refused` as for [`Ledger::create_key`].
    pub async fn ensure_key(&self, presented: PresentedKey, new: NewKey) -> Result<Ensured, LedgerError> {
        let new = NewKey {
            id: presented.id,
            ..new
        };
        if self
            .insert_key("ensure_key", &new, presented.sha256)
            .await?
            .is_some()
        {
            return Ok(Ensured::Created);
        }
        Ok(match self.find_key(presented.id).await? {
            Some(key) if key.sha256 == presented.sha256 => Ensured::Present,
            _ => Ensured::OtherSecret,
        })
    }

    async fn insert_key(
        &self,
        name: &'static str,
        new: &NewKey,
        sha256: [u8; 32],
    ) -> Result<Option<ApiKey>, LedgerError> {
        let scopes: Vec<&'static str> = new.scopes.iter().map(|scope| scope.as_str()).collect();
        let sql = sqlx::AssertSqlSafe(format!(
            "insert into api_keys (key_id, sha256, name, user_id, scopes, created_at, expires_at, max_notional,
                 max_orders_per_day)
             select $1, $2, $3, $4, $5, $6, $7, $8::numeric, $9
             where $4::uuid is null or exists (select from users where user_id = $4)
             on conflict (key_id) do nothing
             returning {COLUMNS}"
        ));
        let query = sqlx::query(sql)
            .bind(new.id)
            .bind(sha256.to_vec())
            .bind(new.name.clone())
            .bind(new.owner.user_id())
            .bind(scopes)
            .bind(row::at(new.created_at))
            .bind(new.expires_at.map(row::at))
            .bind(new.limits.max_notional.map(|max| max.to_string()))
            .bind(new.limits.max_orders_per_day.map(i64::from));
        self.write(name, query).await?.first().map(key_from).transpose()
    }

    /// The key of this id, whatever its state; the caller verifies it.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` or `Corrupt`.
    pub async fn find_key(&self, id: Uuid) -> Result<Option<ApiKey>, LedgerError> {
        let sql = sqlx::AssertSqlSafe(format!("select {COLUMNS} from api_keys where key_id = $1"));
        self.read("find_key", sqlx::query(sql).bind(id))
            .await?
            .first()
            .map(key_from)
            .transpose()
    }

    /// Keys in the order of their making, of one user or of everybody, at most `limit`, after the given id.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` or `Corrupt`.
    pub async fn list_keys(
        &self,
        user_id: Option<Uuid>,
        after: Option<Uuid>,
        limit: u16,
    ) -> Result<Vec<ApiKey>, LedgerError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from api_keys
             where ($1::uuid is null or user_id = $1) and ($2::uuid is null or key_id > $2)
             order by key_id limit $3"
        ));
        let query = sqlx::query(sql).bind(user_id).bind(after).bind(i64::from(limit));
        self.read("list_keys", query)
            .await?
            .iter()
            .map(key_from)
            .collect()
    }

    /// Takes a key back; repeating it keeps the first time. `None` when there is no such key.
    ///
    /// # Errors
    /// `Unavailable` or `Conflict`.
    pub async fn revoke_key(&self, id: Uuid, now: Timestamp) -> Result<Option<ApiKey>, LedgerError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "update api_keys set revoked_at = coalesce(revoked_at, $2) where key_id = $1 returning {COLUMNS}"
        ));
        let query = sqlx::query(sql).bind(id).bind(row::at(now));
        self.write("revoke_key", query)
            .await?
            .first()
            .map(key_from)
            .transpose()
    }
}

fn key_from(row: &PgRow) -> Result<ApiKey, LedgerError> {
    let hash: &[u8] = row::get(row, "sha256")?;
    let scopes: Vec<String> = row::get(row, "scopes")?;
    Ok(ApiKey {
        id: row::get(row, "key_id")?,
        sha256: hash
            .try_into()
            .map_err(|error| crate::error::corrupt("sha256", error))?,
        name: row::get(row, "name")?,
        owner: row::get::<Option<Uuid>>(row, "user_id")?.map_or(Owner::Service, Owner::User),
        scopes: scopes
            .into_iter()
            .map(|text| Scope::parse(&text).ok_or_else(|| crate::error::corrupt("scopes", text)))
            .collect::<Result<_, _>>()?,
        limits: KeyLimits::read(row)?,
        created_at: row::time(row, "created_at")?,
        expires_at: row::optional_time(row, "expires_at")?,
        revoked_at: row::optional_time(row, "revoked_at")?,
    })
}
