//! Samples and how they are shown.

use std::time::Duration;

/// What was measured, against what was promised and what is possible.
#[derive(Debug, Default)]
pub struct Figure {
    pub what: String,
    /// In `unit`s.
    pub samples: Vec<f64>,
    pub unit: &'static str,
    /// At most this, by the project's own promise.
    pub target: Option<f64>,
    /// The same without us, taken in the same run between the samples.
    pub floor: Vec<f64>,
    /// At most this many times the floor.
    pub target_ratio: Option<f64>,
}

impl Figure {
    /// A figure of times, in milliseconds.
    pub fn of_times(what: impl Into<String>, target: Option<Duration>) -> Figure {
        Figure { what: what.into(), unit: "ms", target: target.map(millis), ..Figure::default() }
    }

    /// A single number.
    pub fn single(what: impl Into<String>, value: f64, unit: &'static str, target: Option<f64>) -> Figure {
        Figure { what: what.into(), samples: vec![value], unit, target, ..Figure::default() }
    }

    pub fn push(&mut self, took: Duration) {
        self.samples.push(millis(took));
    }

    fn verdict(&self) -> &'static str {
        let Some(median) = quantile(&self.samples, 0.5) else { return "no samples" };
        let missed = |target: Option<f64>, value: f64| target.is_some_and(|t| value > t);
        let ratio = quantile(&self.floor, 0.5).map_or(0.0, |floor| median / floor);
        match (self.target, self.target_ratio) {
            (None, None) => "",
            _ if missed(self.target, median) || missed(self.target_ratio, ratio) => "MISSED",
            _ => "met",
        }
    }
}

/// A time in milliseconds.
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The median of some times, in milliseconds.
#[allow(dead_code)] // not every bench asks
pub fn median_of(times: Vec<Duration>) -> f64 {
    quantile(&times.into_iter().map(millis).collect::<Vec<_>>(), 0.5).unwrap_or_default()
}

/// The smallest sample that this share of all samples does not exceed.
fn quantile(samples: &[f64], share: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// Prints figures as one table.
pub fn print(title: &str, figures: &[Figure]) {
    const HEAD: [&str; 8] = ["", "n", "median", "p95", "target", "floor (p95)", "ratio", ""];
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(figures.iter().map(row));
    let mut widths = [0; HEAD.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    println!("{title}");
    for row in rows {
        let cells = row.iter().zip(widths).enumerate();
        let cells =
            cells.map(|(i, (cell, w))| if i == 0 { format!("{cell:<w$}") } else { format!("{cell:>w$}") });
        println!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    println!();
}

fn row(figure: &Figure) -> [String; 8] {
    let show = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.2} {}", figure.unit));
    let (median, p95) = (quantile(&figure.samples, 0.5), quantile(&figure.samples, 0.95));
    let (floor, floor95) = (quantile(&figure.floor, 0.5), quantile(&figure.floor, 0.95));
    let target = match (figure.target, figure.target_ratio) {
        (None, Some(ratio)) => format!("{ratio} x floor"),
        (target, _) => show(target),
    };
    [
        figure.what.clone(),
        figure.samples.len().to_string(),
        show(median),
        if figure.samples.len() > 1 { show(p95) } else { String::new() },
        target,
        floor.zip(floor95).map_or(String::new(), |(f, p)| format!("{f:.2} ({p:.2})")),
        floor.zip(median).map_or(String::new(), |(f, m)| format!("{:.2}", m / f)),
        figure.verdict().to_owned(),
    ]
}
