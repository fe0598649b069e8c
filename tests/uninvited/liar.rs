//! A node that was taken over: it has its own certificate, and lies over the stream between agents.

use crate::agents::wait;
use crate::secured::Secured;
use bytes::Bytes;
use clusterd::api::caller::Caller;
use clusterd::api::client::MAX_LINE;
use clusterd::api::door::Door;
use clusterd::api::server::{Agent, serve_tcp};
use clusterd::api::tls::Security;
use clusterd::api::wire::*;
use clusterd::facts::Report;
use clusterd::generation::{Generation, Offer};
use clusterd::model::{Source, Sources};
use clusterd::pki::{Bundle, Tls, Validity, Who};
use clusterd::trail::{Deed, Page};
use hyper::{Method, StatusCode};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Says these lines to whoever follows its stream, then nothing; or, as fast as it can, without an end.
#[derive(Clone)]
struct Liar {
    tls: Arc<Tls>,
    lines: Rc<RefCell<Vec<Bytes>>>,
    endless: bool,
    followed: Rc<Cell<u32>>,
}

fn no() -> Refusal {
    Refusal { error: "no".into(), hint: None }
}

impl Agent for Liar {
    fn node(&self) -> NodeStatus {
        NodeStatus {
            vips: Vec::new(),
            id: String::new(),
            node: "n1".into(), // it is n2
            version: String::new(),
            pid: 1,
            up_ms: 0,
            clock_ms: 0,
            config: String::new(),
            generation: Generation::default(),
            problems: vec![],
            instances: vec![],
        }
    }
    async fn cluster(&self) -> ClusterStatus {
        ClusterStatus { cluster: String::new(), asked: String::new(), nodes: vec![] }
    }
    fn events(&self, _: u64, _: Option<&str>) -> Vec<EventRecord> {
        vec![]
    }
    async fn logs(&self, _: LogAsk) -> Result<LogPage, Refusal> {
        Err(no())
    }
    fn leftovers(&self) -> Vec<LeftoverView> {
        vec![]
    }
    async fn probe(&self, _: &str) -> Result<Report, Refusal> {
        Err(no())
    }
    fn invite(&self, _: InviteAsk) -> Result<InviteReply, Refusal> {
        Err(no())
    }
    fn join(&self, _: &JoinAsk, _: &str) -> Result<JoinReply, Refusal> {
        Err(no())
    }
    async fn order(&self, _: Order) -> Result<OrderReply, Refusal> {
        Err(no())
    }
    async fn reload(&self) -> Result<ReloadReply, Refusal> {
        Err(no())
    }
    fn is_of(&self, node: &str) -> bool {
        node == "n1"
    }
    fn on_trail(&self, _: Deed, _: bool) {}
    fn hear_claim(&self, _: Claim) -> Vec<Claim> {
        Vec::new()
    }
    async fn doctor(&self) -> Result<DoctorReport, Refusal> {
        Err(no())
    }
    fn generation(&self) -> Generation {
        Generation::default()
    }
    fn config(&self) -> Offer {
        let none = || Source { path: String::new(), text: String::new() };
        let (units, unread) = Default::default();
        let sources = Sources { cluster: none(), folder: String::new(), units, unread };
        Offer { generation: Generation::default(), seal: None, sources }
    }
    async fn stage(&self, _: Offer) -> Result<ReloadReply, Refusal> {
        Err(no())
    }
    async fn switch(&self, _: Switch) -> Result<ReloadReply, Refusal> {
        Err(no())
    }
    async fn trail(&self, _: u64) -> Result<Page, Refusal> {
        Err(no())
    }
    fn watch(&self, _: &str) -> mpsc::Receiver<Bytes> {
        self.followed.set(self.followed.get() + 1);
        let (sender, receiver) = mpsc::channel(256);
        let (lines, endless) = (self.lines.borrow().clone(), self.endless);
        tokio::task::spawn_local(async move {
            loop {
                for line in &lines {
                    if sender.send(line.clone()).await.is_err() {
                        return;
                    }
                }
                if !endless {
                    return sender.closed().await;
                }
            }
        });
        receiver
    }
    fn crashed(&self, what: &str) {
        panic!("{what}");
    }
    fn security(&self) -> Security {
        Security::Tls(self.tls.clone())
    }
    fn local(&self, _: u32) -> Caller {
        Caller::anybody()
    }
    async fn relay(
        &self,
        _: &Caller,
        _: &str,
        _: Method,
        _: &str,
        _: Bytes,
    ) -> Result<(StatusCode, Bytes), Refusal> {
        Err(no())
    }
}

fn line(node: &str, words: &[(&str, serde_json::Value)]) -> Bytes {
    let text = serde_json::json!({ "node": node, "config": "0", "words": words }).to_string();
    Bytes::from(text + "\n")
}

