//! What do probes cost?
//!
//! The probers of one agent, in a process of their own as in an agent, ask servers in other processes: a thousand
//! questions a second of seven kinds. MariaDB and PostgreSQL are the real ones, asked with a login; the others are stand-ins. And
//! each kind by itself, beside the bare exchange of the same bytes on the same runtime: over a new connection, or where the
//! probe keeps one that has logged in over such a one. What is above that is the probe's own.

mod common;

use clusterd::model::{Ask, BrokerAsk, FastdfsAsk, Get, Login, Question, Secret};
use clusterd::probe::{Asker, Pace, Prober};
use common::cost::memory;
use common::databases::{Database, mariadb, postgres};
use common::figures::{self, Figure, millis};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::cell::RefCell;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// At the waiting pace (50 ms, less up to a tenth) these ask a thousand times a second.
const PROBERS: usize = 49;
/// A login is kept for half a minute.
const WATCH: Duration = Duration::from_secs(40);
const SETTLE: Duration = Duration::from_secs(2);
const SAMPLES: usize = 500;
const LOGINS: usize = 100;
const TIMEOUT: Duration = Duration::from_secs(2);
const MIB: f64 = 1024.0;

/// The issue's: of one core, in percent; of memory; above the bare exchange, in milliseconds.
const CPU: f64 = 10.0;
const MEMORY: f64 = 30.0;
const OVERHEAD: f64 = 0.2;

struct Kind {
    name: &'static str,
    ask: Ask,
    /// What a client says; of a database the probe itself is overheard.
    says: Vec<u8>,
    address: SocketAddr,
    server: Server,
}

enum Server {
    StandIn { _it: StandIn },
    Database(Box<RefCell<Database>>),
}

/// What a client says, and how long the answer is.
struct Turn {
    says: Vec<u8>,
    hears: usize,
}

/// The bytes of a question, without the probe.
enum Bare {
    /// All at once over a new connection.
    New(Turn),
    /// In turns over one that has logged in.
    Kept(TcpStream, Vec<Turn>),
}

impl Bare {
    async fn of(kind: &Kind) -> Bare {
        match kind.server {
            Server::StandIn { .. } => {
                Bare::New(Turn { says: kind.says.clone(), hears: answer_of(kind).await })
            }
            Server::Database(_) => overheard(kind).await,
        }
    }
}

/// Killed when dropped.
struct StandIn(Child);

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let kinds = kinds();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut figures = runtime.block_on(many(&kinds));
    for kind in &kinds {
        figures.extend(runtime.block_on(one(kind)));
    }
    figures::print("Probes", &figures);
}

fn kinds() -> Vec<Kind> {
    let kind = |name, word, says: &[u8], ask: fn(SocketAddr) -> Ask| {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
        let server = Command::new(env!("CARGO_BIN_EXE_clusterctl"))
            .args(["stand-in", word, "--listen", &address.to_string()])
            .stdout(Stdio::null())
            .spawn()
            .expect("clusterctl is built");
        let begun = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "the stand-in for {word} listens");
            std::thread::sleep(Duration::from_millis(5));
        }
        Kind {
            name,
            ask: ask(address),
            says: says.to_vec(),
            address,
            server: Server::StandIn { _it: StandIn(server) },
        }
    };
    let database = |name, database: Option<Database>, ask: fn(SocketAddr, Login) -> Ask| {
        let database = database?;
        let (address, password) = (database.address, Secret::File(database.password_file()));
        let ask = ask(address, Login { user: "probe".into(), password: Some(password) });
        Some(Kind {
            name,
            ask,
            says: Vec::new(),
            address,
            server: Server::Database(Box::new(RefCell::new(database))),
        })
    };
    let databases = [
        database("mariadb", mariadb(), |address, login| Ask::Mysql { address, login: Some(login) }),
        database("postgres", postgres(), |address, login| Ask::Postgres {
            address,
            login,
            database: "postgres".into(),
        }),
    ];
    let mut kinds = vec![
        kind("tcp", "office", b"", |address| Ask::Tcp { address }),
        kind("http", "http", b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", |address| {
            Ask::Http(Get::of(format!("http://{address}/")))
        }),
        kind("redis", "redis", b"PING\r\nROLE\r\nINFO server\r\nINFO persistence\r\n", |address| {
            Ask::Redis { address, login: None }
        }),
        kind("activemq", "activemq", b"\0\0\0\x0e\x01ActiveMQ\0\0\0\x01\0", |address| Ask::Activemq {
            address,
            also: BrokerAsk::default(),
        }),
        kind("fastdfs", "fastdfs-storage", b"\0\0\0\0\0\0\0\0\x6f\0", |address| Ask::Fastdfs {
            address,
            ask: FastdfsAsk::Active,
        }),
    ];
    kinds.extend(databases.into_iter().flatten());
    kinds
}

