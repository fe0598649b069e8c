//! Who holds which virtual address, and what follows from it: pure, as the engine is. Time and facts in, actions out.
//!
//! An address has one holder, or something is wrong. A moment of doubt is granted, since a takeover is no single step;
//! while it lasts its directors look for the reason, so that the alarm comes with it.
//!
//! *Yielding*: where the file says so, the less preferred of several holders gives up, once all directors' agents hear
//! each other and say that they see the same holders. An agent that is cut off sees less, so nobody yields to it. The
//! one who yielded stays back while another holds the address, and comes back when nobody does.

use super::diagnose::{HEARD_BY, Side, diagnose};
use super::word::{AlarmView, Facts, Held, Keeping, VipWord};
use crate::facts::Moment;
use crate::model::{InstanceIx, NodeIx};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// How long several may hold an address before it is an alarm: a director that comes back and the one that steps
/// down overlap for some milliseconds; and adverts of one a second are to be heard, or missed, by then.
pub const SEVERAL_FOR: Duration = Duration::from_millis(1500);
/// How long nobody may hold it where nobody is there who would take it over, or where nobody ever held it.
pub const NOBODY_FOR: Duration = Duration::from_millis(1500);
/// Who takes an address over does so when three adverts have not come and its skew is over (RFC 9568, 6.1). From then on
/// this much is granted, for a busy machine and for the news to come round.
const TAKEOVER_SLACK: Duration = Duration::from_millis(500);
/// What holds addresses takes one after its start only when it has heard nobody for so long: three adverts and a bit,
/// at a second each.
const FIRST_FOR: Duration = Duration::from_secs(6);
/// How long an alarm stands before somebody yields: both sides are to say the same by then.
const YIELD_AFTER: Duration = Duration::from_millis(500);
/// How long nobody else is seen to hold it until the one who yielded comes back.
const COME_BACK: Duration = Duration::from_secs(1);
/// The same while an agent is not heard.
const COME_BACK_UNSEEN: Duration = Duration::from_secs(3);

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// The addresses on this node's interfaces, `lo` left out.
    Addresses(Vec<(IpAddr, String)>),
    /// Another director's agent told; `same_file` says that it acts by the same configuration.
    Told {
        node: NodeIx,
        words: Vec<VipWord>,
        same_file: bool,
    },
    /// Its stream ended.
    Lost {
        node: NodeIx,
    },
    /// Its machine answers, and no agent is there.
    Refused {
        node: NodeIx,
    },
    /// Its machine answers; what its agent told last stands.
    Lives {
        node: NodeIx,
    },
    /// What holds addresses on this node. (One instance: two keepalived on a machine would fight.)
    Keeper(Option<Keeper>),
    /// This director has looked for the reason.
    Examined {
        vip: usize,
        facts: Facts,
    },
    TimeCame,
}

/// The instance that holds addresses on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeper {
    pub instance: InstanceIx,
    pub is: Keeping,
    /// It is held because it yielded.
    pub yielded: bool,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// Tell the others: [`Guard::words`] changed.
    Tell,
    /// Find out which of its other directors' machines live, each answered by [`Seen::Lives`]; and on a director look for
    /// the reason, answered by [`Seen::Examined`] again and again. From now on, or no more.
    Examine {
        vip: usize,
        on: bool,
    },
    Record {
        what: &'static str,
        text: String,
        data: serde_json::Value,
    },
    /// Stop this instance, which is this node's.
    Yield {
        keeper: InstanceIx,
        why: String,
    },
    /// Start it again.
    ComeBack {
        keeper: InstanceIx,
        why: String,
    },
}

