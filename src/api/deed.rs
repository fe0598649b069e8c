//! What is to stand on the trail of a call.
//!
//! Every call but a GET is an action of its caller; of those, and of all others, a refusal for want of a right is
//! written down. A call is watched from before it is looked at until its answer is there, so that one whose caller did
//! not wait for it is on the trail as well.

use super::caller::Caller;
use super::server::Agent;
use super::wire::{InviteAsk, Order, OrderReply, ReloadAsk, Switch, Verb};
use crate::generation::{self, Generation};
use crate::trail::{Deed, Outcome};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

/// So many instances are named in an entry; the others are counted.
const NAMES: usize = 20;
/// Until there is one.
const NO_ANSWER: &str = "who asked did not wait for the answer";

/// A call under way. What becomes of it is written down when this is dropped.
pub struct Watched<A: Agent> {
    agent: A,
    /// Whether it is written down when it is not refused.
    action: bool,
    deed: RefCell<Deed>,
    /// Refused for want of a right.
    no_right: Cell<bool>,
}

impl<A: Agent> Watched<A> {
    pub fn new(agent: A, caller: &Caller, from: &str, method: &Method, path: &str) -> Watched<A> {
        let deed = Deed { what: format!("{method} {path}"), ..begun(caller.name.clone(), from) };
        Watched { agent, action: method != Method::GET, deed: RefCell::new(deed), no_right: Cell::new(false) }
    }

    /// What the call is about, once its body is there. `at` is the node that it is relayed to.
    pub fn asks(&self, at: Option<&str>, path: &str, body: &Bytes) {
        let Some((what, why)) = words(path, body) else { return };
        let mut deed = self.deed.borrow_mut();
        deed.what = at.map_or(what.clone(), |node| format!("through here, at {node}: {what}"));
        deed.why = why;
    }

    /// The address that it comes from, without the port.
    pub fn source(&self) -> String {
        let from = &self.deed.borrow().from;
        from.parse::<SocketAddr>().map_or_else(|_| from.clone(), |at| at.ip().to_string())
    }

    /// What was made of it, as a sentence.
    pub fn says(&self, text: String) {
        self.deed.borrow_mut().text = text;
    }

    /// What another agent answered, as it came.
    pub fn was_said(&self, body: &[u8]) {
        let said = match serde_json::from_slice::<Answer>(body) {
            Ok(Answer { error: Some(error), .. }) => error,
            Ok(Answer { text: Some(text), .. }) => text,
            Ok(Answer { taken: Some(taken), durable, .. }) => {
                in_words(&OrderReply { taken, durable: durable.unwrap_or(true) })
            }
            _ => String::new(),
        };
        self.says(said);
    }

    /// It came to its end, with this answer.
    pub fn done(&self, status: StatusCode) {
        let mut deed = self.deed.borrow_mut();
        if deed.outcome == Outcome::Unknown && deed.text == NO_ANSWER {
            deed.text.clear();
        }
        deed.outcome = if status.is_success() { Outcome::Done } else { Outcome::Refused };
        self.no_right.set(status == StatusCode::FORBIDDEN);
    }

    /// It was refused.
    pub fn refused(&self, status: StatusCode, why: &str) {
        self.says(why.to_owned());
        self.done(status);
    }
}

/// What an answer may say that is worth writing down.
#[derive(serde::Deserialize)]
struct Answer {
    error: Option<String>,
    text: Option<String>,
    taken: Option<Vec<(String, String)>>,
    durable: Option<bool>,
}

/// What is told of an [`Offer`](generation::Offer); the texts of the configuration are not.
#[derive(serde::Deserialize)]
struct Staged {
    generation: Generation,
    #[serde(default)]
    reason: String,
}

/// What an agent made of an order.
pub fn in_words(reply: &OrderReply) -> String {
    let mut said: Vec<String> =
        reply.taken.iter().take(NAMES).map(|(name, what)| format!("{name}: {what}")).collect();
    if reply.taken.len() > NAMES {
        said.push(format!("and {} more", reply.taken.len() - NAMES));
    }
    if !reply.durable {
        said.push("the disk did not take the wish".to_owned());
    }
    said.join("; ")
}

