//! Three machines, each with what another one needs, and a power cord each.

use super::disks::{self, CLUSTERCTL, disks};
use super::machine::{Machine, Network};
use clusterd::engine::view::Wish;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

const FILE: &str = r#"
[cluster]
name = "three"
[nodes]
all = { db = "192.168.9.1", mq = "192.168.9.2", web = "192.168.9.3" }
[services]
mysql = { on = "db" }
broker = { on = "mq", needs.mysql = "any writable" }
redis = { on = "web" }
extra = { on = "web" }
[services.web]
on = "web"
unit = "nginx"
needs.redis = "any master"
needs.broker = "any"
"#;

/// Stands in for ActiveMQ.
const BROKER: &str = r#"
[run]
command = ["/usr/bin/clusterctl", "stand-in", "activemq", "--listen", "{address}:61616"]
[ready]
probe = { kind = "activemq", port = 61616 }
"#;

const EXTRA: &str =
    "[run]\ncommand = [\"/bin/sleep\", \"1d\"]\n[ready]\nprobe = { kind = \"running\", for = \"100ms\" }\n";

struct Three {
    /// In the order of their needs: db, mq, web.
    machines: Vec<Machine>,
    _network: Network,
}

impl Three {
    /// The package, a file and a certificate on each machine; `extra` is held; all are off.
    fn new() -> Three {
        let network = Network::new();
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("units")).expect("a folder");
        fs::write(at("cluster.toml"), FILE).expect("a file");
        for (unit, text) in [("broker", BROKER), ("extra", EXTRA)] {
            fs::write(at("units").join(format!("{unit}.toml")), text).expect("a unit");
        }
        for unit in ["mysql", "redis", "nginx"] {
            let of = format!("{}/units/{unit}.toml", env!("CARGO_MANIFEST_DIR"));
            fs::copy(of, at("units").join(format!("{unit}.toml"))).expect("a unit");
        }
        for verb in ["init", "bundle"] {
            let mut pki = Command::new(CLUSTERCTL);
            disks::run(pki.current_dir(&folder).arg("--config").arg(at("cluster.toml")).args(["pki", verb]));
        }
        let named = [("db", 1), ("mq", 2), ("web", 3)];
        let mut machines: Vec<Machine> =
            named.iter().map(|(name, number)| disks().machine(&network, name, *number)).collect();
        for machine in &mut machines {
            let host = machine.host();
            for file in ["cluster.toml", "units/broker.toml", "units/extra.toml"] {
                fs::copy(at(file), host.join(file.rsplit('/').next().unwrap())).expect("a copy");
            }
            fs::copy(at(&format!("{}.pem", machine.name)), host.join("own.pem")).expect("a certificate");
            machine.switch_on();
        }
        for machine in &mut machines {
            machine.await_boot();
            // By itself MariaDB maps 8 TiB, which is more than there is on user-mode Linux.
            machine.ok(
                "cp /host/cluster.toml /etc/clusterd/ && cp /host/broker.toml /host/extra.toml /etc/clusterd/units/ && \
                 echo loose_innodb_buffer_pool_size_max = 64M >>/etc/mysql/mariadb.conf.d/99-tests.cnf && \
                 clusterd join /host/own.pem && (umask 077; echo secret >/etc/clusterd/mysql.password) && \
                 systemctl enable clusterd",
            );
        }
        let web = &mut machines[2];
        web.ok("systemctl start clusterd");
        web.run("clusterctl stop extra@web");
        machines.iter_mut().for_each(Machine::power_off);
        Three { machines, _network: network }
    }

    /// Waits until all is up, and looks whether all is as it should be.
    fn await_up(&mut self) {
        for machine in &mut self.machines {
            let instances = match machine.name.as_str() {
                "db" => "mysql@db",
                "mq" => "broker@mq",
                _ => "redis@web web@web",
            };
            machine.wait("all comes up", &format!("clusterctl status {instances}"));
            let (daemon, own) = match machine.name.as_str() {
                "db" => ("pgrep -xc mariadbd", "mysql@db"),
                "mq" => ("pgrep -fc 'clusterctl stand-in activem[q]'", "broker@mq"),
                _ => ("pgrep -xc redis-server", "redis@web"),
            };
            assert_eq!(machine.ok(daemon), "1", "{own} runs once");
            let problems = machine.problems();
            assert!(problems.is_empty(), "{}: {problems:?}", machine.name);
        }
        let extra = self.machines[2].view("extra@web");
        assert!(matches!(extra.wish, Wish::Held { .. }) && extra.pid.is_none(), "held stays held: {extra:?}");
    }

    /// By how many milliseconds a machine's clock is ahead of this one's. It is set by this one's, and then loses ticks until
    /// the kernel has its own, more of them on a busy machine.
    fn ahead(&mut self, machine: usize) -> i64 {
        let machine = &mut self.machines[machine];
        // What is made there is made here, at a moment by this clock.
        let theirs = machine.ok("rm -f /host/tick; : >/host/tick; echo ${EPOCHREALTIME/./}");
        let made = fs::metadata(machine.host().join("tick")).expect("it was made");
        theirs.parse::<i64>().expect("microseconds") / 1000
            - (made.ctime() * 1000 + made.ctime_nsec() / 1_000_000)
    }

    /// The last start of an instance: when, by this machine's clock, and what it rests on.
    fn started(&mut self, machine: usize, instance: &str) -> (i64, String) {
        let ahead = self.ahead(machine);
        eprintln!("{}: its clock is {ahead} ms ahead", self.machines[machine].name);
        let mut events = self.machines[machine].events();
        events.retain(|event| event.instance == instance && event.what == "started");
        let last = events.pop().unwrap_or_else(|| panic!("no start of {instance}"));
        (last.clock_ms.cast_signed() - ahead, last.text)
    }
}

