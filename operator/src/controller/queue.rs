//! Which service is looked at when: each at most once at a time, changes of a moment together.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::stores::ServiceKey;

/// Times at which services are due. No clock of its own.
#[derive(Debug)]
pub struct Queue {
    due: HashMap<ServiceKey, Instant>,
    running: HashSet<ServiceKey>,
    debounce: Duration,
}

impl Queue {
    /// An empty queue.
    pub fn new(debounce: Duration) -> Self {
        Self {
            due: HashMap::new(),
            running: HashSet::new(),
            debounce,
        }
    }

    /// Something changed: due after the debounce. Further changes do not push it back, or a busy service would starve.
    pub fn trigger(&mut self, key: ServiceKey, now: Instant) {
        self.at(key, now + self.debounce);
    }

    /// Due at this time, or before if it already was.
    pub fn at(&mut self, key: ServiceKey, when: Instant) {
        let due = self.due.entry(key).or_insert(when);
        *due = (*due).min(when);
    }

    /// When the next service is due that is not being looked at.
    pub fn next_due(&self) -> Option<Instant> {
        self.due
            .iter()
            .filter(|(key, _)| !self.running.contains(*key))
            .map(|(_, due)| *due)
            .min()
    }

    /// Takes up to `free` services that are due, the longest waiting first.
    pub fn take(&mut self, now: Instant, free: usize) -> Vec<ServiceKey> {
        let is_ready = |entry: &(&ServiceKey, &Instant)| *entry.1 <= now && !self.running.contains(entry.0);
        let mut ready: Vec<(Instant, ServiceKey)> = self
            .due
            .iter()
            .filter(is_ready)
            .map(|(key, due)| (*due, key.clone()))
            .collect();
        ready.sort_unstable();
        ready.truncate(free);
        let keys: Vec<ServiceKey> = ready.into_iter().map(|(_, key)| key).collect();
        for key in &keys {
            self.due.remove(key);
            self.running.insert(key.clone());
        }
        keys
    }

    /// A service taken before may be taken again.
    pub fn finished(&mut self, key: &ServiceKey) {
        self.running.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ServiceKey {
        ServiceKey {
            namespace: "fuse".into(),
            name: name.into(),
        }
    }

    #[test]
    fn a_busy_service_is_not_pushed_back_and_runs_once_at_a_time() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut queue = Queue::new(Duration::from_millis(200));
        queue.trigger(key("a"), at(0));
        queue.trigger(key("a"), at(150));
        assert_eq!(queue.next_due(), Some(at(200)));
        assert_eq!(queue.take(at(199), 16), []);
        assert_eq!(queue.take(at(200), 16), [key("a")]);
        queue.trigger(key("a"), at(210));
        assert_eq!(queue.next_due(), None, "it is running");
        assert_eq!(queue.take(at(500), 16), []);
        queue.finished(&key("a"));
        assert_eq!(
            queue.take(at(500), 16),
            [key("a")],
            "the change meanwhile is not lost"
        );
    }

    #[test]
    fn places_go_to_the_longest_waiting() {
        let start = Instant::now();
        let mut queue = Queue::new(Duration::ZERO);
        for (index, name) in ["c", "a", "b"].into_iter().enumerate() {
            queue.trigger(key(name), start + Duration::from_millis(index as u64));
        }
        let now = start + Duration::from_secs(1);
        assert_eq!(queue.take(now, 2), [key("c"), key("a")]);
        assert_eq!(queue.take(now, 0), []);
        assert_eq!(queue.take(now, 2), [key("b")]);
    }

    #[test]
    fn a_change_comes_before_the_resync() {
        let start = Instant::now();
        let mut queue = Queue::new(Duration::from_millis(200));
        queue.at(key("a"), start + Duration::from_secs(600));
        queue.trigger(key("a"), start);
        assert_eq!(queue.next_due(), Some(start + Duration::from_millis(200)));
    }
}
