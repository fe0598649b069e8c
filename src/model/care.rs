//! What a unit's processes are given and denied, beyond their program and their user.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Part of `[run]`. What a unit does not say stays as the agent has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Care {
    /// Supplementary groups, by name; `None`: those that the group database gives the user (initgroups(3)).
    pub groups: Option<Vec<String>>,
    /// Files of variables, read with the agent's rights. They win over `environment`, and a later one over an
    /// earlier one, as systemd has it.
    pub environment_files: Vec<EnvironmentFile>,
    /// setrlimit(2)
    pub limits: BTreeMap<Resource, Bounds>,
    /// -20 to 19, see nice(2). With autogroups (sched(7)) it weighs within the service's own session.
    pub nice: Option<i32>,
    /// -1000 to 1000: which process the kernel kills first when memory runs out, see proc(5).
    pub oom_score_adjust: Option<i32>,
    /// The only capabilities that the service and all that it executes can ever have; `None` leaves them alone. A
    /// user other than root has them as ambient ones.
    pub capabilities: Option<Vec<Capability>>,
    /// PR_SET_NO_NEW_PRIVS(2const): set-user-ID programs give nothing.
    pub no_new_privileges: bool,
    /// Groups of system calls that are denied; then `no_new_privileges` is on, too.
    pub system_call_filter: Vec<CallGroup>,
    pub cgroup: CgroupLimits,
    pub sight: Sight,
}

/// What it sees of the file system, in a mount namespace of its own where anything of it is said: systemd.exec(5) has the
/// same keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sight {
    pub protect_system: ProtectSystem,
    pub protect_home: ProtectHome,
    /// `/tmp` and `/var/tmp` are empty, its own, in memory, and gone with its last process.
    pub private_tmp: bool,
    pub read_only_paths: Vec<PathBuf>,
    /// Writable although a path above is not. They must be there.
    pub read_write_paths: Vec<PathBuf>,
}

/// What of the system is read-only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProtectSystem {
    #[default]
    No,
    /// `true`: `/usr`, `/boot` and what stands beside them.
    Programs,
    /// `"full"`: `/etc`, too.
    Full,
    /// `"strict"`: everything but `/dev`, `/proc`, `/sys`, its `make_folders` and `read_write_paths`.
    Strict,
}

/// What of `/home`, `/root` and `/run/user` is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProtectHome {
    #[default]
    No,
    /// `true`: nothing.
    Empty,
    /// `"read-only"`
    ReadOnly,
}

/// Limits on the whole tree of an instance, in force where cgroup v2 has the controller: cgroups(7) and the kernel's
/// Documentation/admin-guide/cgroup-v2.rst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CgroupLimits {
    /// Bytes.
    pub memory_max: Option<u64>,
    /// 1 to 10000; 100 is the kernel's default.
    pub cpu_weight: Option<u32>,
    /// Percent of one CPU.
    pub cpu_quota: Option<u32>,
    /// Processes and threads.
    pub tasks_max: Option<u32>,
}

/// `"/etc/default/redis"`, or `"-/etc/default/redis"` for one that may be missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentFile {
    pub path: PathBuf,
    pub optional: bool,
}

/// A soft and a hard limit; [`Bounds::UNLIMITED`] is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    pub soft: u64,
    pub hard: u64,
}

impl Bounds {
    /// RLIM_INFINITY
    pub const UNLIMITED: u64 = u64::MAX;
}

/// A set of words, each a variant.
macro_rules! words {
    ($(#[$doc:meta])* $set:ident { $($name:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $set {
            $(#[serde(rename = $word)] $name),+
        }

        impl $set {
            pub const ALL: &[$set] = &[$($set::$name),+];

            /// As it is typed.
            pub fn as_str(self) -> &'static str {
                match self { $($set::$name => $word),+ }
            }
        }
    };
}

words! {
    /// A group of system calls, by systemd's name (systemd.exec(5), `SystemCallFilter=`).
    CallGroup {
        Clock = "@clock",
        CpuEmulation = "@cpu-emulation",
        Debug = "@debug",
        Module = "@module",
        Mount = "@mount",
        Obsolete = "@obsolete",
        RawIo = "@raw-io",
        Reboot = "@reboot",
        Swap = "@swap",
    }
}