/// How many questions were asked: connections that were begun on this machine, and what databases say.
fn asked(kinds: &[Kind]) -> f64 {
    let told = |kind: &Kind| match &kind.server {
        Server::StandIn { .. } => 0.0,
        Server::Database(database) => database.borrow_mut().asked(),
    };
    connects() + kinds.iter().map(told).sum::<f64>()
}

/// A thousand questions a second, of all kinds; and as many bare exchanges of their bytes.
async fn many(kinds: &[Kind]) -> Vec<Figure> {
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let probers: Vec<_> = (0..PROBERS)
        .map(|at| {
            let ask = kinds[at % kinds.len()].ask.clone();
            let prober = Prober::spawn(at as u32, Question { ask, timeout: TIMEOUT }, sender.clone());
            prober.pace(Pace::Fast);
            prober
        })
        .collect();
    let probed = cost(kinds).await;
    while let Ok(event) = events.try_recv() {
        assert!(event.answer.verdict.is_ready(), "{event:?}");
    }
    drop(probers);
    let me = std::process::id();
    let (resident, anonymous) = (memory(me as i32, "VmRSS") / MIB, memory(me as i32, "RssAnon") / MIB);
    let mut bare = Vec::new();
    for at in 0..PROBERS {
        let kind = &kinds[at % kinds.len()];
        bare.push((kind, Bare::of(kind).await));
    }
    let (begun, apart) = (tokio::time::Instant::now(), Duration::from_secs_f64(PROBERS as f64 / probed.rate));
    let bare =
        futures_util::future::join_all(bare.iter_mut().enumerate().map(|(at, (kind, bare))| async move {
            let first = begun + apart / PROBERS as u32 * at as u32;
            let mut due = tokio::time::interval_at(first, apart);
            loop {
                due.tick().await;
                exchange(kind, bare).await;
            }
        }));
    let exchanged = tokio::select! {
        cost = cost(kinds) => cost,
        _ = bare => unreachable!("they never end"),
    };
    let (of_probes, of_exchanges) = (probed.for_thousand(), exchanged.for_thousand());
    let asked = "questions a second (connects by the kernel's count, and databases')";
    vec![
        Figure::single(asked, probed.rate, "", None),
        Figure::single("share of a core", probed.share, "%", Some(CPU)),
        Figure::single("share of a core for 1,000 a second", of_probes, "%", Some(CPU)),
        Figure::single("the same for the bare exchanges", of_exchanges, "%", None),
        Figure::single("how many times the bare exchanges' share", of_probes / of_exchanges, "", None),
        Figure::single("resident (VmRSS)", resident, "MiB", Some(MEMORY)),
        Figure::single("anonymous (RssAnon)", anonymous, "MiB", None),
    ]
}

/// What goes on now: how many questions a second, and which share of a core they take, in percent.
struct Cost {
    rate: f64,
    share: f64,
}

impl Cost {
    /// The share for 1,000 a second.
    fn for_thousand(&self) -> f64 {
        self.share / self.rate * 1000.0
    }
}

async fn cost(kinds: &[Kind]) -> Cost {
    tokio::time::sleep(SETTLE).await;
    let opened = asked(kinds);
    let (before, begun) = (cpu(), Instant::now());
    tokio::time::sleep(WATCH).await;
    let seconds = begun.elapsed().as_secs_f64();
    let share = (cpu() - before) / seconds * 100.0;
    Cost { rate: (asked(kinds) - opened) / seconds, share }
}

/// One kind beside its bare exchange, in turn.
async fn one(kind: &Kind) -> Vec<Figure> {
    let mut bare = Bare::of(kind).await;
    let mut figure = Figure::of_times(format!("{}: a probe, beside the bare exchange", kind.name), None);
    let mut asker = Asker::new(Question { ask: kind.ask.clone(), timeout: TIMEOUT });
    for _ in 0..SAMPLES {
        let begun = Instant::now();
        exchange(kind, &mut bare).await;
        figure.floor.push(millis(begun.elapsed()));
        let begun = Instant::now();
        let answer = asker.ask().await;
        figure.push(begun.elapsed());
        assert!(answer.verdict.is_ready(), "{answer:?}");
    }
    let median = |samples: &[f64]| {
        figures::median_of(samples.iter().map(|ms| Duration::from_secs_f64(ms / 1000.0)).collect())
    };
    let above = median(&figure.samples) - median(&figure.floor);
    let what = format!("{}: above the bare exchange", kind.name);
    let mut figures = vec![figure, Figure::single(what, above, "ms", Some(OVERHEAD))];
    if let Server::Database(_) = kind.server {
        let mut figure = Figure::of_times(format!("{}: a probe that logs in", kind.name), None);
        for _ in 0..LOGINS {
            let mut asker = Asker::new(Question { ask: kind.ask.clone(), timeout: TIMEOUT });
            let begun = Instant::now();
            let answer = asker.ask().await;
            figure.push(begun.elapsed());
            assert!(answer.verdict.is_ready(), "{answer:?}");
        }
        figures.push(figure);
    }
    figures
}

