//! Every key that was used is sent once more when the world is at rest: it must bring what it brought before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tokio::task::JoinSet;

use super::journal::{Entry, Got, Journal, Told};
use super::step::User;
use super::{Violations, traffic};
use crate::{background, wait};

/// Keys that are repeated at a time.
const AT_ONCE: usize = 8;
/// For one of them, on a loaded machine.
const SOON: Duration = Duration::from_secs(30);

/// Repeats every key, those without an outcome twice, and notes the answers in the journal; returns what was wrong with them.
///
/// # Errors
/// When the client breaks.
pub(super) fn repeat_all(journal: &Arc<Journal>, users: &[User], urls: &[String]) -> Result<Violations> {
    let mut keys = journal.entries();
    let mut violations = Violations::new();
    for _ in 0..2 {
        for (key, got) in send_all(&keys, users, urls)? {
            let before = journal.entry(&key);
            if let Some(violation) = before.and_then(|entry| judge(&key, &entry, got.as_ref())) {
                violations.push(violation);
            }
            journal.gets(&key, got.as_ref());
        }
        // What had no outcome has one now, and must keep it.
        keys.retain(|_, entry| entry.outcome().is_none());
    }
    Ok(violations)
}

fn send_all(
    keys: &BTreeMap<String, Entry>,
    users: &[User],
    urls: &[String],
) -> Result<Vec<(String, Option<Got>)>> {
    let requests: Vec<(String, Value, String, String)> = keys
        .iter()
        .zip(urls.iter().cycle())
        .map(|((key, entry), url)| {
            (
                key.clone(),
                entry.order.clone(),
                users[entry.user].key.clone(),
                url.clone(),
            )
        })
        .collect();
    let http = traffic::http_client()?;
    background::block_on(async move {
        let mut answers = Vec::new();
        let mut tasks = JoinSet::new();
        for (key, order, api_key, url) in requests {
            if tasks.len() >= AT_ONCE {
                answers.extend(tasks.join_next().await.transpose()?);
            }
            let http = http.clone();
            tasks.spawn(async move {
                let got = insist(&http, &url, &api_key, &key, &order).await;
                (key, got)
            });
        }
        while let Some(answer) = tasks.join_next().await {
            answers.push(answer?);
        }
        Ok(answers)
    })
}

/// A busy replica may ask its client to come back; what counts is what it says then.
async fn insist(http: &reqwest::Client, url: &str, api_key: &str, key: &str, order: &Value) -> Option<Got> {
    let post = || traffic::post_order(http, url, api_key, key, order);
    let answered = wait::until_async("an answer to a repeat", SOON, || async {
        let got = post().await?;
        (got.status != 503 || got.told() != Told::Nothing).then_some(got)
    });
    match answered.await {
        Ok(got) => Some(got),
        // What it says now is what is judged.
        Err(_) => post().await,
    }
}

/// What is wrong with the answer to a repeat.
fn judge(key: &str, entry: &Entry, now: Option<&Got>) -> Option<String> {
    let Some(now) = now else {
        return Some(format!("{key}: no answer although nothing is wrong any more"));
    };
    if let Some(first) = entry.outcome() {
        let is_same = now.replayed && (now.status, &now.body) == (first.status, &first.body);
        return (!is_same).then(|| {
            format!(
                "{key}: told {} {}, the repeat says {} {} (replayed: {})",
                first.status, first.body, now.status, now.body, now.replayed
            )
        });
    }
    match now.told() {
        // Its first outcome; what it names is compared with the receipt by the other checks.
        Told::Outcome { .. } => None,
        Told::Receipt { .. } => None,
        // A request that is no order, or whose key was taken by nothing yet.
        Told::Nothing if now.status == 422 => None,
        Told::Nothing => Some(format!(
            "{key}: the repeat at rest says {} {}",
            now.status, now.body
        )),
    }
}