words! {
    /// What setrlimit(2) can limit, by its name there in small letters and without `RLIMIT_`. `rss` and `locks` are left out:
    /// Linux takes them and does nothing.
    Resource {
        As = "as",
        Core = "core",
        Cpu = "cpu",
        Data = "data",
        Fsize = "fsize",
        Memlock = "memlock",
        Msgqueue = "msgqueue",
        Nice = "nice",
        Nofile = "nofile",
        Nproc = "nproc",
        Rtprio = "rtprio",
        Rttime = "rttime",
        Sigpending = "sigpending",
        Stack = "stack",
    }
}

/// A capability, by its number (include/uapi/linux/capability.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Capability(u8);

impl Capability {
    /// capabilities(7), in the order of their numbers.
    pub const NAMES: [&str; 41] = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETPCAP",
        "CAP_LINUX_IMMUTABLE",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_BROADCAST",
        "CAP_NET_ADMIN",
        "CAP_NET_RAW",
        "CAP_IPC_LOCK",
        "CAP_IPC_OWNER",
        "CAP_SYS_MODULE",
        "CAP_SYS_RAWIO",
        "CAP_SYS_CHROOT",
        "CAP_SYS_PTRACE",
        "CAP_SYS_PACCT",
        "CAP_SYS_ADMIN",
        "CAP_SYS_BOOT",
        "CAP_SYS_NICE",
        "CAP_SYS_RESOURCE",
        "CAP_SYS_TIME",
        "CAP_SYS_TTY_CONFIG",
        "CAP_MKNOD",
        "CAP_LEASE",
        "CAP_AUDIT_WRITE",
        "CAP_AUDIT_CONTROL",
        "CAP_SETFCAP",
        "CAP_MAC_OVERRIDE",
        "CAP_MAC_ADMIN",
        "CAP_SYSLOG",
        "CAP_WAKE_ALARM",
        "CAP_BLOCK_SUSPEND",
        "CAP_AUDIT_READ",
        "CAP_PERFMON",
        "CAP_BPF",
        "CAP_CHECKPOINT_RESTORE",
    ];

    pub fn from_name(name: &str) -> Option<Capability> {
        Capability::NAMES.iter().position(|known| *known == name).map(|number| Capability(number as u8))
    }

    pub fn name(self) -> &'static str {
        Capability::NAMES[usize::from(self.0)]
    }

    pub fn number(self) -> u8 {
        self.0
    }
}

impl TryFrom<String> for Capability {
    type Error = String;
    fn try_from(name: String) -> Result<Capability, String> {
        Capability::from_name(&name).ok_or_else(|| format!("there is no capability {name:?}"))
    }
}

impl From<Capability> for String {
    fn from(capability: Capability) -> String {
        capability.name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are the kernel's, and an older agent's journal is still read.
    #[test]
    fn capabilities_stand_at_their_numbers() {
        for (name, number) in
            [("CAP_CHOWN", 0), ("CAP_NET_BIND_SERVICE", 10), ("CAP_SYS_TIME", 25), ("CAP_SYSLOG", 34)]
        {
            assert_eq!(Capability::from_name(name).unwrap().number(), number);
        }
        assert_eq!(Capability::from_name("CAP_CHECKPOINT_RESTORE").unwrap().number(), 40);
        assert_eq!(serde_json::from_str::<Care>("{}").unwrap(), Care::default());
    }

    #[test]
    fn care_is_written_and_read_back() {
        let care = Care {
            limits: BTreeMap::from([(Resource::Nofile, Bounds { soft: 1024, hard: Bounds::UNLIMITED })]),
            capabilities: Some(vec![Capability::from_name("CAP_KILL").unwrap()]),
            ..Care::default()
        };
        let text = serde_json::to_string(&care).unwrap();
        assert!(text.contains(r#""limits":{"nofile":"#) && text.contains(r#"["CAP_KILL"]"#), "{text}");
        assert_eq!(serde_json::from_str::<Care>(&text).unwrap(), care);
    }
}
