//! Who asks, and whether they may: the one place where rights are decided.
//!
//! | right | held by | calls |
//! |---|---|---|
//! | `read` | operators of any role, agents for `/v1/node` and `/v1/generation` | all GET calls but the two below |
//! | `operate` | operators of role operate and admin, members of the socket's group | orders, reload |
//! | `admin` | operators of role admin, root on the machine itself | orders with `--force`, stage and switch, invitations, what this table does not know |
//! | `agent` | agents, each for itself only, and who has `admin` | the peer stream, the configuration in force |
//! | `join` | who shows no certificate, while somebody is invited | taking its own certificate, by a one-time token |
//!
//! An agent that relays an operator's call says whose it is ([`ON_BEHALF`]). It is believed up to `operate`: whoever
//! has taken one machine over cannot force anything on the others.

use super::wire::Refusal;
use crate::pki::{Certificate, Role, Who};
use hyper::{HeaderMap, Method};
use std::fmt;

/// The header by which an agent says for whom it relays: a role, a space, and a name for people.
pub const ON_BEHALF: &str = "clusterd-on-behalf";
/// The most that an agent's word about an operator is worth.
const BELIEVED: Role = Role::Operate;
/// The longest name that is taken over from another agent.
const MAX_NAME: usize = 200;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// For people: `operator alice`, `uid 1000 on the unix socket`.
    pub name: String,
    rights: Rights,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rights {
    Operator(Role),
    Agent(String),
    Stranger,
    None,
}

/// What a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// See.
    Read,
    /// See one's own side of the protocol between agents; operators may, too.
    Node,
    /// Start, stop, reload.
    Operate,
    /// Force.
    Admin,
    /// Be an agent.
    Agent,
    /// Take what one was invited to.
    Join,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Right::Read | Right::Node => "read",
            Right::Operate => "operate",
            Right::Admin => "admin",
            Right::Agent => "agent",
            Right::Join => "join",
        })
    }
}

/// Every call, and the right that it takes. There is no other: what is not here is answered by nobody.
pub const CALLS: &[(Method, &str, Right)] = &[
    (Method::GET, "/v1/node", Right::Node),
    (Method::GET, "/v1/cluster", Right::Read),
    (Method::GET, "/v1/events", Right::Read),
    (Method::GET, "/v1/identity", Right::Read),
    (Method::GET, "/v1/doctor", Right::Read),
    (Method::GET, "/v1/trail", Right::Read),
    (Method::GET, "/v1/logs", Right::Read),
    (Method::GET, "/v1/leftovers", Right::Read),
    (Method::GET, "/v1/probe", Right::Read),
    (Method::GET, "/v1/watch", Right::Agent),
    (Method::GET, "/v1/generation", Right::Node),
    (Method::GET, "/v1/config", Right::Agent),
    (Method::POST, "/v1/stage", Right::Admin),
    (Method::POST, "/v1/switch", Right::Admin),
    (Method::POST, "/v1/invite", Right::Admin),
    (Method::POST, "/v1/join", Right::Join),
    (Method::POST, "/v1/order", Right::Operate),
    (Method::POST, "/v1/reload", Right::Operate),
];

/// The right that a call takes. What an order asks for beyond that, its body tells ([`Caller::may`] is asked again).
pub fn right_for(method: &Method, path: &str) -> Right {
    let call = CALLS.iter().find(|(m, p, _)| m == method && *p == path);
    call.map_or(Right::Admin, |(.., right)| *right)
}

impl Caller {
    /// Whoever reaches a port that says `insecure = true`.
    pub fn anybody() -> Caller {
        Caller { name: "somebody on the network".to_owned(), rights: Rights::Operator(Role::Admin) }
    }

    /// One without a certificate, let in because somebody is expected.
    pub fn stranger() -> Caller {
        Caller { name: "somebody without a certificate".to_owned(), rights: Rights::Stranger }
    }

    /// A user of this machine, by the credentials of the unix socket's other end. The socket's mode lets its owner and
    /// its group in; who is neither root nor the agent's own user is of the group.
    pub fn local(uid: u32, own: u32, group: Option<&str>) -> Caller {
        let rights = match group {
            _ if uid == 0 || uid == own => Rights::Operator(Role::Admin),
            Some(_) => Rights::Operator(Role::Operate),
            None => Rights::None,
        };
        Caller { name: format!("uid {uid} on the unix socket"), rights }
    }

    /// The holder of a certificate that has been checked.
    pub fn certified(certificate: &Certificate) -> Caller {
        let rights = match &certificate.name.who {
            Who::Node(node) => Rights::Agent(node.clone()),
            Who::Operator { role, .. } => Rights::Operator(*role),
            Who::Ca => Rights::None,
        };
        Caller { name: certificate.name.who.to_string(), rights }
    }

    /// The one for whom this call is made: the caller, or the operator whose call an agent relays.
    pub fn behind(self, headers: &HeaderMap) -> Caller {
        let Rights::Agent(node) = &self.rights else { return self };
        let said = headers.get(ON_BEHALF).and_then(|v| v.to_str().ok()).and_then(|v| v.split_once(' '));
        let Some((role, name)) = said else { return self };
        let Ok(role) = role.parse::<Role>() else { return self };
        let name: String = name.chars().take(MAX_NAME).collect();
        Caller { name: format!("{name}, through {node}"), rights: Rights::Operator(role.min(BELIEVED)) }
    }

    /// The value of [`ON_BEHALF`] for a call that is relayed for this caller.
    pub fn on_behalf(&self) -> String {
        let role = match self.rights {
            Rights::Operator(role) => role.word(),
            Rights::Agent(_) | Rights::Stranger | Rights::None => "none",
        };
        format!("{role} {}", self.name)
    }

