//! One key, one outcome: a hundred requests at once over two replicas, other values, other processes, another day. (reliability: T10)

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use vendor_simulator::{Action, Latency, Operation, Rule};

use crate::support::{Case, new_key};

const AT_ONCE: usize = 100;
/// Everything that an order left, as it would be had it been placed so long ago. The schema's triggers allow nobody to do this.
const A_DAY_AND_AN_HOUR_AGO: &str = "
    set session_replication_role = replica;
    update orders set created_at = created_at - interval '25 h', updated_at = updated_at - interval '25 h',
        quote_as_of = quote_as_of - interval '25 h';
    update order_events set at = at - interval '25 h'";
const YOUNG: &str = "
    select count(*) from orders join order_events using (user_id, order_id)
    where greatest(created_at, updated_at, at) > clock_timestamp() - interval '25 h'";

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

#[test]
fn a_key_stands_for_its_outcome_longer_than_a_day() -> Result<()> {
    let mut case = Case::start(1)?;
    let mut too_dear = case.unique_order();
    too_dear["limitPrice"] = json!("1");
    let orders = [(new_key(), case.unique_order()), (new_key(), too_dear)];
    let place = |(key, order): &(String, Value)| case.place(0, key, order);
    let firsts = orders.iter().map(place).collect::<Result<Vec<_>>>()?;
    ensure!((firsts[0].status, firsts[1].status) == (201, 422), "{firsts:?}");
    case.world.sql(A_DAY_AND_AN_HOUR_AGO)?;
    ensure!(case.world.count(YOUNG)? == 0);
    // Whatever a process remembers of them goes with it.
    case.world.kill_replica(0)?;
    case.world.start_replica(0)?;
    for ((key, order), first) in orders.iter().zip(&firsts) {
        let again = case.place(0, key, order)?;
        ensure!(
            again.replayed && (again.status, &again.body) == (first.status, &first.body),
            "a day later {again:?}, at first {first:?}"
        );
        let other = case.place(0, key, &case.unique_order())?;
        ensure!(
            other.status == 422 && other.json()["code"] == "idempotency_key_reused",
            "{other:?}"
        );
    }
    ensure!(case.world.vendor.executed().len() == 1);
    case.count()
}
