//! The load: clients that order, repeat and err, each in a task of its own, until they are told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::journal::{Got, Journal, Told};
use super::step::{self, Manner, Quote, Step, User};
use crate::{background, wait};

/// Tries of one order while nothing final comes.
const TRIES_MAX: u32 = 4;
/// Between them; a server that refuses at once would otherwise be asked in a tight loop.
const PAUSE: Duration = Duration::from_millis(30);
/// A client gives up on an answer after this; nothing of the service takes as long.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// For the load to come as far as it must, on a loaded machine.
const SOON: Duration = Duration::from_secs(90);

/// What all clients of a load share.
struct Shared {
    seed: u64,
    urls: Vec<String>,
    users: Vec<User>,
    quotes: Vec<Quote>,
    journal: Arc<Journal>,
    http: reqwest::Client,
    stop: AtomicBool,
    answers: AtomicU64,
    outcomes: AtomicU64,
}

/// A load that goes on.
pub struct Traffic {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// So many clients of these users, spread over the replicas.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub fn start(
        seed: u64,
        clients: u64,
        urls: Vec<String>,
        users: Vec<User>,
        quotes: Vec<Quote>,
    ) -> Result<Self> {
        let http = http_client()?;
        let shared = Arc::new(Shared {
            seed,
            urls,
            users,
            quotes,
            journal: Arc::default(),
            http,
            stop: AtomicBool::new(false),
            answers: AtomicU64::new(0),
            outcomes: AtomicU64::new(0),
        });
        let clients = (0..clients)
            .map(|client| background::runtime().spawn(Arc::clone(&shared).run(client)))
            .collect();
        Ok(Self { shared, clients })
    }

    /// Answers of any kind so far.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.shared.answers.load(Ordering::Relaxed)
    }

    /// Blocks until so many answers have come since the start.
    ///
    /// # Errors
    /// When they do not come.
    pub fn wait_for_answers(&self, count: u64) -> Result<()> {
        wait::until(&format!("{count} answers of the load"), SOON, || {
            (self.answers() >= count).then_some(())
        })
    }

    /// Blocks until so many more outcomes have been told: the load gets through again.
    ///
    /// # Errors
    /// When they do not come.
    pub fn wait_for_more_outcomes(&self, count: u64) -> Result<()> {
        let goal = self.shared.outcomes.load(Ordering::Relaxed) + count;
        wait::until(&format!("{count} more outcomes of orders"), SOON, || {
            (self.shared.outcomes.load(Ordering::Relaxed) >= goal).then_some(())
        })
    }

    /// What was sent and told so far.
    #[must_use]
    pub fn journal(&self) -> Arc<Journal> {
        Arc::clone(&self.shared.journal)
    }

    /// Lets every client finish its request.
    ///
    /// # Errors
    /// When a client broke.
    pub fn stop(self) -> Result<Arc<Journal>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        background::block_on(async move {
            for client in self.clients {
                client.await.context("a client of the load")?;
            }
            anyhow::Ok(Arc::clone(&self.shared.journal))
        })
    }
}

impl Shared {
    async fn run(self: Arc<Self>, client: u64) {
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let step = step::step(self.seed, client, number, &self.users, &self.quotes);
            self.perform(client, number, &step).await;
            number += 1;
        }
    }

    async fn perform(&self, client: u64, number: u64, step: &Step) {
        let user = step::user_of(client, self.users.len());
        let Step { key, order, turn, .. } = step;
        if let Manner::Earlier { steps } = step.manner {
            let key = step::key(self.seed, client, number.saturating_sub(steps));
            if let Some(entry) = self.journal.entry(&key) {
                self.send(user, &key, &entry.order, *turn).await;
            }
            return;
        }
        self.journal.sends(user, key, order);
        if step.manner == Manner::Twice {
            tokio::join!(
                self.send(user, key, order, *turn),
                self.send(user, key, order, *turn + 1),
            );
        }
        let outcome = self.insist(user, key, order, *turn).await;
        match step.manner {
            Manner::Again => {
                self.send(user, key, order, *turn + 1).await;
            }
            Manner::OtherBody if outcome => {
                if let Some(got) = self.post(user, key, &step.other, *turn).await {
                    self.journal.change(key, |entry| entry.to_other.push(got));
                }
            }
            _ => {}
        }
    }

    /// Sends an order until something final comes, with the same key, to the replicas in turns. Whether it came.
    async fn insist(&self, user: usize, key: &str, order: &Value, turn: u64) -> bool {
        for round in 0..u64::from(TRIES_MAX) {
            match self.send(user, key, order, turn + round).await {
                Some(got) if got.told() != Told::Nothing => return true,
                // It is not a request for an order.
                Some(got) if got.status < 500 && got.status != 409 => return false,
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
        false
    }

    async fn send(&self, user: usize, key: &str, order: &Value, turn: u64) -> Option<Got> {
        let got = self.post(user, key, order, turn).await;
        self.journal.gets(key, got.as_ref());
        got
    }

    async fn post(&self, user: usize, key: &str, order: &Value, turn: u64) -> Option<Got> {
        let replica = usize::try_from(turn % self.urls.len() as u64).expect("an index");
        let got = post_order(&self.http, &self.urls[replica], &self.users[user].key, key, order).await;
        if let Some(got) = &got {
            self.answers.fetch_add(1, Ordering::Relaxed);
            if !got.replayed && got.told() != Told::Nothing {
                self.outcomes.fetch_add(1, Ordering::Relaxed);
            }
        }
        got
    }
}

/// A client that keeps its connections.
pub(super) fn http_client() -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(ANSWER_DEADLINE)
        .build()
        .context("make the client")
}

/// Places an order; `None` when no whole answer comes.
pub(super) async fn post_order(
    http: &reqwest::Client,
    base_url: &str,
    api_key: &str,
    key: &str,
    order: &Value,
) -> Option<Got> {
    let request = http
        .post(format!("{base_url}/v1/orders"))
        .header("x-api-key", api_key)
        .header("idempotency-key", key)
        .json(order);
    let answer = request.send().await.ok()?;
    let header = |name: &str| answer.headers().get(name).cloned();
    let replayed = header("idempotency-replayed").is_some_and(|value| value == "true");
    let retry_after = header("retry-after").is_some();
    Some(Got {
        status: answer.status().as_u16(),
        replayed,
        retry_after,
        body: answer.text().await.ok()?,
    })
}

/// Places orders under their keys, so many at a time, over the replicas in turns; the answers are in the orders' order.
///
/// # Errors
/// When the client breaks.
pub fn place_all(
    urls: &[String],
    user: &User,
    orders: Vec<(String, Value)>,
    at_once: usize,
) -> Result<Vec<Option<Got>>> {
    let http = http_client()?;
    let api_key = user.key.clone();
    let turns = Arc::new(Semaphore::new(at_once));
    let requests: Vec<_> = orders.into_iter().zip(urls.iter().cycle().cloned()).collect();
    background::block_on(async move {
        let place = |((key, order), url): ((String, Value), String)| {
            let (http, api_key, turns) = (http.clone(), api_key.clone(), Arc::clone(&turns));
            tokio::spawn(async move {
                let _turn = turns.acquire().await.context("the turns are never closed")?;
                anyhow::Ok(post_order(&http, &url, &api_key, &key, &order).await)
            })
        };
        let running: Vec<_> = requests.into_iter().map(place).collect();
        let mut answers = Vec::new();
        for request in running {
            answers.push(request.await??);
        }
        Ok(answers)
    })
}
