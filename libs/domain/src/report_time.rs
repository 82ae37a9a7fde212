use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use crate::tally::ReportError;

/// When the report of a date is cut: that wall clock time in the zone. In a gap of daylight saving time the
/// later instant, in a fold the earlier one. Errors: no such time of day, or a date at the end of the
/// calendar.
pub fn cut_at(date: Date, tz: &TimeZone, hour: i8, minute: i8) -> Result<Timestamp, ReportError> {
    let time = Time::new(hour, minute, 0, 0).map_err(ReportError::Time)?;
    let zoned = date
        .to_datetime(time)
        .to_zoned(tz.clone())
        .map_err(ReportError::Time)?;
    Ok(zoned.timestamp())
}

/// The newest date whose report is due at `now`.
pub fn latest_due_date(now: Timestamp, tz: &TimeZone, hour: i8, minute: i8) -> Result<Date, ReportError> {
    // A gap may push a cut past midnight, so the local date is only where the search starts.
    let today = now.to_zoned(tz.clone()).date();
    if cut_at(today, tz, hour, minute)? <= now {
        return Ok(today);
    }
    let yesterday = today.yesterday().map_err(ReportError::Time)?;
    if cut_at(yesterday, tz, hour, minute)? <= now {
        return Ok(yesterday);
    }
    yesterday.yesterday().map_err(ReportError::Time)
}
