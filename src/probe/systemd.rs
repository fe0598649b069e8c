//! A unit of systemd's, asked over a connection of its own to the system's bus: `ActiveState` and its like
//! (org.freedesktop.systemd1(5)).

use super::course::Course;
use super::net;
use crate::facts::{Ready, Stage, Trouble, Verdict};
use crate::systemd::{Active, State, state_of};

pub(super) async fn ask(unit: &str, course: Course<'_>) -> Verdict {
    course.enter(Stage::Reply);
    match course.limit(state_of(unit)).await {
        Some(Ok(state)) => judge(unit, &state),
        Some(Err(refused)) => {
            let why =
                format!("systemd does not say how {unit} is: {}", net::shown(refused.reason.as_bytes()));
            Verdict::not_ready(Trouble::Unaskable, why)
        }
        None => {
            Verdict::not_ready(Trouble::Silent, format!("systemd does not say how {unit} is within {course}"))
        }
    }
}

fn judge(unit: &str, state: &State) -> Verdict {
    let not = |why: String| Verdict::not_ready(Trouble::Declined, why);
    let sub = net::shown(state.sub.as_bytes());
    match state.load.as_str() {
        "loaded" => {}
        "not-found" => return not(format!("systemd knows no {unit}")),
        "masked" => return not(format!("{unit} is masked")),
        other => {
            let other = net::shown(other.as_bytes());
            return not(format!("systemd does not take the file of {unit} ({other})"));
        }
    }
    match state.active {
        Active::Active | Active::Reloading => {
            let identity = Some(state.invocation.clone()).filter(|id| !id.is_empty());
            Verdict::Ready(Ready { detail: format!("{unit} is active ({sub})"), roles: vec![], identity })
        }
        Active::Activating if state.restarts() => {
            not(format!("{unit} has ended, and systemd starts it again"))
        }
        Active::Activating => {
            let status = net::shown(state.status.as_bytes());
            let said = if status.is_empty() { String::new() } else { format!(": {status}") };
            Verdict::Progress { reason: format!("{unit} is being started{said}"), percent: None, left: None }
        }
        Active::Deactivating => not(format!("{unit} is being stopped")),
        Active::Failed => not(format!("{unit} has failed ({})", net::shown(state.result.as_bytes()))),
        Active::Inactive => not(format!("{unit} is not active ({sub})")),
        Active::Other => not(format!("{unit} is in a state that this probe does not know ({sub})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::testing::not_ready;

    fn state(load: &str, active: Active, sub: &str) -> State {
        let (load, sub, result) = (load.into(), sub.into(), "exit-code".into());
        State { load, active, sub, result, invocation: "ab12".into(), ..State::default() }
    }

    #[test]
    fn each_state_of_a_unit_is_said() {
        let told = |state: &State| judge("nginx.service", state);
        let ready = told(&state("loaded", Active::Active, "running"));
        let identity = Some("ab12".to_owned());
        let detail = "nginx.service is active (running)".to_owned();
        assert_eq!(ready, Verdict::Ready(Ready { detail, roles: vec![], identity }));
        let mut starts = state("loaded", Active::Activating, "start");
        starts.status = "Reading\u{1b} files".into();
        let reason = "nginx.service is being started: Reading\\u{1b} files".to_owned();
        assert_eq!(told(&starts), Verdict::Progress { reason, percent: None, left: None });
        for (load, active, sub, reason) in [
            ("not-found", Active::Inactive, "dead", "systemd knows no nginx.service"),
            ("masked", Active::Inactive, "dead", "nginx.service is masked"),
            (
                "bad-setting",
                Active::Inactive,
                "dead",
                "systemd does not take the file of nginx.service (bad-setting)",
            ),
            (
                "loaded",
                Active::Activating,
                "auto-restart",
                "nginx.service has ended, and systemd starts it again",
            ),
            ("loaded", Active::Deactivating, "stop-sigterm", "nginx.service is being stopped"),
            ("loaded", Active::Failed, "failed", "nginx.service has failed (exit-code)"),
            ("loaded", Active::Inactive, "dead", "nginx.service is not active (dead)"),
            ("loaded", Active::Other, "x", "nginx.service is in a state that this probe does not know (x)"),
        ] {
            not_ready(told(&state(load, active, sub)), Trouble::Declined, reason);
        }
    }
}
