//! Counting servers behind edges, one changed edge at a time.

use std::collections::HashMap;
use std::sync::Arc;

/// Who answers at an edge that is met: by the identity that the protocol tells, or nobody knows.
type Server = Option<Arc<str>>;

/// How many servers are behind the met edges of a need: each identity once, and those without one each.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// By edge; `None` is one that is not met.
    edges: Vec<Option<Server>>,
    nameless: usize,
    /// How many edges lead to each identity; never zero.
    named: HashMap<Arc<str>, usize>,
}

impl Tally {
    /// Of so many edges, none of them met.
    pub fn new(edges: usize) -> Tally {
        Tally { edges: vec![None; edges], nameless: 0, named: HashMap::new() }
    }

    /// An edge is met, by this identity where there is one; or it is not met.
    pub fn set(&mut self, edge: usize, met: Option<Option<&str>>) {
        if self.edges[edge].as_ref().map(Option::as_deref) == met {
            return;
        }
        match self.edges[edge].take() {
            Some(Some(identity)) => self.leave(&identity),
            Some(None) => self.nameless -= 1,
            None => {}
        }
        self.edges[edge] = met.map(|identity| {
            let Some(identity) = identity else {
                self.nameless += 1;
                return None;
            };
            let known = self.named.get_key_value(identity).map(|(known, _)| known.clone());
            let identity = known.unwrap_or_else(|| identity.into());
            *self.named.entry(identity.clone()).or_default() += 1;
            Some(identity)
        });
    }

    fn leave(&mut self, identity: &str) {
        if let Some(edges) = self.named.get_mut(identity) {
            *edges -= 1;
            if *edges == 0 {
                self.named.remove(identity);
            }
        }
    }

    /// How many servers there are.
    pub fn count(&self) -> usize {
        self.nameless + self.named.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_identity_counts_once_until_its_last_edge_goes() {
        let mut tally = Tally::new(3);
        tally.set(0, Some(Some("a")));
        tally.set(1, Some(Some("a")));
        tally.set(2, Some(Some("b")));
        assert_eq!(tally.count(), 2);
        tally.set(0, None);
        assert_eq!(tally.count(), 2);
        tally.set(1, Some(Some("b")));
        assert_eq!(tally.count(), 1, "both lead to b now");
        tally.set(1, None);
        tally.set(2, None);
        assert_eq!(tally.count(), 0);
    }

    #[test]
    fn without_an_identity_each_counts() {
        let mut tally = Tally::new(2);
        tally.set(0, Some(None));
        tally.set(0, Some(None));
        tally.set(1, Some(None));
        assert_eq!(tally.count(), 2);
        tally.set(1, Some(Some("a")));
        assert_eq!(tally.count(), 2);
        tally.set(0, None);
        tally.set(0, None);
        assert_eq!(tally.count(), 1);
    }
}
