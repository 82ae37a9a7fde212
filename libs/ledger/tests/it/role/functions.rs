//! The two functions, called by hand as the services' role.

use anyhow::Result;
use uuid::Uuid;

use super::Scene;

#[tokio::test]
async fn the_two_functions_do_nothing_that_never_happened() -> Result<()> {
    let scene = Scene::start().await?;
    let other = Uuid::now_v7();
    let begins = "begins as rejected or submitted";
    for status in ["filled", "failed", "unknown"] {
        scene.refused(&scene.place(other, status), begins).await?;
    }
    // The same key again, with another order: the first answer stands.
    let again = scene.place(other, "submitted").replace(
        &format!("array['{other}'],"),
        &format!("array['{}'],", scene.filled),
    );
    scene.idle(&again).await?;
    // What is settled stays, and what never was is not booked.
    for order in [scene.filled, scene.rejected, other] {
        for status in ["filled", "failed", "unknown"] {
            scene.idle(&scene.settle(order, status)).await?;
        }
    }
    scene.idle(&scene.settle(scene.unknown, "unknown")).await?;
    for (quantity, price) in [
        ("0", "10"),
        ("-1", "10"),
        ("NaN", "10"),
        ("2", "-1"),
        ("2", "Infinity"),
    ] {
        let sql = scene.settle_at(scene.submitted, "filled", (quantity, price));
        scene.refused(&sql, "check").await?;
    }
    scene
        .refused(
            &scene.settle(scene.submitted, "submitted"),
            "cannot go from submitted to submitted",
        )
        .await?;
    scene
        .refused(
            &scene.settle(scene.submitted, "rejected"),
            "cannot go from submitted to rejected",
        )
        .await
}

/// Whatever lies in front of our tables under their names, the functions find ours.
#[tokio::test]
async fn the_functions_cannot_be_led_to_other_tables() -> Result<()> {
    let scene = Scene::start().await?;
    let tables = ["orders", "order_events", "holdings", "portfolios"];
    let shadows: String = tables
        .iter()
        .map(|table| format!("create temp table {table} (like public.{table} including all);"))
        .collect();
    let invented = Uuid::now_v7();
    let fake = format!(
        "insert into pg_temp.portfolios select * from public.portfolios;
         insert into pg_temp.orders select (json_populate_record(o, '{{\"order_id\":\"{invented}\",\"idempotency_key\":\"x\"}}')).*
         from public.orders o where order_id = '{}';",
        scene.submitted
    );
    for path in ["public", "pg_temp, public", "pg_temp", "\"$user\", public", "''"] {
        // An order that only the shadow knows.
        let before = format!("{shadows}{fake}set search_path = {path};");
        let settle = scene
            .settle(invented, "filled")
            .replace("settle_orders(", "public.settle_orders(");
        scene.idle(&format!("{before}{settle}")).await?;
        // One whose event and holding should go astray.
        let genuine = Uuid::now_v7();
        scene.done(&scene.place(genuine, "submitted")).await?;
        let (events, fills) = ("order_events", "orders where status = 'filled'");
        let was: (u32, u32) = (
            scene.count(events).await?.parse()?,
            scene.count(fills).await?.parse()?,
        );
        let settle = scene
            .settle(genuine, "filled")
            .replace("settle_orders(", "public.settle_orders(");
        scene.done(&format!("{before}{settle}")).await?;
        let is: (u32, u32) = (
            scene.count(events).await?.parse()?,
            scene.count(fills).await?.parse()?,
        );
        assert_eq!(is, (was.0 + 1, was.1 + 1), "{path}");
        assert_eq!(
            scene.count("holdings where quantity <> 2 * version").await?,
            "0",
            "{path}"
        );
        let booked = scene
            .fixture
            .text("select sum(version)::text from holdings")
            .await?;
        assert_eq!(booked, is.1.to_string(), "{path}");
    }
    Ok(())
}
