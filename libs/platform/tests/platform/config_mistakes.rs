//! The mistake list: its text is what a person works with, so it is compared as a whole.

use fuse_platform::config::{
    AdminConfig, DatabaseConfig, HttpConfig, LifecycleConfig, MailConfig, RedisConfig, ReportConfig, Sources,
    VendorConfig,
};
use fuse_platform::{Reader, Secret};

/// The list that these variables give, without its heading.
fn mistakes<C>(variables: &[(&str, &str)], read: impl FnOnce(&mut Reader) -> C) -> Vec<String> {
    let mut reader = Reader::new(Sources::from_env(variables.iter().copied()));
    read(&mut reader);
    match reader.finish() {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.0.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn all_mistakes_come_at_once_with_what_was_seen_and_what_to_write() {
    let mut reader = Reader::new(Sources::from_env([
        ("FUSE_HTTP__LISTEN", "8080"),
        ("FUSE_HTTP__MAX_CONNECTIONS", "0"),
        ("FUSE_VENDOR__BASE_URL", "vendor.example.com"),
        ("FUSE_ADMN__LISTEN", "127.0.0.1:9090"),
    ]));
    HttpConfig::read(&mut reader);
    AdminConfig::read(&mut reader);
    VendorConfig::read(&mut reader);
    let text = reader.finish().expect_err("five mistakes").to_string();
    assert_eq!(
        text,
        "5 mistakes in the configuration:\n  \
         FUSE_HTTP__LISTEN: \"8080\" is refused: it is not an IP address with a port; write an IP address with a port, such as 127.0.0.1:8080 or 0.0.0.0:8080\n  \
         FUSE_HTTP__MAX_CONNECTIONS: \"0\" is refused: it is out of range; write a whole number from 1 to 100000\n  \
         FUSE_VENDOR__BASE_URL: \"vendor.example.com\" is refused: it does not begin with http:// or https://; write an http or https URL without user, query or fragment, such as https://vendor.example.com\n  \
         FUSE_VENDOR__API_KEY: nothing is set; write the key for the vendor's API here, or in FUSE_VENDOR__API_KEY_FILE the path of a file that holds it\n  \
         FUSE_ADMN__LISTEN: no such key; did you mean FUSE_ADMIN__LISTEN?"
    );
}

#[test]
fn a_missing_value_is_named_with_an_example() {
    let found = mistakes(&[("FUSE_VENDOR__API_KEY", "k")], VendorConfig::read);
    let expected = "FUSE_VENDOR__BASE_URL: nothing is set; write the URL of the vendor's API, for example https://vendor.example.com";
    assert_eq!(found, [expected]);
}

#[test]
fn a_secret_file_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("empty"), " \n").expect("a file");
    std::fs::write(path("binary"), [0xff, 0xfe]).expect("a file");
    std::fs::create_dir(path("folder")).expect("a directory");
    let cases = [
        ("missing", "cannot read"),
        ("empty", "is empty"),
        ("binary", "is not UTF-8"),
        ("folder", "is not a file"),
    ];
    for (name, why) in cases {
        let found = mistakes(&[("FUSE_REDIS__URL_FILE", &path(name))], RedisConfig::read);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("FUSE_REDIS__URL_FILE: "), "{found:?}");
        assert!(
            found[0].contains(why) && found[0].contains(&path(name)),
            "{found:?}"
        );
        assert!(
            found[0].ends_with("write the path of a readable file that holds the secret"),
            "{found:?}"
        );
    }
}

#[test]
fn a_secret_is_never_shown() {
    let found = mistakes(
        &[("FUSE_DATABASE__URL", "mysql://root:hunter2@db/x")],
        DatabaseConfig::read,
    );
    assert_eq!(
        found,
        [
            "FUSE_DATABASE__URL: the secret (not shown) is refused; write a URL that begins with postgres:// or postgresql://"
        ]
    );
    assert_eq!(format!("{:?}", Secret::from_text("hunter2")), "Secret([hidden])");
    let sources = Sources::from_env([("FUSE_DATABASE__URL", "postgres://root:hunter2@db/x")]);
    assert!(!format!("{sources:?}").contains("hunter2"));
    let mut reader = Reader::new(sources);
    let config = DatabaseConfig::read(&mut reader);
    let shown = format!("{config:?} {reader:?} {:?}", reader.entries());
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_password_in_a_plain_url_is_not_repeated() {
    let found = mistakes(
        &[
            ("FUSE_VENDOR__API_KEY", "k"),
            ("FUSE_VENDOR__BASE_URL", "https://me:hunter2@vendor"),
        ],
        VendorConfig::read,
    );
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with(
            "FUSE_VENDOR__BASE_URL: \"https://…@vendor\" is refused: it holds a user or password"
        ),
        "{found:?}"
    );
}

