//! Whether a list that has become shorter is believed. A paging token that gets lost ends the list as its last page
//! does: the crawl looks complete, and most of the market has vanished from it.

use std::time::Duration;

use fuse_domain::Snapshot;
use jiff::SignedDuration;

use super::{CrawlError, ONE_BAD_OF};

/// So many stocks may always vanish at once: of a short list, one alone is more than its share.
const ALWAYS_BELIEVED: usize = 5;
/// When the last good snapshot is so old, the list has stayed short for long, and is taken as it is: refused passes do
/// not renew it.
const BELIEVED_AFTER: Duration = Duration::from_secs(1_800);

/// Refuses a crawl that lists less than nineteen in twenty of the stocks listed before.
pub(super) fn check(snapshot: &Snapshot, previous: Option<&Snapshot>) -> Result<(), CrawlError> {
    let Some(previous) = previous else {
        return Ok(());
    };
    let age = snapshot.meta.taken_at.duration_since(previous.meta.taken_at);
    if age >= SignedDuration::try_from(BELIEVED_AFTER).unwrap_or(SignedDuration::MAX) {
        return Ok(());
    }
    let (mut listed, mut missing) = (0, 0);
    for before in previous.quotes.iter().filter(|quote| quote.listed) {
        let is_there = snapshot.get(&before.symbol).is_some_and(|quote| quote.listed);
        listed += 1;
        missing += usize::from(!is_there);
    }
    if missing > ALWAYS_BELIEVED && missing * ONE_BAD_OF > listed {
        return Err(CrawlError::TooManyMissing { missing, listed });
    }
    Ok(())
}
