//! What the report looks like.

use anyhow::{Context as _, Result};
use fuse_domain::{
    ChainHead, DailyReport, Fill, OrderStatus, Period, Price, Quantity, Reason, ReportLine, Symbol, compute,
};
use report_job::{render, subject};
use uuid::Uuid;

fn line(number: u128, outcome: OrderStatus, reason: Option<Reason>) -> Result<ReportLine> {
    let quantity = Quantity::parse("4.5")?;
    let fill = match outcome {
        OrderStatus::Filled => Some(Fill::new(Price::parse("19.71107")?, quantity)?),
        _ => None,
    };
    Ok(ReportLine {
        order_id: Uuid::from_u128(number),
        user_id: Uuid::from_u128(1),
        symbol: Symbol::parse(["AAPL", "BRK.B"][usize::from(number.is_multiple_of(2))])?,
        quantity,
        limit_price: Price::parse("19.8")?,
        outcome,
        reason,
        fill,
        at: "2026-03-02T10:15:30Z".parse()?,
        resolution: false,
    })
}

fn report(zone: &str, lines: Vec<ReportLine>) -> Result<DailyReport> {
    let period = Period {
        from: Some("2026-03-01T23:59:00Z".parse()?),
        to: "2026-03-02T23:59:00Z".parse()?,
    };
    Ok(compute("2026-03-02".parse()?, zone, period, lines)?)
}

fn mixed() -> Result<DailyReport> {
    let resolved = ReportLine {
        resolution: true,
        ..line(6, OrderStatus::Filled, None)?
    };
    report(
        "Etc/UTC",
        vec![
            line(1, OrderStatus::Filled, None)?,
            line(2, OrderStatus::Filled, None)?,
            line(3, OrderStatus::Unknown, Some(Reason::VendorTimeout))?,
            line(4, OrderStatus::Failed, Some(Reason::VendorRejected))?,
            line(5, OrderStatus::Rejected, Some(Reason::PriceOutOfBand))?,
            resolved,
        ],
    )
}

#[test]
fn the_page_and_the_text_are_as_they_were() -> Result<()> {
    let rendered = render(&mixed()?, None).map_err(anyhow::Error::msg)?;
    insta::assert_snapshot!("page", rendered.html);
    insta::assert_snapshot!("text", rendered.plain);
    assert_eq!(
        subject(&mixed()?),
        "Fuse report 2026-03-02: 5 orders, 2 filled, 1 UNKNOWN"
    );
    Ok(())
}

#[test]
fn both_forms_list_every_order_and_unknown_ones_by_themselves() -> Result<()> {
    let rendered = render(&mixed()?, None).map_err(anyhow::Error::msg)?;
    for form in [&rendered.html, &rendered.plain] {
        for number in 1..=6 {
            let id = Uuid::from_u128(number).to_string();
            assert_eq!(form.matches(&id).count(), 1, "order {number}");
        }
        for figure in [
            "88.699815",
            "177.39963",
            "vendor_timeout",
            "price_out_of_band",
            "vendor_rejected",
        ] {
            assert!(form.contains(figure), "{figure}");
        }
    }
    let unknown = rendered
        .plain
        .split("UNKNOWN:")
        .nth(1)
        .context("its own section")?;
    let unknown = unknown.split("\n\n").next().context("the section's end")?;
    assert!(unknown.contains(&Uuid::from_u128(3).to_string()));
    assert!(!unknown.contains(&Uuid::from_u128(1).to_string()));
    Ok(())
}

#[test]
fn both_forms_show_the_end_of_the_chain_where_there_is_one() -> Result<()> {
    let bare = render(&mixed()?, None).map_err(anyhow::Error::msg)?;
    for form in [&bare.html, &bare.plain] {
        assert!(
            !form.contains("Anchor") && !form.contains("Keep this mail"),
            "{form}"
        );
    }
    let chained = DailyReport {
        chain: Some(ChainHead {
            link: 7,
            events: 6021,
            hash: [0xab; 32],
        }),
        ..mixed()?
    };
    let rendered = render(&chained, None).map_err(anyhow::Error::msg)?;
    let anchor = format!("Anchor: 7:{}", "ab".repeat(32));
    for form in [&rendered.html, &rendered.plain] {
        for text in [
            "Keep this mail: it proves that the 6021 order events until now were not changed later.",
            anchor.as_str(),
        ] {
            assert_eq!(form.matches(text).count(), 1, "{text}");
        }
    }
    // Nothing else of the report depends on it.
    let (end, _) = rendered
        .plain
        .split_once("Keep this mail")
        .context("the sentence")?;
    assert_eq!(end.trim_end(), bare.plain.trim_end());
    Ok(())
}

#[test]
fn the_page_needs_no_foreign_host_and_fits_a_phone() -> Result<()> {
    let html = render(&mixed()?, None).map_err(anyhow::Error::msg)?.html;
    for foreign in ["src=", "@import", "<link", "url(", "<script"] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    assert!(html.contains("@media only screen and (min-width:480px)"));
    assert!(html.contains("name=\"viewport\""));
    assert!(
        !html.contains("{{") && !html.contains("{%"),
        "a placeholder is left"
    );
    Ok(())
}

#[test]
fn markup_in_a_name_stays_text() -> Result<()> {
    let evil = "<script>alert('x')</script>\"&{{ orders }}";
    let html = render(&report(evil, Vec::new())?, None)
        .map_err(anyhow::Error::msg)?
        .html;
    assert!(!html.contains("<script>"));
    assert!(
        html.contains("&lt;script&gt;alert(&#x27;x&#x27;)&lt;&#x2f;script&gt;&quot;&amp;{{ orders }}"),
        "{html}"
    );
    Ok(())
}

#[test]
fn an_empty_day_is_a_report_without_sections() -> Result<()> {
    let empty = report("Europe/Berlin", Vec::new())?;
    let rendered = render(&empty, None).map_err(anyhow::Error::msg)?;
    assert_eq!(subject(&empty), "Fuse report 2026-03-02: 0 orders, 0 filled");
    assert!(rendered.plain.contains("up to 2026-03-03 00:59:00 CET"));
    for title in ["Unknown:", "Filled:", "Bought by stock", "Why not"] {
        assert!(!rendered.html.contains(title), "{title}");
    }
    Ok(())
}

#[test]
fn a_long_day_is_cut_and_says_so() -> Result<()> {
    let lines = (1..=1500)
        .map(|number| line(number, OrderStatus::Filled, None))
        .collect::<Result<Vec<_>>>()?;
    let rendered = render(&report("Etc/UTC", lines)?, None).map_err(anyhow::Error::msg)?;
    for form in [&rendered.html, &rendered.plain] {
        assert!(form.contains("and 1400 more"));
        assert!(
            form.len() < 100_000,
            "{} bytes: mail programs cut at 102 KB",
            form.len()
        );
    }
    Ok(())
}
