//! `manage = true`: what is to be done next, so that a machine is as it is rendered. Pure; the agent does it.

use super::import::instances;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What is known of a director's keepalived.conf and of the keepalived that reads it.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// What is rendered.
    pub wanted: String,
    /// What the file holds; `None` where there is none.
    pub here: Option<String>,
    /// What the keepalived that runs has read, as far as that is known.
    pub running: Option<Option<String>>,
    /// A text that was refused before: it is not tried again.
    pub refused: Option<String>,
    /// What `keepalived --config-test` says of what is rendered, once it was asked.
    pub tested: Option<Result<(), String>>,
    /// What came of the reload, once there was one.
    pub reloaded: Option<Result<(), String>>,
}

/// What is next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is as it should be, or as it may be.
    Done,
    /// Ask keepalived what it thinks of the text, which lies aside.
    Test,
    /// Keep the file that is there; put the new one in its place.
    Write,
    /// Have the one that runs read it: SIGHUP, no restart.
    Reload,
    /// Nothing is written, and the text is not tried again.
    Refuse(String),
    /// The file before is put back, and read again by whoever runs.
    RollBack(String),
}

/// The next step. Each one changes the case, so that the last is [`Step::Done`], `Refuse` or `RollBack`.
pub fn next(case: &Case) -> Step {
    if case.refused.as_ref() == Some(&case.wanted) {
        return Step::Done;
    }
    if case.here.as_ref() != Some(&case.wanted) {
        return match &case.tested {
            None => Step::Test,
            Some(Ok(())) => Step::Write,
            Some(Err(why)) => Step::Refuse(why.clone()),
        };
    }
    let reads_it = |read: &Option<String>| read.as_ref() == Some(&case.wanted);
    match (&case.running, &case.reloaded) {
        (None, None) | (_, Some(Ok(()))) => Step::Done,
        (Some(read), None) if reads_it(read) => Step::Done,
        (Some(_), None) => Step::Reload,
        (_, Some(Err(why))) => Step::RollBack(why.clone()),
    }
}

/// A `vrrp_instance` as the keepalived that runs tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub name: String,
    pub vrid: u32,
    pub priority: u32,
    pub addresses: Vec<IpAddr>,
}

/// Whether keepalived runs with a text; or what is otherwise. Health checks are not told.
pub fn runs_with(text: &str, running: &[Running]) -> Result<(), String> {
    let (wanted, _) = instances(text);
    for one in &wanted {
        let name = &one.name;
        let found = running.iter().find(|r| r.name == *name);
        let is = found.ok_or_else(|| format!("it does not know the instance {name}"))?;
        let mut addresses = is.addresses.clone();
        addresses.sort();
        let same = |wanted: Option<i64>, is: u32| wanted.is_none_or(|w| w == i64::from(is));
        if !same(one.vrid.as_ref().map(|v| v.is), is.vrid)
            || !same(one.priority.as_ref().map(|p| p.is), is.priority)
            || addresses != one.addresses()
        {
            return Err(format!("its instance {name} is still another one"));
        }
    }
    match running.iter().find(|r| !wanted.iter().any(|w| w.name == r.name)) {
        Some(more) => Err(format!("it still has the instance {}", more.name)),
        None => Ok(()),
    }
}

// --- real servers behind direct routing ---

/// What an agent has changed for this node's services behind direct routing; kept until it is taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Kept {
    /// Put on `lo`; those that were there before are not among them.
    pub addresses: Vec<IpAddr>,
    /// Settings with their value before.
    pub settings: BTreeMap<String, String>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Set { name: String, value: String },
    Hold(IpAddr),
    LetGo(IpAddr),
}

