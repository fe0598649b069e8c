//! Recordings of real agents hold each kind of input, and an engine says the same again when it is given them.
//!
//! The recordings lie under `tests/traces`. Where the engine was changed on purpose they are made anew, by real agents
//! on loopback addresses with tiny daemons, in less than a minute:
//!
//! ```sh
//! RECORD=write cargo test --test agent traces
//! ```
//!
//! The folders, programs and addresses of the machine are replaced by the same words on every machine.

use super::agents::{Cluster, wait};
use clusterd::sim::contract::Contract;
use clusterd::sim::replay::{KINDS, replay};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

const HOW: &str = "if the engine was changed on purpose: RECORD=write cargo test --test agent traces";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces")
}

/// Whether the recordings are being made anew.
fn writes() -> bool {
    std::env::var("RECORD").is_ok_and(|v| v == "write")
}

#[test]
fn kept_traces_replay_to_the_same_actions_and_hold_each_kind_of_input() {
    if !writes() {
        check(&kept());
    }
}

#[test]
fn traces_made_now_replay_to_the_same_actions_and_hold_each_kind_of_input() {
    let made = [recorded(&orders(), "orders"), recorded(&daemons(), "daemons")].concat();
    check(&made);
    if writes() {
        let _ = fs::remove_dir_all(folder());
        fs::create_dir_all(folder()).unwrap();
        for (name, text) in made {
            fs::write(folder().join(name), text).unwrap();
        }
        check(&kept());
    }
}

/// Recordings by the names of their files.
type Recordings = Vec<(String, String)>;

fn check(recordings: &Recordings) {
    let mut kinds = BTreeSet::new();
    let mut reconfigured = 0;
    for (name, text) in recordings {
        let replayed = replay(text.as_bytes(), &mut Contract::default());
        let replayed = replayed.unwrap_or_else(|e| panic!("{name}: {e}\n{HOW}"));
        kinds.extend(replayed.kinds);
        reconfigured += replayed.reconfigured;
    }
    let missing: Vec<_> = KINDS.iter().filter(|kind| !kinds.contains(*kind)).collect();
    assert!(missing.is_empty(), "no recording has {missing:?}\n{HOW}");
    assert!(reconfigured > 0, "no recording has another configuration put in force\n{HOW}");
}

fn kept() -> Recordings {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap());
    files.map(|f| (f.file_name().into_string().unwrap(), fs::read_to_string(f.path()).unwrap())).collect()
}

/// What the agents recorded, without the names of this machine.
fn recorded(cluster: &Cluster, name: &str) -> Recordings {
    let dir = cluster.file().parent().unwrap().to_str().unwrap().to_owned();
    let mut recordings = Recordings::new();
    for node in ["n1", "n2"] {
        let Ok(mut text) = fs::read_to_string(cluster.recording(node)) else { continue };
        let who = text.split_once("\"by\":\"").and_then(|(_, by)| Some(by.split_once('"')?.0.to_owned()));
        if let Some(who) = who {
            text = text.replace(&who, "alice@office");
        }
        let text = text
            .replace(env!("CARGO_BIN_EXE_clusterctl"), "/usr/bin/clusterctl")
            .replace(&dir, "/tmp/clusterd-traces")
            .replace(cluster.name(), name)
            .replace(&cluster.net, "127.200.1");
        recordings.push((format!("{name}-{node}.jsonl"), text));
    }
    recordings
}

/// Two nodes: what operators and other agents bring.
fn orders() -> Cluster {
    let mut cluster = Cluster::new("orders");
    let web = "needs.cache = \"any\"";
    cluster.write_file(web, &[("cache", "{ n1 = \"A1\" }"), ("web", "{ n2 = \"A2\" }")]);
    cluster.start("n1");
    cluster.start("n2");
    wait("the web server to be ready", || cluster.pid_if("n2", "web@n2", "ready"));
    for order in [&["stop", "cache"][..], &["start", "cache"], &["restart", "web"]] {
        assert_eq!(cluster.ctl("n1", order).code, 0, "{order:?}");
    }
    wait("the web server to be ready again", || cluster.pid_if("n2", "web@n2", "ready"));

    // Another agent is lost, and comes back.
    cluster.kill("n1");
    cluster.start("n1");
    wait("the new agent to find the cache", || cluster.pid_if("n1", "cache@n1", "ready"));

    // Another file.
    let text = fs::read_to_string(cluster.file()).unwrap();
    let more = "\nmore = { on = \"n1\", unit = \"cache\", set.port = 7402 }\n";
    fs::write(cluster.file(), text.replace("\n[services.web]", &format!("{more}\n[services.web]"))).unwrap();
    assert_eq!(cluster.ctl("n1", &["reload", "n1"]).code, 0);
    wait("the new instance to be ready", || cluster.pid_if("n1", "more@n1", "ready"));

    cluster.signal("n1", Signal::SIGPWR);
    cluster.wait_ended("n1");
    cluster
}

