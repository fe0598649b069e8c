//! Sealed bundles of nodes that have none yet ([`crate::pki::Token`]): each for a while, and to be taken once.
//!
//! In memory alone: an agent that is replaced has forgotten them, and an invitation is quickly made anew. Nothing here can
//! open them.

use crate::api::wire::{InviteAsk, JoinAsk};
use crate::clock;
use crate::facts::Moment;
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

/// Invitations at once.
const MOST: usize = 64;
/// The longest bundle, sealed and in base 64. One with four certificates is below 4 KiB.
const LONGEST: usize = 16 << 10;
/// The longest that one may be open.
pub const OPEN_AT_MOST: Duration = Duration::from_secs(24 * 3600);

#[derive(Default)]
pub struct Invitations {
    by_number: RefCell<HashMap<String, Invitation>>,
}

struct Invitation {
    node: String,
    until: Moment,
    bundle: Bundle,
}

enum Bundle {
    Sealed(String),
    /// By whom it was taken.
    Taken(String),
}

impl Invitations {
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
        let mut kept = self.by_number.borrow_mut();
        kept.retain(|_, invitation| now < invitation.until);
        if kept.len() >= MOST {
            return Err(format!("{MOST} are open already"));
        }
        let until = Moment(now.0.saturating_add(open.as_nanos() as u64));
        kept.insert(number, Invitation { node, until, bundle: Bundle::Sealed(sealed) });
        Ok(())
    }

    /// Gives one away to the node that it is for.
    ///
    /// # Errors
    /// Why there is none.
    pub fn take(&self, ask: &JoinAsk, by: &str) -> Result<String, String> {
        let now = clock::now();
        let mut kept = self.by_number.borrow_mut();
        kept.retain(|_, invitation| now < invitation.until);
        let Some(Invitation { node, bundle, .. }) = kept.get_mut(&ask.number) else {
            return Err("no invitation for this token is open here".to_owned());
        };
        if *node != ask.node {
            return Err(format!("the invitation is not for node {}", ask.node.escape_debug()));
        }
        match std::mem::replace(bundle, Bundle::Taken(by.to_owned())) {
            Bundle::Sealed(sealed) => Ok(sealed),
            Bundle::Taken(first) => {
                let refused = format!("the invitation of {node} was taken already, from {first}");
                *bundle = Bundle::Taken(first);
                Err(refused)
            }
        }
    }

    /// Until when somebody may come for one.
    pub fn until(&self) -> Option<Moment> {
        self.by_number.borrow().values().map(|invitation| invitation.until).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(number: usize, for_ms: u64) -> InviteAsk {
        let sealed = format!("sealed {number}");
        InviteAsk { node: "web1".into(), number: format!("{number:032x}"), sealed, for_ms, by: "test".into() }
    }

    fn comes(node: &str, number: usize) -> JoinAsk {
        JoinAsk { node: node.into(), number: format!("{number:032x}") }
    }

    #[test]
    fn each_is_given_away_once_to_its_node_and_in_time() {
        let invitations = Invitations::default();
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
    fn what_is_kept_has_limits() {
        let invitations = Invitations::default();
        let refused = |ask: InviteAsk| invitations.keep(ask).is_err();
        assert!(refused(ask(1, OPEN_AT_MOST.as_millis() as u64 + 1)));
        assert!(refused(InviteAsk { sealed: "x".repeat(LONGEST + 1), ..ask(1, 1000) }));
        assert!(refused(InviteAsk { number: "short".into(), ..ask(1, 1000) }));
        (0..MOST).for_each(|n| invitations.keep(ask(n, 60_000)).unwrap());
        assert!(refused(ask(MOST, 1000)));
    }
}
