//! What the service does when: refresh, keys, mail, report.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::{ConfigValue as _, Reader, Secret};

/// How often prices are fetched.
#[derive(Debug, Clone)]
pub struct RefreshConfig {
    pub interval: Duration,
}

impl RefreshConfig {
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            interval: reader.duration_secs(
                "refresh.interval_secs",
                300,
                1..=3600,
                "Seconds between two refreshes of the prices",
            ),
        }
    }
}

/// Keys of our own clients.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// The first admin key, in the usual form `fuse_{id}_{secret}{checksum}`.
    pub bootstrap_admin_key: Option<Secret>,
}

impl AuthConfig {
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            bootstrap_admin_key: reader.secret(
                "auth.bootstrap_admin_key",
                "First admin key, for a new installation",
            ),
        }
    }
}

/// Mail: by SES when its region is given, else by SMTP; neither is a report without mail.
#[derive(Debug, Clone)]
pub struct MailConfig {
    pub smtp_url: Option<Secret>,
    pub ses_region: Option<String>,
    pub from: String,
}

impl MailConfig {
    pub fn read(reader: &mut Reader) -> Self {
        let smtp_url = reader.secret_checked(
            "mail.smtp_url",
            "URL of the mail server, smtp://user:password@host:587 or smtps://…",
            smtp_url,
        );
        let ses_region: Option<String> = reader.optional(
            "mail.ses_region",
            "AWS region of SES, to mail by SES instead of SMTP",
        );
        if smtp_url.is_some() && ses_region.is_some() {
            reader.mistake(
                "mail.ses_region",
                "is set together with mail.smtp_url; write only one of the two",
            );
        }
        let from = reader.parsed(
            "mail.from",
            "report@localhost",
            "a mail address, such as report@example.com",
            "Sender of the report",
            mail_address,
        );
        Self {
            smtp_url,
            ses_region,
            from,
        }
    }
}

fn smtp_url(text: &str) -> Result<(), &'static str> {
    let known = ["smtp://", "smtps://"]
        .iter()
        .any(|scheme| text.starts_with(scheme));
    if known {
        Ok(())
    } else {
        Err("a URL that begins with smtp:// or smtps://")
    }
}

// Only what is surely wrong: the mail library judges the rest.
fn mail_address(text: &str) -> Result<String, &'static str> {
    match text.split_once('@') {
        Some((user, host)) if !user.is_empty() && !host.is_empty() && !text.contains(char::is_control) => {
            Ok(text.to_owned())
        }
        _ => Err("it is not a mail address"),
    }
}

/// The daily report.
#[derive(Debug, Clone)]
pub struct ReportConfig {
    pub recipients: Vec<String>,
    pub time_zone: TimeZone,
    /// Its IANA name, as configured.
    pub time_zone_name: String,
    /// Local time of the cut.
    pub time: jiff::civil::Time,
}

impl ReportConfig {
    pub fn read(reader: &mut Reader) -> Self {
        let recipients = reader.list(
            "report.recipients",
            "Mail addresses that get the report, separated by commas",
        );
        for recipient in &recipients {
            if let Err(why) = mail_address(recipient) {
                let message = format!(
                    "{recipient:?} is refused: {why}; write addresses such as ops@example.com, separated by commas"
                );
                reader.mistake("report.recipients", message);
            }
        }
        let help = "Time zone whose days are reported";
        let time_zone = reader.value("report.time_zone", "Etc/UTC", help);
        let time_zone_name = reader.parsed("report.time_zone", "Etc/UTC", TimeZone::EXPECTED, help, |text| {
            Ok::<_, String>(text.to_owned())
        });
        let time = reader.parsed(
            "report.time",
            "23:59",
            "a time of day, such as 23:59",
            "Local time at which the day is cut",
            |text| jiff::civil::Time::strptime("%H:%M", text).map_err(|_| "it is not hours and minutes"),
        );
        Self {
            recipients,
            time_zone,
            time_zone_name,
            time,
        }
    }
}
