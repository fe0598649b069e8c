//! Random runs of the simulator. `RUNS=10000 FIRST=1 cargo test --release --test random` runs more of them.

use clusterd::sim::generate;
use clusterd::sim::random::{self, Tally};
use clusterd::sim::sabotage::{self, Sabotage};
use clusterd::sim::text::{self, Written};
use std::path::Path;
use std::time::{Duration, Instant};

const LENGTH: Duration = Duration::from_secs(600);

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap())
}

/// So many seeds; a debug build is some ten times slower.
fn runs(most: u64, of: impl Fn(u64) -> Written + Sync) -> Tally {
    let first = number("FIRST", 0);
    let many = number("RUNS", most);
    let began = Instant::now();
    let tally = random::runs(first..first + many, 2, &|seed| Ok(of(seed)));
    let tally = tally.unwrap_or_else(|failing| panic!("\n{failing}"));
    println!("{tally:?} in {:?}", began.elapsed());
    tally
}

#[test]
fn the_reference_cluster_keeps_every_promise() {
    let tally = runs(20, |seed| generate::of_sample(seed, LENGTH).unwrap());
    assert!(tally.inputs > tally.runs * 100, "{tally:?}");
}

#[test]
fn generated_clusters_keep_every_promise() {
    let tally = runs(20, |seed| generate::of_generated(seed, 30, LENGTH).unwrap());
    assert!(tally.inputs > tally.runs * 10, "{tally:?}");
}

/// What is kept under `tests/sim/`: what once went wrong, and what must never.
#[test]
fn kept_scenarios_keep_every_promise() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "scenario"));
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let written = text::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        assert_eq!(text::print(&written), text, "{}", file.display());
        if let Err(violation) = random::check(&written.scenario) {
            panic!("{}: {violation}", file.display());
        }
    }
}

/// The checks can fail: for each promise there is an engine that breaks it, and that is seen within so many seeds, by
/// the check of this very promise.
#[test]
fn every_broken_engine_is_caught() {
    let broken = [
        (Sabotage::DeafToVetoes, "order"),
        (Sabotage::DeafToVetoes, "may"),
        (Sabotage::KeepsOldAnswers, "order"),
        (Sabotage::KeepsOldAnswers, "may"),
        (Sabotage::PostdatesAnswers, "order"),
        (Sabotage::TrustsLostPeers, "may"),
        (Sabotage::StartsUnproven, "order"),
        (Sabotage::StartsTwice, "one"),
        (Sabotage::ForgetsProcesses, "one"),
        (Sabotage::JudgesRashly, "no harm"),
        (Sabotage::HearsReleases, "reverse"),
        (Sabotage::StartsAnotherUnit, "refused"),
        (Sabotage::ForgetsWishes, "held"),
        (Sabotage::LosesResults, "progress"),
    ];
    let missing: Vec<_> = sabotage::ALL.iter().filter(|s| broken.iter().all(|(b, _)| b != *s)).collect();
    assert!(missing.is_empty(), "{missing:?} breaks no promise");
    let mut unseen = Vec::new();
    for (sabotage, promise) in broken {
        let caught = (0..number("SABOTAGED", 150)).find_map(|seed| {
            let small = || generate::of_generated(seed, 8, LENGTH).unwrap();
            let written = if seed % 2 == 0 { generate::of_sample(seed, LENGTH).unwrap() } else { small() };
            let violation = random::check_sabotaged(&written.scenario, sabotage, promise).err()?;
            (random::promise(&violation) == promise).then_some((seed, violation))
        });
        match caught {
            Some((seed, violation)) => println!("{sabotage:?}: seed {seed}: {violation}"),
            None => unseen.push((sabotage, promise)),
        }
    }
    assert!(unseen.is_empty(), "not seen: {unseen:?}");
}
