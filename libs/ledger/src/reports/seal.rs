//! Periods. A period is the events with `at <= cut_at` and `txid < txid_upper` which the bounds of the report
//! before did not hold. `txid_upper` is the oldest transaction that was still running when the report was sealed,
//! so an event that commits late is in a later period instead of in none.

use fuse_domain::{OrderStatus, Period, Quantity, Reason, ReportLine, Symbol};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff_sqlx::ToSqlx as _;
use sqlx::postgres::PgRow;

use crate::error::corrupt;
use crate::orders::read::fill_from;
use crate::{Ledger, LedgerError, row};

/// One end of a period: a time and a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Events at or before this.
    pub cut_at: Timestamp,
    /// Written by transactions below this.
    pub txid_upper: u64,
}

/// What a report covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportPeriod {
    /// The day it is named after.
    pub date: Date,
    /// IANA name of the zone in which that is a day.
    pub time_zone: String,
    /// Where it ends.
    pub upper: Bounds,
    /// Where the report before ended; `None` for the first, which takes everything.
    pub previous: Option<Bounds>,
}

impl ReportPeriod {
    /// In the form of the computed report.
    pub fn period(&self) -> Period {
        Period {
            from: self.previous.map(|bounds| bounds.cut_at),
            to: self.upper.cut_at,
        }
    }
}

/// Where the database's transactions stand. Transactions of the whole server count, also of other databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// The oldest transaction that still runs; a period sealed now holds only what is older.
    pub oldest_open: u64,
    /// The next one to begin.
    pub next: u64,
}

/// What became of [`Ledger::seal`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealed {
    /// Sealed, and by this call.
    Now(ReportPeriod),
    /// It was sealed before and is as it was.
    Before(ReportPeriod),
    /// A later day is sealed already, and what this day would have held is in that report or an earlier one.
    Superseded {
        /// The latest sealed day.
        by: Date,
    },
}

macro_rules! period_columns {
    () => {
        "report_date, time_zone, cut_at, txid_upper::text as txid_upper, previous_cut_at,
         previous_txid_upper::text as previous_txid_upper"
    };
}
pub(super) use period_columns;

// The bounds that a report would have if it were sealed now: never before those of the report before.
const NEXT_PERIOD: &str = "
    select $1::date as report_date, $2::text as time_zone, greatest($3::timestamptz, l.cut_at) as cut_at,
           greatest(pg_snapshot_xmin(pg_current_snapshot()), l.txid_upper) as txid_upper,
           l.report_date as previous_date, l.cut_at as previous_cut_at, l.txid_upper as previous_txid_upper
    from (select 1) one
    left join (select * from reports order by report_date desc limit 1) l on true
    where l.report_date is null or l.report_date < $1::date";

impl Ledger {
    /// Where the transactions stand. Once `oldest_open` has reached a former `next`, everything that was committed
    /// or under way at that time can be sealed.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` or `Corrupt`.
    pub async fn horizon(&self) -> Result<Horizon, LedgerError> {
        let query = sqlx::query(
            "select pg_snapshot_xmin(pg_current_snapshot())::text as oldest_open,
                    pg_snapshot_xmax(pg_current_snapshot())::text as next",
        );
        let rows = self.read("horizon", query).await?;
        let found = row::only(&rows, "horizon")?;
        let txid = |column| row::parsed(found, column, str::parse::<u64>);
        Ok(Horizon {
            oldest_open: txid("oldest_open")?,
            next: txid("next")?,
        })
    }

