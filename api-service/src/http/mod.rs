//! What happens around every handler, outermost first: observe (id, log line, metrics, problem documents), CORS, panic catching,
//! guard (sizes, concurrency, time), and then the routes.

mod caching;
mod guard;
mod observe;
mod read_sample;
mod request;
mod router;

pub use caching::{Caching, Wants, vary};
pub use guard::{Guard, Limits};
pub use observe::{Observer, Rendered};
pub use request::RequestContext;
pub use router::{build, openapi, routes_and_methods, wrap};
