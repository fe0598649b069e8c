//! Generations: a configuration's place in the line of those that were applied, and who may take which.
//!
//! `clusterctl apply` makes one of a file and its units. It has a number for people, a hash of its content, and the
//! hashes of those that it comes from, its parent first. A node takes one that comes from what it has, and nothing
//! else: where two come from the same parent, nobody guesses, and an operator says which goes over which
//! ([`choose`]). A file that was put on a node by hand has no ancestors, so it comes from nothing.
//!
//! A signature over it ([`Generation::text`]) lets a node that was down take it from another node: that it was
//! an administrator who said so is proven, and not believed of whoever passes it on.
//!
//! Pure: no I/O, no clock.

mod difference;

pub use difference::{Change, Fate, difference};

use crate::model::Sources;
use crate::pki::Seal;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// Ancestors that a generation names. A node that has missed more of them is shown as diverged.
pub const MAX_ANCESTORS: usize = 64;
/// Of these so many are told with a node's status.
const SHOWN_ANCESTORS: usize = 8;
/// Digits of a hash that an operator has to type.
pub const SHORT: usize = 8;

/// A configuration's place in the line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// 0 for a file that no `apply` has brought. For people; the hashes decide.
    pub number: u64,
    /// Of the content: [`Sources::hash`].
    pub hash: String,
    /// The hashes of those that it comes from, the parent first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<String>,
    /// The file was changed by hand since this number was applied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub edited: bool,
    /// Who applied it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

/// A generation with all that it is made of, as it goes from node to node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Offer {
    pub generation: Generation,
    /// Missing where nobody has a key (`insecure = true`), or root applied it on one node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
    pub sources: Sources,
}

/// What another generation is to the own one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The same content.
    Same,
    /// It comes from the own one.
    Newer,
    /// The own one comes from it.
    Older,
    /// Neither comes from the other.
    Diverged,
}

impl Generation {
    /// Of a file that no `apply` has brought.
    pub fn by_hand(hash: String) -> Generation {
        Generation { hash, ..Generation::default() }
    }

    /// The same number, of a file that was changed by hand since.
    pub fn edited(&self, hash: String) -> Generation {
        Generation { number: self.number, hash, edited: self.number > 0, ..Generation::default() }
    }

    /// What comes after `parent`, and over all of `over`: whoever has one of these may take it.
    pub fn after(parent: &Generation, over: &[&Generation], hash: String, by: String) -> Generation {
        let line = || std::iter::once(parent).chain(over.iter().copied());
        let mut ancestors: Vec<String> = Vec::new();
        for hash in line().map(|g| &g.hash).chain(line().flat_map(|g| &g.ancestors)) {
            if !ancestors.contains(hash) && ancestors.len() < MAX_ANCESTORS {
                ancestors.push(hash.clone());
            }
        }
        let number = line().map(|g| g.number).max().unwrap_or(0) + 1;
        Generation { number, hash, ancestors, edited: false, by }
    }

    /// The hash of the one that it was made from.
    pub fn parent(&self) -> Option<&str> {
        self.ancestors.first().map(String::as_str)
    }

    /// What `other` is to this one. The number counts, too: content may come back, and the line goes on.
    pub fn relation(&self, other: &Generation) -> Relation {
        if other.hash == self.hash {
            Relation::Same
        } else if other.number > self.number && other.ancestors.contains(&self.hash) {
            Relation::Newer
        } else if other.number < self.number && self.ancestors.contains(&other.hash) {
            Relation::Older
        } else {
            Relation::Diverged
        }
    }

    /// Whether a node that has this one may take `offered`.
    ///
    /// # Errors
    /// The sentence that says why not.
    pub fn may_take(&self, offered: &Generation) -> Result<(), String> {
        if offered.ancestors.len() > MAX_ANCESTORS {
            return Err(format!("it names more than {MAX_ANCESTORS} ancestors"));
        }
        match self.relation(offered) {
            Relation::Same | Relation::Newer => Ok(()),
            Relation::Older => Err(format!("it is older than {self}, which is in force here")),
            Relation::Diverged => Err(format!(
                "it does not come from {self}, which is in force here; clusterctl apply --over {} puts it over that",
                self.short()
            )),
        }
    }

    /// With the nearest ancestors only, for showing.
    pub fn shown(&self) -> Generation {
        let ancestors = self.ancestors.iter().take(SHOWN_ANCESTORS).cloned().collect();
        Generation { ancestors, ..self.clone() }
    }

