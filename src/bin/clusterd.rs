//! The agent.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match clusterd::agent::run(clusterd::agent::Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("clusterd: {e:#}");
            ExitCode::FAILURE
        }
    }
}
