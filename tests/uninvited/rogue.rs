//! A host with an address of its own that wants to do harm without a certificate, or with an operator's for reading.

use crate::agents::wait;
use crate::secured::{Secured, clusterctl};
use clusterd::api::client::{Client, Target};
use clusterd::api::patience::HEAD_DEADLINE;
use clusterd::api::tls::{self, HANDSHAKE_DEADLINE, Security};
use clusterd::api::wire::{NodeStatus, Order, OrderReply, Verb};
use clusterd::pki::{Bundle, Role, Tls, Validity, Who};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

/// How many times the rogue connects.
const FLOOD: usize = 10_000;
/// How many of its connections drip.
const DRIPS: usize = 40;

fn identity(cluster: &Secured, role: Role) -> Arc<Tls> {
    let who = Who::Operator { name: "alice".into(), role };
    let issued = cluster.ca().issue(who, Validity::days(1)).unwrap();
    Arc::new(Tls::new(&Bundle::parse(&issued.bundle).unwrap()).unwrap())
}

fn address(target: &Target) -> SocketAddr {
    let Target::Tcp(address) = target else { panic!("{target}") };
    address.parse().unwrap()
}

/// Connects from an address of the rogue's own.
async fn connect_from(source: &str, to: SocketAddr) -> std::io::Result<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(format!("{source}:0").parse().unwrap())?;
    socket.connect(to).await
}

/// The services, by their pids: nothing has happened to them.
fn services(cluster: &Secured) -> (i64, i64) {
    let pid = |node, name| wait(name, || cluster.pid_if(node, name, "ready"));
    (pid("n1", "cache@n1"), pid("n2", "web@n2"))
}

/// Asks for the status again and again as a rightful operator over a warm connection and over new ones, until told to
/// end; how long each took.
fn rightful_calls(target: Target, tls: Arc<Tls>, end: Arc<AtomicBool>) -> Vec<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let new = || Client::new(target.clone()).secured(Security::Tls(tls.clone()), Some("n1"));
        let (mut warm, mut times) = (new(), Vec::new());
        for n in 0.. {
            if end.load(Relaxed) {
                break;
            }
            let begun = Instant::now();
            let answer = match n % 5 {
                0 => new().get::<NodeStatus>("/v1/node").await,
                _ => warm.get::<NodeStatus>("/v1/node").await,
            };
            assert!(answer.is_ok(), "call {n} of a rightful operator failed: {}", answer.unwrap_err());
            times.push(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(10)).await; // the pace of somebody who looks
        }
        times
    })
}

fn told(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e3;
    println!("{what}: {} calls, median {:.1} ms, worst {:.1} ms", times.len(), at(50), at(100));
}

#[test]
fn a_flood_and_a_drip_leave_services_and_status_alone() {
    let mut cluster = Secured::new("flood", "");
    cluster.join_and_start("n1");
    cluster.join_and_start("n2");
    wait("the agents to hear each other", || cluster.whole("n1"));
    let before = services(&cluster);
    let (target, rogue) = (cluster.target(1), cluster.address(66));
    let (admin, read) = (identity(&cluster, Role::Admin), identity(&cluster, Role::Read));
    let looking = |during: &dyn Fn()| {
        let end = Arc::new(AtomicBool::new(false));
        let (ended, target, tls) = (end.clone(), target.clone(), admin.clone());
        let looks = std::thread::spawn(move || rightful_calls(target, tls, ended));
        during();
        end.store(true, Relaxed);
        looks.join().expect("no call of a rightful operator fails")
    };
    told("quiet", &mut looking(&|| std::thread::sleep(Duration::from_secs(1))));

    let to = address(&target);
    let (refused, held) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut during = looking(&|| {
        cluster.block_on(async {
            let begun = Instant::now();
            // The first half hang up at once, the second stay and say nothing.
            let mut open = Vec::new();
            for n in 0..FLOOD {
                match connect_from(&rogue, to).await {
                    Ok(stream) if n >= FLOOD / 2 => open.push(stream),
                    Ok(stream) => drop(stream),
                    Err(_) => drop(refused.fetch_add(1, Relaxed)),
                }
                if open.len() > 500 {
                    open.drain(..100);
                }
            }
            let took = begun.elapsed();
            // Of those that say nothing, only a few still stand.
            for mut stream in open {
                let look = tokio::time::timeout(Duration::from_millis(20), stream.read(&mut [0; 1])).await;
                held.fetch_add(usize::from(look.is_err()), Relaxed);
            }
            println!("{FLOOD} connections in {:.1} s", took.as_secs_f64());
        });
    });
    told("flooded", &mut during);
    println!("{} not connected, {} held at the end", refused.load(Relaxed), held.load(Relaxed));
    assert!(held.load(Relaxed) <= clusterd::api::door::MOST_KNOCKING_OF_ONE);
    let worst = during.iter().max().unwrap();
    assert!(*worst < Duration::from_secs(5), "a rightful call took {worst:?}");

    // A request that drips: one byte a second, without a certificate and with one.
    // From another address: what comes from the first one is not even listened to for now.
    let other = cluster.address(67);
    let mut during = looking(&|| {
        let longest = cluster.block_on(async {
            let drips = (0..DRIPS).map(|n| drip(&other, to, (n % 2 == 0).then(|| read.clone())));
            futures_util::future::join_all(drips).await.into_iter().max().unwrap()
        });
        println!("{DRIPS} that drip: the last was cut off after {:.1} s", longest.as_secs_f64());
        let at_most = HEAD_DEADLINE.max(HANDSHAKE_DEADLINE) + Duration::from_secs(8);
        assert!(longest < at_most, "it was listened to for {longest:?}");
    });
    told("dripped on", &mut during);
    assert_eq!(services(&cluster), before);
}

