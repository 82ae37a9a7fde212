//! Tests of the operator: what is pure by itself, the rest against a real API server (no kubelet, no controllers: the
//! test writes the status of children). Each test has a namespace and an operator of its own.

mod build;
mod cel;
mod children;
mod layout;
mod migration;
mod permissions;
mod plan;
mod process;
mod request_log;
mod requests;
mod scaling;
mod secrets;
mod startup;
mod states;
mod status;
mod support;
