//! Does a flood of hostile connections delay a start?
//!
//! Two agents with certificates, as in `boot`: from A's `ready` event to the first instruction of the dependent on B, where
//! A's word made B look. Quiet; then with a thousand new connections a second to *each* agent, from one address that hangs
//! up at once, and from twenty addresses that all send a true TLS greeting, so that none of them is turned away unheard.

mod common;

use common::agents::Cluster;
use common::figures::{self, Figure};
use common::program::{self, Ear, own_path, shown, wait_for};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const SAMPLES: usize = 40;
const MOST: usize = 150;
/// Connections a second, to each agent.
const RATE: u32 = 1000;

fn main() {
    program::act();
    let mut cluster = Cluster::new("flood");
    cluster.secure();
    let a = cluster.node("left", "a");
    cluster.node("right", "b");
    let ear = Ear::new(cluster.folder());
    let address = SocketAddr::new(a.into(), 7000);
    let command = [shown(&own_path()), "--listen".into(), address.to_string()];
    let unit = format!("[run]\ncommand = {command:?}\n[ready]\nprobe = {{ kind = \"tcp\", port = 7000 }}\n");
    cluster.service("tcp", "on = \"a\"", &unit);
    let command = ear.telling("after");
    let unit =
        format!("[run]\ncommand = {command:?}\n[ready]\nprobe = {{ kind = \"running\", for = \"20ms\" }}\n");
    cluster.service("after", "on = \"b\", needs.tcp = \"all\"", &unit);
    cluster.start_all();
    cluster.wait_all_up();

    let mut quiet = Figure::of_times("quiet", None);
    measure(&mut cluster, &ear, &mut quiet);
    let mut figures = vec![];
    let greeting = greeting();
    for (what, sources, says) in
        [("one address, hangs up", 1, &[][..]), ("twenty addresses, each greets", 20, greeting.as_slice())]
    {
        let flood = Flood::begin(&cluster.addresses(), sources, says);
        let mut figure = Figure::of_times(format!("flooded: {what}"), None);
        measure(&mut cluster, &ear, &mut figure);
        figure.what += &format!(" ({:.0} a second to each)", flood.end() / 2.0);
        figure.floor = quiet.samples.clone();
        figure.target_ratio = Some(2.0);
        figures.push(figure);
    }
    figures.insert(0, quiet);
    figures::print(
        "Ready on A -> the dependent's first instruction on B; the floor is the quiet figure",
        &figures,
    );
}

fn measure(cluster: &mut Cluster, ear: &Ear, figure: &mut Figure) {
    for _ in 0..MOST {
        if figure.samples.len() == SAMPLES {
            return;
        }
        let before = cluster.last_event("a");
        ear.drain();
        cluster.restart("a", "tcp@a");
        let first = ear.hear("after");
        let ready = wait_for("tcp@a is ready", || {
            let events = cluster.events("a", before);
            events.iter().rfind(|e| e.instance == "tcp@a" && e.what == "ready").map(|e| e.at)
        });
        // Where B's own probe was first, nobody waited for the word.
        if first > ready {
            figure.push(first.since(ready));
        }
        cluster.wait_up(&["a", "b"]);
    }
}

/// Connections without end, from threads of its own.
struct Flood {
    enough: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    begun: Instant,
}

impl Flood {
    fn begin(to: &[SocketAddr], sources: u8, says: &[u8]) -> Flood {
        let (enough, made) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        for address in to.iter().copied() {
            let (enough, made, says) = (enough.clone(), made.clone(), says.to_vec());
            std::thread::spawn(move || {
                let begun = Instant::now();
                for n in 0_u32.. {
                    if enough.load(Relaxed) {
                        return;
                    }
                    let source = Ipv4Addr::new(127, 9, 9, 1 + (n % u32::from(sources)) as u8);
                    if let Ok(mut stream) = connect(source, address) {
                        let _ = stream.write_all(&says);
                        made.fetch_add(1, Relaxed);
                    }
                    let due = begun + Duration::from_secs(1) / RATE * n;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
            });
        }
        Flood { enough, made, begun: Instant::now() }
    }

    /// How many a second there were.
    fn end(self) -> f64 {
        self.enough.store(true, Relaxed);
        self.made.load(Relaxed) as f64 / self.begun.elapsed().as_secs_f64()
    }
}

fn connect(source: Ipv4Addr, to: SocketAddr) -> std::io::Result<std::net::TcpStream> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
    use std::os::fd::AsRawFd;
    let SocketAddr::V4(to) = to else { unreachable!("the bench has IPv4 addresses") };
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(socket.as_raw_fd(), &SockaddrIn::from(std::net::SocketAddrV4::new(source, 0)))?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(to))?;
    Ok(socket.into())
}

/// What a client of TLS says first.
fn greeting() -> Vec<u8> {
    use std::io::Read;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let dials = std::thread::spawn(move || {
        let ask = clusterd::model::Ask::Http(clusterd::model::Get::of(format!("https://{address}/")));
        let question = clusterd::model::Question { ask, timeout: Duration::from_secs(2) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { clusterd::probe::Asker::new(question).ask().await });
    });
    let mut bytes = vec![0; 4096];
    let mut stream = listener.accept().expect("it dials").0;
    let n = stream.read(&mut bytes).expect("it greets");
    drop(stream);
    let _ = dials.join();
    bytes.truncate(n);
    bytes
}
