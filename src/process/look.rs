//! One look through `/proc`, for as many instances as ask.

use super::Tree;
use super::proc::{self, Stat};
use super::tree::mark_in;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

/// Who lived while it was taken, who came from whom, and whose marks they carry. Reading all of `/proc` takes
/// milliseconds, so that many stops at a time share one: each may rely on a look that was begun after it had killed what
/// it knew of.
#[derive(Debug)]
pub struct Look {
    living: BTreeMap<i32, Stat>,
    children: HashMap<i32, Vec<i32>>,
    sessions: HashMap<i32, Vec<i32>>,
    /// Those with this agent's marks, by instance.
    marked: HashMap<String, Vec<i32>>,
    own_session: i32,
}

impl Tree {
    /// As [`Look::take`], for this agent.
    ///
    /// # Errors
    /// When `/proc` cannot be listed.
    pub fn look(&self) -> io::Result<Look> {
        Look::take(self.agent())
    }
}

impl Look {
    /// Looks at all processes but this one, the dead and the kernel's own. `agent` is whose marks are of interest: as
    /// given to [`Tree::locate`].
    ///
    /// # Errors
    /// When `/proc` cannot be listed.
    pub fn take(agent: &str) -> io::Result<Look> {
        let me = std::process::id() as i32;
        let mut living = BTreeMap::new();
        let mut marked: HashMap<String, Vec<i32>> = HashMap::new();
        for pid in proc::pids()?.into_iter().filter(|pid| *pid != me) {
            let Ok(stat) = proc::stat(pid) else { continue };
            if stat.is_dead() || stat.kernel_thread {
                continue;
            }
            living.insert(pid, stat);
            let owner = proc::environ(pid).ok().and_then(|environ| mark_in(&environ));
            if let Some(owner) = owner.filter(|owner| owner.agent == agent) {
                marked.entry(owner.instance).or_default().push(pid);
            }
        }
        Ok(Look::of(living, marked, proc::stat(me)?.session))
    }

    fn of(living: BTreeMap<i32, Stat>, marked: HashMap<String, Vec<i32>>, own_session: i32) -> Look {
        let (mut children, mut sessions) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (pid, stat) in &living {
            children.entry(stat.parent).or_default().push(*pid);
            sessions.entry(stat.session).or_default().push(*pid);
        }
        Look { living, children, sessions, marked, own_session }
    }

    /// What is of an instance: those in its leaf, those `seen` to be of it, those with its marks, and all that is proven
    /// to come from them. Each with its start, so that it can be told from a later process with its number.
    pub(super) fn tree_of(
        &self,
        instance: &str,
        leaf: &[i32],
        seen: Option<&BTreeSet<(i32, u64)>>,
    ) -> BTreeSet<(i32, u64)> {
        let still =
            |(pid, start): &&(i32, u64)| self.living.get(pid).is_some_and(|stat| stat.start == *start);
        let seen = seen.into_iter().flatten().filter(still).map(|(pid, _)| *pid);
        let marked = self.marked.get(instance).into_iter().flatten().copied();
        let leaf = leaf.iter().copied().filter(|pid| self.living.contains_key(pid));
        let kin = self.kin(leaf.chain(seen).chain(marked).collect());
        kin.into_iter().filter_map(|pid| Some((pid, self.living.get(&pid)?.start))).collect()
    }

    /// The seeds and all that is proven to come from them: children, and session mates. A session is handed down by
    /// forks only, and a start makes its own, so whoever shares one with a process of the tree comes from the same
    /// start. Somebody may have moved a process from a login into the leaf: so never the agent's own session, and none
    /// whose leader lives and is not of the tree.
    fn kin(&self, seeds: BTreeSet<i32>) -> BTreeSet<i32> {
        let mut found = seeds.clone();
        let mut next: Vec<i32> = seeds.into_iter().collect();
        while let Some(pid) = next.pop() {
            let Some(stat) = self.living.get(&pid) else { continue };
            // A parent is older than its child: else the number has changed hands while we looked.
            let older = |child: &&i32| self.living.get(child).is_some_and(|c| stat.start <= c.start);
            let own = self.children.get(&pid).into_iter().flatten().filter(older);
            let leader = stat.session;
            let is_ours =
                leader != self.own_session && (found.contains(&leader) || !self.living.contains_key(&leader));
            let mates = self.sessions.get(&leader).filter(|_| is_ours).into_iter().flatten();
            for more in own.chain(mates) {
                if found.insert(*more) {
                    next.push(*more);
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (pid, parent, session, start)
    fn look(rows: &[(i32, i32, i32, u64)], own_session: i32) -> Look {
        let stat = |&(pid, parent, session, start)| {
            (pid, Stat { state: 'S', parent, session, kernel_thread: false, start })
        };
        Look::of(rows.iter().map(stat).collect(), HashMap::new(), own_session)
    }

    #[test]
    fn kin_are_descendants_and_session_mates() {
        // 10 was started; 11 is its child, 12 a grandchild in a session of its own, 13 an orphan in 10's session, 14 an
        // orphan in 12's; 20 and 21 are somebody else's.
        let rows = [
            (10, 1, 10, 100),
            (11, 10, 10, 101),
            (12, 11, 12, 102),
            (13, 1, 10, 103),
            (14, 1, 12, 104),
            (20, 1, 20, 50),
            (21, 20, 20, 105),
        ];
        let all = look(&rows, 99);
        let kin_of = |seeds: &[i32]| all.kin(seeds.iter().copied().collect()).into_iter().collect::<Vec<_>>();
        assert_eq!(kin_of(&[10]), [10, 11, 12, 13, 14]);
        assert_eq!(kin_of(&[12]), [12, 14], "never upwards");
        assert_eq!(kin_of(&[20]), [20, 21]);
        assert_eq!(kin_of(&[21]), [21], "the leader lives and is not of the tree: a login");
    }

    #[test]
    fn a_session_whose_leader_has_gone_is_followed_but_never_the_agents_own() {
        let rows = [(11, 1, 10, 101), (13, 1, 10, 103)];
        assert_eq!(look(&rows, 99).kin(BTreeSet::from([11])), BTreeSet::from([11, 13]));
        assert_eq!(look(&rows, 10).kin(BTreeSet::from([11])), BTreeSet::from([11]));
    }

    #[test]
    fn a_parents_number_that_changed_hands_makes_no_child() {
        let all = look(&[(10, 1, 10, 200), (11, 10, 11, 150)], 99);
        assert_eq!(all.kin(BTreeSet::from([10])), BTreeSet::from([10]));
    }

    #[test]
    fn what_was_seen_is_followed_by_number_and_start() {
        let all = look(&[(10, 1, 10, 200), (11, 10, 11, 250)], 99);
        let seen = |start| all.tree_of("x@a", &[], Some(&BTreeSet::from([(10, start)])));
        assert_eq!(seen(200), BTreeSet::from([(10, 200), (11, 250)]));
        assert_eq!(seen(100), BTreeSet::new(), "the number has changed hands");
        assert_eq!(all.tree_of("x@a", &[11, 12], None), BTreeSet::from([(11, 250)]), "12 has gone");
    }
}
