//! A few guards side by side, with the streams between them: what each does, as a story.

use super::*;
use crate::director::firewall::Firewall;
use std::fmt::Write;

const WWW: [u8; 4] = [10, 0, 0, 100];
const FTP: [u8; 4] = [10, 0, 0, 101];

struct World {
    now: Moment,
    guards: Vec<Guard>,
    /// Whether the stream from one to another stands.
    linked: Vec<Vec<bool>>,
    told: String,
}

impl World {
    /// `directors` of each address, in order of preference, by number; one guard for each of `count` nodes.
    fn new(count: u32, vips: &[(&str, [u8; 4], &[u32])], yields: bool) -> World {
        let vip = |(name, address, on): &(&str, [u8; 4], &[u32])| Vip {
            name: (*name).to_owned(),
            address: (*address).into(),
            directors: on.iter().map(|n| (NodeIx(*n), format!("lvs{n}"), own(*n))).collect(),
            priorities: vec![150, 140, 130],
            advert: Duration::from_secs(1),
            yields,
        };
        let guard = |n| Guard::new(NodeIx(n), vips.iter().map(vip).collect(), Moment(1_000_000_000_000));
        let count = count as usize;
        let mut world = World {
            now: Moment(1_000_000_000_000),
            guards: (0..count as u32).map(guard).collect(),
            linked: vec![vec![true; count]; count],
            told: String::new(),
        };
        for n in 0..count {
            world.keeps(n, Keeping::Ready, false);
        }
        world
    }

    fn keeps(&mut self, n: usize, is: Keeping, yielded: bool) {
        let instance = InstanceIx(n as u32);
        self.give(n, Seen::Keeper(Some(Keeper { instance, is, yielded })));
    }

    fn give(&mut self, n: usize, seen: Seen) {
        let deeds = self.guards[n].handle(self.now, seen);
        for deed in deeds {
            let ms = self.now.since(Moment(1_000_000_000_000)).as_millis();
            match deed {
                Deed::Tell => self.tell(n),
                Deed::Record { what, text, .. } if what != "vip-held" && what != "vip-gone" => {
                    writeln!(self.told, "{ms} lvs{n} {what}: {text}").unwrap();
                }
                Deed::Record { .. } | Deed::Examine { .. } => {}
                Deed::Yield { .. } => writeln!(self.told, "{ms} lvs{n} yields").unwrap(),
                Deed::ComeBack { .. } => writeln!(self.told, "{ms} lvs{n} comes back").unwrap(),
            }
        }
    }

    fn tell(&mut self, from: usize) {
        let words = self.guards[from].words(self.now);
        for to in 0..self.guards.len() {
            if to != from && self.linked[from][to] {
                let node = NodeIx(from as u32);
                self.give(to, Seen::Told { node, words: words.clone(), same_file: true });
            }
        }
    }

    fn holds(&mut self, n: usize, what: &[[u8; 4]]) {
        let all = what.iter().map(|a| ((*a).into(), "eth0".to_owned())).collect();
        self.give(n, Seen::Addresses(all));
    }

    fn cut(&mut self, from: usize, to: usize, answers: bool) {
        self.linked[from][to] = false;
        let node = NodeIx(from as u32);
        self.give(to, if answers { Seen::Refused { node } } else { Seen::Lost { node } });
    }

    /// Lets so many milliseconds pass, each guard waking when it asked to.
    fn pass(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        loop {
            let wakes = self.guards.iter().enumerate().filter_map(|(n, g)| Some((g.next_wake()?, n)));
            let Some((at, n)) = wakes.min().filter(|(at, _)| *at <= end) else { break };
            self.now = self.now.max(at);
            self.give(n, Seen::TimeCame);
            let again = self.guards[n].next_wake();
            assert!(again.is_none_or(|again| again > self.now), "lvs{n} would spin");
        }
        self.now = end;
    }

    fn examine(&mut self, n: usize, vip: usize, frozen: bool) {
        let facts = Facts {
            settings: Err("not read".into()),
            heard: Ok(Vec::new()),
            listened_ms: 0,
            firewall: Firewall::Clear,
            frozen: frozen.then_some(77),
        };
        self.give(n, Seen::Examined { vip, facts });
    }

    /// What happened since the last look.
    #[track_caller]
    fn check(&mut self, wanted: &str) {
        let told = std::mem::take(&mut self.told);
        // Not what was found out: that is the diagnosis's own test.
        let brief: String = told
            .lines()
            .filter(|l| !l.contains("vip-diagnosis"))
            .map(|l| l.split("; the settings").next().unwrap_or_default().to_owned() + "\n")
            .collect();
        let wanted: String = wanted.trim().lines().map(|l| format!("{}\n", l.trim())).collect();
        assert_eq!(brief.trim(), wanted.trim());
    }
}

fn own(n: u32) -> IpAddr {
    [10, 0, 0, n as u8 + 1].into()
}

