//! Market data: vendor client and snapshot store.
