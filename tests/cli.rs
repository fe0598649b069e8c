//! The command line as it is typed: transcripts of what needs no agent (`tests/cmd/*.md`), and exit codes against an
//! agent that is played by a thread.

use clusterd::api::wire::{ClusterStatus, NodeEntry, NodeStatus, Order, OrderReply, ReloadReply, Verb};
use clusterd::engine::view::{InstanceView, StateName, Wish};
use clusterd::facts::{Report, Stage, Took, Trouble, Verdict};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

#[test]
fn transcripts() {
    trycmd::TestCases::new()
        .env("CLUSTERCTL_SOCKET", "/nonexistent/clusterd.sock")
        .env("COLUMNS", "100")
        .env("LC_ALL", "C.UTF-8")
        .case("tests/cmd/*.md");
}

#[test]
fn completions_are_printed_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let done = clusterctl().args(["completions", shell]).output().unwrap();
        assert!(done.status.success());
        assert!(String::from_utf8_lossy(&done.stdout).contains("leftovers"), "{shell}");
    }
}

#[test]
fn status_ends_with_0_only_when_all_is_up() {
    let agent = Agent::new(StateName::Ready);
    assert_eq!(agent.run(&["status"]).code, 0);
    assert_eq!(agent.run(&["why", "web@web1"]).code, 0);
    agent.becomes(StateName::Failed);
    let told = agent.run(&["status"]);
    assert_eq!(told.code, 3);
    assert!(told.out.starts_with("little: 0 of 1 up; 1 failed\n"), "{}", told.out);
    assert!(told.err.contains("hint: clusterctl why web@web1"), "{}", told.err);
    assert_eq!(agent.run(&["why", "web"]).code, 3);
    let told = agent.run(&["status", "wbe"]);
    assert_eq!((told.code, told.out.as_str()), (2, ""));
    assert!(told.err.contains("did you mean 'web'?"), "{}", told.err);
}

#[test]
fn json_is_the_clusters_status_as_it_is() {
    let agent = Agent::new(StateName::Standby);
    let told = agent.run(&["status", "--json"]);
    let status: ClusterStatus = serde_json::from_str(&told.out).unwrap();
    assert_eq!(status.nodes[0].status.as_ref().unwrap().instances[0].state, StateName::Standby);
    assert_eq!((told.code, told.err.as_str()), (0, ""));
}

#[test]
fn a_start_is_sent_to_the_instances_node_and_followed_until_it_is_up() {
    let agent = Agent::new(StateName::Stopped);
    let told = agent.run(&["start", "web", "--force", "--reason", "try it"]);
    assert_eq!(told.code, 0, "{}", told.err);
    assert!(told.err.contains("web@web1 up after"), "{}", told.err);
    let orders = agent.state.lock().unwrap().orders.clone();
    let [(path, order)] = &orders[..] else { panic!("{orders:?}") };
    assert_eq!(path, "/v1/at/web1/v1/order");
    assert_eq!((order.verb, order.force, order.reason.as_str()), (Verb::Start, true, "try it"));
    assert_eq!(order.instances, ["web@web1"]);
    assert!(order.by.contains('@'), "{}", order.by);
}

#[test]
fn a_stop_that_the_disk_did_not_take_has_its_own_exit_code() {
    let agent = Agent::new(StateName::Ready);
    agent.state.lock().unwrap().durable = false;
    let told = agent.run(&["stop", "web1"]);
    assert_eq!(told.code, 5, "{}", told.err);
    assert!(told.err.contains("will not survive a reboot"), "{}", told.err);
}

#[test]
fn a_stop_that_is_not_complete_in_time_ends_with_3() {
    let agent = Agent::new(StateName::Ready);
    agent.state.lock().unwrap().obeys = false;
    let told = agent.run(&["stop", "web1", "--timeout", "100ms"]);
    assert_eq!(told.code, 3, "{}", told.err);
    assert!(told.err.contains("not complete after"), "{}", told.err);
    assert_eq!(agent.run(&["stop", "web1", "--no-wait"]).code, 0);
}

