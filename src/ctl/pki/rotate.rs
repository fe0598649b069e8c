//! `pki rotate`: a new CA, without a moment in which two nodes distrust each other.
//!
//! 1. The new CA is made, and the one before says that it is the cluster's (a cross-certificate). Everybody gets a
//!    certificate of the new one: who has taken it in shows both, and believes both CAs; who has not believes the new
//!    one by the old one's word. So they can be taken in one by one, in any order.
//! 2. Once every node shows its new certificate, the CA before is dropped as any key is: `revoked` in the cluster file.
//! 3. Once no node believes it any more, the rotation is over.
//!
//! The key of the CA before is gone from step 1 on. Whoever is killed in a step does it again.

use super::super::{Asked, Exit, Global, Misuse, hint, online};
use super::{CA_DAYS, hand_out, is_node, passphrase, print_revoked};
use crate::api::wire::Identity;
use crate::model::Cluster;
use crate::pki::{Ca, Certificate, Validity, Who};
use futures_util::future::join_all;
use std::path::Path;

/// The CA, once a rotation of it is under way, with its key at hand.
pub fn under_way(ca: Ca, begin: bool, key: &passphrase::Source) -> anyhow::Result<Ca> {
    match (ca.before(), begin) {
        (Some(_), false) => key.unlock(ca),
        (None, true) => Ok(key.unlock(ca)?.rotate(Validity::days(CA_DAYS))?),
        (Some(_), true) => {
            let text = "a rotation of the CA is under way".to_owned();
            Err(Misuse { text, hint: "clusterctl pki rotate, without --begin, carries it on".to_owned() }
                .into())
        }
        (None, false) => {
            let text = "no rotation of the CA is under way".to_owned();
            Err(Misuse { text, hint: "clusterctl pki rotate --begin".to_owned() }.into())
        }
    }
}

/// Does the next step, or says what it waits for.
pub fn step(ca: Ca, cluster: &Cluster, out: &Path, global: &Global) -> anyhow::Result<Exit> {
    let Some(before) = ca.before().cloned() else {
        anyhow::bail!("the CA's folder is not as it was written")
    };
    if hand_out_all(&ca, cluster, out)? {
        hint(
            "on each node, in any order: clusterd join FILE, then clusterctl reload NODE; operators use their new file",
        );
        hint("then again: clusterctl pki rotate");
        return Ok(Exit::Done);
    }
    let known = online(ask(cluster, global))?;
    let (anew, revoked) = (ca.issued_anew()?, ca.revoked()?);
    if !revoked.iter().any(|c| c.key == before.key) {
        let shows_new = |node: &str, it: &Identity| {
            let key = it.key.clone().unwrap_or_default();
            anew.iter().any(|c| is_node(c, node) && c.key.to_string() == key)
        };
        if !all(&known, "shows its certificate of the CA before", shows_new) {
            return Ok(Exit::Incomplete);
        }
        eprintln!("every node shows its new certificate; the CA before is to be dropped");
        ca.revoke_before()?;
        print_revoked(&ca)?;
        hint(
            "whose operators have not got their new file yet are refused from then on; then again: clusterctl pki rotate",
        );
        return Ok(Exit::Done);
    }
    let key = before.key.to_string();
    if !all(&known, "believes the CA before", |_, it| it.key.is_some() && !it.authorities.contains(&key)) {
        print_revoked(&ca)?;
        return Ok(Exit::Incomplete);
    }
    ca.rotated()?;
    eprintln!("no node believes the CA before any more: the rotation is over");
    Ok(Exit::Done)
}

/// Makes a certificate of the new CA for each who has one of the CA before, and for each node; whether there was any.
fn hand_out_all(ca: &Ca, cluster: &Cluster, out: &Path) -> anyhow::Result<bool> {
    let anew = ca.issued_anew()?;
    let has =
        |who: &Who| anew.iter().any(|c: &Certificate| c.name.who == *who) && !ca.half_handed_out(who, out);
    let nodes = cluster.nodes.iter().map(|n| Who::Node(n.name.clone()));
    let operators =
        ca.issued()?.into_iter().map(|c| c.name.who).filter(|w| matches!(w, Who::Operator { .. }));
    let mut lacking: Vec<Who> = nodes.chain(operators).filter(|who| !has(who)).collect();
    lacking.sort();
    lacking.dedup();
    for who in &lacking {
        hand_out(ca, who.clone(), out)?;
    }
    Ok(!lacking.is_empty())
}

type Known = Vec<(String, Result<Identity, String>)>;

async fn ask(cluster: &Cluster, global: &Global) -> anyhow::Result<Known> {
    let asked = Asked::open(global)?;
    let answers = cluster.nodes.iter().map(async |node| {
        let answer = asked.get_at::<Identity>(&node.name, "/v1/identity").await;
        (node.name.clone(), answer.map_err(|e| e.to_string()))
    });
    Ok(join_all(answers).await)
}

/// Whether it is so with every node; those with which it is not are told.
fn all(known: &Known, otherwise: &str, is_so: impl Fn(&str, &Identity) -> bool) -> bool {
    let mut all = true;
    for (node, answer) in known {
        match answer {
            Ok(identity) if is_so(node, identity) => continue,
            Ok(_) => eprintln!("{node} {otherwise}"),
            Err(why) => eprintln!("{node} does not answer: {why}"),
        }
        all = false;
    }
    all
}
