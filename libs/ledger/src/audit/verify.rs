//! The whole proof, from the first event to the head, and every table against the events.

use fuse_domain::ChainHead;
use jiff::Timestamp;

use super::chain::link_hash;
use super::checks::CHECKS;
use super::line::{Line, events_until, line_from};
use super::{BadRow, Invariant, Link, Position};
use crate::{Ledger, LedgerError, row};

/// Links whose events are read at once: some ten thousand lines.
const LINKS_AT_ONCE: i64 = 10;

/// What to compare the chain with, beside itself.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// Heads that were kept outside the database, from the daily mails.
    pub anchors: Vec<ChainHead>,
}

/// How far a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being looked at.
    pub step: &'static str,
    /// How many of them were.
    pub rows: u64,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// When it ended.
    pub at: Timestamp,
    /// Events whose digests were compared.
    pub events: u64,
    /// Holdings that were compared with the fold of their fills.
    pub holdings: u64,
    /// Orders that were compared with their events.
    pub orders: u64,
    /// The end of the chain.
    pub head: Option<ChainHead>,
    /// The first row that is wrong.
    pub first_bad: Option<BadRow>,
    /// Rows that break each rule.
    pub violations: Vec<(Invariant, u64)>,
}

impl Verification {
    /// Whether nothing is wrong.
    pub fn is_valid(&self) -> bool {
        self.first_bad.is_none()
    }

    fn add(&mut self, invariant: Invariant, bad: u64, first: Option<BadRow>) {
        if let Some((_, count)) = self.violations.iter_mut().find(|(known, _)| *known == invariant) {
            *count += bad;
        }
        self.first_bad = self.first_bad.take().or(first);
    }
}

impl Ledger {
    /// Checks the chain and every table against the events; a minute of reading for millions of them. Changes nothing
    /// but the figures that this process shows.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` (also when a statement took too long) or `Corrupt`.
    pub async fn verify(
        &self,
        options: &VerifyOptions,
        mut tell: impl FnMut(Progress) + Send,
    ) -> Result<Verification, LedgerError> {
        let mut found = Verification {
            at: Timestamp::now(),
            events: 0,
            holdings: 0,
            orders: 0,
            head: None,
            first_bad: None,
            violations: Invariant::ALL.map(|invariant| (invariant, 0)).to_vec(),
        };
        let chain = self.walk_chain(&mut found, &mut tell).await?;
        let broken = match chain {
            Some(bad) => Some(bad),
            None => self.compare_anchors(&options.anchors).await?,
        };
        found.add(Invariant::Chain, u64::from(broken.is_some()), broken);
        for check in CHECKS {
            let looked = self.check(check).await?;
            tell(Progress {
                step: check.rows,
                rows: looked.checked,
            });
            match check.rows {
                "orders" => found.orders = looked.checked,
                "holdings" => found.holdings = looked.checked,
                _ => {}
            }
            found.add(check.invariant, looked.bad, looked.first);
        }
        found.at = Timestamp::now();
        self.metrics.verified(&found);
        Ok(found)
    }

    /// From the first link to the last; stops at the first that does not hold.
    async fn walk_chain(
        &self,
        found: &mut Verification,
        tell: &mut (impl FnMut(Progress) + Send),
    ) -> Result<Option<BadRow>, LedgerError> {
        let mut after = Position::START;
        let mut before = ChainHead {
            link: 0,
            events: 0,
            hash: [0; 32],
        };
        loop {
            let links = self.links(before.link, LINKS_AT_ONCE).await?;
            let Some(end) = links.last().map(|link| link.last) else {
                return Ok(None);
            };
            let rows = self.read("chained_events", events_until(after, end)).await?;
            let lines = rows.iter().map(line_from).collect::<Result<Vec<_>, _>>()?;
            drop(rows);
            let mut rest = lines.as_slice();
            for link in &links {
                if let Some(bad) = broken_link(link, &before).or_else(|| broken_event(link, &mut rest)) {
                    return Ok(Some(bad));
                }
                found.events += link.events as u64;
                found.head = Some(link.head);
                before = link.head;
            }
            if let Some(extra) = rest.first() {
                return Ok(Some(event_problem(
                    extra,
                    "the event is in no link of the chain, but before its end",
                )));
            }
            after = end;
            tell(Progress {
                step: "events",
                rows: found.events,
            });
        }
    }

