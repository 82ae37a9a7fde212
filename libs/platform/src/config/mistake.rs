//! What is wrong with a configuration, said so that it can be mended without reading code.

use std::fmt;

/// Characters of a refused value that a message repeats at most.
const SEEN_CHARS_MAX: usize = 120;

/// One mistake: where it is, and a sentence with what was seen and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The variable, or the key with its file and line.
    pub place: String,
    /// What is wrong and what to write instead. Never holds the text of a secret.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// All mistakes of a configuration, one per line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let noun = if count == 1 { "mistake" } else { "mistakes" };
        write!(f, "{count} {noun} in the configuration:")?;
        for mistake in &self.0 {
            write!(f, "\n  {mistake}")?;
        }
        Ok(())
    }
}

/// The value as a message repeats it: quoted, cut, and without the user part of a URL, where passwords stand.
pub(super) fn seen(text: &str) -> String {
    let mut shown = match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}://…{}", &text[..scheme], &text[at..]),
        _ => text.to_owned(),
    };
    if let Some((cut, _)) = shown.char_indices().nth(SEEN_CHARS_MAX) {
        shown.truncate(cut);
        shown.push('…');
    }
    format!("{shown:?}")
}