/// A virtual address to be watched.
#[derive(Clone, Debug)]
pub struct Vip {
    pub name: String,
    pub address: IpAddr,
    /// Node, name and own address of each director, the preferred one first.
    pub directors: Vec<(NodeIx, String, IpAddr)>,
    /// VRRP priority of each, and the time between two adverts: as rendered. A file that was found goes before it.
    pub priorities: Vec<u8>,
    pub advert: Duration,
    /// Whether the less preferred of several holders gives up.
    pub yields: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contact {
    Never,
    Here,
    /// `answers`: the machine lives, its agent does not.
    Lost {
        answers: bool,
    },
}

/// What is known of one director.
#[derive(Clone, Debug)]
struct Director {
    contact: Contact,
    /// When its agent told last, and when its machine gave a sign of life.
    told: Moment,
    lived: Moment,
    held: Option<(String, Moment)>,
    sees: Vec<String>,
    yields: bool,
    same_file: bool,
    keeping: Keeping,
    keeping_since: Moment,
    facts: Option<Facts>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nobody,
    Several,
}

#[derive(Debug)]
struct Doubt {
    wrong: Wrong,
    since: Moment,
    raised: Option<Moment>,
    /// The diagnosis that was told.
    told: Vec<String>,
}

#[derive(Debug)]
struct Watched {
    vip: Vip,
    directors: Vec<Director>,
    doubt: Option<Doubt>,
    /// Who was seen to hold it alone, last.
    last: Option<usize>,
}

/// What one agent knows of all virtual addresses.
#[derive(Debug)]
pub struct Guard {
    me: NodeIx,
    vips: Vec<Watched>,
    keeper: Option<Keeper>,
    /// Since when nobody else holds what an own keeper has given up.
    alone: Option<Moment>,
    /// What was told, ages left out.
    told: Vec<VipWord>,
    now: Moment,
    out: Vec<Deed>,
}

impl Guard {
    pub fn new(me: NodeIx, vips: Vec<Vip>, now: Moment) -> Guard {
        let watched = |vip: Vip| {
            let contact = |node: NodeIx| if node == me { Contact::Here } else { Contact::Never };
            let directors = vip.directors.iter().map(|(node, ..)| Director {
                contact: contact(*node),
                told: now,
                lived: now,
                held: None,
                sees: Vec::new(),
                yields: false,
                same_file: *node == me,
                keeping: Keeping::Unknown,
                keeping_since: now,
                facts: None,
            });
            Watched { directors: directors.collect(), vip, doubt: None, last: None }
        };
        let vips = vips.into_iter().map(watched).collect();
        Guard { me, vips, keeper: None, alone: None, told: Vec::new(), now, out: Vec::new() }
    }

    /// Takes in what happened; what is to be done, in order.
    #[must_use = "deeds are to be done"]
    pub fn handle(&mut self, now: Moment, seen: Seen) -> Vec<Deed> {
        self.now = self.now.max(now);
        self.take(seen);
        for v in 0..self.vips.len() {
            self.judge(v);
        }
        self.consider_yielding();
        self.consider_coming_back();
        let words: Vec<_> = self.words(self.now).into_iter().map(ageless).collect();
        if words != self.told {
            self.told = words;
            self.out.insert(0, Deed::Tell); // what follows relies on it
        }
        std::mem::take(&mut self.out)
    }

    /// When [`Seen::TimeCame`] is due next.
    pub fn next_wake(&self) -> Option<Moment> {
        let doubts = self.vips.iter().filter_map(|w| {
            let doubt = w.doubt.as_ref()?;
            match doubt.raised {
                None => Some(doubt.since + w.patience(doubt.wrong)),
                Some(raised) => Some(raised + YIELD_AFTER).filter(|_| w.vip.yields),
            }
        });
        let back = self.alone.map(|since| since + self.comes_back_after());
        let directors = self.vips.iter().flat_map(|w| &w.directors);
        let first = directors.filter(|d| d.keeping == Keeping::Ready).map(|d| d.keeping_since + FIRST_FOR);
        // What is due and waits for a fact comes with that.
        doubts.chain(first).filter(|at| *at > self.now).chain(back).min()
    }

    /// What this node's agent tells: one word for each address of which it is a director.
    pub fn words(&self, now: Moment) -> Vec<VipWord> {
        let own = self.vips.iter().filter_map(|w| Some((w, w.at(self.me)?)));
        let word = |(w, d): (&Watched, usize)| VipWord {
            vip: w.vip.name.clone(),
            held: w.directors[d].held(now),
            sees: w.holders().map(|h| w.name(h).to_owned()).collect(),
            yields: w.directors[d].yields,
            keeper: w.directors[d].keeping,
            facts: w.directors[d].facts.clone(),
            macs: Vec::new(), // the shell's to say
        };
        own.map(word).collect()
    }

