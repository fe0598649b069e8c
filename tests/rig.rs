//! The rig's daemons by themselves: each starts by its unit's own command and configuration, serves, and leaves no
//! process behind when it is told to stop. Needs root and what `tests/install` installs.

use clusterd::rig::{Addressing, Directors, Nature, Options, Rig, SecondRedis};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

fn lay_out(dir: &Path, net: u8) -> Rig {
    let options = Options {
        clusterctl: PathBuf::from(env!("CARGO_BIN_EXE_clusterctl")),
        as_users: false,
        agent_port: None,
        http_port: 8080,
        vip: None,
        directors: Directors::OwnNamespaces,
        second_redis: Some(SecondRedis { service: "sessions".into(), node: "redis1".into(), port: 6380 }),
    };
    Rig::lay_out(dir, &Addressing::Loopback { net: [99, net] }, &options).expect("the rig is laid out")
}

/// The words of a unit's command for one instance.
fn command(rig: &Rig, unit: &str, service: &str, node: &str) -> Vec<String> {
    let text = fs::read_to_string(rig.dir.join(format!("units/{unit}.toml"))).unwrap();
    let unit: toml::Table = text.parse().unwrap_or_else(|e| panic!("unit {unit}: {e}\n{text}"));
    let address = rig.address(node).unwrap().to_string();
    let fill = |word: &toml::Value| {
        word.as_str()
            .unwrap()
            .replace("{node}", node)
            .replace("{service}", service)
            .replace("{address}", &address)
    };
    unit["run"]["command"].as_array().unwrap().iter().map(fill).collect()
}

/// A daemon started by its unit's command; ended by pid if a test fails.
struct Running {
    child: Child,
    log: PathBuf,
    group: nix::unistd::Pid,
}

impl Running {
    fn start(rig: &Rig, unit: &str, service: &str, node: &str) -> Running {
        let words = command(rig, unit, service, node);
        let log = rig.instance_dir(service, node).join("out.log");
        let out = fs::File::create(&log).unwrap();
        let child = Command::new(&words[0])
            .args(&words[1..])
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stderr(out.try_clone().unwrap())
            .stdout(out)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("{words:?}: {e}"));
        let group = nix::unistd::Pid::from_raw(child.id() as i32);
        Running { child, log, group }
    }

    fn says(&self, what: &str) -> bool {
        fs::read_to_string(&self.log).unwrap().contains(what)
    }

    fn stop(&mut self) {
        nix::sys::signal::kill(self.group, nix::sys::signal::SIGTERM).unwrap();
        let status = wait("the daemon ends", || self.child.try_wait().unwrap());
        assert!(status.success() || status.code() == Some(143), "{status}: {}", self.log.display());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = nix::sys::signal::killpg(self.group, nix::sys::signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

fn wait<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = fact() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn listens(rig: &Rig, node: &str, port: u16) -> bool {
    let address = SocketAddr::new(rig.address(node).unwrap(), port);
    TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()
}

/// Processes whose command line names the rig's folder.
fn alive(rig: &Rig) -> Vec<String> {
    let dir = rig.dir.to_string_lossy().into_owned();
    let lines = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(&dir)).collect()
}

fn real(rig: &Rig, service: &str) {
    let daemon = rig.daemons.iter().find(|d| d.service == service).unwrap();
    if let Nature::StandIn(why) = &daemon.nature {
        panic!("{service} is a stand-in: {why}; run tests/install");
    }
}

#[test]
fn databases_and_brokers_share_one_store() {
    let folder = tempfile::tempdir().unwrap();
    let rig = lay_out(folder.path(), 1);
    real(&rig, "mysql");
    real(&rig, "activemq");
    let ready = "ready for connections";
    let mut mysql2 = Running::start(&rig, "mysql", "mysql", "mysql2");
    wait("mysql2 is ready", || mysql2.says(ready).then_some(()));
    // The other database comes later, so the first broker's tables reach it by replication.
    let mut mq1 = Running::start(&rig, "activemq", "activemq", "mq1");
    wait("mq1 serves", || mq1.says("Connector openwire started").then_some(()));
    let mut mysql1 = Running::start(&rig, "mysql", "mysql", "mysql1");
    wait("mysql1 is ready", || mysql1.says(ready).then_some(()));
    let mut mq2 = Running::start(&rig, "activemq", "activemq", "mq2");
    wait("mq2 asks for the lease", || mq2.says("attempting to acquire exclusive lease").then_some(()));
    assert!(listens(&rig, "mq1", 61616));
    assert!(!listens(&rig, "mq2", 61616), "a broker without the lease keeps its port closed");

    mq1.stop();
    wait("mq2 takes over", || listens(&rig, "mq2", 61616).then_some(()));
    mq2.stop();
    mysql1.stop();
    mysql2.stop();
    assert_eq!(alive(&rig), [""; 0]);
}

#[test]
fn redis_comes_by_its_classic_script_and_refuses_over_a_pid_file() {
    let folder = tempfile::tempdir().unwrap();
    let rig = lay_out(folder.path(), 2);
    real(&rig, "redis");
    for (service, node, port) in
        [("redis", "redis1", 6379), ("sessions", "redis1", 6380), ("redis", "redis2", 6379)]
    {
        let pidfile = rig.instance_dir(service, node).join("redis.pid");
        fs::write(&pidfile, "").unwrap();
        let mut refused = Running::start(&rig, "redis", service, node);
        assert!(wait("the script ends", || refused.child.try_wait().unwrap()).success());
        assert!(refused.says("exists, process is already running or crashed"));
        assert!(!listens(&rig, node, port));

        fs::remove_file(&pidfile).unwrap();
        let mut started = Running::start(&rig, "redis", service, node);
        assert!(wait("the script ends", || started.child.try_wait().unwrap()).success());
        wait("redis listens", || listens(&rig, node, port).then_some(()));
        let pid: i32 = wait("the pid file", || fs::read_to_string(&pidfile).ok()?.trim().parse().ok());
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGTERM).unwrap();
        wait("redis ends", || (!listens(&rig, node, port) && !pidfile.exists()).then_some(()));
    }
    // Redis shows its own title instead of its command line.
}

