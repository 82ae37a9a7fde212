//! One file is one endpoint: its shapes, its description and its handler.

pub mod audit_verify;
pub mod clock;
pub mod keys_create;
pub mod keys_list;
pub mod keys_revoke;
pub mod openapi;
pub mod order_get;
pub mod order_place;
pub mod order_preview;
pub mod order_resolve;
pub mod orders_list;
pub mod portfolio_delete;
pub mod portfolio_get;
pub mod portfolio_history;
pub mod portfolios_create;
pub mod portfolios_list;
pub mod report_daily;
pub mod stock_get;
pub mod stock_prices;
pub mod stocks_list;