    /// Where an address stands on a director, and its alarm, for operators.
    pub fn view(&self, v: usize, now: Moment) -> (Option<Held>, Option<AlarmView>) {
        let w = &self.vips[v];
        let held = w.at(self.me).and_then(|d| w.directors[d].held(now));
        let alarm = w.doubt.as_ref().filter(|d| d.raised.is_some()).map(|doubt| AlarmView {
            text: self.text(w, doubt.wrong),
            for_ms: now.since(doubt.since).as_millis() as u64,
            diagnosis: self.diagnosis(w, doubt.wrong),
        });
        (held, alarm)
    }

    fn take(&mut self, seen: Seen) {
        let now = self.now;
        match seen {
            Seen::Addresses(all) => {
                for w in &mut self.vips {
                    let Some(d) = w.at(self.me) else { continue };
                    let found = all.iter().find(|(address, _)| *address == w.vip.address);
                    let director = &mut w.directors[d];
                    let before = director.held.as_ref().map(|(interface, _)| interface);
                    if before == found.map(|(_, interface)| interface) {
                        continue;
                    }
                    director.held = found.map(|(_, interface)| (interface.clone(), now));
                    let (name, address) = (&w.vip.name, w.vip.address);
                    let (what, text) = match found {
                        Some((_, on)) => ("vip-held", format!("{name} ({address}) is on {on} here")),
                        None => ("vip-gone", format!("{name} ({address}) is not here any more")),
                    };
                    self.out.push(Deed::Record { what, text, data: serde_json::json!({ "vip": name }) });
                }
            }
            Seen::Told { node, words, same_file } => {
                for w in &mut self.vips {
                    let Some(d) = w.at(node) else { continue };
                    let word = words.iter().find(|word| word.vip == w.vip.name);
                    w.directors[d].contact = Contact::Here;
                    (w.directors[d].told, w.directors[d].lived) = (now, now);
                    w.directors[d].same_file = same_file;
                    let Some(word) = word else { continue };
                    let held = word.held.as_ref();
                    let since = |h: &Held| now - Duration::from_millis(h.for_ms);
                    w.directors[d].held = held.map(|h| (h.interface.clone(), since(h)));
                    w.directors[d].sees = word.sees.clone();
                    w.directors[d].yields = word.yields;
                    w.directors[d].keeps(word.keeper, now);
                    w.directors[d].facts = word.facts.clone();
                }
            }
            Seen::Lost { node } => self.contact(node, Contact::Lost { answers: false }),
            Seen::Refused { node } => {
                self.contact(node, Contact::Lost { answers: true });
                self.lives(node);
            }
            Seen::Lives { node } => self.lives(node),
            Seen::Keeper(keeper) => {
                self.keeper = keeper;
                let keeper = self.keeper.as_ref();
                let (is, yields) = keeper.map_or((Keeping::Unknown, false), |k| (k.is, k.yielded));
                for w in &mut self.vips {
                    if let Some(d) = w.at(self.me) {
                        w.directors[d].yields = yields;
                        w.directors[d].keeps(is, now);
                    }
                }
            }
            Seen::Examined { vip, facts } => {
                let me = self.me;
                let watched = self.vips.get_mut(vip).filter(|w| w.doubt.is_some());
                if let Some((w, d)) = watched.and_then(|w| w.at(me).map(|d| (w, d))) {
                    w.directors[d].facts = Some(facts);
                }
            }
            Seen::TimeCame => {}
        }
    }

    fn lives(&mut self, node: NodeIx) {
        for w in &mut self.vips {
            if let Some(d) = w.at(node) {
                w.directors[d].lived = self.now;
            }
        }
    }

    fn contact(&mut self, node: NodeIx, contact: Contact) {
        for w in &mut self.vips {
            if let Some(d) = w.at(node) {
                w.directors[d].contact = contact;
                w.directors[d].facts = None;
            }
        }
    }

