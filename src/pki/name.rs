//! The name that a certificate carries.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What an operator may do. Each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// See: status, why, events, leftovers.
    Read,
    /// Start, stop, restart, reload.
    Operate,
    /// What goes against the cluster's own judgement: starts with `--force`.
    Admin,
}

impl Role {
    /// All of them, the least first.
    pub const ALL: [Role; 3] = [Role::Read, Role::Operate, Role::Admin];

    /// As it is typed.
    pub fn word(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Operate => "operate",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Role {
    type Err = BadName;
    fn from_str(word: &str) -> Result<Role, BadName> {
        Role::ALL.into_iter().find(|r| r.word() == word).ok_or_else(|| BadName(word.to_owned()))
    }
}

/// Whose certificate it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The CA itself.
    Ca,
    /// The agent of this node.
    Node(String),
    Operator {
        name: String,
        role: Role,
    },
}

impl fmt::Display for Who {
    /// For a person: `node web1`, `operator alice (read)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Ca => f.write_str("the CA"),
            Who::Node(node) => write!(f, "node {node}"),
            Who::Operator { name, role } => write!(f, "operator {name} ({role})"),
        }
    }
}

/// A name in a cluster, written `clusterd://CLUSTER/ca`, `…/node/NODE` or `…/operator/NAME/ROLE`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub cluster: String,
    pub who: Who,
}

/// What cannot be a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{}\" is no name in a cluster", .0.escape_debug())]
pub struct BadName(String);

impl Name {
    /// # Errors
    /// When a part is not made of a-z, 0-9 and inner `-`, at most 63 of them.
    pub fn new(cluster: &str, who: Who) -> Result<Name, BadName> {
        let part = match &who {
            Who::Ca => None,
            Who::Node(name) | Who::Operator { name, .. } => Some(name.as_str()),
        };
        if let Some(bad) = [Some(cluster), part].into_iter().flatten().find(|part| !is_part(part)) {
            return Err(BadName(bad.to_owned()));
        }
        Ok(Name { cluster: cluster.to_owned(), who })
    }
}

fn is_part(part: &str) -> bool {
    (1..=63).contains(&part.len())
        && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !part.starts_with('-')
        && !part.ends_with('-')
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "clusterd://{}/", self.cluster)?;
        match &self.who {
            Who::Ca => f.write_str("ca"),
            Who::Node(node) => write!(f, "node/{node}"),
            Who::Operator { name, role } => write!(f, "operator/{name}/{role}"),
        }
    }
}

impl FromStr for Name {
    type Err = BadName;
    fn from_str(uri: &str) -> Result<Name, BadName> {
        let bad = || BadName(uri.chars().take(200).collect());
        let mut parts = uri.strip_prefix("clusterd://").ok_or_else(bad)?.split('/');
        let parts = [(); 5].map(|()| parts.next());
        let (cluster, who) = match parts {
            [Some(cluster), Some("ca"), None, ..] => (cluster, Who::Ca),
            [Some(cluster), Some("node"), Some(node), None, _] => (cluster, Who::Node(node.to_owned())),
            [Some(cluster), Some("operator"), Some(name), Some(role), None] => {
                (cluster, Who::Operator { name: name.to_owned(), role: role.parse().map_err(|_| bad())? })
            }
            _ => return Err(bad()),
        };
        Name::new(cluster, who).map_err(|_| bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written() {
        let alice = Who::Operator { name: "alice".into(), role: Role::Operate };
        for who in [Who::Ca, Who::Node("web1".into()), alice] {
            let name = Name::new("shop", who).unwrap();
            assert_eq!(name.to_string().parse(), Ok(name));
        }
    }

    #[test]
    fn whatever_could_be_taken_for_another_is_no_name() {
        for bad in [
            "",
            "clusterd://shop",
            "clusterd://shop/node/",
            "clusterd://shop/node/web1/",
            "clusterd://shop/node/web1/more/and/more",
            "clusterd:///node/web1",
            "clusterd://shop/node/WEB1",
            "clusterd://shop/node/-web1",
            "clusterd://shop/operator/alice",
            "clusterd://shop/operator/alice/root",
            "https://shop/node/web1",
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
        assert!(Name::new("shop", Who::Node("web1/admin".into())).is_err());
    }

    #[test]
    fn each_role_includes_those_before_it() {
        assert!(Role::Read < Role::Operate && Role::Operate < Role::Admin);
    }
}
