//! Figures: the same quantity of ours and of a yardstick, round by round, and what was promised of it.

use serde::Serialize;

/// What a figure must keep to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// The median of ours, in the figure's unit.
    AtMost(f64),
    /// The median of the ratios ours / yardstick.
    RatioAtMost(f64),
    /// The median of the ratios ours / yardstick.
    RatioAtLeast(f64),
    /// Ours minus the yardstick's, its median, in the figure's unit.
    AboveYardstickAtMost(f64),
    /// Every single round of ours.
    Always(f64),
}

/// One measured quantity: the same thing of ours and of the yardstick, round by round.
#[derive(Debug, Serialize)]
pub struct Figure {
    /// What was measured, of which process or beside which yardstick.
    pub name: String,
    /// The unit of both columns.
    pub unit: &'static str,
    /// One value a round.
    pub ours: Vec<f64>,
    /// The yardstick's value of the same round; empty when there is no yardstick.
    pub yardstick: Vec<f64>,
    /// What was promised.
    pub goal: Option<Goal>,
}

impl Figure {
    /// A figure without rounds yet.
    pub fn new(name: impl Into<String>, unit: &'static str, goal: Option<Goal>) -> Self {
        Self {
            name: name.into(),
            unit,
            ours: Vec::new(),
            yardstick: Vec::new(),
            goal,
        }
    }

    /// Adds a round with both.
    pub fn pair(&mut self, ours: f64, yardstick: f64) {
        self.ours.push(ours);
        self.yardstick.push(yardstick);
    }

    fn ratios(&self) -> Vec<f64> {
        self.combined(|ours, yardstick| ours / yardstick)
    }

    fn combined(&self, combine: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        self.ours
            .iter()
            .zip(&self.yardstick)
            .map(|(ours, yardstick)| combine(*ours, *yardstick))
            .collect()
    }

    /// Whether the goal was met; `None` without one. Nothing measured meets nothing.
    pub fn met(&self) -> Option<bool> {
        Some(match self.goal? {
            Goal::AtMost(goal) => median(&self.ours) <= goal,
            Goal::RatioAtMost(goal) => median(&self.ratios()) <= goal,
            Goal::RatioAtLeast(goal) => median(&self.ratios()) >= goal,
            Goal::AboveYardstickAtMost(goal) => {
                median(&self.combined(|ours, yardstick| ours - yardstick)) <= goal
            }
            #[expect(clippy::float_cmp, reason = "counts, which floats hold exactly")]
            Goal::Always(goal) => !self.ours.is_empty() && self.ours.iter().all(|value| *value == goal),
        })
    }

    fn goal_text(&self) -> String {
        match self.goal {
            None => "-".to_owned(),
            Some(Goal::AtMost(goal)) => format!("<= {goal}"),
            Some(Goal::RatioAtMost(goal)) => format!("ratio <= {goal}"),
            Some(Goal::RatioAtLeast(goal)) => format!("ratio >= {goal}"),
            Some(Goal::AboveYardstickAtMost(goal)) => format!("+ <= {goal}"),
            Some(Goal::Always(goal)) => format!("always {goal}"),
        }
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

/// A count as a figure's value.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub fn count(number: u64) -> f64 {
    number as f64
}

/// Smallest and largest value.
fn spread(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (low, high)
}

/// Prints all figures: medians, and median and spread of the ratios (of ours where there is no yardstick).
pub fn print_table(figures: &[Figure]) {
    println!(
        "\n{:<58} {:>6} {:>11} {:>11} {:>7} {:>22} {:>14} {:>4}",
        "figure (medians)", "unit", "ours", "yardstick", "ratio", "spread", "goal", "met"
    );
    for figure in figures {
        let ratios = figure.ratios();
        let (yardstick, ratio, of) = if ratios.is_empty() {
            ("-".to_owned(), "-".to_owned(), &figure.ours)
        } else {
            (
                number(median(&figure.yardstick)),
                format!("{:.2}", median(&ratios)),
                &ratios,
            )
        };
        let (low, high) = spread(of);
        println!(
            "{:<58} {:>6} {:>11} {:>11} {:>7} {:>22} {:>14} {:>4}",
            figure.name,
            figure.unit,
            number(median(&figure.ours)),
            yardstick,
            ratio,
            format!("{} .. {}", number(low), number(high)),
            figure.goal_text(),
            figure.met().map_or("-", |met| if met { "yes" } else { "NO" })
        );
    }
    println!();
}

/// Two decimals for small figures, none for large ones.
fn number(value: f64) -> String {
    if value.abs() < 1000.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_an_outlier() {
        assert_eq!(median(&[1.0, 100.0, 2.0]), 2.0);
    }

    fn check(goal: Goal, is_met: bool) {
        let mut figure = Figure::new("x", "ms", Some(goal));
        for (ours, yardstick) in [(10.0, 10.0), (30.0, 10.0), (20.0, 10.0)] {
            figure.pair(ours, yardstick);
        }
        assert_eq!(figure.met(), Some(is_met), "{goal:?}");
        assert_eq!(median(&figure.ratios()), 2.0);
    }

    #[test]
    fn a_goal_is_missed_just_beyond_its_edge() {
        check(Goal::AtMost(20.0), true);
        check(Goal::AtMost(19.9), false);
        check(Goal::RatioAtMost(2.0), true);
        check(Goal::RatioAtMost(1.9), false);
        check(Goal::RatioAtLeast(2.0), true);
        check(Goal::RatioAtLeast(2.1), false);
        check(Goal::AboveYardstickAtMost(10.0), true);
        check(Goal::AboveYardstickAtMost(9.9), false);
        check(Goal::Always(20.0), false);
    }

    #[test]
    fn nothing_measured_meets_nothing() {
        for goal in [
            Goal::AtMost(1.0),
            Goal::RatioAtMost(1.0),
            Goal::RatioAtLeast(1.0),
            Goal::AboveYardstickAtMost(1.0),
            Goal::Always(1.0),
        ] {
            assert_eq!(Figure::new("x", "ms", Some(goal)).met(), Some(false), "{goal:?}");
        }
        assert_eq!(Figure::new("x", "ms", None).met(), None);
    }
}