    /// Compares what is with what ought to be.
    fn judge(&mut self, v: usize) {
        let holders = self.vips[v].holders().count();
        let wrong = match holders {
            0 => self.is_wanted(&self.vips[v]).then_some(Wrong::Nobody),
            1 => None,
            _ => Some(Wrong::Several),
        };
        self.notice_move(v);
        let before = self.vips[v].doubt.as_ref().map(|d| d.wrong);
        if before != wrong {
            self.doubt(v, wrong);
        }
        let Some((wrong, since, raised)) =
            self.vips[v].doubt.as_ref().map(|d| (d.wrong, d.since, d.raised.is_some()))
        else {
            return;
        };
        let early = self.now < since + self.vips[v].patience(wrong);
        let doubtful = match wrong {
            Wrong::Nobody => self.is_announced(&self.vips[v]),
            Wrong::Several => !self.vips[v].all_live(self.me, since),
        };
        if !raised && (early || doubtful) {
            return;
        }
        let w = &self.vips[v];
        let (text, diagnosis) = (self.text(w, wrong), self.diagnosis(w, wrong));
        let name = w.vip.name.clone();
        let Some(doubt) = self.vips[v].doubt.as_mut() else { return };
        let told = doubt.told != diagnosis;
        doubt.told = diagnosis.clone();
        let data = serde_json::json!({ "vip": name, "diagnosis": diagnosis });
        if !raised {
            doubt.raised = Some(self.now);
            let text = [&[text][..], &diagnosis].concat().join("; ");
            self.out.push(Deed::Record { what: "vip-alarm", text, data });
        } else if told && !diagnosis.is_empty() {
            let text = format!("{name}: {}", diagnosis.join("; "));
            self.out.push(Deed::Record { what: "vip-diagnosis", text, data });
        }
    }

    /// Tells of a takeover, where it is no alarm that ends.
    fn notice_move(&mut self, v: usize) {
        let w = &mut self.vips[v];
        let mut holders = w.holders();
        let (Some(holder), None) = (holders.next(), holders.next()) else { return };
        drop(holders);
        let before = w.last.replace(holder);
        let doubt = w.doubt.as_ref();
        let gap = doubt.filter(|d| d.wrong == Wrong::Nobody).map(|d| self.now.since(d.since).as_secs_f64());
        let gap = gap.filter(|gap| *gap >= 0.05); // news of both crosses on its way
        let (name, address, to) = (&w.vip.name, w.vip.address, w.name(holder));
        let text = match (before, gap) {
            _ if doubt.is_some_and(|d| d.raised.is_some()) => return,
            (Some(from), gap) if from != holder => {
                let gap = gap.map(|gap| format!("; nobody held it for {gap:.1} s")).unwrap_or_default();
                format!("{name} ({address}) moved from {} to {to}{gap}", w.name(from))
            }
            (Some(_), Some(gap)) => {
                format!("{name} ({address}) is held by {to} again; nobody held it for {gap:.1} s")
            }
            _ => return,
        };
        self.out.push(Deed::Record { what: "vip-moved", text, data: serde_json::json!({ "vip": name }) });
    }

    /// Something is wrong, in another way than before, or no more.
    fn doubt(&mut self, v: usize, wrong: Option<Wrong>) {
        let now = self.now;
        let w = &mut self.vips[v];
        let before = w.doubt.take();
        w.doubt = wrong.map(|wrong| Doubt { wrong, since: now, raised: None, told: Vec::new() });
        if let Some(Doubt { since, raised: Some(_), .. }) = &before {
            let name = &w.vip.name;
            let lasted = now.since(*since).as_secs_f64();
            let text = match w.holders().next() {
                Some(h) => format!("{name} is held by {} alone again, after {lasted:.1} s", w.name(h)),
                None => format!("{name}: several do not hold it any more, after {lasted:.1} s; nobody does"),
            };
            self.out.push(Deed::Record { what: "vip-clear", text, data: serde_json::json!({ "vip": name }) });
        }
        if let Some(d) = w.at(self.me).filter(|_| wrong.is_none()) {
            w.directors[d].facts = None;
        }
        if before.is_none() || wrong.is_none() {
            self.out.push(Deed::Examine { vip: v, on: wrong.is_some() });
        }
    }

    /// Whether somebody ought to hold it: somebody has, or something that could is ready for long enough; and not all
    /// that could are held by an operator.
    fn is_wanted(&self, w: &Watched) -> bool {
        let all_held = w.directors.iter().all(|d| d.keeping == Keeping::Held);
        let ready = |d: &Director| d.keeping == Keeping::Ready && self.now >= d.keeping_since + FIRST_FOR;
        let first = w.directors.iter().any(ready);
        // Who hears no director at all is cut off itself.
        let heard = w.directors.iter().any(|d| d.contact == Contact::Here);
        heard && !all_held && (w.last.is_some() || first)
    }

