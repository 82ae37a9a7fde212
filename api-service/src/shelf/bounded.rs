//! A map that forgets what was used longest ago: bounded by entries and by bytes.

use std::collections::HashMap;
use std::hash::Hash;

/// Values with their sizes. Looking one up makes it young again.
pub struct Bounded<K, V> {
    entries: HashMap<K, Entry<V>>,
    entries_max: usize,
    bytes_max: usize,
    bytes: usize,
    /// Counts uses; an entry's last use is its age.
    uses: u64,
}

struct Entry<V> {
    value: V,
    bytes: usize,
    used: u64,
}

impl<K: Hash + Eq + Clone, V: Clone> Bounded<K, V> {
    /// An empty map.
    pub fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self {
            entries: HashMap::new(),
            entries_max,
            bytes_max,
            bytes: 0,
            uses: 0,
        }
    }

    /// The value, if it is still there.
    pub fn get(&mut self, key: &K) -> Option<V> {
        self.uses += 1;
        let entry = self.entries.get_mut(key)?;
        entry.used = self.uses;
        Some(entry.value.clone())
    }

    /// Keeps a value, and drops the oldest ones until all fit. A value that is too large by itself is not kept.
    pub fn put(&mut self, key: K, value: V, bytes: usize) {
        self.remove(&key);
        if bytes > self.bytes_max {
            return;
        }
        while self.entries.len() >= self.entries_max || self.bytes + bytes > self.bytes_max {
            // Linear, and only when something new comes in: there are some hundred entries.
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            self.remove(&oldest);
        }
        self.uses += 1;
        self.bytes += bytes;
        let used = self.uses;
        self.entries.insert(key, Entry { value, bytes, used });
    }

    /// Drops what does not fit `keep`.
    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.entries.retain(|key, _| keep(key));
        self.bytes = self.entries.values().map(|entry| entry.bytes).sum();
    }

    fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(map: &mut Bounded<u8, u8>, expected: &[u8]) {
        let mut keys: Vec<u8> = map.entries.keys().copied().collect();
        keys.sort_unstable();
        assert_eq!(keys, expected);
        let bytes: usize = map.entries.values().map(|entry| entry.bytes).sum();
        assert_eq!(map.bytes, bytes);
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut map = Bounded::new(3, 100);
        for key in [1, 2, 3] {
            map.put(key, key, 10);
        }
        assert_eq!(map.get(&1), Some(1));
        map.put(4, 4, 10);
        check(&mut map, &[1, 3, 4]);
        map.put(5, 5, 85);
        check(&mut map, &[4, 5]);
        map.put(6, 6, 101);
        check(&mut map, &[4, 5]);
        map.put(5, 5, 1);
        check(&mut map, &[4, 5]);
        map.retain(|key| *key == 5);
        check(&mut map, &[5]);
    }
}
