//! Killing a whole tree, however fast it forks.

use super::identity::{Handle, Identity, Lost};
use super::{Look, Tree, leaf};
use std::collections::BTreeSet;
use std::io;

/// A tree that keeps forking is looked at so often in one go, until a look brings nothing new.
const ROUNDS: usize = 20;
/// The most dying processes that are held at a time: each takes a file descriptor.
const MAX_HELD: usize = 256;

/// The first half of killing a tree: what was in its leaf has been told to die.
#[derive(Debug)]
pub struct Felled {
    /// What was in the leaf.
    leaf: Vec<i32>,
    was_populated: bool,
    /// Handles of what dies.
    dying: Vec<Handle>,
}

impl Tree {
    /// Kills the whole tree of the instance: its leaf at one stroke, and what else is of it by pidfd, after it was
    /// stopped (SIGSTOP), so that it cannot outrun the killing by forking.
    ///
    /// Gives back handles of what was told to die (at most 256), which takes a moment. The tree is gone when, after
    /// that, another call gives back nothing.
    ///
    /// # Errors
    /// When something of it could not be looked at or killed: then it may live still.
    pub fn kill_all(&self, instance: &str) -> io::Result<Vec<Handle>> {
        let felled = self.kill_leaf(instance)?;
        self.kill_rest(instance, felled, &self.look()?)
    }

    /// The first half of [`Tree::kill_all`]: kills the leaf.
    ///
    /// # Errors
    /// As [`Tree::kill_all`].
    pub fn kill_leaf(&self, instance: &str) -> io::Result<Felled> {
        let mut felled = Felled { leaf: Vec::new(), was_populated: false, dying: Vec::new() };
        let Some(path) = self.leaf_path(instance)? else { return Ok(felled) };
        felled.was_populated = leaf::is_populated(&path)?;
        if felled.was_populated {
            felled.leaf = leaf::members(&path)?;
            for pid in &felled.leaf {
                // Held to wait for; the leaf is what says that they are of the instance.
                if felled.dying.len() < MAX_HELD
                    && let Ok(handle) = Handle::open(*pid)
                    && self.is_member(*pid, instance)
                {
                    felled.dying.push(handle);
                }
            }
            self.kill_in(instance, &path)?;
        }
        Ok(felled)
    }

    /// The second half of [`Tree::kill_all`]: kills what a look that was begun after the first half finds elsewhere. One
    /// look serves any number of instances.
    ///
    /// # Errors
    /// As [`Tree::kill_all`].
    pub fn kill_rest(&self, instance: &str, felled: Felled, look: &Look) -> io::Result<Vec<Handle>> {
        let Felled { leaf, was_populated, mut dying } = felled;
        let held = dying.iter().map(|handle| key(handle.identity())).collect();
        let first = self.found_in(look, instance, &leaf);
        for known in self.stop_all(instance, first, &held)? {
            if let Some(handle) = hold(known.0, known.1)? {
                handle.signal(libc::SIGKILL)?;
                if dying.len() < MAX_HELD {
                    dying.push(handle);
                }
            }
        }
        if dying.is_empty()
            && was_populated
            && let Some(path) = self.leaf_path(instance)?
            && leaf::is_populated(&path)?
        {
            // All that is in it is hidden from us (hidepid), or was forked a moment ago.
            let text = "processes that cannot be seen from here are being killed and are not gone yet";
            return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
        }
        Ok(dying)
    }

    /// Stops all that is of the instance and not `held` (the kernel is killing those), until no new one is found. `found`
    /// is what a look has found already.
    fn stop_all(
        &self,
        instance: &str,
        mut found: BTreeSet<(i32, u64)>,
        held: &BTreeSet<(i32, u64)>,
    ) -> io::Result<BTreeSet<(i32, u64)>> {
        let mut stopped = BTreeSet::new();
        for _ in 0..ROUNDS {
            let before = stopped.len();
            for known in found.difference(held) {
                if !stopped.contains(known)
                    && let Some(handle) = hold(known.0, known.1)?
                {
                    handle.signal(libc::SIGSTOP)?;
                    stopped.insert(*known);
                }
            }
            if stopped.len() == before {
                break;
            }
            found = self.identified(instance)?;
        }
        Ok(stopped)
    }
}

fn key(identity: &Identity) -> (i32, u64) {
    (identity.pid, identity.start)
}

/// Holds the very process that was seen; `None` when it is gone.
fn hold(pid: i32, start: u64) -> io::Result<Option<Handle>> {
    match Handle::open(pid) {
        Ok(handle) => Ok(Some(handle).filter(|h| h.identity().start == start)),
        Err(Lost::Kernel { cause, .. }) => Err(cause),
        Err(_) => Ok(None),
    }
}
