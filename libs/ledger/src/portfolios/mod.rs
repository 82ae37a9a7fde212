//! Users and their portfolios. A user is made together with a default portfolio, whose id is the user's id.

mod delete;
mod history;
mod read;

use jiff::Timestamp;
use sqlx::postgres::PgRow;
use uuid::Uuid;

pub use self::delete::PortfolioDeleted;
pub use self::history::{PortfolioFill, PortfolioHistory};
pub use self::read::{Holding, PENDING_MAX, Pending, PendingOrder, PortfolioHoldings};
use crate::{Ledger, LedgerError, row};

/// The name of the portfolio that every user has.
pub const DEFAULT_PORTFOLIO_NAME: &str = "Default";

/// A portfolio without its holdings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portfolio {
    /// UUIDv7; the default portfolio has its user's id.
    pub id: Uuid,
    /// Its owner.
    pub user_id: Uuid,
    /// 1 to 200 characters.
    pub name: String,
    /// Grows with every fill.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its version last grew.
    pub updated_at: Timestamp,
}

/// A portfolio to be made.
#[derive(Debug, Clone)]
pub struct NewPortfolio {
    /// UUIDv7.
    pub id: Uuid,
    /// Its owner.
    pub user_id: Uuid,
    /// 1 to 200 characters.
    pub name: String,
    /// Now.
    pub created_at: Timestamp,
}

macro_rules! portfolio_columns {
    () => {
        "p.user_id, p.portfolio_id, p.name, p.version, p.created_at, p.updated_at"
    };
}
use portfolio_columns;

impl Ledger {
    /// Makes a user with a default portfolio. Repeating it with the same id changes nothing.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict`, or `Refused` when the name is empty or longer than 200 characters.
    pub async fn create_user(&self, id: Uuid, name: &str, now: Timestamp) -> Result<(), LedgerError> {
        let query = sqlx::query(
            "with made as (
                 insert into users (user_id, name, created_at) values ($1, $2, $3)
                 on conflict (user_id) do nothing returning user_id
             )
             insert into portfolios (user_id, portfolio_id, name, created_at, updated_at)
             select user_id, user_id, $4, $3, $3 from made",
        )
        .bind(id)
        .bind(name.to_owned())
        .bind(row::at(now))
        .bind(DEFAULT_PORTFOLIO_NAME);
        self.write("create_user", query).await.map(drop)
    }

    /// Whether there is such a user.
    ///
    /// # Errors
    /// `Unavailable` or `Conflict`.
    pub async fn user_exists(&self, id: Uuid) -> Result<bool, LedgerError> {
        let query = sqlx::query("select 1 from users where user_id = $1").bind(id);
        Ok(!self.read("user_exists", query).await?.is_empty())
    }

    /// Makes a portfolio; `None` when there is no such user.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict`, or `Refused` when the name is empty or longer than 200 characters.
    pub async fn create_portfolio(&self, new: NewPortfolio) -> Result<Option<Portfolio>, LedgerError> {
        let sql = concat!(
            "insert into portfolios as p (user_id, portfolio_id, name, created_at, updated_at)
             select user_id, $2, $3, $4, $4 from users where user_id = $1
             returning ",
            portfolio_columns!()
        );
        let query = sqlx::query(sql)
            .bind(new.user_id)
            .bind(new.id)
            .bind(new.name)
            .bind(row::at(new.created_at));
        self.write("create_portfolio", query)
            .await?
            .first()
            .map(portfolio_from)
            .transpose()
    }

    /// The portfolios of a user in the order of their making, at most `limit`, after the given id.
    /// Deleted ones are left out. Empty also when there is no such user.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` or `Corrupt`.
    pub async fn portfolios(
        &self,
        user_id: Uuid,
        after: Option<Uuid>,
        limit: u16,
    ) -> Result<Vec<Portfolio>, LedgerError> {
        let sql = concat!(
            "select ",
            portfolio_columns!(),
            " from portfolios p where user_id = $1 and deleted_at is null and ($2::uuid is null or portfolio_id > $2)
              order by portfolio_id limit $3"
        );
        let query = sqlx::query(sql).bind(user_id).bind(after).bind(i64::from(limit));
        self.read("portfolios", query)
            .await?
            .iter()
            .map(portfolio_from)
            .collect()
    }
}

fn portfolio_from(found: &PgRow) -> Result<Portfolio, LedgerError> {
    Ok(Portfolio {
        id: row::get(found, "portfolio_id")?,
        user_id: row::get(found, "user_id")?,
        name: row::get(found, "name")?,
        version: row::get(found, "version")?,
        created_at: row::time(found, "created_at")?,
        updated_at: row::time(found, "updated_at")?,
    })
}
