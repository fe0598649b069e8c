//! `stand-in` (hidden): a small server in a daemon's place, for the demo. See [`crate::standin`].

use super::Exit;
use crate::standin;

/// Runs until it is killed. Not async: a stand-in makes its own runtime.
pub fn run(args: &standin::Args) -> anyhow::Result<Exit> {
    standin::run(args)?;
    Ok(Exit::Done)
}