/// Has a probe log in by way of us: its second question, and the connection on which it can be asked again.
async fn overheard(kind: &Kind) -> Bare {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("a port");
    let ask = match kind.ask.clone() {
        Ask::Mysql { login, .. } => Ask::Mysql { address, login },
        Ask::Postgres { login, database, .. } => Ask::Postgres { address, login, database },
        other => other,
    };
    let mut asker = Asker::new(Question { ask, timeout: TIMEOUT });
    let mut server = TcpStream::connect(kind.address).await.expect("it listens");
    server.set_nodelay(true).expect("it is connected");
    let (mut client, mut turns) = (None, Vec::new());
    for _ in 0..2 {
        turns.clear();
        let answer = tokio::select! {
            answer = asker.ask() => answer,
            never = hand_on(&listener, &mut client, &mut server, &mut turns) => match never {},
        };
        assert!(answer.verdict.is_ready(), "{answer:?}");
    }
    Bare::Kept(server, turns)
}

/// Hands on what both say, and notes it.
async fn hand_on(
    listener: &tokio::net::TcpListener,
    client: &mut Option<TcpStream>,
    server: &mut TcpStream,
    turns: &mut Vec<Turn>,
) -> Infallible {
    if client.is_none() {
        *client = Some(listener.accept().await.expect("the probe").0);
    }
    let client = client.as_mut().expect("it is there");
    let (mut said, mut heard) = ([0; 4096], [0; 4096]);
    loop {
        tokio::select! {
            n = client.read(&mut said) => {
                let says = &said[..n.expect("it speaks")];
                assert!(!says.is_empty(), "it has hung up");
                match turns.last_mut() {
                    Some(turn) if turn.hears == 0 => turn.says.extend(says),
                    _ => turns.push(Turn { says: says.to_vec(), hears: 0 }),
                }
                server.write_all(says).await.expect("it reads");
            }
            n = server.read(&mut heard) => {
                let hears = &heard[..n.expect("it speaks")];
                assert!(!hears.is_empty(), "it has hung up");
                if let Some(turn) = turns.last_mut() {
                    turn.hears += hears.len();
                }
                client.write_all(hears).await.expect("it reads");
            }
        }
    }
}

/// How long the answer is, once all of it is there.
async fn answer_of(kind: &Kind) -> usize {
    let mut stream = TcpStream::connect(kind.address).await.expect("the stand-in listens");
    stream.write_all(&kind.says).await.expect("it reads");
    let mut length = 0;
    let mut some = [0; 4096];
    while let Ok(Ok(n @ 1..)) = timeout(Duration::from_millis(200), stream.read(&mut some)).await {
        length += n;
    }
    length
}

async fn exchange(kind: &Kind, bare: &mut Bare) {
    match bare {
        Bare::New(turn) => {
            let mut stream = TcpStream::connect(kind.address).await.expect("the stand-in listens");
            stream.set_nodelay(true).expect("it is connected");
            take(&mut stream, turn).await;
        }
        Bare::Kept(stream, turns) => {
            for turn in turns {
                take(stream, turn).await;
            }
        }
    }
}

async fn take(stream: &mut TcpStream, turn: &Turn) {
    stream.write_all(&turn.says).await.expect("it reads");
    let mut answer = vec![0; turn.hears];
    stream.read_exact(&mut answer).await.expect("it answers");
}

/// Seconds of a core that this process has used.
fn cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("of ourselves");
    (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6
}

/// How many connections were begun on this machine: the figure is right where nothing else runs.
fn connects() -> f64 {
    let text = std::fs::read_to_string("/proc/net/snmp").expect("Linux");
    let mut tcp = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (tcp.next().expect("names"), tcp.next().expect("values"));
    let at = names.split(' ').position(|name| name == "ActiveOpens").expect("a kernel that counts");
    values.split(' ').nth(at).and_then(|n| n.parse().ok()).expect("a number")
}
