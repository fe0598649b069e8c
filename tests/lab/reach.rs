//! A network cut between two hosts, and what `why` makes of it: with the other agent alive, dead, and lying.

use super::harness::Lab;
use super::host::Host;
use super::network::Network;
use super::scene::{BOOT, view};
use clusterd::engine::view::StateName;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

#[test]
fn a_cut_is_told_from_both_ends_whatever_the_other_agent_says() {
    let lab = Lab::new("network cut");
    // redis2 never comes, so all hangs on redis1; the cut is there before web2's agent is.
    lab.boot_without(&["redis2", "web2"]);
    lab.boot_without_agent("web2");
    let (web2, redis1) = (lab.host("web2"), lab.host("redis1"));
    web2.cut_from(redis1);
    web2.start_agent();
    let address = format!("{}:6379", redis1.address);

    // Alive: from a third node both ends are seen.
    let asked = lab.host("office1");
    let why = |what: &str, wanted: &[&str]| {
        lab.wait(what, BOOT, || {
            let why = asked.why("web@web2");
            if wanted.iter().all(|w| why.contains(w)) { Ok(why) } else { Err(why) }
        })
    };
    lab.wait("the others are up", BOOT, || {
        let status = asked.status()?;
        for up in ["web@web1", "web@web3", "redis@redis1"] {
            let view = view(&status, up)?;
            if view.state != StateName::Ready {
                return Err(format!("{view:?}"));
            }
        }
        Ok(())
    });
    why(
        "the cut is seen from both ends",
        &[
            "on redis1: ready",
            "its agent says ready, but from web2 there is no way to",
            &address,
            "look for a firewall between web2 and redis1",
        ],
    );
    // From behind the cut only one end is seen, and that is said.
    lab.wait("web2 itself knows one end", BOOT, || {
        let why = web2.why("web@web2");
        if why.contains("redis1's agent does not answer") { Ok(()) } else { Err(why) }
    });

    // What a liar will say: the words of the true agent while all was well.
    let port = clusterd::model::load(&lab.rig.cluster_file, None).unwrap_or_else(|e| panic!("{e}")).port;
    let agent = SocketAddr::new(redis1.address, port);
    let script = Script::record(redis1, agent);

    // Dead: Redis itself still runs.
    redis1.kill_agent();
    let redis = redis1.running("redis-server");
    assert_eq!(redis.len(), 2);
    let told = why("the dead agent is told", &["redis1's agent does not answer", "no answer from", &address]);
    assert!(!told.contains("says ready"), "a dead agent says nothing: {told}");
    assert_eq!(redis1.running("redis-server"), redis);

    // Lying: no Redis runs any more, and an agent that says it does. First behind the cut, then without it.
    for process in redis {
        redis1.run(&["kill", "-9", &process.own_pid.to_string()]);
    }
    let liar = script.lie(redis1, agent);
    why(
        "the liar is believed to be an agent",
        &["on redis1: ready", "its agent says ready, but from web2 there is no way to"],
    );
    web2.heal();
    let told =
        why("the lie is told from the facts", &["redis1's agent says ready, but", &address, "refuses web2"]);
    assert!(told.contains("the agent is wrong"), "{told}");
    let status = asked.status().expect("a status");
    let web = view(&status, "web@web2").expect("web2 answers");
    assert_eq!((web.state, web.starts), (StateName::Waiting, 0), "no agent's word starts anything: {web:?}");
    assert_eq!(web2.running("nginx"), []);

    // The truth again: the true agent brings Redis back, and web2 starts.
    liar.stop();
    redis1.start_agent();
    lab.wait_all_up(&["redis2"]);
}

/// What an agent answered, to be said again.
struct Script {
    node: String,
    line: String,
}

impl Script {
    /// Asks the true agent, on its own host.
    fn record(host: &Host, agent: SocketAddr) -> Script {
        let ask = move |path: &str| {
            let mut stream = TcpStream::connect(agent).expect("the agent listens");
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
            write!(stream, "GET {path} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n")
                .expect("a request");
            BufReader::new(stream)
        };
        inside(host, move || {
            let mut node = String::new();
            ask("/v1/node").read_to_string(&mut node).expect("an answer");
            let node = node.split_once("\r\n\r\n").expect("a head and a body").1.to_owned();
            assert!(node.starts_with('{') && node.ends_with('}'), "{node}");
            // The stream is sent in chunks: a line with a length, then a line of the stream.
            let mut lines = ask("/v1/watch?node=web2").lines().map(|l| l.expect("a line"));
            let line = lines.find(|l| l.starts_with('{')).expect("the first line tells all");
            Script { node, line }
        })
        .join()
        .expect("the agent answers")
    }

    /// Says it again to everybody who asks at the agent's address.
    fn lie(self, host: &Host, agent: SocketAddr) -> Liar {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = inside(host, move || {
            let listener = TcpListener::bind(agent).expect("the dead agent's port is free");
            listener.set_nonblocking(true).expect("a listener");
            let mut streams = Vec::new();
            while stopped
                .recv_timeout(Duration::from_millis(10))
                .is_err_and(|e| e == std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                let Ok((stream, _)) = listener.accept() else { continue };
                streams.extend(self.answer(stream));
            }
        });
        Liar { stop, thread }
    }

    /// Answers one request; a peer stream stays open.
    fn answer(&self, mut stream: TcpStream) -> Option<TcpStream> {
        stream.set_nonblocking(false).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        let mut request = String::new();
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        while reader.read_line(&mut request).ok()? > 2 {}
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
        if request.contains("/v1/watch") {
            write!(stream, "{head}\r\n{}\n", self.line).ok()?;
            Some(stream)
        } else if request.contains("/v1/node") {
            write!(stream, "{head}content-length: {}\r\n\r\n{}", self.node.len(), self.node).ok()?;
            None
        } else {
            stream
                .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
                .ok()?;
            None
        }
    }
}

/// An agent that says what was true once.
struct Liar {
    stop: std::sync::mpsc::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Liar {
    fn stop(self) {
        drop(self.stop);
        self.thread.join().expect("the liar ends");
    }
}

/// Runs something in a thread that sees a host's network.
fn inside<T: Send + 'static>(
    host: &Host,
    work: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let netns = File::open(format!("/run/netns/{}", Network::name(&host.name))).expect("the host is on");
    thread::spawn(move || {
        nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET).expect("setns");
        work()
    })
}
