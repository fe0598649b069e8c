use super::*;
use crate::facts::Moment;
use crate::model::{InstanceIx, Source};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// Looks on and minds nothing.
struct Anybody;

impl Watcher for Anybody {
    fn step(&mut self, _step: &Step<'_>) -> Result<(), String> {
        Ok(())
    }
}

fn sources() -> Sources {
    let source = |text: &str| Source { path: "a file".into(), text: text.into() };
    let unit = "[run]\ncommand = [\"/bin/one\"]\n[ready]\nprobe = { kind = \"running\", for = \"1s\" }\n";
    Sources {
        cluster: source(
            "[cluster]\nname = \"c\"\n[nodes]\na = { n1 = \"127.0.0.1\" }\n[services]\none = { on = \"n1\" }\n",
        ),
        folder: "units".into(),
        units: BTreeMap::from([("one".into(), source(unit))]),
        unread: BTreeMap::new(),
    }
}

/// What an agent writes that searches, cleans, and cannot spawn.
fn recording() -> Vec<String> {
    let sources = sources();
    let (cluster, me) = configuration(&sources, "n1").unwrap();
    let ranks = Graph::ranks(&cluster);
    let mut engine = Engine::new(cluster, me, &ranks, &HashMap::new(), Moment(1));
    let begun = Line::Begun {
        node: "n1".into(),
        now: Moment(1),
        wishes: Cow::Owned(BTreeMap::new()),
        sources: Cow::Owned(sources),
    };
    let instance = InstanceIx(0);
    let inputs = [
        Input::Searched { instance, found: Found::Nothing },
        Input::Cleaned { instance, cleaned: Cleaned::Clear { findings: Vec::new() } },
        Input::SpawnFailed { instance, incarnation: 1, reason: "no such program".into(), shortage: false },
    ];
    let mut lines = vec![serde_json::to_string(&begun).unwrap()];
    for (n, input) in inputs.into_iter().enumerate() {
        let now = Moment(n as u64 + 2);
        let actions = engine.handle(now, 500, input.clone());
        let fed = Line::Fed { now, jitter: 500, input: Cow::Owned(input), actions: Cow::Owned(actions) };
        lines.push(serde_json::to_string(&fed).unwrap());
    }
    lines
}

fn replayed(lines: &[String]) -> Result<Replayed, ReplayError> {
    replay(lines.join("\n").as_bytes(), &mut Anybody)
}

#[test]
fn what_was_recorded_is_said_again() {
    let found = replayed(&recording()).unwrap();
    assert_eq!((found.runs, found.inputs, found.full), (1, 3, false));
    assert_eq!(found.kinds, BTreeSet::from(["searched: nothing", "cleaned: clear", "spawn failed"]));
}

#[test]
fn the_first_action_that_differs_is_shown_with_its_line() {
    let mut lines = recording();
    lines[2] = lines[2].replace("/bin/one", "/bin/two");
    let said = replayed(&lines).unwrap_err().to_string();
    assert!(said.starts_with("line 3 goes another way"), "{said}");
    assert!(said.contains("/bin/two") && said.contains("/bin/one") && said.contains("cleaned"), "{said}");
}

#[test]
fn a_torn_line_ends_a_run_and_nothing_else() {
    let whole = recording();
    let torn = whole[3][..40].to_owned();
    let cut: Vec<String> = [&whole[..3], std::slice::from_ref(&torn)].concat();
    assert_eq!(replayed(&cut).unwrap().inputs, 2);
    let next_agent = [&cut[..], &whole[..]].concat();
    let found = replayed(&next_agent).unwrap();
    assert_eq!((found.runs, found.inputs), (2, 5));
    let in_the_middle = [&whole[..1], &[torn], &whole[1..]].concat();
    let said = replayed(&in_the_middle).unwrap_err().to_string();
    assert!(said.starts_with("cannot replay line 2"), "{said}");
}

#[test]
fn a_watcher_has_the_last_word() {
    struct NoSpawns;
    impl Watcher for NoSpawns {
        fn step(&mut self, step: &Step<'_>) -> Result<(), String> {
            match step.actions.iter().any(|a| matches!(a, Action::Spawn { .. })) {
                true => Err("it spawns".to_owned()),
                false => Ok(()),
            }
        }
    }
    let said = replay(recording().join("\n").as_bytes(), &mut NoSpawns).unwrap_err().to_string();
    assert!(said.starts_with("line 3: it spawns"), "{said}");
    assert!(said.contains("cleaned"), "{said}");
}

#[test]
fn another_configuration_returns_what_it_did() {
    let reconfigured = |added: Vec<InstanceIx>| Line::Reconfigured {
        now: Moment(9),
        node: "n1".into(),
        sources: Cow::Owned(sources()),
        added,
        orphans: Vec::new(),
    };
    let with = |line: Line<'_>| [recording(), vec![serde_json::to_string(&line).unwrap()]].concat();
    assert_eq!(replayed(&with(reconfigured(Vec::new()))).unwrap().reconfigured, 1);
    let said = replayed(&with(reconfigured(vec![InstanceIx(0)]))).unwrap_err().to_string();
    assert!(said.starts_with("line 5 goes another way"), "{said}");
}

#[test]
fn a_recording_at_its_limit_says_so() {
    let lines = [recording(), vec![serde_json::to_string(&Line::Full).unwrap()]].concat();
    assert!(replayed(&lines).unwrap().full);
    assert!(replayed(&lines[4..]).unwrap().full);
    assert!(replayed(&lines[1..]).unwrap_err().to_string().contains("no agent has begun"));
}