#[test]
fn a_question_by_hand_is_asked_by_the_agent_of_the_node() {
    let agent = Agent::new(StateName::Ready);
    let told = agent.run(&["probe", "web", "--timing"]);
    assert_eq!(told.code, 3, "{}", told.err);
    assert!(told.out.starts_with("no answer from 10.0.0.3:80 within 2 s\n"), "{}", told.out);
    assert!(told.out.contains("asked: GET http://10.0.0.3:80/, from web1"), "{}", told.out);
    assert!(
        told.out.ends_with("connect               2.00 s\n  together              2.00 s\n"),
        "{}",
        told.out
    );
    let json: serde_json::Value = serde_json::from_str(&agent.run(&["probe", "web", "--json"]).out).unwrap();
    assert_eq!((&json["of"], &json["verdict"]["kind"]), (&"web@web1".into(), &"unreachable".into()));

    let told = agent.run(&["probe", "web", "--from", "web9"]);
    assert_eq!((told.code, told.out.as_str()), (2, ""));
    assert!(
        told.err.contains("there is no node 'web9'") && told.err.contains("the nodes are web1"),
        "{}",
        told.err
    );
}

#[test]
fn reload_tells_each_nodes_answer() {
    let agent = Agent::new(StateName::Ready);
    let told = agent.run(&["reload"]);
    assert_eq!((told.code, told.out.as_str()), (0, "web1: nothing has changed\n"));
}

fn clusterctl() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clusterctl"));
    command.env_remove("CLUSTERCTL_AGENT").env_remove("COLUMNS");
    command
}

struct Told {
    code: i32,
    out: String,
    err: String,
}

/// The agent of node `web1` with the one instance `web@web1`.
struct Agent {
    socket: PathBuf,
    state: Arc<Mutex<Played>>,
    _folder: tempfile::TempDir,
}

struct Played {
    status: ClusterStatus,
    /// Whether an order changes the state at once, or never.
    obeys: bool,
    durable: bool,
    orders: Vec<(String, Order)>,
}

impl Agent {
    fn new(state: StateName) -> Agent {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("clusterd.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let state = Arc::new(Mutex::new(Played {
            status: status(state),
            obeys: true,
            durable: true,
            orders: vec![],
        }));
        let played = state.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let played = played.clone();
                std::thread::spawn(move || serve(stream, &played));
            }
        });
        Agent { socket, state, _folder: folder }
    }

    fn becomes(&self, state: StateName) {
        self.state.lock().unwrap().status = status(state);
    }

    fn run(&self, args: &[&str]) -> Told {
        let done = clusterctl().args(args).arg("--socket").arg(&self.socket).output().unwrap();
        Told {
            code: done.status.code().unwrap(),
            out: String::from_utf8(done.stdout).unwrap(),
            err: String::from_utf8(done.stderr).unwrap(),
        }
    }
}