    /// Whether a director whose agent is not heard announces itself, as only a holder does.
    fn is_announced(&self, w: &Watched) -> bool {
        let own = w.at(self.me).and_then(|d| w.directors[d].facts.as_ref());
        let heard = own.and_then(|f| f.heard.as_ref().ok());
        heard.is_some_and(|heard| w.unseen().any(|d| heard.contains(&w.vip.directors[d].2)))
    }

    fn text(&self, w: &Watched, wrong: Wrong) -> String {
        let (name, address) = (&w.vip.name, w.vip.address);
        let unseen: Vec<_> = w.unseen().map(|d| w.name(d)).collect();
        let mut text = match wrong {
            Wrong::Nobody => format!("nobody holds {name} ({address})"),
            Wrong::Several => {
                let holders = w.holders().map(|h| match &w.directors[h].held {
                    Some((interface, _)) => format!("{} ({interface})", w.name(h)),
                    None => w.name(h).to_owned(),
                });
                let holders: Vec<_> = holders.collect();
                format!("{name} ({address}) is held by {} at the same time", holders.join(" and "))
            }
        };
        match unseen.as_slice() {
            [] => {}
            [one] => text += &format!(", as far as can be seen: the agent of {one} is not heard"),
            all => {
                text += &format!(", as far as can be seen: the agents of {} are not heard", all.join(" and "))
            }
        }
        text
    }

    fn diagnosis(&self, w: &Watched, wrong: Wrong) -> Vec<String> {
        let sides: Vec<Side<'_>> = w
            .vip
            .directors
            .iter()
            .zip(&w.directors)
            .map(|((_, name, address), d)| Side {
                name,
                address: *address,
                holds: d.holds(),
                facts: d.facts.as_ref(),
            })
            .collect();
        diagnose(&sides, wrong == Wrong::Several)
    }

    // --- yielding ---

    fn consider_yielding(&mut self) {
        let mut decided = BTreeSet::new();
        let mut deeds = Vec::new();
        for w in self.vips.iter().filter(|w| w.vip.yields) {
            let Some(doubt) = w.doubt.as_ref().filter(|d| d.wrong == Wrong::Several) else { continue };
            let Some(me) = w.at(self.me).filter(|d| w.directors[*d].holds()) else { continue };
            let Some(keeper) = self.keeper.as_ref() else { continue };
            // One that holds several gives up all of them at once: the first address decides, on every node.
            if keeper.yielded || !decided.insert(keeper.instance) {
                continue;
            }
            let long = doubt.raised.is_some_and(|at| self.now >= at + YIELD_AFTER);
            if !long || !w.all_agree(me, doubt.since) {
                continue;
            }
            let rank = |d: usize| w.directors[d].facts.as_ref().map(|f| (f.frozen.is_some(), d));
            let Some(own) = rank(me) else { continue };
            let better = w.holders().filter(|d| *d != me).filter_map(rank).min().filter(|b| *b < own);
            if let Some((_, to)) = better {
                let why = format!("split brain: {} holds {} too, and is preferred", w.name(to), w.vip.name);
                deeds.push(Deed::Yield { keeper: keeper.instance, why });
            }
        }
        for deed in deeds {
            // Told before it is done, so that nobody yields to the one who yields.
            for w in &mut self.vips {
                if let Some(d) = w.at(self.me) {
                    w.directors[d].yields = true;
                }
            }
            if let Some(keeper) = &mut self.keeper {
                keeper.yielded = true;
            }
            self.out.push(deed);
        }
    }

    fn consider_coming_back(&mut self) {
        let yielded = self.keeper.as_ref().filter(|k| k.yielded).map(|k| k.instance);
        let Some(keeper) = yielded.filter(|_| !self.is_held_elsewhere()) else {
            self.alone = None;
            return;
        };
        let since = *self.alone.get_or_insert(self.now);
        if self.now >= since + self.comes_back_after() {
            self.alone = None;
            if let Some(keeper) = &mut self.keeper {
                keeper.yielded = false;
            }
            let why = "nobody else is seen to hold what it gave up".to_owned();
            self.out.push(Deed::ComeBack { keeper, why });
        }
    }

