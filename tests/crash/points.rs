//! The agent dies at each point that it has, in each part of a life. The points are those that the program itself
//! names: one at which no agent died fails the test.

use super::life::{Death, Life};
use clusterd::crash::Done;
use clusterd::journal::Line;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Lives beside each other: an agent mostly waits.
const BESIDE: usize = 8;

fn points() -> Vec<String> {
    let done = Done::ALL.iter().map(|done| format!("{done:?}"));
    done.chain(Line::ALL.into_iter().flat_map(Line::points)).collect()
}

fn die_everywhere(cgroups: bool) {
    let only = std::env::var("POINT").ok(); // to look into one
    let points: Vec<String> = points().into_iter().filter(|p| only.as_ref().is_none_or(|o| o == p)).collect();
    let (next, told) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..BESIDE {
            scope.spawn(|| {
                while let Some(point) = points.get(next.fetch_add(1, Relaxed)) {
                    let name = format!(
                        "{}-{}",
                        point.replace(' ', "-").to_lowercase(),
                        if cgroups { "c" } else { "m" }
                    );
                    let mut life = Life::new(&name, Death { point: point.clone(), cgroups });
                    life.live();
                    told.lock().unwrap().push((point, life.deaths, life.parts.clone()));
                }
            });
        }
    });
    let mut told = told.into_inner().unwrap();
    told.sort();
    for (point, deaths, parts) in &told {
        println!("{point:16} {deaths:2}: {}", parts.join(", "));
    }
    let never: Vec<_> = told.iter().filter(|(_, deaths, _)| *deaths == 0).map(|(point, ..)| point).collect();
    assert!(never.is_empty(), "no agent died at {never:?}");
}

#[test]
fn the_agent_may_die_at_any_point() {
    die_everywhere(true);
}

#[test]
fn the_agent_may_die_at_any_point_without_cgroups() {
    die_everywhere(false);
}
