//! A portfolio that is no longer wanted. It stays in the database, as whatever it was named in stays; nothing shows it.

use jiff::Timestamp;
use uuid::Uuid;

use crate::{Ledger, LedgerError, row};

/// What became of [`Ledger::delete_portfolio`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortfolioDeleted {
    /// Gone, and by this call.
    Now,
    /// There is none, or it belongs to another user than the one given.
    NotFound,
    /// It is not at the expected version. Nothing was changed.
    Changed,
    /// It holds something, or has orders that are not settled. Nothing was changed.
    NotEmpty,
    /// Every user keeps the default one. Nothing was changed.
    IsDefault,
}

// Whether it may go is decided by the trigger portfolios_go_empty, against whoever writes.
const DELETE: &str = "
    with found as (
        select user_id, portfolio_id from portfolios
        where portfolio_id = $2 and ($1::uuid is null or user_id = $1) and deleted_at is null
    ), gone as (
        update portfolios p set deleted_at = $3
        from found f
        where p.user_id = f.user_id and p.portfolio_id = f.portfolio_id and p.deleted_at is null
          and ($4::bigint is null or p.version = $4)
        returning 1
    )
    select exists (select from found) as is_found, exists (select from gone) as is_gone";

impl Ledger {
    /// Deletes a portfolio that holds nothing and has no open order, when it is at the `expected` version (`None`: at any).
    ///
    /// # Errors
    /// `Unavailable` (it may be deleted), `Conflict` or `Refused`.
    pub async fn delete_portfolio(
        &self,
        user_id: Option<Uuid>,
        portfolio_id: Uuid,
        expected: Option<i64>,
        now: Timestamp,
    ) -> Result<PortfolioDeleted, LedgerError> {
        let query = sqlx::query(DELETE)
            .bind(user_id)
            .bind(portfolio_id)
            .bind(row::at(now))
            .bind(expected);
        let rows = match self.write("delete_portfolio", query).await {
            Ok(rows) => rows,
            Err(error) => return refused(&error).ok_or(error),
        };
        let answer = row::only(&rows, "delete_portfolio")?;
        let (is_found, is_gone): (bool, bool) = (row::get(answer, "is_found")?, row::get(answer, "is_gone")?);
        Ok(match (is_found, is_gone) {
            (_, true) => PortfolioDeleted::Now,
            (true, false) if expected.is_some() => PortfolioDeleted::Changed,
            // Found and then not there: another call was faster.
            (_, false) => PortfolioDeleted::NotFound,
        })
    }
}

/// What the trigger said, by the names that it gives.
fn refused(error: &LedgerError) -> Option<PortfolioDeleted> {
    let LedgerError::Refused(sqlx::Error::Database(refused)) = error else {
        return None;
    };
    match refused.constraint()? {
        "portfolios_goes_empty" => Some(PortfolioDeleted::NotEmpty),
        "portfolios_default_stays" => Some(PortfolioDeleted::IsDefault),
        _ => None,
    }
}
