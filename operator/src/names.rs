//! Names of the children: length-checked, so that no name can be refused by the API server or cut by a controller.

use fuse_crds::NAME_LENGTH_MAX;

/// Hex digits of a migration's hash in the name of its Job.
pub const HASH_DIGITS: usize = 8;

/// The name is longer than [`NAME_LENGTH_MAX`] or does not begin with a letter; the schema refuses both.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("start with a letter, then only a-z, 0-9 and '-', at most {NAME_LENGTH_MAX} characters")]
pub struct NameError;

/// Name of a service, and through it the names of all its children.
///
/// The longest child adds 17 characters (`-migrate-` and eight digits): 57 of the 63 that label values allow; a
/// CronJob's name (`-report`) stays under the 52 that its Jobs leave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names(String);

impl Names {
    /// # Errors
    /// The name does not fit.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let fits = name.len() <= NAME_LENGTH_MAX
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(letters);
        fits.then(|| Self(name.to_owned())).ok_or(NameError)
    }

    /// The service's own name.
    pub fn instance(&self) -> &str {
        &self.0
    }

    /// Name of everything that belongs to one workload: its ServiceAccount, NetworkPolicy, ConfigMap and itself.
    pub fn of(&self, component: Component) -> String {
        format!("{}-{}", self.0, component.as_str())
    }

    /// The migration Job of this hash.
    pub fn migration_job(&self, hash: &str) -> String {
        format!("{}-{hash}", self.of(Component::Migration))
    }

    /// The headless Service through which Prometheus finds all pods.
    pub fn metrics(&self) -> String {
        format!("{}-metrics", self.0)
    }
}

/// The four workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    Api,
    Refresher,
    Report,
    Migration,
}

impl Component {
    /// The word in names and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Refresher => "refresher",
            Self::Report => "report",
            Self::Migration => "migrate",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_names_fit() {
        let names = Names::parse(&"a".repeat(NAME_LENGTH_MAX)).expect("fits");
        assert_eq!(names.migration_job("01234567").len(), 57);
        assert!(names.of(Component::Report).len() <= 52);
        assert_eq!(Names::parse(&"a".repeat(NAME_LENGTH_MAX + 1)), Err(NameError));
    }

    #[test]
    fn odd_names_are_refused() {
        for name in ["", "1a", "-a", "A", "a.b", "a_b"] {
            assert_eq!(Names::parse(name), Err(NameError), "{name}");
        }
    }
}
