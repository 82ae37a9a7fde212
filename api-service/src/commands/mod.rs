//! Commands beside `serve`.

mod args;
mod keys;
mod migrate;
mod verify;

pub use args::{Args, Command, KeysCommand};
pub use keys::{KeysConfig, keys};
pub use migrate::{MigrateConfig, migrate};
pub use verify::{EXIT_INVALID, STATEMENT_TIMEOUT, VerifyConfig, verify};

/// Prints the description of the interface.
pub fn openapi() -> Result<(), serde_json::Error> {
    println!("{}", crate::http::openapi().to_pretty_json()?);
    Ok(())
}
