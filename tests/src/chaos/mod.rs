//! Orders under faults: a world of real processes, a mixed load, one blow, and a count on both sides afterwards.
//!
//! Everything that a run does comes from its seed: what the clients order, which buys fail at the vendor and how (matched by the
//! content of the buy, not by its arrival), what is struck, after how many answers and for how long. What the machine makes of it
//! differs from run to run, and so do the instructions at which a process dies; what must hold afterwards does not:
//!
//! | invariant | held by |
//! |---|---|
//! | I1, I2 | `books`: holdings against the fold of fills; `proofs`: sums of the reports against fills |
//! | I3 | `check`: executions at the vendor against orders; `proofs`: attempts that reached it, by `api-service verify` |
//! | I4 | `check`: answers against rows; `replays`: every key once more, to the byte |
//! | I5 | `books`: legal histories; `check`: terminal orders stay as they are while every key is repeated |
//! | I6 | `books`: holdings and versions hold nothing but fills |
//! | I7, I8 | `proofs`, once at the end of a run |
//! | I9 | `cargo xtask lint`; here sums are compared to the last decimal |
//! | I10 | `books`: the band, and the age of the quote |

mod blow;
mod books;
mod check;
mod journal;
mod plan;
mod proofs;
mod replays;
mod replicas;
mod resolve;
mod run;
mod step;
mod traffic;
mod world;

pub use blow::{Blow, Toll};
pub use check::{Evidence, violations};
pub use journal::{Got, Journal, Told};
pub use plan::Plan;
pub use proofs::{Closed, close, proof_violations, report_so_far};
pub use resolve::{executions_are_fills, filled, resolve, resolve_all};
pub use run::{Report, Session};
pub use step::{Quote, Step, User};
pub use traffic::{Traffic, place_all};
pub use world::{ADMIN_KEY, BUY_TIMEOUT, Options, World};

/// What went wrong; empty when nothing did.
pub type Violations = Vec<String>;