#[test]
fn one_holder_is_no_news_and_a_takeover_is_none_either() {
    let mut world = World::new(2, &[("www", WWW, &[0, 1])], false);
    world.holds(0, &[WWW]);
    world.pass(60_000);
    world.holds(1, &[WWW]);
    world.pass(300);
    world.holds(0, &[]);
    world.pass(60_000);
    let text = "vip-moved: www (10.0.0.100) moved from lvs0 to lvs1";
    world.check(&format!("60300 lvs1 {text}\n60300 lvs0 {text}"));
}

/// Three adverts that do not come, and the skew of who waits for them, are an ordinary failover, and told as one.
#[test]
fn a_failover_in_vrrps_own_time_is_no_alarm() {
    let mut world = World::new(2, &[("www", WWW, &[0, 1])], false);
    world.holds(0, &[WWW]);
    world.pass(1000);
    world.keeps(0, Keeping::Down, false);
    world.holds(0, &[]);
    world.pass(3600);
    world.holds(1, &[WWW]);
    world.pass(60_000);
    let text = "vip-moved: www (10.0.0.100) moved from lvs0 to lvs1; nobody held it for 3.6 s";
    world.check(&format!("4600 lvs0 {text}\n4600 lvs1 {text}"));
    // It comes back to whom it was with.
    world.holds(1, &[]);
    world.pass(500);
    world.holds(1, &[WWW]);
    world.pass(60_000);
    let text = "vip-moved: www (10.0.0.100) is held by lvs1 again; nobody held it for 0.5 s";
    world.check(&format!("65100 lvs0 {text}\n65100 lvs1 {text}"));
    // With nobody there to take it over there is nothing to wait for.
    world.keeps(1, Keeping::Down, false);
    world.holds(1, &[]);
    world.pass(3000);
    world.check(
        "126600 lvs0 vip-alarm: nobody holds www (10.0.0.100)
         126600 lvs1 vip-alarm: nobody holds www (10.0.0.100)",
    );
}

#[test]
fn two_holders_are_an_alarm_everywhere_until_it_is_over() {
    let mut world = World::new(3, &[("www", WWW, &[0, 1])], false);
    world.holds(0, &[WWW]);
    world.holds(1, &[WWW]);
    world.pass(5000);
    world.holds(0, &[]);
    world.check(
        "1500 lvs0 vip-alarm: www (10.0.0.100) is held by lvs0 (eth0) and lvs1 (eth0) at the same time
         1500 lvs1 vip-alarm: www (10.0.0.100) is held by lvs0 (eth0) and lvs1 (eth0) at the same time
         1500 lvs2 vip-alarm: www (10.0.0.100) is held by lvs0 (eth0) and lvs1 (eth0) at the same time
         5000 lvs1 vip-clear: www is held by lvs1 alone again, after 5.0 s
         5000 lvs2 vip-clear: www is held by lvs1 alone again, after 5.0 s
         5000 lvs0 vip-clear: www is held by lvs1 alone again, after 5.0 s",
    );
}

#[test]
fn nobody_is_an_alarm_too_unless_that_was_ordered() {
    let mut world = World::new(2, &[("www", WWW, &[0, 1])], false);
    world.holds(0, &[WWW]);
    world.pass(1000);
    world.holds(0, &[]);
    world.pass(6000);
    world.holds(1, &[WWW]);
    // The slowest of those who could take it over has 3 s + 116/256 s for it, and half a second more.
    world.check(
        "4953 lvs0 vip-alarm: nobody holds www (10.0.0.100)
         4953 lvs1 vip-alarm: nobody holds www (10.0.0.100)
         7000 lvs0 vip-clear: www is held by lvs1 alone again, after 6.0 s
         7000 lvs1 vip-clear: www is held by lvs1 alone again, after 6.0 s",
    );
    for n in 0..2 {
        world.keeps(n, Keeping::Held, false);
    }
    world.holds(1, &[]);
    world.pass(60_000);
    world.check("");
}

#[test]
fn an_agent_that_died_is_said_and_its_address_still_counts_while_its_machine_answers() {
    let mut world = World::new(2, &[("www", WWW, &[0, 1])], false);
    world.holds(0, &[WWW]);
    world.cut(0, 1, true);
    world.holds(1, &[WWW]);
    world.pass(2000);
    world.check(
        "1500 lvs0 vip-alarm: www (10.0.0.100) is held by lvs0 (eth0) and lvs1 (eth0) at the same time
         1500 lvs1 vip-alarm: www (10.0.0.100) is held by lvs0 (eth0) and lvs1 (eth0) at the same time, as far as can be seen: the agent of lvs0 is not heard",
    );
}

#[test]
fn a_machine_that_is_silent_is_not_taken_for_a_holder() {
    let mut world = World::new(2, &[("www", WWW, &[0, 1])], false);
    world.holds(0, &[WWW]);
    world.cut(0, 1, false);
    world.cut(1, 0, false);
    world.holds(1, &[WWW]);
    world.pass(60_000);
    world.check("0 lvs1 vip-moved: www (10.0.0.100) moved from lvs0 to lvs1");
}

