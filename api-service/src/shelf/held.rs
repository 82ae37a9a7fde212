//! Which shelves are kept.

use std::collections::VecDeque;
use std::sync::Arc;

use uuid::Uuid;

use super::Shelf;

/// The current snapshot and the two before it.
const RECENT_MAX: usize = 3;
/// Older ones that a walk brought back.
const LOADED_MAX: usize = 2;

/// The shelves of this process.
#[derive(Default)]
pub(super) struct Held {
    /// Newest first.
    recent: VecDeque<Arc<Shelf>>,
    /// Last used first.
    loaded: VecDeque<Arc<Shelf>>,
}

impl Held {
    pub(super) fn newest(&self) -> Option<&Arc<Shelf>> {
        self.recent.front()
    }

    pub(super) fn find(&self, id: Uuid) -> Option<&Arc<Shelf>> {
        self.all().find(|shelf| shelf.snapshot.meta.id == id)
    }

    pub(super) fn is_held(&self, number: u64) -> bool {
        self.all().any(|shelf| shelf.number == number)
    }

    /// Puts the shelf of a new snapshot in front.
    pub(super) fn add(&mut self, shelf: Arc<Shelf>) {
        let id = shelf.snapshot.meta.id;
        self.recent.retain(|other| other.snapshot.meta.id != id);
        self.loaded.retain(|other| other.snapshot.meta.id != id);
        self.recent.push_front(shelf);
        self.recent.truncate(RECENT_MAX);
    }

    /// Keeps an older one beside them.
    pub(super) fn add_loaded(&mut self, shelf: Arc<Shelf>) {
        self.loaded.push_front(shelf);
        self.loaded.truncate(LOADED_MAX);
    }

    /// Whether the next one that is loaded takes the place of this one.
    pub(super) fn is_next_to_go(&self, id: Uuid) -> bool {
        let last = self.loaded.back().map(|shelf| shelf.snapshot.meta.id);
        self.loaded.len() > 1 && last == Some(id)
    }

    /// It was used.
    pub(super) fn touch(&mut self, id: Uuid) {
        let at = self.loaded.iter().position(|shelf| shelf.snapshot.meta.id == id);
        if let Some(shelf) = at.and_then(|at| self.loaded.remove(at)) {
            self.loaded.push_front(shelf);
        }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Shelf>> {
        self.recent.iter().chain(&self.loaded)
    }
}

#[cfg(test)]
mod tests {
    use fuse_domain::Snapshot;
    use jiff::Timestamp;

    use super::*;

    fn shelf() -> Arc<Shelf> {
        let snapshot = Snapshot::new(Uuid::now_v7(), Timestamp::UNIX_EPOCH, Vec::new());
        Arc::new(Shelf::build(Arc::new(snapshot)))
    }

    #[test]
    fn of_old_ones_the_one_that_was_used_longest_ago_goes() {
        let [one, two, three] = [(); 3].map(|()| shelf());
        let mut held = Held::default();
        held.add_loaded(Arc::clone(&one));
        assert!(!held.is_next_to_go(one.snapshot.meta.id), "there is room");
        held.add_loaded(Arc::clone(&two));
        assert!(held.is_next_to_go(one.snapshot.meta.id));
        held.touch(one.snapshot.meta.id);
        assert!(held.is_next_to_go(two.snapshot.meta.id));
        held.add_loaded(Arc::clone(&three));
        let kept = [one, two, three].map(|shelf| held.is_held(shelf.number));
        assert_eq!(kept, [true, false, true]);
    }

    #[test]
    fn three_new_ones_and_two_old_ones_are_kept() {
        let shelves: Vec<_> = (0..7).map(|_| shelf()).collect();
        let mut held = Held::default();
        for old in &shelves[..3] {
            held.add_loaded(Arc::clone(old));
        }
        for new in &shelves[3..] {
            held.add(Arc::clone(new));
        }
        // One that was loaded becomes a recent one, and stands there once.
        held.add(Arc::clone(&shelves[2]));
        let kept = shelves
            .iter()
            .map(|shelf| held.is_held(shelf.number))
            .collect::<Vec<_>>();
        assert_eq!(kept, [false, true, true, false, false, true, true]);
        assert_eq!(held.all().count(), 4);
        let newest = held.newest().map(|shelf| shelf.number);
        assert_eq!(newest, Some(shelves[2].number));
    }
}