/// A connection that did not come so far as to ask for anything.
pub fn not_let_in(from: &str, why: String) -> Deed {
    Deed {
        what: "connect".to_owned(),
        outcome: Outcome::Refused,
        text: why,
        ..begun("somebody who was not let in".to_owned(), from)
    }
}

fn begun(who: String, from: &str) -> Deed {
    Deed {
        at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64),
        who,
        from: from.to_owned(),
        what: String::new(),
        why: String::new(),
        outcome: Outcome::Unknown,
        text: NO_ANSWER.to_owned(),
        boot: None,
        cut: None,
    }
}

impl<A: Agent> Drop for Watched<A> {
    fn drop(&mut self) {
        let refused = self.no_right.get();
        if self.action || refused {
            self.agent.on_trail(self.deed.borrow().clone(), refused);
        }
    }
}

/// What a call's body asks for, and why. `None` for calls that this does not know.
fn words(path: &str, body: &[u8]) -> Option<(String, String)> {
    match path {
        "/v1/order" => {
            let order: Order = serde_json::from_slice(body).ok()?;
            let verb = match order.verb {
                Verb::Start => "start",
                Verb::Stop => "stop",
                Verb::Restart => "restart",
            };
            let mut what = verb.to_owned();
            match order.instances.len() {
                0 => what += " all",
                n => {
                    order.instances.iter().take(NAMES).for_each(|name| what += &format!(" {name}"));
                    if n > NAMES {
                        what += &format!(" and {} more", n - NAMES);
                    }
                }
            }
            if order.force {
                what += " --force";
            }
            order.without.iter().for_each(|node| what += &format!(" --without {node}"));
            // What he says of himself; the name beside it is what is proven.
            Some((what + &format!(", typed by {}", order.by), order.reason))
        }
        "/v1/invite" => {
            let ask: InviteAsk = serde_json::from_slice(body).ok()?;
            Some((format!("invite {}, typed by {}", ask.node, ask.by), ask.reason))
        }
        "/v1/reload" => {
            let ask: ReloadAsk = ReloadAsk::read(body).ok()?;
            let by = if ask.by.is_empty() { String::new() } else { format!(", typed by {}", ask.by) };
            Some((format!("reload{by}"), ask.reason))
        }
        "/v1/stage" => {
            let Staged { generation, reason } = serde_json::from_slice(body).ok()?;
            let by = if generation.by.is_empty() {
                String::new()
            } else {
                format!(", typed by {}", generation.by)
            };
            Some((format!("keep {generation} aside{by}"), reason))
        }
        "/v1/switch" => {
            let to: Switch = serde_json::from_slice(body).ok()?;
            Some((format!("put {} in force", generation::short(&to.hash)), to.reason))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_told_as_it_was_typed() {
        let order = br#"{"verb":"stop","instances":["web@web1","web@web2"],"force":true,"timeout_ms":1,
            "without":["db1"],"by":"alice@pc","reason":"new disk"}"#;
        let (what, why) = words("/v1/order", order).unwrap();
        assert_eq!(what, "stop web@web1 web@web2 --force --without db1, typed by alice@pc");
        assert_eq!(why, "new disk");
        assert_eq!(words("/v1/reload", b"").unwrap().0, "reload");
        assert_eq!(words("/v1/reload", br#"{"by":"bob@pc","reason":"keys"}"#).unwrap().1, "keys");
        assert_eq!(words("/v1/order", b"garbage"), None);
        let offer = br#"{"generation":{"number":2,"hash":"3f2a91bc00","by":"bob@pc"},"sources":{},"reason":"a node more"}"#;
        let (what, why) = words("/v1/stage", offer).unwrap();
        assert_eq!(what, "keep generation 2 (3f2a91bc) aside, typed by bob@pc");
        assert_eq!(why, "a node more");
        assert_eq!(words("/v1/switch", br#"{"hash":"3f2a91bc00"}"#).unwrap().0, "put 3f2a91bc in force");
    }
}
