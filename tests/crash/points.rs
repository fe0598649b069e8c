//! The agent dies at each point that it has, in each part of a life. The points are those that the program itself
//! names: one at which no agent died fails the test.

use super::life::{Death, Life, Place};
use clusterd::crash::Done;
use clusterd::journal::Line;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Lives beside each other: an agent mostly waits.
const BESIDE: usize = 4;

fn points() -> Vec<String> {
    let done = Done::ALL.iter().map(|done| format!("{done:?}"));
    done.chain(Line::ALL.into_iter().flat_map(Line::points)).collect()
}

fn die_everywhere(place: Place) {
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
                        if place == Place::Cgroups { "c" } else { "m" }
                    );
                    let lived = catch_unwind(|| {
                        let mut life = Life::new(&name, Death { point: point.clone(), place });
                        life.live();
                        life.parts.clone()
                    });
                    told.lock().unwrap().push((point, lived.ok()));
                }
            });
        }
    });
    let mut told = told.into_inner().unwrap();
    told.sort();
    let (mut failed, mut never) = (Vec::new(), Vec::new());
    for (point, parts) in told {
        match parts {
            None => failed.push(point),
            Some(parts) if parts.is_empty() => never.push(point),
            Some(parts) => println!("{point:16} {:2}: {}", parts.len(), parts.join(", ")),
        }
    }
    assert!(failed.is_empty(), "not as it should be after a death at {failed:?}: see above");
    assert!(never.is_empty(), "no agent died at {never:?}");
}

#[test]
fn the_agent_may_die_at_any_point() {
    die_everywhere(Place::Cgroups);
}

#[test]
fn the_agent_may_die_at_any_point_without_cgroups() {
    die_everywhere(Place::Marks);
}
