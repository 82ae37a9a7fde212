//! report-job against a real PostgreSQL and a real mail server.

mod support;

mod anchor;
mod faults;
mod program;
mod rendering;
mod runs;
