//! REST API of the stock trading service.
