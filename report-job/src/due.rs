//! Which day is due, and where it is cut.

use fuse_domain::{cut_at, latest_due_date};
use fuse_platform::config::ReportConfig;
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

use crate::JobError;

/// A schedule may fire a moment early (two clocks); then the job waits for the cut instead of missing the day.
const EARLY_START_MAX: SignedDuration = SignedDuration::from_secs(120);

/// A schedule that fires late, or a Job that is tried again, starts within this after the cut; what starts later was started
/// by hand.
const LATE_START_MAX: SignedDuration = SignedDuration::from_hours(2);

/// Whether `now` is too long after the cut of the newest due day for a scheduled run.
pub(crate) fn is_off_schedule(config: &ReportConfig, target: Date, now: Timestamp) -> Result<bool, JobError> {
    Ok(now.duration_since(scheduled_cut(config, target)?) > LATE_START_MAX)
}

/// The day to report: the one asked for, else the newest whose cut has come or comes within two minutes.
pub(crate) fn target(config: &ReportConfig, asked: Option<Date>, now: Timestamp) -> Result<Date, JobError> {
    let Some(date) = asked else {
        let soon = now.saturating_add(EARLY_START_MAX).unwrap_or(now);
        return latest_due_date(soon, &config.time_zone, config.time.hour(), config.time.minute())
            .map_err(JobError::Calendar);
    };
    if date > now.to_zoned(config.time_zone.clone()).date() {
        return Err(JobError::NotBegun {
            date,
            time_zone: config.time_zone_name.clone(),
        });
    }
    Ok(date)
}

/// How long to wait until the cut of the day; nothing for a day that was asked for by name, which is cut now.
pub(crate) fn wait(
    config: &ReportConfig,
    asked: Option<Date>,
    target: Date,
    now: Timestamp,
) -> Result<std::time::Duration, JobError> {
    if asked.is_some() {
        return Ok(std::time::Duration::ZERO);
    }
    let cut = scheduled_cut(config, target)?;
    Ok(std::time::Duration::try_from(cut.duration_since(now)).unwrap_or_default())
}

/// Where a day is cut: at its time, or now when that is still ahead, so that a run by hand reports what is there.
pub(crate) fn cut(config: &ReportConfig, date: Date, now: Timestamp) -> Result<Timestamp, JobError> {
    Ok(scheduled_cut(config, date)?.min(now))
}

fn scheduled_cut(config: &ReportConfig, date: Date) -> Result<Timestamp, JobError> {
    cut_at(date, &config.time_zone, config.time.hour(), config.time.minute()).map_err(JobError::Calendar)
}

/// The days to seal, oldest first: all after the last sealed one up to the target.
pub(crate) fn days_to_seal(last_sealed: Option<Date>, target: Date) -> Vec<Date> {
    let Some(last) = last_sealed else {
        return vec![target];
    };
    let mut days = Vec::new();
    let mut day = last;
    while day < target {
        match day.tomorrow() {
            Ok(next) => day = next,
            // The end of the calendar.
            Err(_) => break,
        }
        days.push(day);
    }
    days
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(zone: &str) -> ReportConfig {
        ReportConfig {
            recipients: Vec::new(),
            time_zone: jiff::tz::TimeZone::get(zone).expect("a zone of the bundled database"),
            time_zone_name: zone.to_owned(),
            time: jiff::civil::time(23, 59, 0, 0),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time written in a test")
    }

    fn date(text: &str) -> Date {
        text.parse().expect("a date written in a test")
    }

    #[test]
    fn an_early_schedule_waits_and_a_late_one_does_not() {
        let config = config("Etc/UTC");
        for (now, day, wait_millis) in [
            ("2026-03-02T23:58:59.5Z", "2026-03-02", 500),
            ("2026-03-02T23:59:00Z", "2026-03-02", 0),
            ("2026-03-03T11:00:00Z", "2026-03-02", 0),
            ("2026-03-03T23:56:00Z", "2026-03-02", 0),
        ] {
            let now = at(now);
            let target = target(&config, None, now).expect("a day");
            assert_eq!(target, date(day));
            let waited = wait(&config, None, target, now).expect("a time").as_millis();
            assert_eq!(waited, wait_millis, "{now}");
        }
    }

    #[test]
    fn a_day_by_name_is_cut_now_or_at_its_time() {
        let config = config("Pacific/Auckland");
        let now = at("2026-03-02T12:00:00Z"); // 01:00 of the 3rd in Auckland
        assert_eq!(
            target(&config, Some(date("2026-03-03")), now).expect("today"),
            date("2026-03-03")
        );
        assert!(matches!(
            target(&config, Some(date("2026-03-04")), now),
            Err(JobError::NotBegun { .. })
        ));
        assert_eq!(cut(&config, date("2026-03-03"), now).expect("a cut"), now);
        assert_eq!(
            cut(&config, date("2026-03-02"), now).expect("a cut"),
            at("2026-03-02T10:59:00Z")
        );
    }

    #[test]
    fn missed_days_come_oldest_first() {
        let target = date("2026-03-01");
        assert_eq!(days_to_seal(None, target), [target]);
        assert_eq!(days_to_seal(Some(target), target), []);
        assert_eq!(days_to_seal(Some(date("2026-03-04")), target), []);
        let days = days_to_seal(Some(date("2026-02-26")), target);
        assert_eq!(days, [date("2026-02-27"), date("2026-02-28"), date("2026-03-01")]);
    }
}