fn serve(stream: UnixStream, played: &Mutex<Played>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    loop {
        let mut head = String::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let answer = played.lock().unwrap().answer(&path, &body);
        let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
        if writer.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

impl Played {
    fn answer(&mut self, path: &str, body: &[u8]) -> String {
        let json = match path {
            "/v1/cluster" => serde_json::to_string(&self.status),
            "/v1/at/web1/v1/order" => {
                let order: Order = serde_json::from_slice(body).unwrap();
                if self.obeys {
                    self.status = match order.verb {
                        Verb::Stop => status(StateName::Stopped),
                        Verb::Start | Verb::Restart => status(StateName::Ready),
                    };
                }
                let taken = vec![("web@web1".to_owned(), "as you say".to_owned())];
                self.orders.push((path.to_owned(), order));
                serde_json::to_string(&OrderReply { taken, durable: self.durable })
            }
            "/v1/at/web1/v1/reload" => serde_json::to_string(&ReloadReply {
                config: "3f2a91bc".into(),
                changed: false,
                text: "nothing has changed".into(),
            }),
            "/v1/at/web1/v1/probe?instance=web@web1" => serde_json::to_string(&Report {
                asked: "GET http://10.0.0.3:80/".into(),
                verdict: Verdict::not_ready(Trouble::Unreachable, "no answer from 10.0.0.3:80 within 2 s"),
                meaning: "nobody answers".into(),
                stages: vec![Took { stage: Stage::Connect, us: 2_000_000 }],
            }),
            other => panic!("nobody should ask {other}"),
        };
        json.unwrap()
    }
}

/// A cluster of one node with one instance in this state.
fn status(state: StateName) -> ClusterStatus {
    let held = Wish::Held { by: "alice".into(), at: 0, reason: String::new() };
    let instance = InstanceView {
        wish: if state == StateName::Stopped { held } else { Wish::Up },
        since_ms: 100,
        pid: (state == StateName::Ready).then_some(7),
        starts: 1,
        ..InstanceView::plain("web@web1", state)
    };
    let node = NodeStatus {
        vips: Vec::new(),
        node: "web1".into(),
        id: String::new(),
        version: "0.1.0".into(),
        pid: 1,
        up_ms: 1,
        clock_ms: 0,
        config: "3f2a91bc".into(),
        generation: Default::default(),
        problems: vec![],
        instances: vec![instance],
    };
    let entry = NodeEntry {
        node: "web1".into(),
        group: "web".into(),
        address: "10.0.0.3".into(),
        status: Some(node),
        problem: None,
        last: vec![],
    };
    ClusterStatus { cluster: "little".into(), asked: "web1".into(), nodes: vec![entry] }
}

/// In a pid and network namespace of its own, so that it sees what the test has started and nothing else.
#[test]
fn init_writes_a_file_of_what_runs_here_and_overwrites_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cluster.toml");
    let units = concat!(env!("CARGO_MANIFEST_DIR"), "/units");
    let script = "ip link set lo up; redis-server --port 6390 --save '' --daemonize no >/dev/null & \
                  until redis-cli -p 6390 ping >/dev/null 2>&1; do sleep 0.05; done; exec \"$@\"";
    let mut init = std::process::Command::new("unshare");
    init.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--net", "sh", "-c", script, "sh"]);
    init.arg(env!("CARGO_BIN_EXE_clusterctl")).arg("init").arg(&file).args(["--units", units, "--yes"]);
    init.args(["--name", "shop", "--node", "web:web1=10.0.0.1", "--service", "web:nginx=web"]);
    let said = init.output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("web = { web1 = \"10.0.0.1\" }"), "{text}");
    assert!(text.contains("web = { on = \"web\", unit = \"nginx\" }"), "{text}");
    assert!(text.contains("port 6390)\nredis = { on = \"web1\", set.port = 6390 }"), "{text}");
    clusterd::model::load(&file, Some(units.as_ref())).unwrap_or_else(|e| panic!("{e}"));

    let again = std::process::Command::new(env!("CARGO_BIN_EXE_clusterctl"))
        .args(["init", "--yes", "--name", "other"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(2), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stderr).contains("is not overwritten"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

/// On a terminal it asks; a file that only has comments, as the package brings it, is no file yet.
#[test]
fn init_asks_on_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cluster.toml");
    std::fs::write(&file, "# [cluster]\n\n# name = \"x\"\n").unwrap();
    let units = concat!(env!("CARGO_MANIFEST_DIR"), "/units");
    let line =
        format!("{} init {} --units {units} --blank", env!("CARGO_BIN_EXE_clusterctl"), file.display());
    let mut terminal = std::process::Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let answers =
        "shop\nweb1\n10.0.0.1\nweb2=web2.example\nweb:web2=10.0.0.2\n\nngin=web1\nsite:nginx=web\n\ny\n";
    std::io::Write::write_all(&mut terminal.stdin.take().unwrap(), answers.as_bytes()).unwrap();
    let said = terminal.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout);
    assert!(said.contains("web2.example is no address: write a literal one"), "{said}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("name = \"shop\""), "{said}\n{text}");
    assert!(said.contains("there is no unit ngin"), "{said}");
    assert!(text.contains("site = { on = \"web\", unit = \"nginx\" }"), "{text}");
    assert!(text.contains("all = { web1 = \"10.0.0.1\" }\nweb = { web2 = \"10.0.0.2\" }"), "{text}");
}