/// From what is here to what `addresses` and `settings` ask for. [`Kept`] is to be written down before the changes are
/// made: an agent that dies between them takes back too much rather than too little.
pub fn changes(
    addresses: &[IpAddr],
    settings: &[(String, String)],
    kept: &Kept,
    on_loopback: &[IpAddr],
    value_of: impl Fn(&str) -> Option<String>,
) -> (Kept, Vec<Change>) {
    let (mut new, mut todo) = (Kept::default(), Vec::new());
    // What keeps an address quiet comes before it, and goes after it.
    for (name, value) in settings {
        let is = value_of(name);
        if is.as_ref() != Some(value) {
            todo.push(Change::Set { name: name.clone(), value: value.clone() });
        }
        let before = kept.settings.get(name).cloned().or(is.filter(|is| is != value));
        new.settings.extend(before.map(|before| (name.clone(), before)));
    }
    for address in addresses {
        let here = on_loopback.contains(address);
        if !here {
            todo.push(Change::Hold(*address));
        }
        if !here || kept.addresses.contains(address) {
            new.addresses.push(*address);
        }
    }
    for address in kept.addresses.iter().filter(|a| !addresses.contains(a) && on_loopback.contains(a)) {
        todo.push(Change::LetGo(*address));
    }
    for (name, before) in kept.settings.iter().filter(|(name, _)| !settings.iter().any(|(s, _)| s == *name)) {
        if value_of(name).as_ref() != Some(before) {
            todo.push(Change::Set { name: name.clone(), value: before.clone() });
        }
    }
    (new, todo)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps until the last one; each result is what the world says to it.
    fn story(mut case: Case, test: Result<(), String>, reload: Result<(), String>) -> Vec<Step> {
        let mut steps = Vec::new();
        loop {
            let step = next(&case);
            steps.push(step.clone());
            match step {
                Step::Test => case.tested = Some(test.clone()),
                Step::Write => case.here = Some(case.wanted.clone()),
                Step::Reload => case.reloaded = Some(reload.clone()),
                Step::Done | Step::Refuse(_) | Step::RollBack(_) => return steps,
            }
        }
    }

    fn case(here: Option<&str>, running: Option<Option<&str>>) -> Case {
        Case {
            wanted: "new".into(),
            here: here.map(str::to_owned),
            running: running.map(|read| read.map(str::to_owned)),
            ..Case::default()
        }
    }

    #[test]
    fn a_file_is_tested_before_it_is_written_and_read_by_who_runs() {
        let no = || Err("no".to_owned());
        use Step::{Done, Refuse, Reload, RollBack, Test, Write};
        for (case, test, reload, steps) in [
            (case(Some("new"), None), Ok(()), Ok(()), vec![Done]),
            (case(Some("new"), Some(Some("new"))), Ok(()), Ok(()), vec![Done]),
            (case(None, None), Ok(()), Ok(()), vec![Test, Write, Done]),
            (case(Some("old"), Some(Some("old"))), Ok(()), Ok(()), vec![Test, Write, Reload, Done]),
            (case(Some("old"), Some(Some("old"))), no(), Ok(()), vec![Test, Refuse("no".into())]),
            (
                case(Some("old"), Some(Some("old"))),
                Ok(()),
                no(),
                vec![Test, Write, Reload, RollBack("no".into())],
            ),
            // Written by an agent that died then; or nobody knows what was read.
            (case(Some("new"), Some(Some("old"))), Ok(()), Ok(()), vec![Reload, Done]),
            (case(Some("new"), Some(None)), Ok(()), no(), vec![Reload, RollBack("no".into())]),
        ] {
            assert_eq!(story(case.clone(), test, reload), steps, "{case:?}");
        }
        let refused = Case { refused: Some("new".into()), ..case(Some("old"), Some(Some("old"))) };
        assert_eq!(story(refused, Ok(()), Ok(())), [Done]);
    }

    #[test]
    fn what_runs_is_compared_with_the_text() {
        let text = "vrrp_instance www {\n virtual_router_id 51\n priority 150\n virtual_ipaddress {\n 10.0.0.100/24\n }\n}\n";
        let www = Running {
            name: "www".into(),
            vrid: 51,
            priority: 150,
            addresses: vec!["10.0.0.100".parse().unwrap()],
        };
        let with = |change: fn(&mut Running)| {
            let mut one = www.clone();
            change(&mut one);
            runs_with(text, &[one])
        };
        assert_eq!(with(|_| {}), Ok(()));
        let others: [fn(&mut Running); 3] = [|r| r.vrid = 52, |r| r.priority = 140, |r| r.addresses.clear()];
        for change in others {
            assert_eq!(with(change), Err("its instance www is still another one".into()));
        }
        assert_eq!(runs_with(text, &[]), Err("it does not know the instance www".into()));
        assert_eq!(runs_with("", &[www]), Err("it still has the instance www".into()));
    }

    #[test]
    fn a_real_server_is_set_up_quietly_and_taken_back_as_it_was() {
        let vip: IpAddr = "10.0.0.100".parse().unwrap();
        let quiet = [("arp_ignore".to_owned(), "1".to_owned())];
        let set = |value: &str| Change::Set { name: "arp_ignore".into(), value: value.into() };
        let (kept, todo) = changes(&[vip], &quiet, &Kept::default(), &[], |_| Some("0".into()));
        assert_eq!(todo, [set("1"), Change::Hold(vip)]);
        // Again, as after the agent's death: nothing is to do, and nothing is forgotten.
        let again = changes(&[vip], &quiet, &kept, &[vip], |_| Some("1".into()));
        assert_eq!(again, (kept.clone(), vec![]));
        let (none, todo) = changes(&[], &[], &kept, &[vip], |_| Some("1".into()));
        assert_eq!((none, todo), (Kept::default(), vec![Change::LetGo(vip), set("0")]));
        // What was there before is not ours to take away.
        let (kept, todo) = changes(&[vip], &quiet, &Kept::default(), &[vip], |_| Some("1".into()));
        assert_eq!((kept, todo), (Kept::default(), vec![]));
    }
}
