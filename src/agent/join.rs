//! `clusterd join FILE`: takes in the certificate and key of this node.

use super::args::Args;
use super::whoami;
use crate::model::{self, Sources};
use crate::pki::{Bundle, BundleError, Who};
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};

/// Where an agent keeps its certificate and key.
pub fn identity_file(state: &Path) -> PathBuf {
    state.join("identity.pem")
}

/// Checks the file, and puts what it holds in its place. Done twice, it changes nothing.
///
/// # Errors
/// When the file is damaged, open to others, or not for this node of this cluster; nothing has changed then.
pub fn join(args: &Args, file: &Path) -> anyhow::Result<()> {
    let sources = Sources::read(&args.config, args.units.as_deref())?;
    let cluster = model::parse(&sources).context("the cluster file is refused")?;
    let me = whoami::decide(&cluster, &whoami::Clues::gather(args.node.clone()))?;
    let node = &cluster.node(me).name;

    let bundle = Bundle::read(file).with_context(|| format!("cannot take in {}", file.display()))?;
    let refuse = |why: String| format!("cannot take in {}: {why}", file.display());
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
    println!("{node} has joined cluster {}; remove {}, it holds the key", cluster.name, file.display());
    Ok(())
}
