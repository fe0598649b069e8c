//! The agent's side of the trail: a clerk of its own writes it, and nobody waits for that one.

use super::clerk::Clerk;
use super::events::wall_clock;
use super::shell::Shell;
use crate::process::Boot;
use crate::trail::{Begun, Deed, Outcome, Page, Trail};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Refused calls of one caller are written down once in so long; the others are counted.
const REFUSED_EVERY: Duration = Duration::from_secs(60);
/// So many callers are told apart; further ones are one.
const MOST_REFUSED: usize = 256;
/// Actions that are kept while the disk takes none.
const MOST_WAITING: usize = 1000;
/// About so many bytes of lines are given at a time.
const PAGE: usize = 1 << 20;
/// How long a reader waits for the disk.
const READ_WITHIN: Duration = Duration::from_secs(3);

/// Who writes the trail.
pub struct Scribe {
    clerk: Clerk,
    desk: Arc<Mutex<Desk>>,
    refused: RefCell<HashMap<String, Refused>>,
}

/// Refused calls of one caller since the last one that was written down.
struct Refused {
    since: Instant,
    more: u64,
}

/// The clerk's part.
struct Desk {
    places: Option<(PathBuf, PathBuf, String)>,
    trail: Option<Trail>,
    waiting: VecDeque<Deed>,
    lost: u64,
    trouble: Option<String>,
}

impl Scribe {
    /// The trail in the state folder. It is opened by the clerk.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn begin(state: &Path, run: &Path, boot: &Boot) -> io::Result<Scribe> {
        let boot = format!("{}-{}-{}", boot.boot_id, boot.pid_ns, boot.init_start);
        let desk = Desk {
            places: Some((state.to_owned(), run.to_owned(), boot)),
            trail: None,
            waiting: VecDeque::new(),
            lost: 0,
            trouble: None,
        };
        let scribe = Scribe {
            clerk: Clerk::begin("trail")?,
            desk: Arc::new(Mutex::new(desk)),
            refused: RefCell::default(),
        };
        scribe.give(None);
        Ok(scribe)
    }

    /// Has an action written down.
    pub fn write(&self, deed: Deed) {
        self.give(Some(deed));
    }

    fn give(&self, deed: Option<Deed>) {
        let desk = self.desk.clone();
        let taken = self.clerk.give(move || {
            if let Ok(mut desk) = desk.lock() {
                desk.waiting.extend(deed);
                desk.work();
            }
        });
        if !taken {
            tracing::error!("an action is not on the trail: too many wait for the disk already");
            if let Ok(mut desk) = self.desk.try_lock() {
                desk.lost += 1;
            }
        }
    }

    /// Has a refused call written down, unless it is one of many.
    pub fn write_refused(&self, mut deed: Deed) {
        let mut refused = self.refused.borrow_mut();
        if refused.len() >= MOST_REFUSED {
            // Who has nothing left to be told is forgotten.
            refused.retain(|_, r| r.more > 0 || r.since.elapsed() < REFUSED_EVERY);
        }
        let key =
            if refused.len() < MOST_REFUSED || refused.contains_key(&deed.who) { &deed.who } else { "" };
        let now = Instant::now();
        match refused.get_mut(key) {
            Some(last) if last.since.elapsed() < REFUSED_EVERY => {
                last.more += 1;
                return;
            }
            Some(last) => {
                if last.more > 0 {
                    deed.text += &further(last.more);
                }
                *last = Refused { since: now, more: 0 };
            }
            None => drop(refused.insert(key.to_owned(), Refused { since: now, more: 0 })),
        }
        drop(refused);
        self.write(deed);
    }

    /// Writes down what was only counted, for somebody who wants to read.
    fn tell_counted(&self) {
        let mut counted = Vec::new();
        for (who, refused) in self.refused.borrow_mut().iter_mut().filter(|(_, r)| r.more > 0) {
            let who = if who.is_empty() { "others" } else { who };
            counted.push(Deed {
                what: "further calls".to_owned(),
                outcome: Outcome::Refused,
                text: further(refused.more).trim().to_owned(),
                ..deed(who, "")
            });
            refused.more = 0;
        }
        counted.into_iter().for_each(|deed| self.write(deed));
    }

    /// The lines after an entry.
    ///
    /// # Errors
    /// Why they cannot be read now.
    pub async fn page(&self, after: u64) -> Result<Page, String> {
        self.tell_counted();
        let (tell, told) = oneshot::channel();
        let desk = self.desk.clone();
        let taken = self.clerk.give(move || {
            let page = desk.lock().map_err(|_| "its writer has crashed".to_owned()).and_then(|desk| {
                let trail = desk.trail.as_ref();
                let trail = trail.ok_or_else(|| desk.trouble.clone().unwrap_or_default())?;
                trail.page(after, PAGE).map_err(|e| e.to_string())
            });
            let _ = tell.send(page); // the reader may have gone
        });
        if !taken {
            return Err("too much waits for the disk".to_owned());
        }
        match tokio::time::timeout(READ_WITHIN, told).await {
            Ok(Ok(page)) => page,
            Ok(Err(_)) => Err("its writer has crashed".to_owned()),
            Err(_) => Err(format!("the disk did not answer within {} s", READ_WITHIN.as_secs())),
        }
    }

    /// What is wrong with it, as a sentence.
    pub fn problem(&self) -> Option<String> {
        // Whoever holds it waits for the disk, which is a problem of its own.
        let desk = self.desk.try_lock().ok()?;
        let trouble = desk.trouble.as_ref()?;
        Some(format!("the trail of who did what is kept in memory only: {trouble}"))
    }
}

