//! Reads keys one by one and gathers mistakes and documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::known::{KNOWN_KEYS, KNOWN_SECTIONS};
use super::mistake::{Mistake, Mistakes, seen};
use super::secret::Secret;
use super::sources::{Found, Sources, env_name, key_of};
use super::value::ConfigValue;

/// How alike two names are, from 0 to 1, for one to be offered instead of the other.
const ALIKE_MIN: f64 = 0.8;

/// What is said of a key in `--help`, and what `--check-config` shows of it.
#[derive(Debug, Clone)]
pub struct Entry {
    pub key: &'static str,
    /// `None`: required if `required`, else not set.
    pub default: Option<String>,
    pub required: bool,
    pub secret: bool,
    pub help: &'static str,
    /// The value in force with its place; of a secret only that it is set.
    pub in_force: Option<(String, String)>,
}

/// The outcome of reading: every key with its value in force, for `--check-config`.
#[derive(Debug, Clone)]
pub struct Settings {
    pub entries: Vec<Entry>,
}

/// Reads the keys of one process. See the [module](super).
#[derive(Debug)]
pub struct Reader {
    sources: Sources,
    entries: Vec<Entry>,
    mistakes: Vec<Mistake>,
}

impl Reader {
    /// A reader over the given layers.
    #[must_use]
    pub fn new(mut sources: Sources) -> Self {
        let mistakes = sources.take_mistakes();
        Self {
            sources,
            entries: Vec::new(),
            mistakes,
        }
    }

    /// A key with a default. `default` must be a text that parses.
    pub fn value<T: ConfigValue>(&mut self, key: &'static str, default: &str, help: &'static str) -> T {
        self.parsed(key, default, T::EXPECTED, help, T::from_text)
    }

    /// A key that must be given. `example` is repeated in the mistake and stands in for the value until then, so it
    /// must be a text that parses.
    pub fn required<T: ConfigValue>(&mut self, key: &'static str, example: &str, help: &'static str) -> T {
        let found = self.find(key, None, true, help);
        if found.is_none() {
            let message = format!(
                "nothing is set; write the {}, for example {example}",
                lower_first(help)
            );
            self.mistake(env_name(key), message);
        }
        found
            .and_then(|found| self.parse(&found, T::EXPECTED, T::from_text))
            .unwrap_or_else(|| placeholder(key, example, T::from_text))
    }

    /// A key that may be left out.
    pub fn optional<T: ConfigValue>(&mut self, key: &'static str, help: &'static str) -> Option<T> {
        let found = self.find(key, None, false, help)?;
        self.parse(&found, T::EXPECTED, T::from_text)
    }

