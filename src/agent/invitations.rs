//! Sealed bundles of nodes that have none yet ([`crate::pki::Token`]): each for a while, and to be taken once.
//!
//! They lie in the run folder, so that an agent which is replaced has them still, and one that is killed gives none away
//! twice: that one is taken is written before it is handed over. Another boot has none of them. Nothing here can open them.

use crate::api::wire::{InviteAsk, JoinAsk};
use crate::clock;
use crate::facts::Moment;
use crate::process::Boot;
use crate::store::Slot;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Invitations at once.
const MOST: usize = 64;
/// The longest bundle, sealed and in base 64. One with four certificates is below 4 KiB.
const LONGEST: usize = 16 << 10;
/// The longest that one may be open.
pub const OPEN_AT_MOST: Duration = Duration::from_secs(24 * 3600);

pub struct Invitations {
    kept: RefCell<Kept>,
    slot: Slot<Kept>,
}

#[derive(Default, Serialize, Deserialize)]
struct Kept {
    /// Moments mean something within one boot only.
    boot: Option<Boot>,
    by_number: BTreeMap<String, Invitation>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Invitation {
    node: String,
    until: Moment,
    bundle: Bundle,
}

#[derive(Clone, Serialize, Deserialize)]
enum Bundle {
    Sealed(String),
    /// By whom it was taken.
    Taken(String),
}

impl Invitations {
    /// Those that an agent before has kept in this run folder since the boot.
    pub fn of(run: &Path, boot: &Boot) -> Invitations {
        let slot = Slot::volatile(run.join("invitations"));
        let before = slot.read().ok().flatten().map(|stored: crate::store::Stored<Kept>| stored.value);
        let kept = before.filter(|kept| kept.boot.as_ref() == Some(boot)).unwrap_or_default();
        Invitations { kept: RefCell::new(Kept { boot: Some(boot.clone()), ..kept }), slot }
    }

