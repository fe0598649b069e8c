//! Whether a chain is whole: what `clusterctl audit` does with the lines of a node, without believing its agent.

use super::{Entry, Hash, Head, read};
use serde::Serialize;
use std::fmt;

/// What is to be made of a node's trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Verdict {
    /// Each entry follows from the one before.
    Intact,
    /// As above; but somewhere the power (or the agent) went before a line was whole. The sequence numbers of the
    /// entries that say so.
    CutOff { at: Vec<u64> },
    /// Something was changed, taken out or put in.
    Tampered { at: u64, why: String },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Intact => f.write_str("intact"),
            Verdict::CutOff { at } => {
                let at: Vec<String> = at.iter().map(u64::to_string).collect();
                write!(f, "intact, but for an unfinished end before entry {}", at.join(", "))
            }
            Verdict::Tampered { at, why } => write!(f, "TAMPERED at entry {at}: {why}"),
        }
    }
}

/// A chain as far as it has been read.
#[derive(Debug, Default)]
pub struct Check {
    last: Option<Head>,
    /// The first entry that is still kept.
    first: Option<u64>,
    cut: Vec<u64>,
    tampered: Option<(u64, String)>,
}

impl Check {
    /// Takes in the next line; the entry in it, if it is one.
    pub fn line(&mut self, line: &str) -> Option<Entry> {
        let expected = self.last.map_or(1, |last| last.seq + 1);
        let Some((entry, hash)) = read(line) else {
            self.blame(expected, "the line is not as it was written".to_owned());
            return None;
        };
        match self.last {
            // Older ones may have been dropped; but nothing comes before the first.
            None if entry.seq == 1 && entry.prev != Hash::default() => {
                self.blame(1, "it says that something came before it".to_owned());
            }
            None => {}
            Some(_) if entry.seq > expected => {
                let missing = entry.seq - expected;
                self.blame(expected, format!("{missing} missing there"));
            }
            Some(_) if entry.seq < expected => {
                self.blame(entry.seq, format!("it comes after entry {}", expected - 1));
            }
            Some(last) if entry.prev != last.hash => {
                self.blame(entry.seq, "it does not follow from the one before".to_owned());
            }
            Some(_) => {}
        }
        if entry.deed.cut.is_some() {
            self.cut.push(entry.seq);
        }
        self.first.get_or_insert(entry.seq);
        self.last = Some(Head { seq: entry.seq, hash });
        Some(entry)
    }

    /// The end of what there is, and what the agent says that the end is.
    pub fn end(&mut self, told: Head) {
        let last = self.head();
        if told.seq > last.seq {
            self.blame(last.seq + 1, format!("{} missing at the end", told.seq - last.seq));
        } else if told.seq == last.seq && told.hash != last.hash {
            self.blame(last.seq, "the agent knows another one as the last".to_owned());
        }
    }

    /// Only the first is told: what comes after it proves nothing any more.
    fn blame(&mut self, at: u64, why: String) {
        self.tampered.get_or_insert((at, why));
    }

    /// The last entry that was read.
    pub fn head(&self) -> Head {
        self.last.unwrap_or_default()
    }

    /// The first entry that is kept.
    pub fn first(&self) -> Option<u64> {
        self.first
    }

    pub fn verdict(&self) -> Verdict {
        match &self.tampered {
            Some((at, why)) => Verdict::Tampered { at: *at, why: why.clone() },
            None if self.cut.is_empty() => Verdict::Intact,
            None => Verdict::CutOff { at: self.cut.clone() },
        }
    }
}
