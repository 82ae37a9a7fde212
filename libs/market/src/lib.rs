//! Market data: the vendor client and the snapshot store.
//!
//! [`VendorClient`] talks to the vendor, [`crawl`] turns its pages into one [`fuse_domain::Snapshot`],
//! [`SnapshotStore`] keeps snapshots in DynamoDB (L2), [`L1`] in Redis, [`MarketView`] holds the current one in memory
//! (L0). [`Refresher`] makes whole passes from the vendor into the store, and [`Market`] is all of it as a replica of
//! the API sees it. Vendor wire types, AWS and Redis types go no further than this crate.

mod backoff;
mod crawl;
mod follow;
mod l1;
mod market;
mod older;
mod refresh;
mod store;
mod vendor;
mod view;

pub use crawl::{Crawl, CrawlError, CrawlLimits, Crawler, PASS_FAULTS, crawl};
pub use l1::{Announcement, Heard, L1, L1Error, Subscription};
pub use market::{Market, MarketParts};
pub use refresh::{Done, Failure, Pass, RefreshParts, Refresher, Wanted, patient};
pub use store::{
    Contender, EncodedPages, Fence, HistoryPage, HistoryPoint, HistoryRange, Lease, Pointer, Published,
    SnapshotStore, StoreError, TableState,
};
pub use vendor::{
    BadItem, Buy, BuyAttempt, ItemFault, Reached, VendorBreakers, VendorClient, VendorError, VendorItem,
    VendorPage,
};
pub use view::{Hearing, MarketView};
