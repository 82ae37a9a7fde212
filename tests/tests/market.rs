//! Market data across processes: real binaries between the simulated vendor, the DynamoDB stand-in and a real Redis, while
//! each of them fails. What is checked is what a client sees.

#[path = "market/dynamodb.rs"]
mod dynamodb;
#[path = "market/fencing.rs"]
mod fencing;
#[path = "market/outage.rs"]
mod outage;
#[path = "market/redis.rs"]
mod redis;
#[path = "market/stampede.rs"]
mod stampede;
#[path = "market/vendor_data.rs"]
mod vendor_data;
#[path = "market/vendor_ticks.rs"]
mod vendor_ticks;
#[path = "market/walks.rs"]
mod walks;
#[path = "market/watch.rs"]
mod watch;
#[path = "market/world.rs"]
mod world;
