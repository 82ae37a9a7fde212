//! Group commit: what is queued is written by one statement, and each caller gets an answer of its own.
//!
//! The cost of a write is the server's flush to disk, under the row locks of what it changed. So a writer runs one
//! statement at a time and takes with the next whatever has been queued meanwhile: alone, an order waits for nobody;
//! in a crowd, hundreds share a flush. A batch that the database refuses is repeated one by one, so that one bad order
//! fails alone.
//!
//! While the database is away nothing is begun: callers are told so at once, and a probe finds out when it is back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::PgRow;
use tokio::sync::{mpsc, oneshot};

use crate::LedgerError;
use crate::pool::{Db, PgQuery};

/// Most that one statement writes.
const BATCH_MAX: usize = 512;
/// Most that wait for their turn; more are refused.
const QUEUE_MAX: usize = 4096;
/// A caller that is still queued after this is refused, and so is who comes while a statement takes longer.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Between two looks whether the database is back.
const PROBE_EVERY: Duration = Duration::from_millis(200);
/// One look takes no longer.
const PROBE_MAX: Duration = Duration::from_secs(1);
/// One by one, a batch may take this long; what is left then gets the batch's error.
const SINGLES_WITHIN: Duration = Duration::from_secs(5);

const QUEUED: u8 = 0;
const TAKEN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// A kind of write that can be batched.
pub(crate) trait Batched: Send + Sync + Sized + 'static {
    /// What one caller gets.
    type Outcome: Send + 'static;
    /// Name of the statement in metrics.
    const NAME: &'static str;

    /// One statement for all of them, all or nothing.
    fn query(batch: &[&Self]) -> PgQuery<'static>;

    /// The outcome of each, in the batch's order. Everything is committed: an answer that cannot be read is one order's own.
    fn outcomes(batch: &[&Self], rows: &[PgRow]) -> Outcomes<Self>;
}

/// What each order of a statement gets.
pub(super) type Outcomes<B> = Vec<Result<<B as Batched>::Outcome, LedgerError>>;

/// The queue of one kind of write. Cheap to clone.
pub(crate) struct Writer<B: Batched> {
    queue: mpsc::Sender<Job<B>>,
    health: Arc<Health>,
    db: Db,
}

impl<B: Batched> Clone for Writer<B> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            health: Arc::clone(&self.health),
            db: self.db.clone(),
        }
    }
}

struct Job<B: Batched> {
    input: B,
    stage: Arc<AtomicU8>,
    answer: oneshot::Sender<Result<B::Outcome, LedgerError>>,
}

/// What callers must know before they queue.
struct Health {
    born: Instant,
    is_away: AtomicBool,
    /// When the statement that runs now began, in milliseconds since `born`; 0 between statements.
    running_since_millis: AtomicU64,
}

impl Health {
    fn now_millis(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    fn refuses(&self) -> bool {
        let since = self.running_since_millis.load(Ordering::Relaxed);
        let wait_max_millis = u64::try_from(WAIT_MAX.as_millis()).unwrap_or(u64::MAX);
        self.is_away.load(Ordering::Relaxed)
            || (since > 0 && self.now_millis().saturating_sub(since) > wait_max_millis)
    }
}

impl<B: Batched> Writer<B> {
    /// A writer with its task, which ends with the last clone. Inside a tokio runtime.
    pub(crate) fn start(db: Db) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let health = Arc::new(Health {
            born: Instant::now(),
            is_away: AtomicBool::new(false),
            running_since_millis: AtomicU64::new(0),
        });
        let worker = Worker {
            db: db.clone(),
            health: Arc::clone(&health),
        };
        tokio::spawn(worker.run(jobs));
        Self { queue, health, db }
    }

    /// Writes one, together with whatever else is queued. Once it is taken from the queue it is carried out, whether
    /// or not the caller waits.
    ///
    /// # Errors
    /// `Busy` when it was not begun; else what became of its statement.
    pub(crate) async fn write(&self, input: B) -> Result<B::Outcome, LedgerError> {
        if self.health.refuses() {
            return Err(LedgerError::Busy);
        }
        let (answer, mut answered) = oneshot::channel();
        let stage = Arc::new(AtomicU8::new(QUEUED));
        let job = Job {
            input,
            stage: Arc::clone(&stage),
            answer,
        };
        self.queue.try_send(job).map_err(|_| LedgerError::Busy)?;
        self.db.metrics.queued(B::NAME, QUEUE_MAX - self.queue.capacity());
        let lost = |_| LedgerError::Unavailable(sqlx::Error::WorkerCrashed);
        tokio::select! {
            outcome = &mut answered => return outcome.map_err(lost)?,
            () = tokio::time::sleep(WAIT_MAX) => {}
        }
        let withdrawn = stage.compare_exchange(QUEUED, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire);
        if withdrawn.is_ok() {
            return Err(LedgerError::Busy);
        }
        answered.await.map_err(lost)?
    }
}

struct Worker {
    db: Db,
    health: Arc<Health>,
}

