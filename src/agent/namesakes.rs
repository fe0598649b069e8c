//! Machines that have one name. Each agent asks the others what they have every half minute, as a node and with the
//! random id of its state; two ids of one node within a while are two machines. Whoever asks is told of its namesakes, and
//! starts nothing new while it has one.

use super::shell::Shell;
use crate::api::wire::Claim;
use crate::clock;
use crate::facts::Moment;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a claim counts: some of those half minutes.
const WHILE: Duration = Duration::from_secs(95);
/// Claims to one name that are kept, and how long an id may be.
const EACH: usize = 8;
const LONGEST_ID: usize = 32;

/// Who has said lately that it is which node.
#[derive(Debug, Default)]
pub struct Namesakes {
    heard: BTreeMap<String, Vec<(Claim, Moment)>>,
}

impl Namesakes {
    pub fn hear(&mut self, claim: Claim, now: Moment) {
        if claim.id.is_empty() || claim.id.len() > LONGEST_ID {
            return;
        }
        self.forget(now);
        let heard = self.heard.entry(claim.node.clone()).or_default();
        heard.retain(|(known, _)| known.id != claim.id);
        if heard.len() < EACH {
            heard.push((claim, now));
        }
    }

    /// All that count.
    pub fn claims(&mut self, now: Moment) -> Vec<Claim> {
        self.forget(now);
        self.heard.values().flatten().map(|(claim, _)| claim.clone()).collect()
    }

    fn forget(&mut self, now: Moment) {
        self.heard.retain(|_, heard| {
            heard.retain(|(_, at)| now.since(*at) <= WHILE);
            !heard.is_empty()
        });
    }

    /// Who else says that it is this node.
    pub fn others(&mut self, node: &str, id: &str, now: Moment) -> Vec<Claim> {
        self.forget(now);
        let heard = self.heard.get(node).into_iter().flatten();
        heard.filter(|(claim, _)| claim.id != id).map(|(claim, _)| claim.clone()).collect()
    }

    /// What is wrong, as a sentence: two that are one node, or one that is the node that this is, with this id.
    fn problem(&mut self, me: &str, id: &str, now: Moment) -> Option<String> {
        self.forget(now);
        let told = self.heard.iter().filter_map(|(node, heard)| {
            let mut who: Vec<String> =
                heard.iter().map(|(claim, _)| format!("one at {} ({})", claim.from, claim.id)).collect();
            if node == me {
                who = heard
                    .iter()
                    .zip(who)
                    .filter(|((claim, _), _)| claim.id != id)
                    .map(|(_, who)| who)
                    .collect();
                who.push(format!("this one ({id})"));
            }
            (who.len() > 1)
                .then(|| format!("{} machines say that they are {node}: {}", who.len(), who.join(", ")))
        });
        let told: Vec<String> = told.collect();
        (!told.is_empty()).then(|| format!("{}; clusterctl doctor says what to do", told.join("; ")))
    }
}

impl Shell {
    /// Another agent has said which node it is.
    pub fn hear_claim(&self, claim: Claim) {
        if self.cluster().node_named(&claim.node).is_some() {
            self.namesakes.borrow_mut().hear(claim, clock::now());
            self.look_at_names();
        }
    }

    /// Who else says that it is this node, as others have heard it: an agent never hears its namesake itself, since
    /// neither asks itself.
    pub fn hear_of_namesakes(&self, claims: Vec<Claim>) {
        let (me, now) = (self.node_name(), clock::now());
        let of_it = claims.into_iter().take(EACH).filter(|claim| claim.node == me && claim.id != self.id);
        of_it.for_each(|claim| self.namesakes.borrow_mut().hear(claim, now));
        self.look_at_names();
    }

    /// Why nothing new is started here: another machine says that it is this node. What runs is kept.
    pub fn namesake(&self) -> Option<String> {
        let me = self.node_name();
        let other = self.namesakes.borrow_mut().others(&me, &self.id, clock::now()).into_iter().next()?;
        Some(format!(
            "another machine, at {}, says that it is {me}, too ({}, and this is {}); while there are two, neither starts \
             anything new: clusterctl doctor says what to do",
            other.from, other.id, self.id
        ))
    }

    /// Says so, or no more, where two machines have one name.
    pub fn look_at_names(&self) {
        let problem = self.namesakes.borrow_mut().problem(&self.node_name(), &self.id, clock::now());
        self.say("names", problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ids_of_one_name_are_two_machines_for_a_while() {
        let claim =
            |node: &str, id: &str| Claim { node: node.into(), id: id.into(), from: "10.0.0.9".into() };
        let (begun, mut names) = (clock::now(), Namesakes::default());
        let problem = |names: &mut Namesakes, after: u64| {
            names.problem("n1", "own", begun + Duration::from_secs(after))
        };
        names.hear(claim("n2", "a"), begun);
        names.hear(claim("n2", "a"), begun);
        names.hear(claim("n1", "own"), begun); // it may ask itself
        assert_eq!(problem(&mut names, 0), None);
        names.hear(claim("n2", "b"), begun);
        let said = problem(&mut names, 90).unwrap();
        assert!(said.starts_with("2 machines say that they are n2: one at 10.0.0.9 (a), one at"), "{said}");
        assert_eq!(names.others("n2", "a", begun).len(), 1);
        assert_eq!(names.others("n1", "own", begun), []);
        assert_eq!(problem(&mut names, 100), None, "a machine that was replaced is forgotten");
        names.hear(claim("n1", "other"), begun + Duration::from_secs(100));
        assert!(problem(&mut names, 100).unwrap().contains("this one (own)"));
        (0..50).for_each(|n| names.hear(claim("n3", &n.to_string()), begun + Duration::from_secs(100)));
        assert_eq!(names.claims(begun + Duration::from_secs(100)).len(), 1 + EACH);
    }
}
