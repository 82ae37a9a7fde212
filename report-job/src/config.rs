//! The command line and the keys of report-job.

use std::path::PathBuf;
use std::time::Duration;

use fuse_platform::Reader;
use fuse_platform::config::{DatabaseConfig, MailConfig, ReportConfig};
use jiff::civil::Date;
use lettre::message::Mailbox;

/// What the command line asks for.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Day to report. Without it the newest day whose time has come, and those before it that were missed; when nothing is
    /// due, as in a run by hand at noon, a mail of what has happened since the last report, which leaves the day open
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub date: Option<Date>,
    /// Compute and show what would be done, but seal, keep and send nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Folder for report.html, report.txt, report.json and report.eml
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// All keys that the job reads.
#[derive(Debug, Clone)]
pub struct JobConfig {
    pub database: DatabaseConfig,
    pub mail: MailConfig,
    pub report: ReportConfig,
    /// The sender, parsed.
    pub from: Mailbox,
    /// The recipients, parsed, each once.
    pub recipients: Vec<Mailbox>,
    /// Whether a run without anything due mails what has happened so far.
    pub interim: bool,
    /// Tries go on until then.
    pub run_deadline: Duration,
    /// One try of one mail, connecting included.
    pub send_timeout: Duration,
}

impl JobConfig {
    pub fn read(reader: &mut Reader) -> Self {
        let database = DatabaseConfig::read(reader);
        let mail = MailConfig::read(reader);
        let report = ReportConfig::read(reader);
        let from = mailbox(&mail.from).unwrap_or_else(|| {
            reader.mistake(
                "mail.from",
                "is not a mail address; write one such as report@example.com",
            );
            fallback()
        });
        let mut recipients: Vec<Mailbox> = Vec::new();
        for text in &report.recipients {
            match mailbox(text) {
                Some(recipient) if recipients.iter().any(|known| known.email == recipient.email) => {}
                Some(recipient) => recipients.push(recipient),
                // Without a @ it is named already, by the group.
                None if text.contains('@') => reader.mistake(
                    "report.recipients",
                    format!("{text:?} is not a mail address; write addresses such as ops@example.com, separated by commas"),
                ),
                None => {}
            }
        }
        if !recipients.is_empty() && mail.smtp_url.is_none() && mail.ses_region.is_none() {
            reader.mistake(
                "report.recipients",
                "there is no way to send mail to them; write mail.smtp_url or mail.ses_region, or leave the recipients out",
            );
        }
        Self {
            from,
            recipients,
            interim: reader.value(
                "report.interim",
                "true",
                "Whether a run by hand, when nothing is due, mails what has happened since the last report",
            ),
            run_deadline: reader.duration_secs(
                "report.run_deadline_secs",
                240,
                10..=3600,
                "Seconds for a run; until then a mail that was not taken is tried again",
            ),
            send_timeout: reader.duration_secs(
                "mail.send_timeout_secs",
                30,
                1..=300,
                "Seconds for one try of one mail",
            ),
            database,
            mail,
            report,
        }
    }
}

fn mailbox(text: &str) -> Option<Mailbox> {
    text.parse().ok()
}

/// Stands in for an address with a mistake, which ends the process anyway.
fn fallback() -> Mailbox {
    mailbox("report@localhost").expect("a well-formed address")
}
