//! The vendor buys and its answer is lost, in every way there is: the client is told that nobody knows, and a repeat never buys.
//! (reliability: T03; how such an order is settled is in `unknown`)

use anyhow::{Result, ensure};
use vendor_simulator::{Action, Body, BodyFault, BuyFault, Operation, Rule};

use crate::support::{Case, new_key};

fn lost_answers() -> Vec<(&'static str, Action)> {
    let server_error = Action::Status {
        status: 500,
        body: Body::Envelope,
        executed: true,
        retry_after: None,
        location: None,
    };
    let truncated = Action::Body {
        fault: BodyFault::Truncated,
        executed: true,
    };
    vec![
        ("vendor_reset", Action::Reset { executed: true }),
        ("vendor_server_error", server_error),
        ("vendor_unreadable", truncated),
        ("vendor_unreadable", Action::CloseMidBody { executed: true }),
        (
            "vendor_mismatch",
            Action::BuyAnswer {
                fault: BuyFault::OtherQuantity,
            },
        ),
    ]
}

#[test]
fn a_bought_order_whose_answer_is_lost_is_unknown_and_never_sent_again() -> Result<()> {
    let mut case = Case::start(2)?;
    for (number, (reason, fault)) in lost_answers().into_iter().enumerate() {
        case.world.vendor.clear_rules();
        case.world
            .rule(Rule::on(Operation::Buy, fault.clone()).times(1))?;
        let (key, order) = (new_key(), case.order(&format!("1.{}", number + 1)));
        let first = case.place(0, &key, &order)?;
        let told = first.json();
        ensure!(
            first.status == 202 && told["status"] == "unknown" && told["reason"] == reason,
            "{fault:?}: {first:?}"
        );
        let executed = number + 1;
        ensure!(case.world.vendor.executed().len() == executed, "{fault:?}");
        // The vendor would buy now; nobody may ask it to.
        for replica in [0, 1] {
            let again = case.place(replica, &key, &order)?;
            ensure!(
                again.replayed && (again.status, &again.body) == (first.status, &first.body),
                "{fault:?}: {again:?} after {first:?}"
            );
            ensure!(case.read(replica, &told["id"])?["status"] == "unknown");
        }
        ensure!(
            case.world.vendor.executed().len() == executed,
            "{fault:?} was bought twice"
        );
    }
    let client = case.world.client(0, &case.users[0].key);
    let listed = client.get("/v1/orders?status=unknown")?.expect(200)?;
    let count = listed["items"].as_array().map_or(0, Vec::len);
    ensure!(count == lost_answers().len(), "{listed}");
    let portfolio = client
        .get(&format!("/v1/portfolios/{}", case.users[0].id))?
        .expect(200)?;
    ensure!(portfolio["holdings"] == serde_json::json!([]), "{portfolio}");
    case.count()
}
