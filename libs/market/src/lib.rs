//! Market data: the vendor client and the snapshot store.
//!
//! [`VendorClient`] talks to the vendor, [`crawl`] turns its pages into one [`fuse_domain::Snapshot`],
//! [`SnapshotStore`] keeps snapshots in DynamoDB, and [`MarketView`] with [`follow`] holds the current
//! one in memory. Vendor wire types and AWS types go no further than this crate.

mod backoff;
mod crawl;
mod follow;
mod store;
mod vendor;
mod view;

pub use crawl::{Crawl, CrawlError, CrawlLimits, PASS_FAULTS, crawl};
pub use follow::follow;
pub use store::{Pointer, Published, SnapshotStore, StoreError, TableState};
pub use vendor::{
    BadItem, Buy, BuyAttempt, ItemFault, Reached, VendorBreakers, VendorClient, VendorError, VendorItem,
    VendorPage,
};
pub use view::MarketView;
