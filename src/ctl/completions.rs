//! `completions SHELL`: a script for the shell to load.

use super::{Cli, Exit};
use clap::CommandFactory;
use clap_complete::Shell;

/// `clusterctl completions`
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
