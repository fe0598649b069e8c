//! What the agent's own process gives up when it begins.

use super::kernel;
use crate::model::Capability;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use std::io;
use std::sync::OnceLock;

/// The capabilities that the agent uses, and for what. It acts without the others; its services have what their units
/// say, since a program that root executes gets all that the bounding set has (capabilities(7)).
const USED: [(&str, &str); 16] = [
    ("CAP_CHOWN", "folders for services of other users, the socket for a group"),
    ("CAP_DAC_OVERRIDE", "leftovers in folders of other users"),
    ("CAP_DAC_READ_SEARCH", "pid files and locks of other users"),
    ("CAP_FOWNER", "modes of what belongs to other users"),
    ("CAP_KILL", "signals to services of other users"),
    ("CAP_SETGID", "starting as another user"),
    ("CAP_SETUID", "starting as another user"),
    ("CAP_SETPCAP", "`capabilities` of a unit"),
    ("CAP_NET_BIND_SERVICE", "`port` below 1024"),
    ("CAP_NET_ADMIN", "virtual addresses: left over, on `lo`, and the marks for them"),
    ("CAP_NET_RAW", "hearing who announces a virtual address, while none or several hold it"),
    ("CAP_SYS_PTRACE", "whose process it is: /proc/PID/exe, environ, fd"),
    ("CAP_SYS_ADMIN", "mounts of a service of its own; namespaces of others"),
    ("CAP_SYS_NICE", "`nice` below 0"),
    ("CAP_SYS_RESOURCE", "`limits` above our own, a lower `oom_score_adjust`"),
    ("CAP_FSETID", "modes that survive a change of owner"),
];

/// What the limit on core files was, for services.
static CORE: OnceLock<(rlim_t, rlim_t)> = OnceLock::new();

/// Acts without what is not needed, and leaves no memory behind: no core file, no debugger but root's. For the whole
/// process, so before any other thread is there.
///
/// # Errors
/// What the kernel says; then all is as it was, or more is given up.
pub fn give_up() -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    let _ = CORE.set((soft, hard));
    setrlimit(Resource::RLIMIT_CORE, 0, hard)?;
    // A core_pattern that is a program heeds no limit, but this.
    prctl::set_dumpable(false)?;
    let used = USED.iter().filter_map(|(name, _)| Capability::from_name(name));
    kernel::act_with_only(used.fold(0, |mask, capability| mask | 1 << capability.number()))
}

/// The limit on core files that a service has unless its unit says one: what the agent was started with.
pub(super) fn core_of_services() -> Option<(rlim_t, rlim_t)> {
    CORE.get().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_that_is_used_exists() {
        assert!(USED.iter().all(|(name, why)| Capability::from_name(name).is_some() && !why.is_empty()));
    }
}
