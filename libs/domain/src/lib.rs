//! Rules of the stock trading service: money, orders, breaker, report arithmetic; no I/O.