#[test]
#[ignore = "takes minutes; tests/machines/all runs it"]
fn in_the_worst_order_and_after_power_cuts_all_comes_up_by_itself() {
    let mut three = Three::new();
    // Who needs the others most is first, and sees what it needs come much later.
    for machine in [2, 1, 0] {
        three.machines[machine].boot();
    }
    three.await_up();
    // Each asks for itself, so it may know sooner than the one that it asks has said `ready`.
    let (mysql, _) = three.started(0, "mysql@db");
    let (broker, on) = three.started(1, "broker@mq");
    assert!(mysql < broker && on.contains("mysql@db"), "{mysql} {broker} {on}");
    let (web, on) = three.started(2, "web@web");
    assert!(broker < web && on.contains("broker@mq") && on.contains("redis@web"), "{broker} {web} {on}");
    cut_at_random(&mut three, 3);
}

#[test]
#[ignore = "takes a quarter of an hour; tests/machines/all runs it"]
fn thirty_power_cuts_of_one_two_or_all_at_random_moments() {
    let mut three = Three::new();
    three.machines.iter_mut().for_each(Machine::switch_on);
    three.machines.iter_mut().for_each(Machine::await_boot);
    three.await_up();
    cut_at_random(&mut three, 30);
}

/// Cuts the power of one, two or all at a random moment, of a boot or later, so many times; each time all comes up. The
/// seed is told, and `SEED=N` does the same again, though not at the same instants.
fn cut_at_random(three: &mut Three, times: u32) {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
        u64::from(std::process::id()) << 20
            | u64::from(std::time::UNIX_EPOCH.elapsed().map_or(7, |t| t.subsec_nanos()))
    });
    let mut chance = seed | 1;
    let mut below = move |n: u64| {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        (chance >> 16) % n
    };
    for time in 1..=times {
        let which = 1 + below(7);
        let moment = Duration::from_millis(below(15_000));
        // Half of the cuts hit machines that are booting after another cut.
        let while_booting = below(2) == 0;
        eprintln!(
            "cut {time} of {times}, seed {seed}: machines {which:03b}, {moment:?}, booting: {while_booting}"
        );
        let hit: Vec<usize> = (0..3).filter(|machine| which & (1 << machine) != 0).collect();
        if while_booting {
            for &machine in &hit {
                three.machines[machine].cut();
                three.machines[machine].switch_on();
            }
        }
        sleep(moment);
        hit.iter().for_each(|&machine| three.machines[machine].cut());
        let mut order = hit;
        (1..order.len()).rev().for_each(|i| order.swap(i, below(i as u64 + 1) as usize));
        for &machine in &order {
            sleep(Duration::from_millis(below(2000)));
            three.machines[machine].switch_on();
        }
        order.iter().for_each(|&machine| three.machines[machine].await_boot());
        three.await_up();
    }
}
