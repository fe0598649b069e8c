//! `completions SHELL`: a script for the shell to load. And the manual pages, which the package is made with.

use super::{Cli, Exit};
use clap::CommandFactory;
use clap_complete::Shell;
use std::path::PathBuf;

// `clusterctl man`
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Where to write a page for each verb
    pub folder: PathBuf,
}

// `clusterctl completions`
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell to print the script for
    pub shell: Shell,
}

pub fn run(args: CompletionsArgs) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "clusterctl", &mut script);
    super::print(&String::from_utf8(script)?)?;
    Ok(Exit::Done)
}

pub fn man(args: &ManArgs) -> anyhow::Result<Exit> {
    clap_mangen::generate_to(Cli::command(), &args.folder)?;
    Ok(Exit::Done)
}