    /// The first digits of the hash.
    pub fn short(&self) -> &str {
        short(&self.hash)
    }

    /// What is signed: every part of it in lines, and the cluster's name. The hash stands for the content.
    pub fn text(&self, cluster: &str) -> String {
        let mut text =
            format!("clusterd generation 1\n{cluster}\n{}\n{}\n{}\n", self.number, self.hash, self.by);
        for ancestor in &self.ancestors {
            let _ = writeln!(text, "{ancestor}");
        }
        text
    }
}

/// `generation 4 (3f2a91bc)`, `generation 4, changed by hand (77aa01cd)`, `a file put there by hand (77aa01cd)`
impl std::fmt::Display for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.number, self.edited) {
            (0, _) => write!(f, "a file put there by hand ({})", self.short()),
            (n, false) => write!(f, "generation {n} ({})", self.short()),
            (n, true) => write!(f, "generation {n}, changed by hand ({})", self.short()),
        }
    }
}

/// The digits of a hash that are shown.
pub fn short(hash: &str) -> &str {
    hash.get(..SHORT).unwrap_or(hash)
}

/// Why it cannot be said from which generation a new one is to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unclear {
    /// `--over` names what no node has.
    NotThere(String),
    /// Fewer digits than [`SHORT`].
    TooShort(String),
    /// None of these comes from all the others.
    Diverged(Vec<Generation>),
}

