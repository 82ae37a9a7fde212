//! Starts real backends and a real cluster, and tests that cross processes.