    /// Seals the period of a day, for good. Reports are sealed in the order of their days.
    ///
    /// # Errors
    /// `Unavailable` (it may have been sealed: repeat it), or `Conflict` when another one was sealed at the same
    /// moment (repeat it).
    pub async fn seal(
        &self,
        date: Date,
        time_zone: &str,
        cut_at: Timestamp,
        now: Timestamp,
    ) -> Result<Sealed, LedgerError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "insert into reports (report_date, time_zone, cut_at, txid_upper, previous_date, previous_cut_at,
                 previous_txid_upper, sealed_at)
             select report_date, time_zone, cut_at, txid_upper, previous_date, previous_cut_at, previous_txid_upper, $4
             from ({NEXT_PERIOD}) next
             on conflict do nothing
             returning {}",
            period_columns!()
        ));
        let query = sqlx::query(sql)
            .bind(date.to_sqlx())
            .bind(time_zone.to_owned())
            .bind(row::at(cut_at))
            .bind(row::at(now));
        if let Some(sealed) = self.write("seal_report", query).await?.first() {
            return Ok(Sealed::Now(period_from(sealed)?));
        }
        if let Some(period) = self.sealed_period(date).await? {
            return Ok(Sealed::Before(period));
        }
        match self.last_sealed().await? {
            Some(by) if by > date => Ok(Sealed::Superseded { by }),
            // Another report took our predecessor between the two statements; by now it is visible.
            _ => Err(LedgerError::Conflict(sqlx::Error::RowNotFound)),
        }
    }

    /// What [`Ledger::seal`] would seal now, without sealing it. `None` when a later day is sealed already.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` or `Corrupt`.
    pub async fn preview_period(
        &self,
        date: Date,
        time_zone: &str,
        cut_at: Timestamp,
    ) -> Result<Option<ReportPeriod>, LedgerError> {
        let sql = sqlx::AssertSqlSafe(format!("select {} from ({NEXT_PERIOD}) next", period_columns!()));
        let query = sqlx::query(sql)
            .bind(date.to_sqlx())
            .bind(time_zone.to_owned())
            .bind(row::at(cut_at));
        self.read("preview_period", query)
            .await?
            .first()
            .map(period_from)
            .transpose()
    }

    /// The period of a sealed report.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` or `Corrupt`.
    pub async fn sealed_period(&self, date: Date) -> Result<Option<ReportPeriod>, LedgerError> {
        let sql = concat!(
            "select ",
            period_columns!(),
            " from reports where report_date = $1"
        );
        let query = sqlx::query(sql).bind(date.to_sqlx());
        self.read("sealed_period", query)
            .await?
            .first()
            .map(period_from)
            .transpose()
    }

    /// The latest sealed day.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` or `Corrupt`.
    pub async fn last_sealed(&self) -> Result<Option<Date>, LedgerError> {
        let query = sqlx::query("select max(report_date) as report_date from reports");
        let rows = self.read("last_sealed", query).await?;
        let date: Option<jiff_sqlx::Date> = row::get(row::only(&rows, "last_sealed")?, "report_date")?;
        Ok(date.map(jiff_sqlx::Date::to_jiff))
    }

    /// The lines of a period in the order (txid, seq): each order that came to an outcome in it, or was resolved.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` or `Corrupt`.
    pub async fn period_lines(&self, period: &ReportPeriod) -> Result<Vec<ReportLine>, LedgerError> {
        // Two ranges that exclude each other, each with an index: what happened since the last cut, and what had
        // happened before it but was committed after the last report was sealed.
        let query = sqlx::query(
            "select e.order_id, e.user_id, o.symbol, o.quantity::text as quantity, o.limit_price::text as limit_price,
                    e.status, e.reason, e.fill_price::text as fill_price, e.fill_quantity::text as fill_quantity,
                    e.fill_total::text as fill_total, e.at, coalesce(e.from_status = 'unknown', false) as resolution
             from (
                 select * from order_events
                 where at > coalesce($3, '-infinity') and at <= $1 and txid < $2::xid8
                 union all
                 select * from order_events
                 where at <= $3 and at <= $1 and txid >= $4::xid8 and txid < $2::xid8
             ) e join orders o using (user_id, order_id)
             where e.status <> 'submitted'
             order by e.txid, e.seq, e.user_id",
        )
        .bind(row::at(period.upper.cut_at))
        .bind(period.upper.txid_upper.to_string())
        .bind(period.previous.map(|bounds| row::at(bounds.cut_at)))
        .bind(period.previous.map(|bounds| bounds.txid_upper.to_string()));
        self.read("period_lines", query)
            .await?
            .iter()
            .map(line_from)
            .collect()
    }
}

fn line_from(found: &PgRow) -> Result<ReportLine, LedgerError> {
    Ok(ReportLine {
        order_id: row::get(found, "order_id")?,
        user_id: row::get(found, "user_id")?,
        symbol: row::parsed(found, "symbol", Symbol::parse)?,
        quantity: row::parsed(found, "quantity", Quantity::parse)?,
        limit_price: row::price(found, "limit_price")?,
        outcome: row::parsed(found, "status", OrderStatus::parse)?,
        reason: row::optional(found, "reason", Reason::parse)?,
        fill: fill_from(found)?,
        at: row::time(found, "at")?,
        resolution: row::get(found, "resolution")?,
    })
}

pub(super) fn period_from(found: &PgRow) -> Result<ReportPeriod, LedgerError> {
    let txid = |column| row::optional(found, column, str::parse::<u64>);
    let previous = match (
        row::optional_time(found, "previous_cut_at")?,
        txid("previous_txid_upper")?,
    ) {
        (Some(cut_at), Some(txid_upper)) => Some(Bounds { cut_at, txid_upper }),
        _ => None,
    };
    Ok(ReportPeriod {
        date: row::get::<jiff_sqlx::Date>(found, "report_date")?.to_jiff(),
        time_zone: row::get(found, "time_zone")?,
        upper: Bounds {
            cut_at: row::time(found, "cut_at")?,
            txid_upper: txid("txid_upper")?.ok_or_else(|| corrupt("txid_upper", "null"))?,
        },
        previous,
    })
}