#[test]
fn the_less_preferred_yields_once_both_say_the_same() {
    let mut world = World::new(2, &[("www", WWW, &[1, 0])], true);
    world.holds(0, &[WWW]);
    world.holds(1, &[WWW]);
    world.pass(3000); // nothing was found out yet
    world.examine(0, 0, false);
    world.examine(1, 0, false);
    world.told = world.told.replace("lvs1 (eth0) and lvs0 (eth0)", "both");
    world.pass(10);
    world.check(
        "1500 lvs0 vip-alarm: www (10.0.0.100) is held by both at the same time
         1500 lvs1 vip-alarm: www (10.0.0.100) is held by both at the same time
         3000 lvs0 yields",
    );
    world.keeps(0, Keeping::Held, true);
    world.holds(0, &[]);
    world.pass(60_000);
    world.holds(1, &[]); // the other dies: the one who stayed back comes back
    world.pass(1100);
    let told = std::mem::take(&mut world.told);
    assert!(told.contains("lvs0 comes back"), "{told}");
}

#[test]
fn a_frozen_holder_yields_to_one_that_lives() {
    let mut world = World::new(2, &[("www", WWW, &[0, 1])], true);
    world.holds(0, &[WWW]);
    world.holds(1, &[WWW]);
    world.examine(0, 0, true);
    world.examine(1, 0, false);
    world.pass(3000);
    let told = std::mem::take(&mut world.told);
    assert!(told.contains("2000 lvs0 yields") && !told.contains("lvs1 yields"), "{told}");
}

#[test]
fn nobody_yields_who_does_not_hear_all_others() {
    for (from, to) in [(0, 1), (1, 0)] {
        let mut world = World::new(2, &[("www", WWW, &[0, 1])], true);
        world.holds(0, &[WWW]);
        world.holds(1, &[WWW]);
        world.examine(0, 0, false);
        world.examine(1, 0, false);
        world.cut(from, to, false);
        world.pass(60_000);
        assert!(world.told.contains("vip-alarm") && !world.told.contains("yields"), "{}", world.told);
    }
}

/// A power cut: its stream stands for some seconds more, while the other has long taken over.
#[test]
fn a_machine_without_power_is_no_second_holder() {
    let mut world = World::new(2, &[("www", WWW, &[0, 1])], false);
    world.holds(0, &[WWW]);
    world.pass(10_000);
    world.linked = vec![vec![false; 2]; 2];
    world.pass(3500);
    world.holds(1, &[WWW]);
    world.pass(5500);
    world.cut(0, 1, false);
    world.pass(60_000);
    // By lvs0's own guard, which is dead, nothing is said.
    world.check("19000 lvs1 vip-moved: www (10.0.0.100) moved from lvs0 to lvs1");
}

/// The last word before a cut that nobody notices was told while they took over from each other, and both held it.
#[test]
fn nobody_yields_by_an_old_word() {
    let mut world = World::new(2, &[("www", WWW, &[0, 1])], true);
    world.holds(0, &[WWW]);
    world.holds(1, &[WWW]);
    world.examine(0, 0, false);
    world.examine(1, 0, false);
    world.linked = vec![vec![false; 2]; 2];
    world.holds(1, &[]);
    world.pass(3000);
    world.holds(1, &[WWW]);
    world.examine(1, 0, false);
    world.pass(60_000);
    assert!(!world.told.contains("lvs1 vip-alarm"), "{}", world.told);
    world.give(1, Seen::Lives { node: NodeIx(0) });
    world.pass(60_000);
    let told = std::mem::take(&mut world.told);
    assert!(told.contains("lvs1 vip-alarm") && !told.contains("lvs1 yields"), "{told}");
}

/// Each prefers another address; they are split on both: one gives up all that it holds, never both.
#[test]
fn with_mutual_masters_only_one_side_yields() {
    let mut world = World::new(2, &[("www", WWW, &[0, 1]), ("ftp", FTP, &[1, 0])], true);
    world.holds(0, &[WWW, FTP]);
    world.holds(1, &[WWW, FTP]);
    for n in 0..2 {
        world.examine(n, 0, false);
        world.examine(n, 1, false);
    }
    world.pass(60_000);
    let yields: Vec<&str> = world.told.lines().filter(|l| l.contains("yields")).collect();
    assert_eq!(yields, ["2000 lvs1 yields"]);
}

#[test]
fn an_agent_that_begins_finds_nobody_holding_only_after_what_could_is_ready_for_long() {
    let mut world = World::new(2, &[("www", WWW, &[0, 1])], false);
    world.tell(0);
    world.pass(7000);
    assert!(world.told.is_empty(), "{}", world.told);
    world.pass(1000);
    world.check(
        "7500 lvs0 vip-alarm: nobody holds www (10.0.0.100)
         7500 lvs1 vip-alarm: nobody holds www (10.0.0.100)",
    );
}
