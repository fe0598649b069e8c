//! Waiting for facts.

use std::time::{Duration, Instant};

/// Between two looks at a fact.
pub const LOOK_EVERY: Duration = Duration::from_millis(200);
/// For a boot, and for an answer of a machine.
pub const BOOT: Duration = Duration::from_secs(300);
/// For anything that is to come.
const LONGEST: Duration = Duration::from_secs(300);

/// A moment by which something has to have come.
pub struct Deadline(Instant);

impl Deadline {
    pub fn has_come(&self) -> bool {
        Instant::now() >= self.0
    }
}

pub fn from_now() -> Deadline {
    Deadline(Instant::now() + LONGEST)
}

/// Waits for a fact.
pub fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = from_now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(!deadline.has_come(), "waited in vain for {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}