fn anonymous_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_node_that_lies_harms_no_other() {
    let mut cluster = Secured::new("liar", "");
    cluster.join_and_start("n1");
    let pid = wait("the cache to be ready", || cluster.pid_if("n1", "cache@n1", "ready"));
    // n2's own certificate, at its own address.
    let issued = cluster.ca().issue(Who::Node("n2".into()), Validity::days(1)).unwrap();
    let tls = Arc::new(Tls::new(&Bundle::parse(&issued.bundle).unwrap()).unwrap());
    let address = format!("{}:7117", cluster.address(2));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lie = |lines: Vec<Bytes>, endless: bool, until: &mut dyn FnMut(u32) -> bool| {
        let liar =
            Liar { tls: tls.clone(), lines: Rc::new(RefCell::new(lines)), endless, followed: Rc::default() };
        let followed = liar.followed.clone();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            socket.bind(address.parse().unwrap()).unwrap();
            let listener: TcpListener = socket.listen(64).unwrap();
            let serving = tokio::task::spawn_local(serve_tcp(Rc::new(listener), liar, Rc::<Door>::default()));
            let begun = std::time::Instant::now();
            while !until(followed.get()) {
                assert!(begun.elapsed() < Duration::from_secs(60), "followed {} times", followed.get());
                tokio::time::sleep(Duration::from_millis(20)).await; // between two looks
            }
            serving.abort();
        });
        followed.get()
    };
    let garbled = || cluster.events("n1").iter().filter(|e| e.what == "peer-garbled").count();

    // What is not its own is none of its business: it would stop the cache, and says that the cache has obeyed.
    let veto = serde_json::json!({
        "state": "stopping", "reason": "\u{1b}[2J gone", "veto": { "epoch": 7, "why": "\u{7}\u{1b}]0;x", "waits": true },
        "released": [["cache@n1", 1]]
    });
    let unknown = serde_json::json!({ "state": "ready" });
    let mut heard = None;
    lie(
        vec![line("n2", &[("cache@n1", veto.clone()), ("nobody@n2", unknown), ("web@n2", veto)])],
        false,
        &mut |_| {
            heard = said_of_web(&cluster);
            heard.is_some()
        },
    );
    let said = heard.unwrap();
    assert!(said.contains("stopping") && !said.contains("\\u001b") && !said.contains("\\u0007"), "{said}");
    assert_eq!(cluster.pid_if("n1", "cache@n1", "ready"), Some(pid));

    // It speaks for another, sends what is no line, what has no end, what is nested without end: tried again less and
    // less often, and said once each.
    let lies = [
        line("n1", &[]),
        Bytes::from("{\"node\":\"n2\"\n"),
        Bytes::from(vec![b'x'; MAX_LINE + 100]),
        Bytes::from(format!("{}\n", "[".repeat(200_000))),
    ];
    for (n, text) in lies.into_iter().enumerate() {
        let begun = std::time::Instant::now();
        let before = garbled();
        let times = lie(vec![text], false, &mut |times| {
            times >= 2 && begun.elapsed() > Duration::from_secs(2) || garbled() > before && times >= 1
        });
        assert!(times <= 6, "lie {n} was heard {times} times within {:?}", begun.elapsed());
    }
    assert!((1..=4).contains(&garbled()), "{:?}", cluster.events("n1"));

    // It speaks as fast as it can. The agent has time for everybody, and does not grow.
    let word = serde_json::json!({ "state": "starting", "reason": "r".repeat(2000) });
    let flood: Vec<_> = (0..4).map(|_| line("n2", &vec![("web@n2", word.clone()); 20])).collect();
    let (agent, begun) = (cluster.pid("n1"), std::time::Instant::now());
    let grown_from = anonymous_kib(agent);
    let mut asked = Vec::new();
    lie(flood, true, &mut |times| {
        let asks = std::time::Instant::now();
        if times > 0 && cluster.node_status("n1").is_some() {
            asked.push(asks.elapsed());
        }
        asked.len() > 100 && begun.elapsed() > Duration::from_secs(2)
    });
    asked.sort();
    let grown = anonymous_kib(agent).saturating_sub(grown_from);
    println!(
        "flooded over the stream: status takes {:.1} ms, at worst {:.1} ms; {grown} KiB grown",
        asked[asked.len() / 2].as_secs_f64() * 1e3,
        asked[asked.len() - 1].as_secs_f64() * 1e3
    );
    assert!(grown < 16 << 10, "{grown} KiB");
    assert_eq!(cluster.pid_if("n1", "cache@n1", "ready"), Some(pid));
}

/// What n1 has last heard of the web server of n2, once it has.
fn said_of_web(cluster: &Secured) -> Option<String> {
    let status = cluster.status("n1")?;
    let entry = status["nodes"].as_array()?.iter().find(|n| n["node"] == "n2")?;
    let said = entry["last"].to_string();
    said.contains("stopping").then_some(said)
}
