//! A difference in words.

use crate::ctl::text::{BOLD, DIM, Look, Row, WARN, listed, paint, plural, table};
use crate::generation::{Change, Fate, Generation};
use crate::model::Cluster;
use anstyle::Style;

/// What a new configuration means, instance by instance; those that stay as they are are counted.
pub fn difference(
    before: &Cluster,
    parent: &Generation,
    after: &Cluster,
    changes: &[Change],
    generation: &Generation,
) -> String {
    render(before, parent, after, changes, generation, &Look::here())
}

fn render(
    before: &Cluster,
    parent: &Generation,
    after: &Cluster,
    changes: &[Change],
    generation: &Generation,
    look: &Look,
) -> String {
    let head = format!("{}: {generation} after {parent}", after.name);
    let mut out = format!("{}\n\n", paint(BOLD, &head));
    let mut told: Vec<&Change> = changes.iter().filter(|c| c.fate != Fate::Stays).collect();
    told.sort_by_key(|c| c.fate);
    let rows: Vec<Row> = told.iter().map(|c| row(c)).collect();
    if !rows.is_empty() {
        out.push_str(&table(look, &["WHAT", "INSTANCE", "WHY"], &rows, 1));
    }
    let stays = changes.len() - told.len();
    if stays > 0 {
        out.push_str(&format!(
            "{} as {}\n",
            plural(stays, "instance"),
            if stays == 1 { "it is" } else { "they are" }
        ));
    }
    let gone: Vec<&str> =
        before.nodes.iter().map(|n| n.name.as_str()).filter(|n| after.node_named(n).is_none()).collect();
    if !gone.is_empty() {
        let text = format!(
            "not in the file any more, and left alone with what runs there: {}; stop that first with clusterctl down @{}",
            listed(&gone, 8),
            gone[0]
        );
        out.push_str(&format!("{}\n", paint(WARN, &text)));
    }
    out
}

fn row(change: &Change) -> Row {
    let (word, style) = match change.fate {
        Fate::Starts => ("starts", anstyle::AnsiColor::Green.on_default()),
        Fate::Stops => ("stops", anstyle::AnsiColor::Red.on_default()),
        Fate::Restarts => ("restarts", WARN),
        Fate::Changes => ("goes on", DIM),
        Fate::Stays => ("stays", DIM),
    };
    Row {
        cells: vec![(word.to_owned(), style), (change.instance.clone(), Style::new())],
        tail: vec![change.why.clone()],
    }
}