fn further(more: u64) -> String {
    format!(" (and {more} more since the last one that stands here)")
}

impl Desk {
    fn work(&mut self) {
        match self.try_work() {
            Ok(()) => self.trouble = None,
            Err(e) => {
                if self.trouble.is_none() {
                    tracing::error!("the trail cannot be written: {e}");
                }
                self.trouble = Some(e.to_string());
                let beyond = self.waiting.len().saturating_sub(MOST_WAITING);
                self.lost += beyond as u64;
                self.waiting.truncate(MOST_WAITING);
            }
        }
    }

    fn try_work(&mut self) -> io::Result<()> {
        if let (None, Some((state, run, boot))) = (&self.trail, &self.places) {
            let (trail, begun) = Trail::open(state, run, boot)?;
            if let Some(first) = first_entry(&begun, boot) {
                self.waiting.push_front(first);
            }
            self.trail = Some(trail);
        }
        let Some(trail) = &mut self.trail else { return Ok(()) };
        let named = self.waiting.iter().cloned().map(with_name);
        match trail.append(named) {
            Ok(()) => self.waiting.clear(),
            Err((done, e)) => {
                self.waiting.drain(..done.min(self.waiting.len()));
                return Err(e);
            }
        }
        if self.lost > 0 {
            let text =
                format!("{} actions are not here: the disk took none, and they were too many", self.lost);
            let gap = Deed { what: "went on".to_owned(), text, ..deed("the agent", "") };
            trail.append([gap]).map_err(|(_, e)| e)?;
            self.lost = 0;
        }
        Ok(())
    }
}

impl Shell {
    /// Writes down what a signal from this machine brought about. Who sent it, no signal says.
    pub fn signalled(&self, signal: &str, what: &str, outcome: Result<String, String>) {
        let (outcome, text) = match outcome {
            Ok(text) => (Outcome::Done, text),
            Err(text) => (Outcome::Refused, text),
        };
        let from = "a user of this machine";
        self.trail.write(Deed {
            what: what.to_owned(),
            outcome,
            text,
            ..deed(&format!("who sent {signal}"), from)
        });
    }
}

/// What an agent has to say when it begins: nothing, where another one was before it in this boot and all is there.
fn first_entry(begun: &Begun, boot: &str) -> Option<Deed> {
    let mut said = Vec::new();
    if begun.first_of_boot {
        said.push("the first of this boot".to_owned());
    }
    if let Some(cut) = begun.cut {
        let by = if begun.first_of_boot { "power, or somebody," } else { "end of the agent, or somebody," };
        said.push(format!(
            "an unfinished line of {cut} bytes was at the end, where the {by} left it; it is cut off"
        ));
    }
    if let Some(missing) = begun.missing {
        said.push(format!(
            "the end is not the one that was written in this boot (entry {}): somebody has changed it",
            missing.seq
        ));
        tracing::error!("the trail of who did what was changed by somebody since the agent before this one");
    }
    if said.is_empty() {
        return None;
    }
    Some(Deed {
        what: "agent began".to_owned(),
        text: said.join("; "),
        boot: begun.first_of_boot.then(|| boot.to_owned()),
        cut: begun.cut,
        ..deed("the agent", "")
    })
}

