//! The mails for people: a list, each mail's source, and its HTML shut in by a content security policy.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use super::{Mail, Shared};
use crate::background;

/// A mail is untrusted text: nothing is loaded, nothing runs.
const POLICY: &str = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'";

pub(super) fn start(listen: SocketAddr, shared: Arc<Shared>) -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(listen)
        .with_context(|| format!("bind {listen} for the list of mails"))?;
    listener.set_nonblocking(true)?;
    let _entered = background::runtime().enter();
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    let stop = shared.stop.clone();
    let router = Router::new()
        .route("/", get(list))
        .route("/{number}/source", get(source))
        .route("/{number}/html", get(html))
        .with_state(shared);
    background::runtime().spawn(async move {
        tokio::select! {
            _ = axum::serve(listener, router) => {}
            () = stop.cancelled() => {}
        }
    });
    Ok(address)
}

async fn list(State(shared): State<Arc<Shared>>) -> Html<String> {
    let rows: String = shared
        .mails()
        .iter()
        .enumerate()
        .map(|(index, mail)| {
            let number = index + 1;
            format!(
                "<li>{} to {} (<a href=\"/{number}/html\">HTML</a>, <a href=\"/{number}/source\">source</a>)</li>",
                escaped(&mail.subject()),
                escaped(&mail.recipients.join(", "))
            )
        })
        .collect();
    Html(format!(
        "<!doctype html><meta charset=\"utf-8\"><title>Mails</title><h1>Mails</h1><ol>{rows}</ol>"
    ))
}

async fn source(State(shared): State<Arc<Shared>>, Path(number): Path<usize>) -> Response {
    match mail(&shared, number) {
        Some(mail) => ([("content-type", "text/plain; charset=utf-8")], mail.raw).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn html(State(shared): State<Arc<Shared>>, Path(number): Path<usize>) -> Response {
    match mail(&shared, number).and_then(|mail| mail.part("text/html").ok()) {
        Some(html) => ([("content-security-policy", POLICY)], Html(html)).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn mail(shared: &Shared, number: usize) -> Option<Mail> {
    shared.mails().get(number.checked_sub(1)?).cloned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