impl Worker {
    async fn run<B: Batched>(self, mut jobs: mpsc::Receiver<Job<B>>) {
        let mut taken = Vec::with_capacity(BATCH_MAX);
        while jobs.recv_many(&mut taken, BATCH_MAX).await > 0 {
            gather(&mut jobs, &mut taken).await;
            self.db.metrics.queued(B::NAME, jobs.len());
            taken.retain(Job::is_taken);
            if taken.is_empty() {
                continue;
            }
            self.db.metrics.batched(B::NAME, taken.len());
            let is_away = self.carry_out(std::mem::take(&mut taken)).await;
            if is_away {
                self.wait_until_back(&mut jobs).await;
            }
        }
    }

    /// Whether the database turned out to be away.
    async fn carry_out<B: Batched>(&self, batch: Vec<Job<B>>) -> bool {
        match self
            .statement(&batch.iter().map(|job| &job.input).collect::<Vec<_>>())
            .await
        {
            Ok(outcomes) => {
                for (job, outcome) in batch.into_iter().zip(outcomes) {
                    job.tell(outcome);
                }
                false
            }
            Err(error) if batch.len() > 1 && is_rolled_back(&error) => self.one_by_one(batch, &error).await,
            Err(error) => {
                for job in batch {
                    job.tell(Err(error.again()));
                }
                matches!(error, LedgerError::Unavailable(_))
            }
        }
    }

    /// After a batch that changed nothing: who is to blame fails alone.
    async fn one_by_one<B: Batched>(&self, batch: Vec<Job<B>>, error: &LedgerError) -> bool {
        tracing::warn!(statement = B::NAME, orders = batch.len(), error = %error, "a batch was refused; its orders are written one by one");
        let began = Instant::now();
        let mut is_away = false;
        for job in batch {
            if is_away || began.elapsed() > SINGLES_WITHIN {
                job.tell(Err(LedgerError::Busy));
                continue;
            }
            let outcome = self.statement(&[&job.input]).await;
            is_away = matches!(outcome, Err(LedgerError::Unavailable(_)));
            job.tell(outcome.and_then(|outcomes| {
                let only = outcomes.into_iter().next();
                only.unwrap_or_else(|| Err(crate::error::corrupt(B::NAME, "no outcome for an order")))
            }));
        }
        is_away
    }

    async fn statement<B: Batched>(&self, batch: &[&B]) -> Result<Outcomes<B>, LedgerError> {
        let running = &self.health.running_since_millis;
        running.store(self.health.now_millis(), Ordering::Relaxed);
        let rows = self.db.run(B::NAME, B::query(batch)).await;
        running.store(0, Ordering::Relaxed);
        let mut outcomes = B::outcomes(batch, &rows?);
        outcomes.resize_with(batch.len(), || {
            Err(crate::error::corrupt(B::NAME, "no outcome for an order"))
        });
        Ok(outcomes)
    }

    /// Refuses callers until the database answers again.
    async fn wait_until_back<B: Batched>(&self, jobs: &mut mpsc::Receiver<Job<B>>) {
        self.health.is_away.store(true, Ordering::Relaxed);
        loop {
            while let Ok(job) = jobs.try_recv() {
                job.tell(Err(LedgerError::Busy));
            }
            self.db.metrics.queued(B::NAME, 0);
            tokio::select! {
                () = self.db.alive.notified() => break,
                () = self.probe() => {}
            }
            if jobs.is_closed() {
                break;
            }
        }
        self.health.is_away.store(false, Ordering::Relaxed);
    }

    /// One look at the database. An answer is told by `alive`; a connection that does not come up soon is tried anew,
    /// as waits between the pool's own tries grow.
    async fn probe(&self) {
        let ping = self.db.run("ping", sqlx::query("select 1"));
        let _ = tokio::time::timeout(PROBE_MAX, ping).await;
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

/// Takes what queues at this very moment. In a crowd the first order that is told goes on to queue again, and the others right
/// after it: whoever is ready to run does so first, or every second statement would hold one order. Where nobody is,
/// nothing is waited for.
async fn gather<B: Batched>(jobs: &mut mpsc::Receiver<Job<B>>, taken: &mut Vec<Job<B>>) {
    loop {
        let before = taken.len();
        tokio::task::yield_now().await;
        while taken.len() < BATCH_MAX
            && let Ok(job) = jobs.try_recv()
        {
            taken.push(job);
        }
        if taken.len() == before || taken.len() == BATCH_MAX {
            return;
        }
    }
}

impl<B: Batched> Job<B> {
    /// False when its caller has withdrawn it.
    fn is_taken(&self) -> bool {
        self.stage
            .compare_exchange(QUEUED, TAKEN, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn tell(self, outcome: Result<B::Outcome, LedgerError>) {
        // Whoever does not wait any more finds the outcome in the ledger.
        let _ = self.answer.send(outcome);
    }
}

/// One column of a batch, to be bound as an array.
pub(super) fn all<B, T>(batch: &[&B], column: impl Fn(&B) -> T) -> Vec<T> {
    batch.iter().map(|input| column(input)).collect()
}

/// Whether the statement surely changed nothing, and may do better for fewer orders.
fn is_rolled_back(error: &LedgerError) -> bool {
    matches!(error, LedgerError::Conflict(_) | LedgerError::Refused(_))
}
