//! `clusterd join`: takes in the certificate and key of this node, from a file or, by a one-time token, from an agent.

use super::args::Args;
use super::etcd::Place;
use super::whoami;
use crate::api::client::{Client, Target};
use crate::api::tls::Security;
use crate::api::wire::{JoinAsk, JoinReply};
use crate::model::{self, Cluster, Sources};
use crate::pki::{self, Bundle, BundleError, Name, Token, Who};
use anyhow::{Context, anyhow, bail};
use futures_util::future::join_all;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where an agent keeps its certificate and key.
pub fn identity_file(state: &Path) -> PathBuf {
    state.join("identity.pem")
}

/// Checks what the file holds, or (without one) what an agent has for whoever types the token, and puts it in its place.
/// Done twice with a file, it changes nothing.
///
/// # Errors
/// When it is damaged, open to others, not to be had, or not for this node of this cluster; nothing has changed then.
pub fn join(args: &Args, file: Option<&Path>, from: Option<&str>) -> anyhow::Result<()> {
    let copy = Place::read(&args.config, args.etcd.clone()).map(|_| Place::copy_in(&args.state));
    let sources = Sources::read(copy.as_deref().unwrap_or(&args.config), args.units.as_deref())?;
    let cluster = model::parse(&sources).context("the cluster file is refused")?;
    let me = whoami::decide(&cluster, &whoami::Clues::gather(args.node.clone()))?;
    let node = &cluster.node(me).name;

    let (source, bundle) = match file {
        Some(file) => {
            let source = file.display().to_string();
            let bundle = Bundle::read(file).with_context(|| format!("cannot take in {source}"))?;
            (source, bundle)
        }
        None => {
            let token: Token = pki::typed("token")?.parse()?;
            let name = Name { cluster: cluster.name.clone(), who: Who::Node(node.clone()) };
            let sealed = fetch(&cluster, node, &token.number(), from)?;
            let bundle = Bundle::parse(&token.open(&name, &sealed)?);
            (
                "what an agent had for this token".to_owned(),
                bundle.context("cannot take in what the agent had")?,
            )
        }
    };
    let refuse = |why: String| format!("cannot take in {source}: {why}");
    let name = &bundle.own.name;
    if name.cluster != cluster.name {
        bail!(refuse(format!("it is for cluster {}, and this is {}", name.cluster, cluster.name)));
    }
    match &name.who {
        Who::Node(other) if other == node => {}
        Who::Node(other) => bail!(refuse(format!("it is for node {other}, and this is {node}"))),
        who => bail!(refuse(format!("it is for {who}, and this is node {node}"))),
    }

    super::make_folder(&args.state, 0o700)
        .with_context(|| format!("cannot make the folder {}", args.state.display()))?;
    let path = identity_file(&args.state);
    match Bundle::read(&path) {
        Ok(before) if before == bundle => {
            println!("{node} has joined cluster {} already", cluster.name);
            return Ok(());
        }
        Ok(before) if !before.believes(&bundle) => bail!(
            "{}\n  hint: clusterctl pki rotate gives the cluster a new CA without this; if it was made anew indeed, remove {} first",
            refuse(format!("{node} belongs to another CA of cluster {}", before.own.name.cluster)),
            path.display()
        ),
        Ok(_) => {}
        Err(BundleError::File(e)) if e.is_missing() => {}
        Err(e) => eprintln!("clusterd: what was in {} could not be used: {e}", path.display()),
    }
    bundle.write(&path)?;
    let remove = file.map_or(String::new(), |file| format!("; remove {}, it holds the key", file.display()));
    println!("{node} has joined cluster {}{remove}", cluster.name);
    Ok(())
}

/// The sealed bundle with this number, from one agent or from whichever has it.
fn fetch(cluster: &Cluster, me: &str, number: &str, from: Option<&str>) -> anyhow::Result<String> {
    if cluster.insecure {
        bail!("cluster {} says `insecure = true`: its nodes need no certificates", cluster.name);
    }
    let targets: Vec<Target> = match from {
        Some(from) if from.contains(':') => vec![Target::Tcp(from.to_owned())],
        Some(from) => vec![Target::Tcp(format!("{from}:{}", cluster.port))],
        None => {
            let others = cluster.nodes.iter().filter(|n| n.name != me);
            others.map(|n| SocketAddr::new(n.address, cluster.port).into()).collect()
        }
    };
    let config = pki::stranger().context("cannot speak TLS")?;
    let ask = JoinAsk { node: me.to_owned(), number: number.to_owned() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answers =
        runtime.block_on(join_all(targets.into_iter().map(|target| {
            let mut client = Client::new(target).secured(Security::Stranger(config.clone()), None);
            let ask = &ask;
            async move {
                client.post::<_, JoinReply>("/v1/join", ask).await.map_err(|e| (client.target().clone(), e))
            }
        })));
    let mut refusals = String::new();
    for answer in answers {
        match answer {
            Ok(reply) => return Ok(reply.sealed),
            Err((target, e)) => refusals += &format!("\n  {target}: {e}"),
        }
    }
    Err(anyhow!(
        "no agent has an invitation for this token:{refusals}\n  hint: it is good for one agent, until that machine is \
         booted, and once. A new one, where the CA is: clusterctl pki invite {me}"
    ))
}
