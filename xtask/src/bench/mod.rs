//! `cargo xtask bench NAME`: ours and a yardstick, interleaved in rounds of one run.
//!
//! A machine's speed drifts; the ratio of two things measured side by side does not. So every figure is a list of
//! rounds, each with ours and the yardstick's, and what is claimed is the median and the spread of their ratio.

mod start;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use serde::Serialize;

#[derive(clap::Args)]
pub struct Args {
    /// Which bench.
    #[arg(value_enum)]
    name: Name,
    /// Fewer rounds: about a minute.
    #[arg(long)]
    quick: bool,
    /// Also write the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Exit 1 when a goal is missed.
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// Time from exec to ready and resident memory at rest, of each process, beside redis-server.
    Start,
}

/// One measured quantity: the same thing of ours and of the yardstick, round by round.
#[derive(Debug, Serialize)]
pub struct Figure {
    /// What was measured, of which process.
    pub name: String,
    /// The unit of both columns.
    pub unit: &'static str,
    /// One value a round.
    pub ours: Vec<f64>,
    /// The yardstick's value of the same round.
    pub yardstick: Vec<f64>,
    /// The most that the median of `ours` may be, in `unit`.
    pub goal_at_most: Option<f64>,
}

impl Figure {
    fn ratios(&self) -> Vec<f64> {
        self.ours
            .iter()
            .zip(&self.yardstick)
            .map(|(ours, yardstick)| ours / yardstick)
            .collect()
    }

    fn met(&self) -> Option<bool> {
        self.goal_at_most.map(|goal| median(&self.ours) <= goal)
    }
}

/// The middle value; of an even count the lower of the two in the middle; NaN of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
        .get(sorted.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(f64::NAN)
}

pub fn run(args: &Args) -> Result<()> {
    let (name, figures) = match args.name {
        Name::Start => ("start", start::measure(if args.quick { 5 } else { 25 })?),
    };
    print_table(&figures);
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&figures)?;
        std::fs::write(file, text).with_context(|| format!("could not write {}", file.display()))?;
    }
    let goals: Vec<bool> = figures.iter().filter_map(Figure::met).collect();
    let met = goals.iter().filter(|met| **met).count();
    println!("{name}: {met} of {} goals met", goals.len());
    if args.strict && met < goals.len() {
        bail!("{} goals missed", goals.len() - met);
    }
    Ok(())
}

fn print_table(figures: &[Figure]) {
    println!(
        "\n{:<34} {:>6} {:>10} {:>10} {:>8} {:>17} {:>10} {:>5}",
        "figure", "unit", "ours", "yardstick", "ratio", "spread of ratio", "goal", "met"
    );
    for figure in figures {
        let ratios = figure.ratios();
        let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let high = ratios.iter().copied().fold(0.0, f64::max);
        let goal = figure
            .goal_at_most
            .map_or_else(|| "-".to_owned(), |goal| format!("<= {goal}"));
        let met = figure.met().map_or("-", |met| if met { "yes" } else { "NO" });
        println!(
            "{:<34} {:>6} {:>10.2} {:>10.2} {:>8.2} {:>17} {:>10} {:>5}",
            figure.name,
            figure.unit,
            median(&figure.ours),
            median(&figure.yardstick),
            median(&ratios),
            format!("{low:.2} .. {high:.2}"),
            goal,
            met
        );
    }
    println!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_an_outlier() {
        assert_eq!(median(&[1.0, 100.0, 2.0]), 2.0);
    }

    #[test]
    fn a_goal_is_missed_when_the_median_is_above_it() {
        let figure = |goal| Figure {
            name: "x".into(),
            unit: "ms",
            ours: vec![10.0, 30.0, 20.0],
            yardstick: vec![10.0, 10.0, 10.0],
            goal_at_most: goal,
        };
        assert_eq!(figure(Some(20.0)).met(), Some(true));
        assert_eq!(figure(Some(19.9)).met(), Some(false));
        assert_eq!(figure(None).met(), None);
        assert_eq!(median(&figure(None).ratios()), 2.0);
    }
}