#[test]
fn a_secret_given_twice_is_a_mistake() {
    let found = mistakes(
        &[
            ("FUSE_REDIS__URL", "redis://a"),
            ("FUSE_REDIS__URL_FILE", "/nowhere"),
        ],
        RedisConfig::read,
    );
    assert_eq!(
        found,
        ["FUSE_REDIS__URL: is set together with FUSE_REDIS__URL_FILE; write only one of the two"]
    );
}

#[test]
fn unknown_keys_are_refused_with_what_was_probably_meant() {
    let unknown = |name: &str| mistakes(&[(name, "1")], HttpConfig::read);
    assert_eq!(
        unknown("FUSE_HTTP__LISTN"),
        ["FUSE_HTTP__LISTN: no such key; did you mean FUSE_HTTP__LISTEN?"]
    );
    assert_eq!(
        unknown("FUSE_HTTP_LISTEN"),
        ["FUSE_HTTP_LISTEN: no such key; did you mean FUSE_HTTP__LISTEN?"]
    );
    assert_eq!(
        unknown("FUSE_HTTP__COLOUR_OF_IT"),
        ["FUSE_HTTP__COLOUR_OF_IT: no such key; --help lists all of them"]
    );
}

#[test]
fn what_is_meant_for_others_is_left_alone() {
    let left = [
        ("FUSE_ORDERS__PRICE_TOLERANCE_PERCENT", "2"), // another process's
        ("FUSE_VENDOR__API_KEY_FILE", "/run/secrets/key"), // another process's secret
        ("FUSE_REPORT__SOMETHING_OF_ITS_OWN", "1"),    // a section that this process does not read
        ("FUSE_API_SERVICE_HOST", "10.0.0.1"),         // what Kubernetes adds for a Service named fuse-api
        ("FUSE_API_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("FUSE_BIN_DIR", "bin"),
    ];
    assert_eq!(mistakes(&left, HttpConfig::read), Vec::<String>::new());
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    assert_eq!(
        mistakes(
            &[("FUSE_HTTP__LISTEN", " "), ("FUSE_REDIS__URL", "")],
            HttpConfig::read
        ),
        Vec::<String>::new()
    );
}

#[test]
fn keys_that_contradict_each_other_are_a_mistake() {
    let mail = [
        ("FUSE_MAIL__SES_REGION", "us-east-1"),
        ("FUSE_MAIL__SMTP_URL", "smtp://mail"),
    ];
    assert_eq!(
        mistakes(&mail, MailConfig::read),
        ["mail.ses_region: is set together with mail.smtp_url; write only one of the two"]
    );
    let lifecycle = [("FUSE_LIFECYCLE__DRAIN_DELAY_SECS", "30")];
    assert_eq!(
        mistakes(&lifecycle, LifecycleConfig::read),
        ["lifecycle.drain_delay_secs: leaves no time to drain; write less than lifecycle.deadline_secs"]
    );
}

#[test]
fn the_report_names_its_bad_address_and_time_zone() {
    let report = [
        ("FUSE_REPORT__RECIPIENTS", "ops@example.com, nobody"),
        ("FUSE_REPORT__TIME_ZONE", "Mars/Base"),
    ];
    assert_eq!(
        mistakes(&report, ReportConfig::read),
        [
            "report.recipients: \"nobody\" is refused: it is not a mail address; write addresses such as ops@example.com, separated by commas",
            "FUSE_REPORT__TIME_ZONE: \"Mars/Base\" is refused: no such time zone is known; write the IANA name of a time zone, such as Etc/UTC or Europe/Berlin",
        ]
    );
}
