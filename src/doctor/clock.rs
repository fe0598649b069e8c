//! A clock that shows what cannot be. One that is merely off shows beside the others': `clusterctl doctor`.

use super::{About, Diagnosis, Patient};
use std::time::{Duration, SystemTime};

/// A file that was written by a clock which was ahead by less than this says nothing.
const SLACK: Duration = Duration::from_secs(86_400);

pub fn examine(patient: &Patient) -> Vec<Diagnosis> {
    let own = std::env::current_exe().and_then(std::fs::metadata).and_then(|meta| meta.modified());
    own.ok().and_then(|written| judge(patient, SystemTime::now(), written)).into_iter().collect()
}

/// Whether the agent's own program is from the future.
fn judge(patient: &Patient, now: SystemTime, written: SystemTime) -> Option<Diagnosis> {
    written.duration_since(now).ok().filter(|ahead| *ahead > SLACK)?;
    let day = |at: SystemTime| {
        jiff::Timestamp::try_from(at)
            .map_or_else(|_| "?".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
    };
    let what = format!("the clock says {}, and the agent's program is of {}", day(now), day(written));
    let why = "events carry wrong times, and others take our certificates for ones of the future";
    Some(patient.found(
        About::Clock,
        what,
        why,
        "timedatectl; systemctl restart systemd-timesyncd".to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tests::{cluster, patient};

    #[test]
    fn a_clock_from_before_the_program_was_made_is_wrong() {
        let (cluster, day) = (cluster(), Duration::from_secs(86_400));
        let patient = patient(&cluster, "/".as_ref());
        let written = SystemTime::UNIX_EPOCH + 20_000 * day;
        let said = judge(&patient, SystemTime::UNIX_EPOCH, written).unwrap().what;
        assert_eq!(said, "the clock says 1970-01-01, and the agent's program is of 2024-10-04");
        assert_eq!(judge(&patient, written, written), None);
        assert_eq!(judge(&patient, written + day, written), None);
    }
}