    /// Whether another director is seen to hold an address of which this node is a director.
    fn is_held_elsewhere(&self) -> bool {
        let own = self.vips.iter().filter_map(|w| Some((w, w.at(self.me)?)));
        let mut own = own.filter(|(w, me)| w.holders().any(|h| h != *me));
        own.next().is_some()
    }

    fn comes_back_after(&self) -> Duration {
        let all_heard =
            self.vips.iter().filter(|w| w.at(self.me).is_some()).all(|w| w.unseen().next().is_none());
        if all_heard { COME_BACK } else { COME_BACK_UNSEEN }
    }
}

impl Director {
    /// Whether it holds the address, as far as can be seen: one whose agent died holds what it held, while its machine
    /// answers.
    fn holds(&self) -> bool {
        self.held.is_some() && matches!(self.contact, Contact::Here | Contact::Lost { answers: true })
    }
}

impl Director {
    fn held(&self, now: Moment) -> Option<Held> {
        let (interface, since) = self.held.as_ref()?;
        Some(Held { interface: interface.clone(), for_ms: now.since(*since).as_millis() as u64 })
    }

    fn keeps(&mut self, is: Keeping, now: Moment) {
        if self.keeping != is {
            (self.keeping, self.keeping_since) = (is, now);
        }
    }
}

impl Watched {
    fn at(&self, node: NodeIx) -> Option<usize> {
        self.vip.directors.iter().position(|(n, ..)| *n == node)
    }

    fn name(&self, director: usize) -> &str {
        &self.vip.directors[director].1
    }

    fn holders(&self) -> impl Iterator<Item = usize> {
        (0..self.directors.len()).filter(|d| self.directors[*d].holds())
    }

    /// How long something may be wrong before it is an alarm. A takeover is none: whoever would take the address over
    /// has its time for it.
    fn patience(&self, wrong: Wrong) -> Duration {
        if wrong == Wrong::Several {
            return SEVERAL_FOR;
        }
        // Of whom nobody hears it is not known; adverts of the others reach it, or not.
        let could = |d: &Director| d.contact != Contact::Here || d.keeping == Keeping::Ready;
        let takeovers = self.directors.iter().enumerate().filter(|(_, d)| could(d));
        let takeovers = takeovers.map(|(at, d)| {
            let found = d.facts.as_ref().and_then(|f| f.settings.as_ref().ok());
            let advert = found.map_or(self.vip.advert, |s| Duration::from_millis(s.advert_ms));
            let priority = found.map_or(u32::from(self.vip.priorities[at]), |s| s.priority.min(255));
            3 * advert + advert * (256 - priority) / 256 + TAKEOVER_SLACK
        });
        let first = self.last.is_none();
        takeovers.max().filter(|_| !first).unwrap_or(NOBODY_FOR)
    }

    fn unseen(&self) -> impl Iterator<Item = usize> {
        (0..self.directors.len()).filter(|d| self.directors[*d].contact != Contact::Here)
    }

    /// Whether each holder but this node (`me`) has given a sign of life `since`. One that lost its power tells nothing, not even
    /// that it lost the address: its last word is old by the time that another one has taken over.
    fn all_live(&self, me: NodeIx, since: Moment) -> bool {
        self.holders().all(|h| self.vip.directors[h].0 == me || self.directors[h].lived >= since)
    }

    /// Whether all directors but this node's own (`me`) are heard, act by the same file, see the same holders as it
    /// does, and have not yielded. Only what they told `since` counts: a stream that was cut in silence still stands, and its
    /// last word may be of another such moment.
    fn all_agree(&self, me: usize, since: Moment) -> bool {
        let holders: Vec<_> = self.holders().map(|h| self.name(h)).collect();
        let agrees = |d: &Director| {
            let is_heard = d.contact == Contact::Here && d.told >= since;
            is_heard && d.same_file && !d.yields && d.sees == holders
        };
        self.directors.iter().enumerate().all(|(i, d)| i == me || agrees(d))
    }
}

fn ageless(mut word: VipWord) -> VipWord {
    word.held = word.held.map(|h| Held { for_ms: 0, ..h });
    // Only whether it was long enough to say anything.
    word.facts = word.facts.map(|f| Facts { listened_ms: u64::from(f.listened_ms >= HEARD_BY), ..f });
    word
}

#[cfg(test)]
mod tests;
