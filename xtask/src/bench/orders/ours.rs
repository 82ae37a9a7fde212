//! Our part of a round: orders over HTTP, each under an Idempotency-Key of its own, flat out. Every answer must be 201.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fuse_harness::load::{self, Make, Outcome, Pace, Plan, Target, Until};
use fuse_harness::services::Service;
use uuid::Uuid;

use super::scene::{Database, Scene};
use super::{CLIENTS, Reach, Sample, portfolio};
use crate::bench::world::empty_log;

/// Series of the size of batches, of both writes.
const BATCH_SUM: &str = "fuse_order_batch_size_sum";
const BATCH_COUNT: &str = "fuse_order_batch_size_count";

/// An api-service and orders for it.
pub struct Ours<'s> {
    scene: &'s Scene,
    pub api: Service,
    target: Target,
    /// Bytes of the answer that is kept with an order.
    pub answer_bytes: usize,
}

/// What a load came to, and what it took of the generator.
pub struct Taken {
    pub sample: Sample,
    pub generator_cpu: Duration,
    /// Orders in a batch, on average; `None` where the service does not say.
    pub batch: Option<f64>,
}

impl<'s> Ours<'s> {
    /// Serves a database and places a first order.
    pub fn start(scene: &'s Scene, database: &Database, reach: Reach) -> Result<Self> {
        let api = database.serve(scene)?;
        let make = orders(scene, database, &api, reach)?;
        let target = Target::made(&api.http_url(), make)?;
        let answer_bytes = first_order(&target)?;
        Ok(Self {
            scene,
            api,
            target,
            answer_bytes,
        })
    }

    /// Orders for so long. What was answered must have been bought, once.
    pub fn sample(&self, time: Duration) -> Result<Taken> {
        let batches_before = self.batches()?;
        let outcome = self.load(usize::from(CLIENTS), time)?;
        outcome.all_good()?;
        let (sum, number) = self.batches()?;
        let batch = (sum - batches_before.0) / (number - batches_before.1);
        Ok(Taken {
            sample: sample_of(&outcome),
            generator_cpu: outcome.generator_cpu,
            batch: batch.is_finite().then_some(batch),
        })
    }

    /// Orders by so many clients, however they are answered; those with 201 must have been bought, once.
    pub fn load(&self, clients: usize, time: Duration) -> Result<Outcome> {
        self.scene.checkpoint()?;
        let bought_before = self.bought();
        let outcome = load::run(
            std::slice::from_ref(&self.target),
            &plan(clients, Until::Elapsed(time)),
        )?;
        empty_log(&self.api)?;
        let bought = self.bought() - bought_before;
        let told = outcome.statuses.get(&201).copied().unwrap_or(0);
        ensure!(
            bought == told,
            "{told} orders were answered with 201 and {bought} bought"
        );
        Ok(outcome)
    }

    fn bought(&self) -> u64 {
        self.scene.vendor().counters().buys.executed
    }

    /// Orders in batches, and batches.
    fn batches(&self) -> Result<(f64, f64)> {
        let text = self.api.metrics()?;
        Ok((sum_of(&text, BATCH_SUM), sum_of(&text, BATCH_COUNT)))
    }
}

fn plan(connections: usize, until: Until) -> Plan {
    Plan {
        connections,
        pace: Pace::FlatOut,
        until,
        inspect: Some(Arc::new(|reply| match reply.status {
            201 => Ok(()),
            status => Err(format!("{status}: {}", String::from_utf8_lossy(reply.body))),
        })),
    }
}

fn sample_of(outcome: &Outcome) -> Sample {
    Sample {
        orders: outcome.answers(),
        per_second: outcome.per_second(),
        p50_ms: outcome.percentile_ms(0.50),
        p99_ms: outcome.percentile_ms(0.99),
    }
}

/// One order, whose answer tells how long answers are.
fn first_order(target: &Target) -> Result<usize> {
    let length = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = Arc::clone(&length);
    let one = Plan {
        inspect: Some(Arc::new(move |reply| {
            seen.store(reply.body.len(), std::sync::atomic::Ordering::Relaxed);
            Ok(())
        })),
        ..plan(1, Until::Requests(1))
    };
    load::run(std::slice::from_ref(target), &one)?
        .all_good()
        .context("the first order")?;
    Ok(length.load(std::sync::atomic::Ordering::Relaxed))
}

/// Orders at the quote, of one and a half pieces, for portfolios and symbols at random.
fn orders(scene: &Scene, database: &Database, api: &Service, reach: Reach) -> Result<Make> {
    let vendor = scene.vendor();
    let wanted = usize::try_from(reach.symbols)?;
    let stocks: Vec<(String, String)> = vendor
        .symbols()
        .into_iter()
        .take(wanted)
        .map(|symbol| {
            let price = vendor.price(&symbol).context("a symbol without a price")?;
            Ok((symbol, within_nine_decimals(&price.to_string())))
        })
        .collect::<Result<_>>()?;
    ensure!(stocks.len() == wanted, "the vendor has {} symbols", stocks.len());
    let url = api.http_url();
    let authority = url.trim_start_matches("http://");
    let heads: Vec<String> = database
        .keys
        .iter()
        .map(|key| {
            format!(
                "POST /v1/orders HTTP/1.1\r\nhost: {authority}\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n"
            )
        })
        .collect();
    let ends: Vec<(usize, String)> = (0..reach.portfolios)
        .map(|number| {
            let (user, id) = portfolio(number, reach.users);
            Ok((usize::try_from(user - 1)?, format!("\"portfolioId\":\"{id}\"}}")))
        })
        .collect::<Result<_>>()?;
    Ok(Arc::new(move |buffer| {
        let (user, end) = &ends[rand::random_range(0..ends.len())];
        let (symbol, price) = &stocks[rand::random_range(0..stocks.len())];
        let body = format!(
            "{{\"symbol\":\"{symbol}\",\"side\":\"buy\",\"quantity\":\"1.5\",\"limitPrice\":\"{price}\",{end}"
        );
        buffer.extend_from_slice(heads[*user].as_bytes());
        let rest = format!(
            "idempotency-key: {}\r\ncontent-length: {}\r\n\r\n{body}",
            Uuid::new_v4(),
            body.len()
        );
        buffer.extend_from_slice(rest.as_bytes());
    }))
}

/// A quote may have more decimals than an order may; cutting the rest stays far within 2 %.
fn within_nine_decimals(price: &str) -> String {
    let end = price
        .find('.')
        .map_or(price.len(), |point| price.len().min(point + 10));
    price[..end].to_owned()
}

/// The sum of a metric's series, whatever their labels; 0 where there is none.
fn sum_of(metrics: &str, name: &str) -> f64 {
    metrics
        .lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels() {
        let text =
            "# HELP a_sum x\na_sum{write=\"place\"} 5\na_sum{write=\"settle\"} 2.5\na_sums 100\nb_sum 1\n";
        assert_eq!(sum_of(text, "a_sum"), 7.5);
        assert_eq!(sum_of(text, "b_sum"), 1.0);
        assert_eq!(sum_of(text, "c_sum"), 0.0);
    }

    #[test]
    fn a_price_is_cut_to_what_an_order_may_have() {
        assert_eq!(within_nine_decimals("12.50"), "12.50");
        assert_eq!(within_nine_decimals("7"), "7");
        assert_eq!(within_nine_decimals("0.12345678912"), "0.123456789");
    }
}
