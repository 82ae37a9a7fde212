//! "Open orders" of docs/operations.md: what a person does about orders of unknown outcome, command by command.

use std::process::Command;

use anyhow::{Context as _, Result, anyhow, ensure};
use fuse_harness::client::{ApiClient, order_for};
use fuse_harness::services::Service;
use fuse_harness::stack::{Stack, StackOptions};
use fuse_harness::{documents, proc, wait};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;
use vendor_simulator::{Action, Operation, Rule, Simulator};

use crate::{ADMIN_KEY, SOON};

/// Of the document's example; the orders here are for as much.
const QUANTITY: &str = "4.5";
const SYMBOL: &str = "AAPL";

/// The commands of the section that ask the API, in its order. The others (`kubectl`) lead to a service in a cluster.
fn commands() -> Result<[String; 4]> {
    let document = documents::read("docs/operations.md")?;
    let (_, section) = document.split_once("\n## Open orders\n").context("the section")?;
    let (section, _) = section.split_once("\n## ").context("its end")?;
    let code: Vec<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("        "))
        .collect();
    let commands: Vec<String> = code
        .join("\n")
        .replace("\\\n", "")
        .lines()
        .filter(|line| line.starts_with("curl "))
        .map(str::to_owned)
        .collect();
    commands
        .try_into()
        .map_err(|found| anyhow!("other commands than the test knows: {found:?}"))
}

/// A person at a shell, with the service's port on this machine.
struct Person<'a> {
    api: &'a Service,
}

impl Person<'_> {
    /// Runs a command with these words in the place of those of the example, and gives what it printed.
    fn run(&self, command: &str, words: &[(&str, &str)]) -> Result<Value> {
        let mut command = command.replace("http://127.0.0.1:8080", &self.api.http_url());
        for (example, word) in words {
            ensure!(command.contains(example), "no {example} in {command}");
            command = command.replace(example, word);
        }
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", &command]);
        let output = proc::run(shell.env("ADMIN_KEY", ADMIN_KEY), SOON)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str(&said).with_context(|| format!("{command} printed {said}"))
    }
}

fn items(list: &Value) -> Result<&Vec<Value>> {
    list["items"]
        .as_array()
        .with_context(|| format!("no list: {list}"))
}

/// Three orders that look alike: one that is bought and known, one that is bought and one that is not, and nobody knows of either.
fn three_alike(client: &ApiClient, vendor: &Simulator) -> Result<()> {
    let stock = wait::until("a price", SOON, || {
        let answer = client.get(&format!("/v1/stocks/{SYMBOL}")).ok()?;
        (answer.status == 200).then(|| answer.json())
    })?;
    let mut order = order_for(&stock)?;
    order["quantity"] = json!(QUANTITY);
    for (fault, status) in [
        (None, 201),
        (Some(Action::Reset { executed: true }), 202),
        (Some(Action::Reset { executed: false }), 202),
    ] {
        if let Some(action) = fault {
            let rule = Rule::on(Operation::Buy, action).times(1);
            vendor.add_rule(rule).map_err(|error| anyhow!("{error}"))?;
        }
        client
            .place(&Uuid::new_v4().to_string(), &order)?
            .expect(status)?;
    }
    Ok(())
}

/// From a minute before the vendor was called until a few minutes later.
fn around(attempt: &Value) -> Result<[String; 2]> {
    let at: Timestamp = attempt["at"].as_str().context("a time")?.parse()?;
    let minutes = SignedDuration::from_mins;
    Ok([(at - minutes(1)).to_string(), (at + minutes(5)).to_string()])
}

#[test]
fn open_orders_are_settled_by_the_commands_as_written() -> Result<()> {
    let [list_unknown, find_filled, was_bought, was_not_bought] = commands()?;
    let stack = Stack::start(StackOptions::default())?;
    stack.addresses().migrate()?;
    let vendor = stack.simulator.as_ref().context("the simulated vendor")?;
    let envs = stack.addresses().service_envs(ADMIN_KEY);
    let api = Service::spawn("api-service", &[], envs.clone())?;
    let refresher = Service::spawn("cache-refresher", &[], envs)?;
    let admin = ApiClient::new(api.http_url(), None, ADMIN_KEY);
    let client = admin.with_key(admin.create_user_key("reader")?);
    three_alike(&client, vendor)?;
    let person = Person { api: &api };

    // 1. Which, and what is known of each; the newest is the first.
    let open = person.run(&list_unknown, &[])?;
    let [newer, oldest] = &items(&open)?[..] else {
        anyhow::bail!("not the two open orders: {open}");
    };
    let attempt = &oldest["attempts"][0];
    ensure!(
        attempt["reached"] == "sent" && attempt["detail"] == "reset",
        "{oldest}"
    );

    // 2. What is accounted for, and what the vendor has executed.
    let [after, before] = around(attempt)?;
    let times = [
        ("2026-11-25T14:29:00Z", after.as_str()),
        ("2026-11-25T14:35:00Z", before.as_str()),
    ];
    let known = person.run(&find_filled, &times)?;
    let executions = vendor.executed();
    let alike = |fill: &Value| fill["quantity"] == QUANTITY;
    let known = items(&known)?.iter().filter(|order| alike(order)).count();
    ensure!((known, executions.len()) == (1, 2), "{known} of {executions:?}");

    // 3. One more than known: the oldest was bought.
    let (of_oldest, of_newer) = (id(oldest)?, id(newer)?);
    let words = [("ORDER_ID", of_oldest), ("150.25", executions[1].price.as_str())];
    let filled = person.run(&was_bought, &words)?;
    let fill = &filled["fill"];
    ensure!(
        filled["status"] == "filled" && fill["quantity"] == QUANTITY && fill["price"] == executions[1].price,
        "{filled}"
    );
    let note = filled["resolution"]["note"].as_str().unwrap_or_default();
    ensure!(note.contains("ticket 4711"), "{filled}");
    let again = person.run(&was_bought, &words)?;
    ensure!(again == filled, "{again} after {filled}");
    let otherwise = person.run(&was_not_bought, &words[..1])?;
    ensure!(otherwise["status"] == 409, "{otherwise}");
    let failed = person.run(&was_not_bought, &[("ORDER_ID", of_newer)])?;
    ensure!(failed["status"] == "failed", "{failed}");

    // Nothing is open, and what the vendor executed is booked.
    ensure!(person.run(&list_unknown, &[])? == json!({"items": []}));
    let portfolio = filled["portfolioId"].as_str().context("a portfolio")?;
    let portfolio = client.get(&format!("/v1/portfolios/{portfolio}"))?.expect(200)?;
    ensure!(portfolio["holdings"][0]["quantity"] == "9", "{portfolio}");
    for id in [of_oldest, of_newer] {
        let line = |line: &Value| {
            line["order.id"] == id && line["message"] == "an unknown order was settled by hand"
        };
        ensure!(api.logs().iter().any(line), "{}", api.log_text());
    }
    refresher.stop().context("stop the refresher")?;
    api.stop().context("stop the service")?;
    Ok(())
}

fn id(order: &Value) -> Result<&str> {
    order["id"].as_str().context("an id")
}