/// An action of now, to be filled in.
pub fn deed(who: &str, from: &str) -> Deed {
    Deed {
        at: wall_clock(),
        who: who.to_owned(),
        from: from.to_owned(),
        what: String::new(),
        why: String::new(),
        outcome: Outcome::Done,
        text: String::new(),
        boot: None,
        cut: None,
    }
}

/// Adds the name of a user of this machine. By the clerk, and by the file: who else knows users may be on the network.
fn with_name(mut deed: Deed) -> Deed {
    let uid = deed.who.strip_prefix("uid ").and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
    if let Some(uid) = uid
        && deed.from.starts_with("the unix socket")
    {
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
        });
        deed.who = name.map_or_else(|| format!("uid {uid}"), |name| format!("{name} (uid {uid})"));
    }
    deed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trail::{Check, Entry, Verdict};

    fn scribe(dir: &Path) -> Scribe {
        Scribe::begin(dir, dir, &Boot::current().unwrap()).unwrap()
    }

    async fn entries(scribe: &Scribe) -> Vec<Entry> {
        let (page, mut check) = (scribe.page(0).await.unwrap(), Check::default());
        let entries = page.lines.iter().filter_map(|line| check.line(line)).collect();
        check.end(page.head);
        assert_eq!(check.verdict(), Verdict::Intact);
        entries
    }

    #[tokio::test]
    async fn refused_calls_of_one_caller_are_counted_and_those_of_others_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let scribe = scribe(dir.path());
        for n in 0..1000 {
            scribe.write_refused(Deed { outcome: Outcome::Refused, ..deed("mallory", "") });
            if n == 500 {
                scribe.write_refused(Deed { outcome: Outcome::Refused, ..deed("alice", "") });
            }
        }
        let told: Vec<String> =
            entries(&scribe).await.into_iter().map(|e| format!("{}: {}", e.deed.who, e.deed.text)).collect();
        assert_eq!(
            told,
            [
                "the agent: the first of this boot",
                "mallory: ",
                "alice: ",
                "mallory: (and 999 more since the last one that stands here)"
            ]
        );
        // However many names he has.
        for n in 0..10_000 {
            scribe.write_refused(deed(&format!("n{n}"), ""));
        }
        let told = entries(&scribe).await.len();
        assert!(told < MOST_REFUSED + 10, "{told}");
    }

    #[tokio::test]
    async fn a_second_agent_of_a_boot_has_nothing_to_say_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let first = scribe(dir.path());
        first.write(Deed { what: "stop web".into(), ..deed("uid 0 on the unix socket", "the unix socket") });
        assert_eq!(entries(&first).await.len(), 2);
        drop(first);
        let second = scribe(dir.path());
        let told = entries(&second).await;
        assert_eq!((told.len(), told[1].deed.who.as_str()), (2, "root (uid 0)"));
    }

    #[tokio::test]
    async fn what_the_disk_does_not_take_is_kept_and_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let scribe = Scribe::begin(&state, dir.path(), &Boot::current().unwrap()).unwrap();
        for n in 0..MOST_WAITING + 5 {
            scribe.write(Deed { what: format!("{n}"), ..deed("alice", "") });
            let _ = scribe.page(0).await; // when this is here, that was tried
        }
        assert!(scribe.problem().unwrap().contains("kept in memory only"), "{:?}", scribe.problem());
        fs::create_dir(&state).unwrap();
        scribe.write(Deed { what: "last".into(), ..deed("alice", "") });
        let told = entries(&scribe).await;
        assert!(told.iter().any(|e| e.deed.text.starts_with("6 actions are not here")), "{:?}", told.last());
        assert_eq!(scribe.problem(), None);
    }
}