/// One node: how daemons start, live and end.
fn daemons() -> Cluster {
    let mut cluster = Cluster::new("daemons");
    let services = ["task", "forked", "gone", "notified", "missing", "doubted", "known", "loading"];
    let services: String = services.iter().map(|s| format!("{s} = {{ on = \"n1\" }}\n")).collect();
    let file = format!(
        "[cluster]\nname = \"NAME\"\ninsecure = true\n\n[nodes]\nall = {{ n1 = \"A1\" }}\n\n[services]\n{services}"
    );
    let running = "[ready]\nprobe = { kind = \"running\", for = \"10ms\" }\n[restart]\nlimit = 1\n";
    let unit = |run: &str| format!("[run]\n{run}\n{running}");
    let forked = "until test -e DIR/go; do sleep 0.01; done; echo $$ >DIR/forked.pid; exec sleep 1000";
    let known =
        "\"PROGRAM\", \"stand-in\", \"redis\", \"--listen\", \"A1:7403\", \"--pidfile\", \"DIR/known.pid\"";
    cluster.write(
        &file,
        &[
            ("task", "[run]\nkind = \"oneshot\"\ncommand = [\"/bin/true\"]\n"),
            (
                "forked",
                &unit(&format!(
                    "kind = \"forking\"\npidfile = \"DIR/forked.pid\"\n\
                     command = [\"/bin/sh\", \"-c\", \"/bin/sh -c '{forked}' &\"]\nexecutables = [\"sleep\"]"
                )),
            ),
            ("gone", &unit("kind = \"forking\"\ncommand = [\"/bin/true\"]\npidfile = \"DIR/gone.pid\"")),
            (
                "notified",
                "[run]\nkind = \"notify\"\n\
                 command = [\"/bin/sh\", \"-c\", \"systemd-notify --ready; exec /bin/sleep 1000\"]\n",
            ),
            ("missing", &unit("command = [\"/nowhere/missing\"]")),
            ("doubted", &unit("command = [\"/bin/sleep\", \"1000\"]\npidfile = \"DIR/doubted.pid\"")),
            (
                "known",
                &format!(
                    "[run]\ncommand = [{known}]\npidfile = \"DIR/known.pid\"\n\
                     [ready]\nprobe = {{ kind = \"redis\", port = 7403 }}\n"
                ),
            ),
            (
                "loading",
                "[run]\ncommand = [\"/bin/sleep\", \"1000\"]\n[ready]\nprobe = { kind = \"redis\", port = 7404 }\n",
            ),
        ],
    );
    let dir = cluster.file().parent().unwrap().to_owned();

    // Somebody else had started it, and somebody else's process has the right name and nothing more.
    let mut known = Command::new(env!("CARGO_BIN_EXE_clusterctl"));
    known.args(["stand-in", "redis", "--listen", &format!("{}:7403", cluster.address(1)), "--pidfile"]);
    let mut known = Stranger::start(known.arg(dir.join("known.pid")));
    wait("the stranger to write its pid file", || {
        fs::read(dir.join("known.pid")).ok().filter(|t| !t.is_empty())
    });
    let suspect = Stranger::start(Command::new("/bin/sleep").arg("1000"));
    fs::write(dir.join("doubted.pid"), format!("{}\n", suspect.0.id())).unwrap();
    let _answers = still_loading(&format!("{}:7404", cluster.address(1)));

    cluster.start("n1");
    // Its main process is to be looked for in vain at first.
    wait("a look for the main process", || {
        let lines = fs::read_to_string(cluster.recording("n1")).ok()?;
        lines.contains("forked.pid yet\",\"empty\":false").then_some(())
    });
    fs::write(dir.join("go"), "").unwrap();
    for (instance, state) in [
        ("task@n1", "completed"),
        ("forked@n1", "ready"),
        ("notified@n1", "ready"),
        ("gone@n1", "failed"),
        ("missing@n1", "failed"),
        ("doubted@n1", "blocked"),
        ("known@n1", "ready"),
        ("loading@n1", "starting"),
    ] {
        wait(&format!("{instance} to be {state}"), || cluster.in_state("n1", instance, state));
    }
    drop(suspect);
    wait("it to be in doubt no more", || cluster.pid_if("n1", "doubted@n1", "ready"));
    let pid = wait("it to have a pid", || cluster.pid_if("n1", "forked@n1", "ready"));
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    wait("it to have failed", || cluster.in_state("n1", "forked@n1", "failed"));
    known.end();
    wait("it to be started by the agent", || {
        let pid = cluster.pid_if("n1", "known@n1", "ready")?;
        (pid != i64::from(known.0.id())).then_some(())
    });

    // What had ended is known to a new agent.
    cluster.kill("n1");
    cluster.start("n1");
    wait("the new agent to know the task", || cluster.in_state("n1", "task@n1", "completed"));
    cluster.signal("n1", Signal::SIGPWR);
    cluster.wait_ended("n1");
    cluster
}

/// A process that no agent has started.
struct Stranger(Child);

impl Stranger {
    fn start(command: &mut Command) -> Stranger {
        Stranger(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.end();
    }
}

/// A Redis that loads its data set for as long as the test runs: its answers to PING, ROLE, INFO and INFO.
fn still_loading(address: &str) -> thread::JoinHandle<()> {
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else { return };
            thread::spawn(move || {
                let mut asked = [0; 1024];
                while connection.read(&mut asked).is_ok_and(|n| n > 0) {
                    let no = "-LOADING Redis is loading the dataset in memory\r\n";
                    let answer = format!("{no}{no}{no}$22\r\nloading_loaded_perc:40\r\n");
                    if connection.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    })
}
