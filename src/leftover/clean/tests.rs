//! What no test with real processes can bring about: processes that fork while they are killed, and one that does not
//! die.

use super::super::place::NotRemoved;
use super::super::remove::Removed;
use super::*;
use crate::model::{self, Source, Sources};
use crate::process::proc::Exe;
use crate::process::{Identity, Journalled, NotYet};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A machine with no files, where an earlier main process has left others behind.
struct Sham<'a> {
    /// Whom each look at the processes finds, in turn.
    left: VecDeque<Vec<i32>>,
    immortal: i32,
    /// How often was looked for somebody to kill.
    looks: &'a mut u32,
}

impl Ground for Sham<'_> {
    type Process = i32;
    type Place = ();

    fn boot(&self) -> io::Result<Boot> {
        Ok(Boot { boot_id: "b1".into(), pid_ns: 4, init_start: 1 })
    }

    fn expected(&self, _: &Unit, _: Option<&Identity>) -> Expected {
        Expected::default()
    }

    fn adopt(&self, known: &Identity) -> Result<i32, Lost> {
        Err(Lost::Gone(known.pid))
    }

    fn look_at(&self, _: i32) -> (ProcessState, Option<i32>) {
        (ProcessState::None, None)
    }

    fn open(&self, pid: i32) -> Option<i32> {
        Some(pid)
    }

    fn pid(&self, process: &i32) -> i32 {
        *process
    }

    fn name(&self, _: i32) -> Option<String> {
        Some("worker".into())
    }

    fn exe(&self, _: i32) -> Option<Exe> {
        None
    }

    fn is_leaf_empty(&self) -> io::Result<bool> {
        Ok(self.left.is_empty())
    }

    fn is_member(&self, _: i32) -> bool {
        true
    }

    fn members(&self) -> io::Result<Vec<i32>> {
        Ok(self.left.front().cloned().unwrap_or_default())
    }

    fn main_by_descent(&self, _unit: &Unit) -> Result<i32, NotYet> {
        Err(NotYet("several".into()))
    }

    fn kill_all(&mut self) -> io::Result<Vec<i32>> {
        *self.looks += 1;
        Ok(self.left.pop_front().unwrap_or_default())
    }

    fn dies(&mut self, process: &i32, within: Duration) -> io::Result<bool> {
        assert!(!within.is_zero(), "it is given time");
        Ok(*process != self.immortal)
    }

    fn find(&self, _: &Path) -> io::Result<Found<()>> {
        Ok(Found::Nothing)
    }

    fn kind(&self, (): &()) -> Kind {
        Kind::File
    }

    fn read(&self, (): &()) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn is_older_than_boot(&self, (): &()) -> bool {
        false
    }

    fn answers(&self, (): &()) -> io::Result<Answer> {
        Ok(Answer::Nobody)
    }

    fn holder(&self, (): &()) -> io::Result<Holder> {
        Ok(Holder::Nobody)
    }

    fn remove(&mut self, (): &()) -> Result<Removed, NotRemoved> {
        Ok(Removed { kept: None, not_kept: None })
    }
}

fn unit() -> Arc<Unit> {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let cluster = "[cluster]\nname = \"shop\"\n[nodes]\nall = { n1 = \"10.0.0.1\" }\n[services]\nthing = { on = \"n1\" }\n";
    let thing = "[run]\ncommand = [\"/usr/bin/thing\"]\n[ready]\nprobe = { kind = \"tcp\", port = 80 }\n";
    let sources = Sources {
        cluster: source("cluster.toml", cluster),
        folder: "units".into(),
        units: BTreeMap::from([("thing".to_owned(), source("units/thing.toml", thing))]),
        unread: BTreeMap::new(),
    };
    let cluster = model::parse(&sources).unwrap_or_else(|e| panic!("{e}"));
    cluster.instances[0].unit.clone()
}

/// What cleaning came to, and how often was looked for somebody to kill.
fn cleaned(left: &[&[i32]], immortal: i32) -> (Outcome<i32>, u32) {
    let mut looks = 0;
    let left = left.iter().map(|pids| pids.to_vec()).collect();
    let outcome =
        clean_on(Sham { left, immortal, looks: &mut looks }, &Journalled::Nothing, &unit(), Mode::Remove);
    (outcome, looks)
}

#[test]
fn what_is_born_while_its_parents_are_killed_is_killed_too() {
    let (outcome, looks) = cleaned(&[&[7, 8], &[9]], 0);
    let Cleaned::Clear { findings } = outcome.cleaned else { panic!("{outcome:?}") };
    let killed: Vec<_> = findings.iter().map(|f| (f.what.as_str(), f.judgement)).collect();
    let dead = ["process 7", "process 8", "process 9"].map(|what| (what, Judgement::Stale));
    assert_eq!(killed, dead);
    assert_eq!(looks, 3, "gone is what another look does not find");
}

#[test]
fn what_does_not_die_is_doubt() {
    let (outcome, looks) = cleaned(&[&[7, 8], &[8]], 8);
    let Cleaned::Doubt { findings } = outcome.cleaned else { panic!("{outcome:?}") };
    assert_eq!(findings[1].judgement, Judgement::Doubt);
    assert!(findings[1].evidence.ends_with("was killed and does not die"), "{findings:?}");
    assert_eq!((outcome.suspect, looks), (Some(8), 1), "it is told once; the next judging looks again");
}