    /// Keeps one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn keep(&self, ask: InviteAsk) -> Result<(), String> {
        let InviteAsk { node, number, sealed, for_ms, .. } = ask;
        let open = Duration::from_millis(for_ms);
        if number.len() != 32 || !number.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err("its number is not 32 hex digits".to_owned());
        }
        if sealed.len() > LONGEST {
            return Err(format!("it is longer than {} KiB", LONGEST >> 10));
        }
        if open > OPEN_AT_MOST {
            return Err(format!("it is to be open for longer than {} hours", OPEN_AT_MOST.as_secs() / 3600));
        }
        let now = clock::now();
        let mut kept = self.kept.borrow_mut();
        kept.by_number.retain(|_, invitation| now < invitation.until);
        if kept.by_number.len() >= MOST {
            return Err(format!("{MOST} are open already"));
        }
        // One that was taken under this number stays taken.
        if kept.by_number.contains_key(&number) {
            return Err("its number is in use".to_owned());
        }
        let until = Moment(now.0.saturating_add(open.as_nanos() as u64));
        kept.by_number.insert(number.clone(), Invitation { node, until, bundle: Bundle::Sealed(sealed) });
        self.slot.write(&kept).map_err(|e| {
            kept.by_number.remove(&number);
            e.to_string()
        })
    }

    /// Gives one away to the node that it is for.
    ///
    /// # Errors
    /// Why there is none.
    pub fn take(&self, ask: &JoinAsk, by: &str) -> Result<String, String> {
        let now = clock::now();
        let mut kept = self.kept.borrow_mut();
        kept.by_number.retain(|_, invitation| now < invitation.until);
        let Some(invitation) = kept.by_number.get_mut(&ask.number) else {
            return Err("no invitation for this token is open here".to_owned());
        };
        let node = &invitation.node;
        if *node != ask.node {
            return Err(format!("the invitation is not for node {}", ask.node.escape_debug()));
        }
        let sealed = match &invitation.bundle {
            Bundle::Sealed(sealed) => sealed.clone(),
            Bundle::Taken(first) => {
                return Err(format!("the invitation of {node} was taken already, from {first}"));
            }
        };
        invitation.bundle = Bundle::Taken(by.to_owned());
        // Before anybody has it: whoever cannot remember that it is gone must not give it away.
        if let Err(e) = self.slot.write(&kept) {
            if let Some(invitation) = kept.by_number.get_mut(&ask.number) {
                invitation.bundle = Bundle::Sealed(sealed);
            }
            return Err(format!("it is not handed over, since that cannot be noted: {e}"));
        }
        Ok(sealed)
    }

    /// Until when somebody may come for one.
    pub fn until(&self) -> Option<Moment> {
        self.kept.borrow().by_number.values().map(|invitation| invitation.until).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(number: usize, for_ms: u64) -> InviteAsk {
        let sealed = format!("sealed {number}");
        InviteAsk {
            node: "web1".into(),
            number: format!("{number:032x}"),
            sealed,
            for_ms,
            by: "test".into(),
            reason: String::new(),
        }
    }

    fn comes(node: &str, number: usize) -> JoinAsk {
        JoinAsk { node: node.into(), number: format!("{number:032x}") }
    }

    #[test]
    fn each_is_given_away_once_to_its_node_and_in_time() {
        let run = tempfile::tempdir().unwrap();
        let invitations = Invitations::of(run.path(), &Boot::current().unwrap());
        assert_eq!(invitations.until(), None);
        invitations.keep(ask(1, 60_000)).unwrap();
        let other = invitations.take(&comes("web2", 1), "b").unwrap_err();
        assert_eq!(other, "the invitation is not for node web2");
        assert_eq!(invitations.take(&comes("web1", 1), "a"), Ok("sealed 1".into()));
        for _ in 0..2 {
            let refused = invitations.take(&comes("web1", 1), "b").unwrap_err();
            assert_eq!(refused, "the invitation of web1 was taken already, from a");
        }
        invitations.keep(ask(2, 0)).unwrap();
        assert!(invitations.take(&comes("web1", 2), "a").unwrap_err().contains("no invitation"));
    }

    #[test]
    fn the_next_agent_of_the_same_boot_has_them_and_gives_none_away_twice() {
        let run = tempfile::tempdir().unwrap();
        let boot = Boot::current().unwrap();
        let now = || Invitations::of(run.path(), &boot);
        now().keep(ask(1, 60_000)).unwrap();
        now().keep(ask(2, 60_000)).unwrap();
        assert!(now().until().is_some());
        assert_eq!(now().take(&comes("web1", 1), "a"), Ok("sealed 1".into()));
        let refused = now().take(&comes("web1", 1), "b").unwrap_err();
        assert_eq!(refused, "the invitation of web1 was taken already, from a");
        assert!(now().keep(ask(1, 60_000)).is_err(), "nor under the same number once more");
        let other = Boot { boot_id: "another".into(), ..boot.clone() };
        let refused = Invitations::of(run.path(), &other).take(&comes("web1", 2), "b").unwrap_err();
        assert!(refused.contains("no invitation"));

        // What cannot be noted is not given away: neither now nor later.
        let invitations = now();
        std::fs::create_dir(run.path().join("invitations.new")).unwrap();
        let refused = invitations.take(&comes("web1", 2), "a").unwrap_err();
        assert!(refused.contains("that cannot be noted"), "{refused}");
        assert!(invitations.keep(ask(3, 60_000)).is_err());
        std::fs::remove_dir(run.path().join("invitations.new")).unwrap();
        assert_eq!(invitations.take(&comes("web1", 2), "a"), Ok("sealed 2".into()));
    }

    #[test]
    fn what_is_kept_has_limits() {
        let run = tempfile::tempdir().unwrap();
        let invitations = Invitations::of(run.path(), &Boot::current().unwrap());
        let refused = |ask: InviteAsk| invitations.keep(ask).is_err();
        assert!(refused(ask(1, OPEN_AT_MOST.as_millis() as u64 + 1)));
        assert!(refused(InviteAsk { sealed: "x".repeat(LONGEST + 1), ..ask(1, 1000) }));
        assert!(refused(InviteAsk { number: "short".into(), ..ask(1, 1000) }));
        (0..MOST).for_each(|n| invitations.keep(ask(n, 60_000)).unwrap());
        assert!(refused(ask(MOST, 1000)));
    }
}