    /// A key with a default whose type parses itself, such as a type of `fuse_domain`. `expected` ends the sentence
    /// "write …".
    pub fn parsed<T, E: Display>(
        &mut self,
        key: &'static str,
        default: &str,
        expected: &str,
        help: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> T {
        let found = self.find(key, Some(default), false, help);
        found
            .and_then(|found| self.parse(&found, expected, &parse))
            .unwrap_or_else(|| placeholder(key, default, &parse))
    }

    /// A whole number within limits.
    pub fn number(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        help: &'static str,
    ) -> u64 {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.parsed(key, &default.to_string(), &expected, help, |text| {
            let number = text.parse().map_err(|_| "it is not a whole number")?;
            if range.contains(&number) {
                Ok(number)
            } else {
                Err("it is out of range")
            }
        })
    }

    /// A time in seconds; the key ends in `_secs`.
    pub fn duration_secs(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        help: &'static str,
    ) -> Duration {
        debug_assert!(key.ends_with("_secs"), "{key} carries its unit in its name");
        Duration::from_secs(self.number(key, default, range, help))
    }

    /// A time in milliseconds; the key ends in `_millis`.
    pub fn duration_millis(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        help: &'static str,
    ) -> Duration {
        debug_assert!(key.ends_with("_millis"), "{key} carries its unit in its name");
        Duration::from_millis(self.number(key, default, range, help))
    }

    /// A list: in a variable separated by commas, in the file also an array. Empty when not set.
    pub fn list(&mut self, key: &'static str, help: &'static str) -> Vec<String> {
        let found = self.find(key, Some(""), false, help);
        let items = found.iter().flat_map(|found| found.text.split(','));
        items
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// A secret that may be left out; also read from the file that `…_FILE` (`…_file` in TOML) names.
    pub fn secret(&mut self, key: &'static str, help: &'static str) -> Option<Secret> {
        self.secret_checked(key, help, |_| Ok(()))
    }

    /// A secret that must be given.
    pub fn required_secret(&mut self, key: &'static str, help: &'static str) -> Secret {
        self.required_secret_checked(key, help, |_| Ok(()))
    }

    /// As [`Reader::secret`], with a check whose error is a clause with what to write and never holds the text.
    pub fn secret_checked(
        &mut self,
        key: &'static str,
        help: &'static str,
        check: fn(&str) -> Result<(), &'static str>,
    ) -> Option<Secret> {
        self.read_secret(key, false, help, check).unwrap_or_default()
    }

    /// As [`Reader::required_secret`], with a check as in [`Reader::secret_checked`].
    pub fn required_secret_checked(
        &mut self,
        key: &'static str,
        help: &'static str,
        check: fn(&str) -> Result<(), &'static str>,
    ) -> Secret {
        let secret = match self.read_secret(key, true, help, check) {
            Ok(None) => {
                let name = env_name(key);
                let message = format!(
                    "nothing is set; write the {} here, or in {name}_FILE the path of a file that holds it",
                    lower_first(help)
                );
                self.mistake(name, message);
                None
            }
            Ok(secret) => secret,
            Err(Reported) => None,
        };
        secret.unwrap_or_else(|| Secret::from_text(""))
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// All mistakes, unknown keys included, in the order of reading.
    pub fn finish(mut self) -> Result<Settings, Mistakes> {
        self.refuse_unknown();
        if self.mistakes.is_empty() {
            Ok(Settings {
                entries: self.entries,
            })
        } else {
            Err(Mistakes(self.mistakes))
        }
    }

    /// The documentation gathered so far.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Records a mistake that a group finds between several keys.
    pub fn mistake(&mut self, place: impl Into<String>, message: impl Into<String>) {
        self.mistakes.push(Mistake {
            place: place.into(),
            message: message.into(),
        });
    }

    fn find(
        &mut self,
        key: &'static str,
        default: Option<&str>,
        required: bool,
        help: &'static str,
    ) -> Option<Found> {
        let found = self.sources.find(key);
        let in_force = found
            .as_ref()
            .map(|found| (found.text.clone(), found.place.clone()));
        self.document(Entry {
            key,
            default: default.map(str::to_owned),
            required,
            secret: false,
            help,
            in_force,
        });
        found
    }

    // Groups overlap: a key read twice is documented once.
    fn document(&mut self, entry: Entry) {
        if !self.entries.iter().any(|known| known.key == entry.key) {
            self.entries.push(entry);
        }
    }

    fn parse<T, E: Display>(
        &mut self,
        found: &Found,
        expected: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(&found.text) {
            Ok(value) => Some(value),
            Err(why) => {
                let message = format!("{} is refused: {why}; write {expected}", seen(&found.text));
                self.mistake(found.place.clone(), message);
                None
            }
        }
    }

    fn read_secret(
        &mut self,
        key: &'static str,
        required: bool,
        help: &'static str,
        check: fn(&str) -> Result<(), &'static str>,
    ) -> Result<Option<Secret>, Reported> {
        let found = self.find_secret(key);
        let in_force = match &found {
            Ok(Some((_, place))) => Some(("[set]".to_owned(), place.clone())),
            _ => None,
        };
        self.document(Entry {
            key,
            default: None,
            required,
            secret: true,
            help,
            in_force,
        });
        let Some((secret, place)) = found? else {
            return Ok(None);
        };
        if let Err(instead) = check(secrecy::ExposeSecret::expose_secret(&secret.reveal())) {
            self.mistake(
                place,
                format!("the secret (not shown) is refused; write {instead}"),
            );
            return Err(Reported);
        }
        Ok(Some(secret))
    }

    fn find_secret(&mut self, key: &str) -> Result<Option<(Secret, String)>, Reported> {
        let name = env_name(key);
        let layers = [
            (
                self.sources.find_env(&name),
                self.sources.find_env(&format!("{name}_FILE")),
            ),
            (
                self.sources.find_file(key),
                self.sources.find_file(&format!("{key}_file")),
            ),
        ];
        for layer in layers {
            match layer {
                (None, None) => {}
                (Some(text), None) => return Ok(Some((Secret::from_text(text.text), text.place))),
                (Some(text), Some(file)) => {
                    self.mistake(
                        text.place,
                        format!("is set together with {}; write only one of the two", file.place),
                    );
                    return Err(Reported);
                }
                (None, Some(file)) => {
                    return match Secret::from_file(&file.text) {
                        Ok(secret) => Ok(Some((secret, file.place))),
                        Err(why) => {
                            self.mistake(
                                file.place,
                                format!("{why}; write the path of a readable file that holds the secret"),
                            );
                            Err(Reported)
                        }
                    };
                }
            }
        }
        Ok(None)
    }

    fn refuse_unknown(&mut self) {
        let known = Known::of(&self.entries);
        let mut mistakes = Vec::new();
        for name in self.sources.env_names() {
            if let Some(instead) = known.instead_of_env(name) {
                mistakes.push(Mistake {
                    place: name.to_owned(),
                    message: instead,
                });
            }
        }
        for (key, place) in self.sources.file_keys() {
            if !known.accepts(key) {
                mistakes.push(Mistake {
                    place,
                    message: known.did_you_mean(key, str::to_owned),
                });
            }
        }
        self.mistakes.append(&mut mistakes);
    }
}

/// The mistake stands in the list already.
struct Reported;

/// The keys that may be given.
struct Known {
    keys: BTreeSet<String>,
    own_sections: BTreeSet<&'static str>,
}

impl Known {
    fn of(entries: &[Entry]) -> Self {
        let own: BTreeMap<&str, &Entry> = entries.iter().map(|entry| (entry.key, entry)).collect();
        let keys: BTreeSet<&str> = own.keys().chain(KNOWN_KEYS).copied().collect();
        // Which keys of the others are secrets is not known here, so any of them may be given as a file.
        let as_file = |key: &&&str| own.get(**key).is_none_or(|entry| entry.secret);
        let files: Vec<_> = keys
            .iter()
            .filter(as_file)
            .map(|key| format!("{key}_file"))
            .collect();
        let own_sections = entries.iter().map(|entry| section(entry.key)).collect();
        Self {
            keys: keys.into_iter().map(str::to_owned).chain(files).collect(),
            own_sections,
        }
    }

    fn accepts(&self, key: &str) -> bool {
        let section = section(key);
        self.keys.contains(key) || (!self.own_sections.contains(section) && KNOWN_SECTIONS.contains(&section))
    }

    fn instead_of_env(&self, name: &str) -> Option<String> {
        match key_of(name) {
            Some(key) if self.accepts(&key) => None,
            Some(key) => Some(self.did_you_mean(&key, env_name)),
            // Without "__" it may be anyone's, such as the links that Kubernetes makes for a Service called fuse-api;
            // only what is a known key but for its underscores must be meant for us.
            None => {
                let meant = self
                    .keys
                    .iter()
                    .map(|key| env_name(key))
                    .find(|known| squeeze(known) == squeeze(name))?;
                Some(format!("no such key; did you mean {meant}?"))
            }
        }
    }

    fn did_you_mean(&self, key: &str, show: fn(&str) -> String) -> String {
        let alike = self
            .keys
            .iter()
            .map(|known| (strsim::normalized_damerau_levenshtein(known, key), known));
        match alike.max_by(|a, b| a.0.total_cmp(&b.0)) {
            Some((alike, known)) if alike >= ALIKE_MIN => {
                format!("no such key; did you mean {}?", show(known))
            }
            _ => "no such key; --help lists all of them".to_owned(),
        }
    }
}

fn section(key: &str) -> &str {
    key.split('.').next().unwrap_or(key)
}

fn squeeze(name: &str) -> String {
    name.chars().filter(|c| *c != '_').collect()
}

fn placeholder<T, E: Display>(key: &str, text: &str, parse: impl Fn(&str) -> Result<T, E>) -> T {
    match parse(text) {
        Ok(value) => value,
        Err(why) => unreachable!("the default or example {text:?} of {key} does not parse: {why}"),
    }
}

fn lower_first(help: &str) -> String {
    let mut chars = help.chars();
    // "URL of …" keeps its capitals.
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            format!("{}{}", first.to_lowercase(), &help[first.len_utf8()..])
        }
        _ => help.to_owned(),
    }
}