#[test]
fn nginx_answers_with_its_nodes_name() {
    let folder = tempfile::tempdir().unwrap();
    let rig = lay_out(folder.path(), 3);
    real(&rig, "web");
    let mut web = Running::start(&rig, "nginx", "web", "web2");
    wait("nginx listens", || listens(&rig, "web2", 8080).then_some(()));
    web.stop();
    assert!(!listens(&rig, "web2", 8080));
    assert_eq!(alive(&rig), [""; 0]);
}

#[test]
fn one_director_holds_the_address_and_the_other_takes_over() {
    let folder = tempfile::tempdir().unwrap();
    let rig = lay_out(folder.path(), 4);
    real(&rig, "keepalived");
    let holds = |node: &str| {
        let words = command(&rig, "keepalived", "keepalived", node);
        let shown = Command::new(&words[0]).arg(&words[1]).args(["ip", "-br", "addr"]).output().unwrap();
        String::from_utf8_lossy(&shown.stdout).contains("192.168.1.100/24")
    };
    let mut lvs2 = Running::start(&rig, "keepalived", "keepalived", "lvs2");
    let mut lvs1 = Running::start(&rig, "keepalived", "keepalived", "lvs1");
    wait("lvs1 alone holds the address", || (holds("lvs1") && !holds("lvs2")).then_some(()));
    lvs1.stop();
    wait("lvs2 takes over", || (holds("lvs2") && !holds("lvs1")).then_some(()));
    lvs2.stop();
    assert_eq!(alive(&rig), [""; 0]);
}

#[test]
fn every_service_of_the_sample_is_laid_out() {
    let folder = tempfile::tempdir().unwrap();
    let rig = lay_out(folder.path(), 5);
    assert_eq!(rig.nodes.len(), 14);
    assert_eq!(rig.daemons.len(), 9, "{:?}", rig.daemons);
    for service in ["mysql", "redis", "activemq", "keepalived", "web", "sessions"] {
        real(&rig, service);
    }
    for service in ["tracker", "storage", "office"] {
        let daemon = rig.daemons.iter().find(|d| d.service == service).unwrap();
        assert!(!daemon.is_real(), "{daemon:?}");
    }
}
