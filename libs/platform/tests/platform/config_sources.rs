//! Layers, secret files, and the list of shared keys.

use std::path::PathBuf;

use fuse_platform::config::{
    AdminConfig, AuthConfig, DatabaseConfig, DynamoDbConfig, HttpConfig, KNOWN_KEYS, LifecycleConfig,
    MailConfig, RedisConfig, RefreshConfig, ReportConfig, RuntimeConfig, Sources, VendorConfig,
};
use fuse_platform::{Reader, Secret};
use secrecy::ExposeSecret as _;

/// A TOML file that lives as long as its directory.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("fuse.toml");
    std::fs::write(&path, text).expect("a file");
    (directory, path)
}

#[test]
fn the_environment_lies_over_the_file_and_the_file_over_the_defaults() {
    let (_directory, path) = file("[http]\nlisten = \"127.0.0.1:1\"\nmax_connections = 7\n");
    let sources = Sources::from_env([("FUSE_HTTP__LISTEN", "127.0.0.1:2")]).with_file(&path);
    let mut reader = Reader::new(sources);
    let http = HttpConfig::read(&mut reader);
    reader.finish().expect("no mistakes");
    assert_eq!(
        (
            http.listen.port(),
            http.max_connections,
            http.keep_alive.as_secs()
        ),
        (2, 7, 75)
    );
}

#[test]
fn numbers_of_the_file_keep_the_text_that_was_written() {
    let (_directory, path) = file("[orders]\nprice_tolerance_percent = 1.10000000000000000001\n");
    let mut reader = Reader::new(Sources::none().with_file(&path));
    let read: String = reader.value("orders.price_tolerance_percent", "2", "Tolerance");
    assert_eq!(read, "1.10000000000000000001");
}

#[test]
fn lists_are_arrays_in_the_file_and_commas_in_a_variable() {
    let (_directory, path) = file("report.recipients = [\"a@x\", \"b@x\"]\n");
    let of_file = ReportConfig::read(&mut Reader::new(Sources::none().with_file(&path))).recipients;
    let of_variable = ReportConfig::read(&mut Reader::new(Sources::from_env([(
        "FUSE_REPORT__RECIPIENTS",
        "a@x , b@x,",
    )])))
    .recipients;
    assert_eq!(of_file, ["a@x", "b@x"]);
    assert_eq!(of_variable, of_file);
}

#[test]
fn a_mistake_in_the_file_names_file_and_line() {
    let (_directory, path) = file("[http]\n\nlisten = 80\nlisen = \"x\"\n");
    let mut reader = Reader::new(Sources::none().with_file(&path));
    HttpConfig::read(&mut reader);
    let mistakes = reader.finish().expect_err("two mistakes").0;
    let shown = path.display();
    assert_eq!(mistakes[0].place, format!("http.listen ({shown} line 3)"));
    assert!(
        mistakes[0].message.starts_with("\"80\" is refused: "),
        "{mistakes:?}"
    );
    assert_eq!(
        mistakes[1].to_string(),
        format!("http.lisen ({shown} line 4): no such key; did you mean http.listen?")
    );
}

#[test]
fn a_broken_file_names_the_line_without_its_text() {
    let (_directory, path) = file("[vendor]\napi_key = \"hunter2\n");
    let text = Reader::new(Sources::none().with_file(&path))
        .finish()
        .expect_err("not TOML")
        .to_string();
    assert!(text.contains("line 2: is not TOML"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_missing_file_is_named() {
    let text = Reader::new(Sources::none().with_file("/nowhere/fuse.toml".as_ref()))
        .finish()
        .expect_err("no file")
        .to_string();
    assert!(
        text.contains("--config /nowhere/fuse.toml: cannot be read: "),
        "{text}"
    );
}

#[test]
fn a_secret_comes_from_its_file_in_both_layers() {
    let (directory, path) = file("redis.url_file = \"SECRET\"\n");
    let secret = directory.path().join("redis-url");
    std::fs::write(&secret, "redis://from-file\n").expect("a file");
    let secret = secret.display().to_string();
    std::fs::write(&path, format!("redis.url_file = {secret:?}\n")).expect("a file");
    let read = |sources| {
        let mut reader = Reader::new(sources);
        let url = RedisConfig::read(&mut reader).url.expect("a URL").reveal();
        reader.finish().expect("no mistakes");
        url.expose_secret().to_owned()
    };
    assert_eq!(read(Sources::none().with_file(&path)), "redis://from-file");
    assert_eq!(
        read(Sources::from_env([("FUSE_REDIS__URL_FILE", secret.as_str())])),
        "redis://from-file"
    );
    // The upper layer wins as a whole, so that a variable replaces a file of the lower one.
    assert_eq!(
        read(Sources::from_env([("FUSE_REDIS__URL", "redis://from-env")]).with_file(&path)),
        "redis://from-env"
    );
}

#[test]
fn a_secret_follows_its_file_and_survives_its_loss() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("key");
    std::fs::write(&path, "first\n").expect("a file");
    let secret = Secret::from_file(&path).expect("readable");
    let clone = secret.clone();
    assert_eq!(secret.reveal().expose_secret(), "first");

    // As Kubernetes does it: another file in its place.
    let next = directory.path().join("next");
    std::fs::write(&next, "second").expect("a file");
    std::fs::rename(&next, &path).expect("renamed");
    assert_eq!(secret.reveal().expose_secret(), "second");
    assert_eq!(clone.reveal().expose_secret(), "second");

    std::fs::remove_file(&path).expect("removed");
    assert_eq!(secret.reveal().expose_secret(), "second");
    std::fs::write(&path, "third").expect("a file");
    assert_eq!(secret.reveal().expose_secret(), "third");
}

#[test]
fn every_key_of_the_shared_groups_is_known_to_all_processes() {
    let mut reader = Reader::new(Sources::none());
    HttpConfig::read(&mut reader);
    AdminConfig::read(&mut reader);
    LifecycleConfig::read(&mut reader);
    RuntimeConfig::read(&mut reader);
    DatabaseConfig::read(&mut reader);
    RedisConfig::read(&mut reader);
    DynamoDbConfig::read(&mut reader);
    VendorConfig::read(&mut reader);
    RefreshConfig::read(&mut reader);
    AuthConfig::read(&mut reader);
    MailConfig::read(&mut reader);
    ReportConfig::read(&mut reader);
    let unknown: Vec<_> = reader
        .entries()
        .iter()
        .map(|entry| entry.key)
        .filter(|key| !KNOWN_KEYS.contains(key))
        .collect();
    assert_eq!(unknown, Vec::<&str>::new());
    assert!(
        reader
            .entries()
            .iter()
            .all(|entry| !entry.help.is_empty() && !entry.help.ends_with('.'))
    );
}