    /// Whether the caller holds a right.
    ///
    /// # Errors
    /// The sentence that says which one is missing.
    pub fn may(&self, right: Right) -> Result<(), Refusal> {
        let held = match (&self.rights, right) {
            (Rights::Operator(role), Right::Read | Right::Node) => *role >= Role::Read,
            (Rights::Operator(role), Right::Operate) => *role >= Role::Operate,
            (Rights::Operator(role), Right::Admin | Right::Agent) => *role >= Role::Admin,
            (Rights::Operator(_), Right::Join) => false,
            (Rights::Agent(_), Right::Node | Right::Agent) => true,
            (Rights::Stranger, Right::Join) => true,
            (Rights::Agent(_) | Rights::Stranger | Rights::None, _) => false,
        };
        if held {
            return Ok(());
        }
        let error = format!("{} lacks the right `{right}` for this call", self.name);
        Err(Refusal { error, hint: self.hint(right) })
    }

    /// Whether the caller may speak for a node: its own agent, or whoever may do all.
    ///
    /// # Errors
    /// When it is another node's agent.
    pub fn may_speak_for(&self, node: &str) -> Result<(), Refusal> {
        match &self.rights {
            Rights::Agent(own) if own != node => {
                let error = format!(
                    "{} lacks the right `agent` of node {node} for this call: a node speaks for itself only",
                    self.name
                );
                Err(Refusal { error, hint: None })
            }
            _ => Ok(()),
        }
    }

    fn hint(&self, right: Right) -> Option<String> {
        match (&self.rights, right) {
            (_, Right::Agent) | (Rights::Agent(_) | Rights::Stranger, _) => None,
            (_, Right::Join) => Some("clusterd join --token, on a machine without a certificate".to_owned()),
            (Rights::None, _) => {
                Some("`group = \"NAME\"` under [cluster] in cluster.toml names the group that may".to_owned())
            }
            (Rights::Operator(BELIEVED), Right::Admin) if self.name.contains(", through ") => Some(
                "through another agent nobody may: ask that node's own agent, there or with --agent"
                    .to_owned(),
            ),
            (Rights::Operator(_), right) => {
                Some(format!("root on that machine may; or clusterctl pki operator NAME --role {right}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Key, Name, Validity};

    fn certified(who: Who) -> Caller {
        let key: Key = "0".repeat(64).parse().unwrap();
        let name = Name { cluster: "shop".into(), who };
        Caller::certified(&Certificate { name, key, validity: Validity { from: 0, until: 1 } })
    }

    fn operator(role: Role) -> Caller {
        certified(Who::Operator { name: "alice".into(), role })
    }

    /// What each may do, in the order read, node, operate, admin, agent.
    fn all(caller: &Caller) -> [bool; 5] {
        [Right::Read, Right::Node, Right::Operate, Right::Admin, Right::Agent].map(|r| caller.may(r).is_ok())
    }

    #[test]
    fn each_caller_has_these_rights() {
        assert_eq!(all(&operator(Role::Read)), [true, true, false, false, false]);
        assert_eq!(all(&operator(Role::Operate)), [true, true, true, false, false]);
        assert_eq!(all(&operator(Role::Admin)), [true; 5]);
        assert_eq!(all(&certified(Who::Node("web1".into()))), [false, true, false, false, true]);
        assert_eq!(all(&Caller::local(0, 7, None)), [true; 5]);
        assert_eq!(all(&Caller::local(7, 7, None)), [true; 5]);
        assert_eq!(all(&Caller::local(1000, 7, Some("ops"))), [true, true, true, false, false]);
        assert_eq!(all(&Caller::local(1000, 7, None)), [false; 5]);
        assert_eq!(all(&certified(Who::Ca)), [false; 5]);
    }

    #[test]
    fn only_who_has_no_certificate_may_join() {
        assert!(Caller::stranger().may(Right::Join).is_ok());
        assert_eq!(all(&Caller::stranger()), [false; 5]);
        for other in [operator(Role::Admin), certified(Who::Node("web1".into())), Caller::local(0, 7, None)] {
            assert!(other.may(Right::Join).is_err());
        }
    }

    #[test]
    fn an_agents_word_for_an_operator_is_worth_operate_at_most() {
        let web1 = certified(Who::Node("web1".into()));
        let behind = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ON_BEHALF, value.parse().unwrap());
            web1.clone().behind(&headers)
        };
        assert_eq!(all(&behind("read uid 0")), [true, true, false, false, false]);
        assert_eq!(all(&behind("admin uid 0")), [true, true, true, false, false]);
        assert_eq!(behind("admin uid 0").name, "uid 0, through web1");
        for odd in ["none uid 0", "root uid 0", "admin", ""] {
            assert_eq!(behind(odd), web1, "{odd}");
        }
        // Nobody else can say for whom he asks.
        let mut headers = HeaderMap::new();
        headers.insert(ON_BEHALF, "admin root".parse().unwrap());
        assert_eq!(operator(Role::Read).behind(&headers), operator(Role::Read));
    }

    #[test]
    fn a_refusal_says_which_right_is_missing() {
        let refusal = operator(Role::Read).may(Right::Operate).unwrap_err();
        assert_eq!(refusal.error, "operator alice (read) lacks the right `operate` for this call");
        assert!(refusal.hint.unwrap().contains("--role operate"));
    }

    #[test]
    fn what_is_not_in_the_table_takes_the_most() {
        assert_eq!(right_for(&Method::POST, "/v1/something"), Right::Admin);
        assert_eq!(right_for(&Method::DELETE, "/v1/node"), Right::Admin);
        assert_eq!(right_for(&Method::GET, "/v1/something"), Right::Admin);
        assert_eq!(right_for(&Method::GET, "/v1/events"), Right::Read);
    }
}
