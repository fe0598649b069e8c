//! How this agent is spoken to: its certificate, whose keys are revoked, who may use its unix socket.
//!
//! None of this stops an agent. Without a certificate it serves its unix socket only, starts what it can prove from
//! here, and says what to type; the certificate is taken in as soon as it is there.

use super::join::identity_file;
use super::links;
use super::shell::Shell;
use crate::api::tls::Security;
use crate::model::Cluster;
use crate::pki::{Bundle, BundleError, Key, Tls, Validity, Who, now};
use nix::unistd::{Gid, Group};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// How long before its last day a certificate is said to end, in seconds.
const SAY_BEFORE: u64 = 30 * 86_400;

/// How an agent is spoken to, and what is wrong with it.
pub struct Found {
    pub security: Security,
    pub problem: Option<String>,
}

/// Reads this node's certificate, unless the file says that none is wanted.
pub fn find(state: &Path, cluster: &Cluster, node: &str) -> Found {
    if cluster.insecure {
        return Found { security: Security::Plain, problem: None };
    }
    match read(state, cluster, node) {
        Ok(tls) => {
            let problem = said_of(tls.own.validity, now(), node);
            Found { security: Security::Tls(Arc::new(tls)), problem }
        }
        Err(why) => {
            let problem = format!(
                "{why}: other agents neither hear this one nor are heard, and nobody is served but by the unix \
                 socket. Where the CA is: clusterctl pki issue {node}, then here: clusterd join {node}.pem"
            );
            Found { security: Security::Missing, problem: Some(problem) }
        }
    }
}

fn read(state: &Path, cluster: &Cluster, node: &str) -> Result<Tls, String> {
    let path = identity_file(state);
    let cannot = |e: &BundleError| format!("the certificate in {} cannot be used: {e}", path.display());
    let bundle = match Bundle::read(&path) {
        Ok(bundle) => bundle,
        Err(BundleError::File(e)) if e.is_missing() => {
            return Err("this node has no certificate".to_owned());
        }
        Err(e) => return Err(cannot(&e)),
    };
    let name = &bundle.own.name;
    if name.cluster != cluster.name || name.who != Who::Node(node.to_owned()) {
        return Err(format!(
            "the certificate in {} is of {} in cluster {}, and this is node {node} in cluster {}",
            path.display(),
            name.who,
            name.cluster,
            cluster.name
        ));
    }
    let tls = Tls::new(&bundle).map_err(|e| cannot(&e))?;
    tls.revoke(revoked(cluster));
    Ok(tls)
}

/// The keys that the file revokes. Each was looked at when the file was read.
fn revoked(cluster: &Cluster) -> impl Iterator<Item = Key> {
    cluster.revoked.iter().filter_map(|key| key.parse().ok())
}

/// What its dates say, when that is worth saying. It goes on being used.
fn said_of(Validity { from, until }: Validity, now: u64, node: &str) -> Option<String> {
    let what = match now {
        _ if now < from => "is not valid yet by this machine's clock, which may be wrong".to_owned(),
        _ if now > until => "has expired, and goes on being used".to_owned(),
        _ if until - now < SAY_BEFORE => format!("expires in {} days", (until - now) / 86_400),
        _ => return None,
    };
    Some(format!("the certificate of this node {what}; a new one: clusterctl pki issue {node}"))
}

/// Lets the members of the group named in the file use the unix socket.
///
/// # Errors
/// When there is no such group; then it is root's alone.
pub fn open_to_group(socket: &Path, group: Option<&str>) -> Result<(), String> {
    let found = match group {
        None => None,
        Some(name) => match Group::from_name(name) {
            Ok(Some(group)) => Some(group.gid),
            Ok(None) => return Err(shut(socket, &format!("there is no group {name} here"))),
            Err(e) => return Err(shut(socket, &format!("cannot look up group {name}: {e}"))),
        },
    };
    let mode = if found.is_some() { 0o660 } else { 0o600 };
    // The mode is opened last, and shut first.
    set_mode(socket, 0o600)
        .and_then(|()| {
            nix::unistd::chown(socket, None, Some(found.unwrap_or(Gid::effective()))).map_err(Into::into)
        })
        .and_then(|()| set_mode(socket, mode))
        .map_err(|e| shut(socket, &format!("cannot give it to the group: {e}")))
}

fn set_mode(socket: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(mode))
}

fn shut(socket: &Path, why: &str) -> String {
    let _ = set_mode(socket, 0o600);
    format!("the unix socket is for root only: {why}")
}

impl Shell {
    /// Puts a problem in place of the one said before, or takes it away; a new one is logged.
    pub fn say(&self, about: &'static str, problem: Option<String>) {
        let mut problems = self.problems.borrow_mut();
        match problem {
            Some(text) if problems.get(about) == Some(&text) => {}
            Some(text) => {
                tracing::warn!("{text}");
                problems.insert(about, text);
            }
            None => drop(problems.remove(about)),
        }
    }

    /// Lets those use the unix socket whom the file names.
    pub fn open_socket(&self) {
        let done = open_to_group(&self.places.socket(), self.cluster().group.as_deref());
        self.say("group", done.err());
    }

    /// Looks at the certificate and the revoked keys again. True when something has changed: who follows our stream
    /// must come back and show a certificate anew, and the links to others are of before.
    pub fn look_at_trust(self: &Rc<Self>) -> bool {
        let cluster = self.cluster();
        let found = find(&self.places.state, &cluster, &self.node_name());
        self.say("certificate", found.problem);
        let same = match (&*self.security.borrow(), &found.security) {
            (Security::Tls(old), Security::Tls(new)) => old.own == new.own && old.revoked() == new.revoked(),
            (Security::Plain, Security::Plain) | (Security::Missing, Security::Missing) => true,
            _ => false,
        };
        if same {
            return false;
        }
        *self.security.borrow_mut() = found.security;
        self.open_for_invited();
        self.end_streams();
        true
    }

    /// Lets those in who have no certificate, for as long as one of them may come.
    pub fn open_for_invited(&self) {
        if let Security::Tls(tls) = &*self.security.borrow() {
            tls.expect_strangers(self.invitations.until());
        }
    }

    /// As [`Shell::look_at_trust`], and the other agents are dialled anew when something has changed.
    pub fn trust_again(self: &Rc<Self>) -> bool {
        let changed = self.look_at_trust();
        if changed {
            self.links.forget();
            links::follow_peers(self);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_said_when_they_are_near_or_past() {
        let day = 86_400;
        let validity = Validity { from: 100 * day, until: 200 * day };
        let said = |now| said_of(validity, now * day, "web1");
        assert!(said(99).unwrap().contains("not valid yet"));
        assert_eq!(said(100), None);
        assert_eq!(said(169), None);
        assert!(said(190).unwrap().contains("expires in 10 days"));
        assert!(said(201).unwrap().contains("has expired, and goes on being used"));
    }
}
