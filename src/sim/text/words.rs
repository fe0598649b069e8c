//! The faults in words.
//!
//! | words | fault |
//! |---|---|
//! | `power on NODE`, `power cut NODE`, `shutdown NODE` | |
//! | `kill agent NODE`, `stall agent NODE for 3s` | |
//! | `crash X`; `hang X`, `wake X`; `decline X`, `serve X`; `break X`, `mend X` | X is `service@node` |
//! | `cut NODE -> NODE`, `join NODE -> NODE` | one way |
//! | `slow NODE <-> NODE by 200ms` | `by 0s` ends it |
//! | `fill disk NODE`, `free disk NODE` | |
//! | `jump clock NODE by -3600` | seconds of the wall clock |
//! | `reuse pid X` | |
//! | `stop X within 60s`, `start X`, `force X`, `restart X` | an operator's orders |
//! | `reload NODE own`, `reload NODE broken` | |

use super::{instance, node, read_time, show_time};
use crate::model::{Cluster, InstanceIx, NodeIx};
use crate::sim::scenario::{Config, Fault};

/// The fault that the words tell.
pub(super) fn read(cluster: &Cluster, words: &[&str]) -> Result<Fault, String> {
    let on = |name: &str| node(cluster, name);
    let of = |name: &str| instance(cluster, name);
    let fault = match *words {
        ["power", "on", n] => Fault::PowerOn { node: on(n)? },
        ["power", "cut", n] => Fault::PowerCut { node: on(n)? },
        ["shutdown", n] => Fault::Shutdown { node: on(n)? },
        ["kill", "agent", n] => Fault::AgentKilled { node: on(n)? },
        ["stall", "agent", n, "for", time] => Fault::AgentStalls { node: on(n)?, for_: read_time(time)? },
        ["crash", x] => Fault::Crash { instance: of(x)? },
        ["hang", x] => Fault::Hangs { instance: of(x)? },
        ["wake", x] => Fault::Wakes { instance: of(x)? },
        ["decline", x] => Fault::Declines { instance: of(x)? },
        ["serve", x] => Fault::Serves { instance: of(x)? },
        ["break", x] => Fault::Broken { instance: of(x)? },
        ["mend", x] => Fault::Mended { instance: of(x)? },
        ["cut", from, "->", to] => Fault::Cut { from: on(from)?, to: on(to)? },
        ["join", from, "->", to] => Fault::Joined { from: on(from)?, to: on(to)? },
        ["slow", from, "<->", to, "by", time] => {
            Fault::Slow { from: on(from)?, to: on(to)?, by: read_time(time)? }
        }
        ["fill", "disk", n] => Fault::DiskFull { node: on(n)? },
        ["free", "disk", n] => Fault::DiskFree { node: on(n)? },
        ["jump", "clock", n, "by", seconds] => {
            let seconds = seconds.parse().map_err(|_| format!("`{seconds}` is no number of seconds"))?;
            Fault::ClockJumps { node: on(n)?, seconds }
        }
        ["reuse", "pid", x] => Fault::PidReused { instance: of(x)? },
        ["stop", x, "within", time] => Fault::Stop { instance: of(x)?, timeout: read_time(time)? },
        ["start", x] => Fault::Start { instance: of(x)?, force: false },
        ["force", x] => Fault::Start { instance: of(x)?, force: true },
        ["restart", x] => Fault::Restart { instance: of(x)? },
        ["reload", n, "own"] => Fault::Reload { node: on(n)?, config: Config::Own },
        ["reload", n, "broken"] => Fault::Reload { node: on(n)?, config: Config::Broken },
        _ => return Err(format!("there is no fault `{}`", words.join(" "))),
    };
    Ok(fault)
}

/// The words for a fault.
pub(super) fn show(cluster: &Cluster, fault: &Fault) -> String {
    let on = |n: &NodeIx| cluster.node(*n).name.as_str();
    let of = |x: &InstanceIx| &*cluster.instance(*x).name;
    match fault {
        Fault::PowerOn { node } => format!("power on {}", on(node)),
        Fault::PowerCut { node } => format!("power cut {}", on(node)),
        Fault::Shutdown { node } => format!("shutdown {}", on(node)),
        Fault::AgentKilled { node } => format!("kill agent {}", on(node)),
        Fault::AgentStalls { node, for_ } => format!("stall agent {} for {}", on(node), show_time(*for_)),
        Fault::Crash { instance } => format!("crash {}", of(instance)),
        Fault::Hangs { instance } => format!("hang {}", of(instance)),
        Fault::Wakes { instance } => format!("wake {}", of(instance)),
        Fault::Declines { instance } => format!("decline {}", of(instance)),
        Fault::Serves { instance } => format!("serve {}", of(instance)),
        Fault::Broken { instance } => format!("break {}", of(instance)),
        Fault::Mended { instance } => format!("mend {}", of(instance)),
        Fault::Cut { from, to } => format!("cut {} -> {}", on(from), on(to)),
        Fault::Joined { from, to } => format!("join {} -> {}", on(from), on(to)),
        Fault::Slow { from, to, by } => format!("slow {} <-> {} by {}", on(from), on(to), show_time(*by)),
        Fault::DiskFull { node } => format!("fill disk {}", on(node)),
        Fault::DiskFree { node } => format!("free disk {}", on(node)),
        Fault::ClockJumps { node, seconds } => format!("jump clock {} by {seconds}", on(node)),
        Fault::PidReused { instance } => format!("reuse pid {}", of(instance)),
        Fault::Stop { instance, timeout } => format!("stop {} within {}", of(instance), show_time(*timeout)),
        Fault::Start { instance, force: false } => format!("start {}", of(instance)),
        Fault::Start { instance, force: true } => format!("force {}", of(instance)),
        Fault::Restart { instance } => format!("restart {}", of(instance)),
        Fault::Reload { node, config: Config::Own } => format!("reload {} own", on(node)),
        Fault::Reload { node, config: Config::Broken } => format!("reload {} broken", on(node)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::sample::sample;

    #[test]
    fn every_fault_has_words_that_are_read_back() {
        let cluster = crate::model::parse(&sample()).unwrap();
        let all = [
            "power on web1",
            "power cut web1",
            "shutdown web1",
            "kill agent web1",
            "stall agent web1 for 2.5s",
            "crash web@web1",
            "hang web@web1",
            "wake web@web1",
            "decline web@web1",
            "serve web@web1",
            "break web@web1",
            "mend web@web1",
            "cut web1 -> redis1",
            "join web1 -> redis1",
            "slow web1 <-> redis1 by 0.2s",
            "fill disk web1",
            "free disk web1",
            "jump clock web1 by -3600",
            "reuse pid web@web1",
            "stop web@web1 within 60s",
            "start web@web1",
            "force web@web1",
            "restart web@web1",
            "reload web1 own",
            "reload web1 broken",
        ];
        for words in all {
            let fault = read(&cluster, &words.split(' ').collect::<Vec<_>>()).unwrap();
            assert_eq!(show(&cluster, &fault), words);
        }
    }
}
