//! One key, one outcome: a hundred requests at once over two replicas, other values, other processes. (reliability: T10)

use anyhow::{Result, ensure};
use vendor_simulator::{Action, Latency, Operation, Rule};

use crate::support::{Case, new_key};

const AT_ONCE: usize = 100;

#[test]
fn a_hundred_requests_with_one_key_are_one_order_for_ever() -> Result<()> {
    let mut case = Case::start(2)?;
    // Long enough for the others to come while the first one is at the vendor.
    let slow = Action::Latency(Latency::Fixed { ms: 500 });
    case.world.rule(Rule::on(Operation::Buy, slow).times(1))?;
    let (key, order) = (new_key(), case.order("4.5"));
    let answers = case.place_all(vec![(key.clone(), order.clone()); AT_ONCE], AT_ONCE)?;
    let firsts: Vec<_> = answers
        .iter()
        .filter(|got| !got.replayed && got.status != 409)
        .collect();
    let [first] = firsts[..] else {
        anyhow::bail!("{} requests were the first: {firsts:?}", firsts.len());
    };
    ensure!(
        first.status == 201 && first.json()["status"] == "filled",
        "{first:?}"
    );
    let mut in_progress = 0;
    for got in &answers {
        let is_replay = got.status == 201 && got.body == first.body;
        let is_told_to_wait = got.status == 409 && got.retry_after && !got.replayed;
        in_progress += u64::from(is_told_to_wait);
        ensure!(is_replay || is_told_to_wait, "{got:?} beside {first:?}");
    }
    ensure!(
        in_progress > 0,
        "none came while the first was at the vendor: nothing was shown"
    );
    ensure!(case.world.vendor.executed().len() == 1);

    for replica in [0, 1] {
        let other = case.place(replica, &key, &case.order("4.6"))?;
        ensure!(
            other.status == 422 && other.json()["code"] == "idempotency_key_reused",
            "{other:?}"
        );
    }
    case.world.kill_replica(0)?;
    case.world.stop_replica(1)?;
    for replica in [0, 1] {
        case.world.start_replica(replica)?;
        let again = case.place(replica, &key, &order)?;
        ensure!(
            again.replayed && (again.status, &again.body) == (first.status, &first.body),
            "after a restart: {again:?}"
        );
    }
    ensure!(case.world.vendor.executed().len() == 1);
    case.count()
}