    /// The heads that reports have told, and those that the caller has kept, must be links of this chain.
    async fn compare_anchors(&self, kept: &[ChainHead]) -> Result<Option<BadRow>, LedgerError> {
        let query = sqlx::query(
            "with told as (
                 select 'report ' || report_date as name, (content #>> '{chain,link}')::bigint as link,
                     content #>> '{chain,hash}' as hash
                 from reports where content #>> '{chain,link}' is not null
                 union all
                 select 'anchor', * from unnest($1::bigint[], $2::text[])
             )
             select t.name || ' (link ' || t.link || ')' as name, c.link is null as is_cut
             from told t left join order_event_chain c on c.link = t.link
             where encode(c.hash, 'hex') is distinct from t.hash
             order by t.link limit 1",
        )
        .bind(kept.iter().map(|head| head.link).collect::<Vec<_>>())
        .bind(kept.iter().map(ChainHead::hash_text).collect::<Vec<_>>());
        let rows = self.read("anchors", query).await?;
        let Some(bad) = rows.first() else {
            return Ok(None);
        };
        let problem = match row::get(bad, "is_cut")? {
            true => "the chain ends before the link that was told to the outside",
            false => "the link has another hash than was told to the outside",
        };
        Ok(Some(BadRow {
            invariant: Invariant::Chain,
            row: format!("order_event_chain, against {}", row::get::<String>(bad, "name")?),
            problem: problem.to_owned(),
        }))
    }
}

/// A link against the one before it and against its own hash.
fn broken_link(link: &Link, before: &ChainHead) -> Option<BadRow> {
    let head = &link.head;
    let is_whole = head.link == before.link + 1
        && link.previous_hash == before.hash
        && head.events == before.events + i64::try_from(link.events).unwrap_or(i64::MAX)
        && link.digests.len() == 32 * link.events
        && link_hash(&link.previous_hash, head.link, head.events, &link.digests) == head.hash;
    (!is_whole).then(|| BadRow {
        invariant: Invariant::Chain,
        row: format!("order_event_chain {}", head.link),
        problem: "the link does not continue the one before, or its hash is not that of what it holds"
            .to_owned(),
    })
}

/// The events of a link, taken off `rest`, against its digests.
fn broken_event(link: &Link, rest: &mut &[Line]) -> Option<BadRow> {
    let expected = link.digests.chunks_exact(32);
    for (index, digest) in expected.clone().enumerate() {
        let Some(line) = rest.get(index) else {
            return Some(missing(link, index));
        };
        if line.digest == *digest {
            continue;
        }
        // An order that was moved takes all its events along, so more than one may be missing here, or be too many.
        let is_of_a_later_one = line.position > link.last
            || expected
                .clone()
                .skip(index + 1)
                .any(|later| line.digest == *later);
        let is_further_on = rest.iter().skip(index + 1).any(|later| later.digest == *digest);
        return Some(if is_of_a_later_one {
            missing(link, index)
        } else if is_further_on {
            event_problem(line, "the event was added after the chain had passed it")
        } else {
            event_problem(line, "the event, or what its order asked for, was changed")
        });
    }
    let (own, others) = rest.split_at(link.events.min(rest.len()));
    *rest = others;
    match own.last() {
        Some(last) if last.position != link.last => {
            Some(event_problem(last, "the event is not where its link ends"))
        }
        _ => None,
    }
}

fn missing(link: &Link, index: usize) -> BadRow {
    BadRow {
        invariant: Invariant::Chain,
        row: format!("order_events, number {} of link {}", index + 1, link.head.link),
        problem: "the event was deleted".to_owned(),
    }
}

fn event_problem(line: &Line, problem: &str) -> BadRow {
    BadRow {
        invariant: Invariant::Chain,
        row: format!("order_events {}", line.name),
        problem: problem.to_owned(),
    }
}