/// Of what the nodes have: from which one a new one comes, and over which others it goes. The newest, if all others
/// are its ancestors or named by `over` (by the first digits of their hashes).
///
/// # Errors
/// When that is not clear.
pub fn choose<'g>(
    have: &[&'g Generation],
    over: &[String],
) -> Result<(&'g Generation, Vec<&'g Generation>), Unclear> {
    for typed in over {
        if typed.len() < SHORT {
            return Err(Unclear::TooShort(typed.clone()));
        }
        if !have.iter().any(|g| g.hash.starts_with(typed.as_str())) {
            return Err(Unclear::NotThere(typed.clone()));
        }
    }
    let mut distinct: Vec<&Generation> = Vec::new();
    for generation in have {
        match distinct.iter_mut().find(|d| d.hash == generation.hash) {
            // The same content with a longer history says more.
            Some(known) if generation.number > known.number => *known = generation,
            Some(_) => {}
            None => distinct.push(generation),
        }
    }
    let named = |g: &&Generation| over.iter().any(|typed| g.hash.starts_with(typed.as_str()));
    let (mut over, left): (Vec<&Generation>, Vec<&Generation>) = distinct.into_iter().partition(named);
    if left.is_empty() {
        // All that there is goes under the new one.
        let Some(at) = (0..over.len()).max_by_key(|i| over[*i].number) else {
            return Err(Unclear::Diverged(Vec::new()));
        };
        let parent = over.remove(at);
        return Ok((parent, over));
    }
    let newest =
        left.iter().find(|g| left.iter().all(|o| matches!(g.relation(o), Relation::Same | Relation::Older)));
    match newest {
        Some(parent) => Ok((parent, over)),
        None => Err(Unclear::Diverged(left.into_iter().cloned().collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash, and a letter for it.
    fn hash(letter: char) -> String {
        letter.to_string().repeat(32)
    }

    fn generation(number: u64, letter: char, ancestors: &str) -> Generation {
        let ancestors = ancestors.chars().map(hash).collect();
        Generation { number, hash: hash(letter), ancestors, ..Generation::default() }
    }

    #[test]
    fn a_node_takes_what_comes_from_what_it_has() {
        let rows = [
            // What is there, what is offered, what that is, whether it is taken.
            (generation(0, 'a', ""), generation(1, 'b', "a"), Relation::Newer, true),
            (generation(1, 'b', "a"), generation(1, 'b', "a"), Relation::Same, true),
            // One that missed some.
            (generation(1, 'b', "a"), generation(4, 'e', "dcba"), Relation::Newer, true),
            // Siblings: of one number, and of two.
            (generation(2, 'c', "ba"), generation(2, 'd', "ba"), Relation::Diverged, false),
            (generation(2, 'c', "ba"), generation(3, 'e', "dba"), Relation::Diverged, false),
            // One that is behind.
            (generation(3, 'd', "cba"), generation(2, 'c', "ba"), Relation::Older, false),
            // Content that came back: the line does not go in circles.
            (generation(3, 'a', "ba"), generation(2, 'b', "a"), Relation::Older, false),
            (generation(2, 'b', "a"), generation(3, 'a', "ba"), Relation::Newer, true),
            // A file from somewhere else, and one that was changed by hand.
            (generation(0, 'x', ""), generation(1, 'b', "a"), Relation::Diverged, false),
            (generation(1, 'b', "a").edited(hash('x')), generation(2, 'c', "ba"), Relation::Diverged, false),
            (generation(1, 'b', "a"), generation(0, 'a', ""), Relation::Older, false),
        ];
        for (own, offered, relation, taken) in rows {
            assert_eq!(own.relation(&offered), relation, "{own} and {offered}");
            assert_eq!(own.may_take(&offered).is_ok(), taken, "{own} and {offered}");
        }
    }

    #[test]
    fn one_that_goes_over_a_sibling_comes_from_both() {
        let (left, right) = (generation(2, 'c', "ba"), generation(2, 'd', "ba"));
        let healed = Generation::after(&left, &[&right], hash('e'), "alice".into());
        assert_eq!(healed.number, 3);
        assert_eq!(healed.ancestors, ["c", "d", "b", "a"].map(|h| h.repeat(32)));
        assert_eq!(healed.parent(), Some(hash('c').as_str()));
        for own in [left, right, generation(1, 'b', "a"), generation(0, 'a', "")] {
            assert_eq!(own.relation(&healed), Relation::Newer);
        }
    }

    #[test]
    fn a_line_is_never_longer_than_its_limit() {
        let mut at = Generation::by_hand("0".repeat(32));
        for n in 1..=2 * MAX_ANCESTORS {
            at = Generation::after(&at, &[], format!("{n:032}"), String::new());
        }
        assert_eq!((at.number, at.ancestors.len()), (2 * MAX_ANCESTORS as u64, MAX_ANCESTORS));
        assert_eq!(at.parent(), Some(format!("{:032}", 2 * MAX_ANCESTORS - 1).as_str()));
    }

    #[test]
    fn the_parent_is_the_newest_unless_that_is_not_clear() {
        let (base, b, c, d) = (
            generation(0, 'a', ""),
            generation(1, 'b', "a"),
            generation(2, 'c', "ba"),
            generation(2, 'd', "ba"),
        );
        let say = |have: &[&Generation], over: &[&str]| {
            let over: Vec<String> = over.iter().map(|o| (*o).to_owned()).collect();
            match choose(have, &over) {
                Ok((parent, over)) => {
                    let over: String = over.iter().map(|g| &g.hash[..1]).collect();
                    format!("{} over [{over}]", &parent.hash[..1])
                }
                Err(Unclear::Diverged(which)) => {
                    which.iter().map(|g| &g.hash[..1]).fold("diverged".to_owned(), |all, h| all + " " + h)
                }
                Err(Unclear::NotThere(typed)) => format!("no {typed}"),
                Err(Unclear::TooShort(typed)) => format!("short {typed}"),
            }
        };
        assert_eq!(say(&[&base, &base], &[]), "a over []");
        assert_eq!(say(&[&base, &b, &c], &[]), "c over []");
        assert_eq!(say(&[&c, &d], &[]), "diverged c d");
        assert_eq!(say(&[&c, &d, &b], &["dddddddd"]), "c over [d]");
        assert_eq!(say(&[&c, &d], &["cccccccc", "dddddddd"]), "d over [c]");
        assert_eq!(say(&[&c], &["dddddddd"]), "no dddddddd");
        assert_eq!(say(&[&c, &d], &["ddd"]), "short ddd");
        let edited = c.edited(hash('x'));
        assert_eq!(say(&[&c, &edited], &[]), "diverged c x");
        assert_eq!(say(&[&c, &edited], &["xxxxxxxx"]), "c over [x]");
    }

    #[test]
    fn every_part_is_signed() {
        let one = generation(2, 'c', "ba");
        let others = [
            Generation { number: 3, ..one.clone() },
            Generation { hash: hash('d'), ..one.clone() },
            Generation { by: "bob".into(), ..one.clone() },
            Generation { ancestors: vec![hash('b')], ..one.clone() },
        ];
        for other in others {
            assert_ne!(one.text("shop"), other.text("shop"));
        }
        assert_ne!(one.text("shop"), one.text("shop2"));
    }
}
