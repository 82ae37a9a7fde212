//! The command line.

use clap::{Subcommand, ValueEnum};
use fuse_domain::{Amount, ChainHead};
use fuse_ledger::Scope;
use jiff::Span;
use uuid::Uuid;

// Not a doc comment: clap would show it in place of what the process is.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do; `serve` when absent.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API (the default)
    Serve,
    /// Bring the database schema up to date; harmless to repeat
    Migrate {
        /// Then spread the tables over several servers by user; needs the Citus extension
        #[arg(long)]
        distribute: bool,
    },
    /// Check the whole ledger: the hash chain, and every order and holding against it. Exit code 3 when something is wrong
    Verify {
        /// A link of the chain as a daily report shows it, such as 42:0123…; the chain must still hold it. Can be repeated
        #[arg(long = "anchor", value_name = "LINK:HASH")]
        anchors: Vec<ChainHead>,
    },
    /// Create, list and revoke API keys
    Keys {
        /// What to do with them.
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Print the OpenAPI description
    Openapi,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Create a key and print it as JSON; it is shown this once
    Create {
        /// What to call it
        #[arg(long)]
        name: String,
        /// The user it acts for: an id, or "new" for a new user; absent: a service
        #[arg(long, value_parser = user)]
        user: Option<UserArg>,
        /// What it may do
        #[arg(long, value_delimiter = ',', required = true)]
        scopes: Vec<ScopeArg>,
        /// When it ends, such as 30d or 12h; absent: never
        #[arg(long)]
        expires_in: Option<Span>,
        /// Largest price times quantity of one order, such as 50000; absent: only the limit for every key
        #[arg(long, value_parser = Amount::parse_client)]
        max_notional: Option<Amount>,
        /// Orders in a day (UTC), those that were rejected not counted; absent: the limit for keys without one
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=2_147_483_647))]
        max_orders_per_day: Option<u32>,
    },
    /// Print the records of all keys as JSON, one a line
    List,
    /// Revoke a key
    Revoke {
        /// The id of the key
        id: Uuid,
    },
}

/// A user, or a new one.
#[derive(Clone, Copy, Debug)]
pub enum UserArg {
    /// Make one.
    New,
    /// This one, made when it is not there.
    Id(Uuid),
}

fn user(text: &str) -> Result<UserArg, String> {
    match text {
        "new" => Ok(UserArg::New),
        _ => Uuid::try_parse(text)
            .map(UserArg::Id)
            .map_err(|_| "write an id, or new".to_owned()),
    }
}

/// A scope on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ScopeArg {
    /// Stocks, orders and portfolios.
    Read,
    /// Placing orders.
    Trade,
    /// Daily reports.
    Report,
    /// Everything.
    Admin,
}

impl From<ScopeArg> for Scope {
    fn from(arg: ScopeArg) -> Self {
        match arg {
            ScopeArg::Read => Self::Read,
            ScopeArg::Trade => Self::Trade,
            ScopeArg::Report => Self::Report,
            ScopeArg::Admin => Self::Admin,
        }
    }
}
