//! PostgreSQL: orders, holdings, events, reports, keys.
