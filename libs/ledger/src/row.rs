//! Reading columns. Money leaves the database as text and is parsed by `fuse_domain`: the driver's own
//! decimals would round what does not fit instead of refusing it.

use fuse_domain::{Amount, Price, Quantity};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::LedgerError;
use crate::error::corrupt;

/// One column by its name.
pub(crate) fn get<'r, T>(row: &'r PgRow, column: &'static str) -> Result<T, LedgerError>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(column).map_err(|error| corrupt(column, error))
}

/// The row of a statement that always answers with exactly one.
pub(crate) fn only<'r>(rows: &'r [PgRow], what: &'static str) -> Result<&'r PgRow, LedgerError> {
    match rows {
        [row] => Ok(row),
        _ => Err(corrupt(what, format_args!("{} rows instead of one", rows.len()))),
    }
}

pub(crate) fn time(row: &PgRow, column: &'static str) -> Result<Timestamp, LedgerError> {
    Ok(get::<jiff_sqlx::Timestamp>(row, column)?.to_jiff())
}

pub(crate) fn optional_time(row: &PgRow, column: &'static str) -> Result<Option<Timestamp>, LedgerError> {
    Ok(get::<Option<jiff_sqlx::Timestamp>>(row, column)?.map(jiff_sqlx::Timestamp::to_jiff))
}

/// For binding; the database keeps microseconds.
pub(crate) fn at(time: Timestamp) -> jiff_sqlx::Timestamp {
    time.to_sqlx()
}

/// A column that holds text with a parser of its own.
pub(crate) fn parsed<T, E: std::fmt::Display>(
    row: &PgRow,
    column: &'static str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, LedgerError> {
    parse(get(row, column)?).map_err(|error| corrupt(column, error))
}

/// The same for a column that may be null.
pub(crate) fn optional<T, E: std::fmt::Display>(
    row: &PgRow,
    column: &'static str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, LedgerError> {
    get::<Option<&str>>(row, column)?
        .map(|text| parse(text).map_err(|error| corrupt(column, error)))
        .transpose()
}

pub(crate) fn price(row: &PgRow, column: &'static str) -> Result<Price, LedgerError> {
    parsed(row, column, Price::parse)
}

pub(crate) fn quantity(row: &PgRow, column: &'static str) -> Result<Quantity, LedgerError> {
    parsed(row, column, Quantity::parse)
}

pub(crate) fn amount(row: &PgRow, column: &'static str) -> Result<Amount, LedgerError> {
    parsed(row, column, Amount::parse)
}
