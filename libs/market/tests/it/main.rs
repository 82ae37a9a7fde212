//! Tests of the market library through its public seam: raw transport faults against the vendor client, crawls against
//! the simulator, the snapshot store against a DynamoDB stand-in.

mod blocks;
mod buy;
mod crawl;
mod fixture;
mod history;
mod hostile;
mod l1;
mod lease;
mod list;
mod market;
mod store;
mod stored;
mod tls;
