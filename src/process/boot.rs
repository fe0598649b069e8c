//! Which boot this is.

use super::proc;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::sync::{Arc, OnceLock};

/// A boot is (boot id, pid namespace, start time of PID 1), so that namespaces and containers have boots of their
/// own. A pid number means something only within one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Boot {
    /// `/proc/sys/kernel/random/boot_id`
    pub boot_id: Arc<str>,
    /// Inode of the pid namespace.
    pub pid_ns: u64,
    /// Start of PID 1 in clock ticks; 0 where `hidepid` hides it from us.
    pub init_start: u64,
}

impl Boot {
    /// The boot that this process lives in. Read once: it cannot change during a process's life.
    ///
    /// Fails when `/proc` is not mounted, or is that of another pid namespace (then no number in it could be
    /// trusted).
    pub fn current() -> io::Result<Boot> {
        static CURRENT: OnceLock<Boot> = OnceLock::new();
        if let Some(boot) = CURRENT.get() {
            return Ok(boot.clone());
        }
        let boot = Boot::read()?;
        Ok(CURRENT.get_or_init(|| boot).clone())
    }

    fn read() -> io::Result<Boot> {
        let me = std::process::id();
        let shown = fs::read_link("/proc/self").map_err(|e| explain("cannot read /proc/self", &e))?;
        if shown.to_str() != Some(&me.to_string()) {
            let shown = shown.display();
            return Err(io::Error::other(format!(
                "/proc belongs to another pid namespace (it calls this process {shown}, its pid is {me}); \
                 mount a /proc of this namespace"
            )));
        }
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_err(|e| explain("cannot read the boot id", &e))?
            .trim()
            .into();
        let pid_ns =
            proc::pid_namespace(me as i32).map_err(|e| explain("cannot read the pid namespace", &e))?;
        let init_start = match proc::stat(1) {
            Ok(stat) => stat.start,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => 0,
            Err(e) => return Err(explain("cannot read the start of PID 1", &e)),
        };
        Ok(Boot { boot_id, pid_ns, init_start })
    }
}

fn explain(what: &str, cause: &io::Error) -> io::Error {
    io::Error::new(cause.kind(), format!("{what}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_is_the_same_each_time_it_is_asked() {
        let boot = Boot::current().unwrap();
        assert_eq!(boot, Boot::read().unwrap());
        assert_eq!(boot.boot_id.len(), 36, "{boot:?}");
        assert_ne!(boot.pid_ns, 0);
    }
}
