//! The one place where the monotonic clock is read.

use crate::facts::Moment;
use nix::time::{ClockId, clock_gettime};

/// This moment, by `CLOCK_MONOTONIC`: it never jumps, and it stands still while the machine is suspended.
pub fn now() -> Moment {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux always has CLOCK_MONOTONIC");
    // Seconds since the boot: neither part is ever negative, and 584 years fit.
    Moment(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_clock_goes_forward() {
        let first = super::now();
        assert!(first.0 > 0);
        assert!(super::now() >= first);
    }
}
