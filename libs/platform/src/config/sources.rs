//! Where values come from: the environment and a TOML file, both as the text that was written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::mistake::Mistake;

/// Prefix of the variables.
const ENV_PREFIX: &str = "FUSE_";

/// The variable of a key: `http.listen` is `FUSE_HTTP__LISTEN`.
#[must_use]
pub fn env_name(key: &str) -> String {
    format!("{ENV_PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

/// The key of a variable, if its name has the form of one: `FUSE_HTTP__LISTEN` is `http.listen`.
pub(super) fn key_of(env_name: &str) -> Option<String> {
    let rest = env_name.strip_prefix(ENV_PREFIX)?;
    rest.contains("__")
        .then(|| rest.to_lowercase().replace("__", "."))
}

/// A text with the place where it was found.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub text: String,
    pub place: String,
}

/// The layers above the defaults. Values are never shown by `Debug`, as secrets may be among them.
#[derive(Default)]
pub struct Sources {
    env: BTreeMap<String, String>,
    file: BTreeMap<String, FileValue>,
    path: Option<PathBuf>,
    mistakes: Vec<Mistake>,
}

struct FileValue {
    text: String,
    line: usize,
}

impl Sources {
    /// No layer: everything is at its default.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Variables of this process and, if named, a file.
    #[must_use]
    pub fn of_process(file: Option<&Path>) -> Self {
        let env = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let mut sources = Self::default();
        for (name, value) in env.filter(|(name, _)| name.starts_with(ENV_PREFIX)) {
            match value.into_string() {
                Ok(value) => sources.insert_env(name, value),
                Err(_) => sources.mistake(name, "the value is not UTF-8 text; write UTF-8".to_owned()),
            }
        }
        if let Some(path) = file {
            sources.load(path);
        }
        sources
    }

    /// Given variables, for tests and tools.
    #[must_use]
    pub fn from_env<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut sources = Self::default();
        for (name, value) in variables {
            sources.insert_env(name.to_owned(), value.to_owned());
        }
        sources
    }

    /// Adds a file below the variables. What is wrong with it joins the list of mistakes.
    #[must_use]
    pub fn with_file(mut self, path: &Path) -> Self {
        self.load(path);
        self
    }

    // An empty variable counts as not set: manifests and shells produce them for things left out.
    fn insert_env(&mut self, name: String, value: String) {
        if !value.trim().is_empty() {
            self.env.insert(name, value.trim().to_owned());
        }
    }

    fn load(&mut self, path: &Path) {
        self.path = Some(path.to_owned());
        let shown = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                return self.mistake(
                    format!("--config {shown}"),
                    format!("cannot be read: {error}; write the path of a readable TOML file"),
                );
            }
        };
        match DeTable::parse(&text) {
            Ok(table) => self.add_table(&text, "", table.get_ref()),
            Err(error) => {
                // Only the bare message: the rendered error repeats the line, and a secret may stand on it.
                let line = error.span().map_or(1, |span| line_of(&text, span.start));
                self.mistake(
                    format!("{shown} line {line}"),
                    format!("is not TOML: {}; mend the line", error.message()),
                );
            }
        }
    }

    fn add_table(&mut self, source: &str, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{}", name.get_ref())
            };
            let line = line_of(source, name.span().start);
            if let DeValue::Table(inner) = value.get_ref() {
                self.add_table(source, &key, inner);
            } else if let Some(text) = text_of(value.get_ref()) {
                self.file.insert(key, FileValue { text, line });
            } else {
                let place = self.file_place(&key, line);
                self.mistake(
                    place,
                    "is a list of tables; write a text, a number or a list of texts".to_owned(),
                );
            }
        }
    }

    fn mistake(&mut self, place: String, message: String) {
        self.mistakes.push(Mistake { place, message });
    }

    fn file_place(&self, key: &str, line: usize) -> String {
        let path = self.path.as_deref().unwrap_or_else(|| Path::new("")).display();
        format!("{key} ({path} line {line})")
    }

    pub(super) fn take_mistakes(&mut self) -> Vec<Mistake> {
        std::mem::take(&mut self.mistakes)
    }

    /// The topmost layer's text of a key.
    pub(super) fn find(&self, key: &str) -> Option<Found> {
        self.find_env(&env_name(key)).or_else(|| self.find_file(key))
    }

    pub(super) fn find_env(&self, name: &str) -> Option<Found> {
        self.env.get(name).map(|text| Found {
            text: text.clone(),
            place: name.to_owned(),
        })
    }

    pub(super) fn find_file(&self, key: &str) -> Option<Found> {
        self.file.get(key).map(|value| Found {
            text: value.text.clone(),
            place: self.file_place(key, value.line),
        })
    }

    /// Every variable that was given.
    pub(super) fn env_names(&self) -> impl Iterator<Item = &str> {
        self.env.keys().map(String::as_str)
    }

    /// Every key of the file with its place.
    pub(super) fn file_keys(&self) -> impl Iterator<Item = (&str, String)> {
        self.file
            .iter()
            .map(|(key, value)| (key.as_str(), self.file_place(key, value.line)))
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("env", &self.env.keys())
            .field("file", &self.file.keys())
            .finish_non_exhaustive()
    }
}

/// A scalar as written; a list joined by commas, as a variable would give it.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.trim().to_owned()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Datetime(time) => Some(time.to_string()),
        DeValue::Array(items) => {
            let texts: Option<Vec<_>> = items.iter().map(|item| text_of(item.get_ref())).collect();
            Some(texts?.join(","))
        }
        DeValue::Table(_) => None,
    }
}

fn line_of(source: &str, offset: usize) -> usize {
    source.get(..offset).unwrap_or(source).matches('\n').count() + 1
}