/// Sends a byte a second, the first one of TLS where it has no certificate, until it is cut off; for how long it could.
async fn drip(source: &str, to: SocketAddr, tls: Option<Arc<Tls>>) -> Duration {
    async fn drip_on(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, text: &[u8]) {
        for byte in text.iter().cycle() {
            if stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err() {
                break;
            }
            let heard = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut [0; 64])).await;
            if matches!(heard, Ok(Ok(0) | Err(_))) {
                break;
            }
        }
    }
    let stream = connect_from(source, to).await.unwrap();
    match tls {
        None => {
            let begun = Instant::now();
            drip_on(stream, &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]).await;
            begun.elapsed()
        }
        Some(tls) => {
            let stream = tls::connect(stream, &tls, Some("n1")).await.unwrap();
            let begun = Instant::now();
            drip_on(stream, b"GET /v1/node HTTP/1.1\r\nhost: agent\r\nx-and-so-on: a\r\n").await;
            begun.elapsed()
        }
    }
}

/// Carries what one client says to an agent, and keeps it.
fn eavesdrop(listener: TcpListener, to: SocketAddr) -> Arc<Mutex<Vec<u8>>> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let keeps = heard.clone();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut agent = TcpStream::connect(to).unwrap();
        let (mut back, mut forth) = (agent.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut back, &mut forth));
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = client.read(&mut bytes) {
            keeps.lock().unwrap().extend_from_slice(&bytes[..n]);
            agent.write_all(&bytes[..n]).unwrap();
        }
        let _ = agent.shutdown(Shutdown::Both);
    });
    heard
}

#[test]
fn an_order_that_is_replayed_is_not_obeyed() {
    let mut cluster = Secured::new("replay", "");
    cluster.join_and_start("n1");
    cluster.join_and_start("n2");
    services(&cluster);
    let to = address(&cluster.target(2));
    let listener = TcpListener::bind(format!("{}:0", cluster.address(77))).unwrap();
    let through = Target::from(listener.local_addr().unwrap());
    let heard = eavesdrop(listener, to);
    let mut client = Client::new(through).secured(Security::Tls(identity(&cluster, Role::Admin)), Some("n2"));
    let stop = Order {
        verb: Verb::Stop,
        instances: vec!["web@n2".into()],
        force: false,
        timeout_ms: 10_000,
        without: vec![],
        by: "test".into(),
        reason: String::new(),
    };
    cluster.block_on(client.post::<_, OrderReply>("/v1/order", &stop)).unwrap();
    drop(client);
    wait("the web server to stop", || cluster.in_state("n2", "web@n2", "stopped"));
    let told = clusterctl(&["start", "web@n2", "--socket", &cluster.socket("n2"), "--no-wait"]);
    assert_eq!(told.code, 0, "{told:?}");
    let before = services(&cluster);

    let heard = heard.lock().unwrap().clone();
    assert!(heard.len() > 500, "the whole talk was heard");
    for _ in 0..20 {
        let mut agent = TcpStream::connect(to).unwrap();
        agent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let _ = agent.write_all(&heard);
        // To its end: the agent has made up its mind.
        let _ = agent.read_to_end(&mut Vec::new());
    }
    assert_eq!(services(&cluster), before);
    let events = cluster.events("n2");
    assert_eq!(events.iter().filter(|e| e.what == "stopped").count(), 1, "{events:?}");
}
