//! What a report says, kept so that it stays readable whatever happens to the mail.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff_sqlx::ToSqlx as _;
use sqlx::postgres::PgRow;

use super::seal::{ReportPeriod, period_columns, period_from};
use crate::{Ledger, LedgerError, row};

/// A computed report in its three forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportContent {
    /// `fuse_domain::DailyReport` as JSON.
    pub json: String,
    /// The page, the same as in the mail.
    pub html: String,
    /// The text part of the mail.
    pub plain: String,
}

/// A sealed report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReport {
    /// What it covers.
    pub period: ReportPeriod,
    /// When it was sealed.
    pub sealed_at: Timestamp,
    /// `None` between sealing and computing.
    pub content: Option<ReportContent>,
}

impl Ledger {
    /// Keeps what was computed, once: the first content stays, and is what is returned. `None` when the day is
    /// not sealed.
    ///
    /// # Errors
    /// `Unavailable` (repeat it) or `Conflict`.
    pub async fn save_computed(
        &self,
        date: Date,
        content: ReportContent,
        now: Timestamp,
    ) -> Result<Option<ReportContent>, LedgerError> {
        let query = sqlx::query(
            "update reports set content = $2::json, html = $3, plain = $4, computed_at = $5
             where report_date = $1 and computed_at is null",
        )
        .bind(date.to_sqlx())
        .bind(content.json)
        .bind(content.html)
        .bind(content.plain)
        .bind(row::at(now));
        self.write("save_report", query).await?;
        Ok(self.report(date).await?.and_then(|report| report.content))
    }

    /// The report of a day; `None` when it is not sealed.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` or `Corrupt`.
    pub async fn report(&self, date: Date) -> Result<Option<StoredReport>, LedgerError> {
        let sql = concat!(
            "select ",
            period_columns!(),
            ", sealed_at, content::text as content, html, plain from reports where report_date = $1"
        );
        let query = sqlx::query(sql).bind(date.to_sqlx());
        self.read("report", query)
            .await?
            .first()
            .map(report_from)
            .transpose()
    }

    /// Sealed days up to and including `until` that were not computed yet, oldest first.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` or `Corrupt`.
    pub async fn uncomputed_reports(&self, until: Date) -> Result<Vec<ReportPeriod>, LedgerError> {
        let sql = concat!(
            "select ",
            period_columns!(),
            " from reports where computed_at is null and report_date <= $1 order by report_date"
        );
        let query = sqlx::query(sql).bind(until.to_sqlx());
        self.read("uncomputed_reports", query)
            .await?
            .iter()
            .map(period_from)
            .collect()
    }
}

fn report_from(found: &PgRow) -> Result<StoredReport, LedgerError> {
    let json: Option<String> = row::get(found, "content")?;
    let content = match (json, row::get(found, "html")?, row::get(found, "plain")?) {
        (Some(json), Some(html), Some(plain)) => Some(ReportContent { json, html, plain }),
        _ => None,
    };
    Ok(StoredReport {
        period: period_from(found)?,
        sealed_at: row::time(found, "sealed_at")?,
        content,
    })
}
