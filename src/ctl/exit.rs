//! Exit codes: one list, the same for every verb.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; for `status`, `why` and `vip`: all that was asked about is well; for `simulate`: all came up.
    Done = 0,
    /// The question could not be asked, or was refused.
    Error = 1,
    /// Wrong use: an unknown verb, option or name.
    Usage = 2,
    /// Asked and answered, and the answer is no: not all up, or not complete in time.
    Incomplete = 3,
    /// The configuration is refused.
    Configuration = 4,
    /// Done, and it will not survive a reboot: the wish could not be written to disk.
    NotDurable = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// The list as `clusterctl --help` prints it.
pub const HELP: &str = "\
Exit codes:
  0    done; status, why: everything asked about is up; simulate: all came up
  1    the question could not be asked, or was refused
  2    wrong use: an unknown verb, option or name
  3    asked, and the answer is no: not all up, not complete in time, or in doubt
  4    the configuration is refused
  5    done, but it will not survive a reboot (the disk did not take it)
  130  ended by Ctrl-C

Where the agent is found: --agent, else --socket, else $CLUSTERCTL_AGENT, else $CLUSTERCTL_SOCKET,
else the context's, else /run/clusterd/clusterd.sock. With --direct every agent in the cluster file is asked instead.";
