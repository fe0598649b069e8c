//! Stand-ins: small servers that speak one daemon's readiness, for the demo where that daemon is not installed.
//!
//! A stand-in says that it is one: in its first line of output, and in its protocol wherever there is a place for
//! it. It stores nothing and serves nothing. What it does share with the daemons is how they die and what they
//! leave behind: a pid file that outlives `kill -9`, a refusal to start over it, an exit when what it needs is not
//! there.

mod activemq;
mod fastdfs;
mod http;
mod mysql;
mod redis;

use std::fmt;
use std::future::pending;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// The most connections that are served at a time; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 256;
/// How long a connection may live. The probes that keep one replace it after half a minute.
const CONNECTION_LIFE: Duration = Duration::from_secs(120);
/// How long `--needs` waits for its answer.
const NEEDS: Duration = Duration::from_secs(2);

/// What a stand-in stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    FastdfsTracker,
    FastdfsStorage,
    Redis,
    Mysql,
    Activemq,
    /// Any web server: 200 to everything.
    Http,
    /// Accepts connections and says nothing.
    Office,
    /// Runs, and listens nowhere.
    Keepalived,
}

impl Kind {
    /// The daemon's name, as a person would say it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::FastdfsTracker => "fastdfs-tracker",
            Kind::FastdfsStorage => "fastdfs-storage",
            Kind::Redis => "redis",
            Kind::Mysql => "mysql",
            Kind::Activemq => "activemq",
            Kind::Http => "http",
            Kind::Office => "office",
            Kind::Keepalived => "keepalived",
        }
    }
}

/// The arguments of the hidden verb `clusterctl stand-in`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to stand for.
    #[arg(value_enum)]
    pub kind: Kind,
    /// Where to listen. keepalived listens nowhere.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Listen only after so many milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub delay_ms: u64,
    /// Write the process number here; removed by SIGTERM, left behind by SIGKILL.
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// Start nothing, and exit 0, when the pid file exists: as Redis's classic init script does.
    #[arg(long, requires = "pidfile")]
    pub strict_pidfile: bool,
    /// Exit 1 unless this address accepts a connection at the start: as ActiveMQ without its database does.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub needs: Option<SocketAddr>,
}

/// Why a stand-in could not stand in.
#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot write the pid file {path}: {source}")]
    PidFile { path: PathBuf, source: io::Error },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot reach {address}, which the stand-in for {kind} needs: {why}")]
    Needs { kind: Kind, address: SocketAddr, why: String },
    #[error("a stand-in for {0} needs --listen")]
    NoAddress(Kind),
    #[error("cannot set up the stand-in: {0}")]
    SetUp(#[source] io::Error),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Runs a stand-in until SIGTERM or SIGINT.
pub fn run(args: &Args) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::SetUp)?;
    runtime.block_on(live(args))
}

async fn live(args: &Args) -> Result<(), Error> {
    if let (true, Some(path)) = (args.strict_pidfile, &args.pidfile)
        && path.symlink_metadata().is_ok()
    {
        say(&format!("{} exists, process is already running or crashed", path.display()));
        return Ok(());
    }
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::SetUp)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::SetUp)?;
    let _pidfile = args.pidfile.as_deref().map(PidFile::write).transpose()?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = stand(args) => ended,
    }
}

/// The part of its life that a signal may end at any point.
async fn stand(args: &Args) -> Result<(), Error> {
    let kind = args.kind;
    if let Some(address) = args.needs {
        let why = match timeout(NEEDS, TcpStream::connect(address)).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} s", NEEDS.as_secs())),
        };
        if let Some(why) = why {
            return Err(Error::Needs { kind, address, why });
        }
    }
    sleep(Duration::from_millis(args.delay_ms)).await;
    match args.listen {
        Some(address) => {
            let listener =
                TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
            say(&format!("stand-in for {kind} on {address} (not the real daemon)"));
            serve(kind, listener).await;
        }
        None if kind == Kind::Keepalived => {
            say(&format!("stand-in for {kind} (not the real daemon)"));
            pending::<()>().await;
        }
        None => return Err(Error::NoAddress(kind)),
    }
    Ok(())
}

/// Serves connections for ever.
pub async fn serve(kind: Kind, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let who = Arc::new(Who::new());
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Out of file descriptors, or the peer has gone again: the next one may do.
            Err(_) => {
                sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let who = who.clone();
        tokio::spawn(async move {
            // How a connection ends is of no interest to a stand-in.
            let _ = timeout(CONNECTION_LIFE, talk(kind, stream, &who)).await;
            drop(place);
        });
    }
}

async fn talk(kind: Kind, mut stream: TcpStream, who: &Who) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match kind {
        Kind::FastdfsTracker => fastdfs::talk(&mut stream, true).await,
        Kind::FastdfsStorage => fastdfs::talk(&mut stream, false).await,
        Kind::Redis => redis::talk(&mut stream, who).await,
        Kind::Mysql => mysql::talk(&mut stream, who).await,
        Kind::Activemq => activemq::talk(&mut stream, who).await,
        Kind::Http => http::talk(&mut stream).await,
        Kind::Office | Kind::Keepalived => discard(&mut stream).await,
    }
}

/// Reads and forgets, until the other side closes.
async fn discard(stream: &mut TcpStream) -> io::Result<()> {
    use tokio::io::AsyncReadExt;
    let mut some = [0; 1024];
    while stream.read(&mut some).await? > 0 {}
    Ok(())
}

/// Who this stand-in is, wherever its protocol has a name for that: another one after each start.
struct Who {
    /// 40 hex digits.
    id: String,
}

impl Who {
    fn new() -> Who {
        let (pid, now) = (std::process::id(), crate::clock::now().0);
        Who { id: format!("{pid:08x}{now:032x}") }
    }
}

/// The pid file of this process. Dropping it removes the file, as long as it is still ours.
struct PidFile<'a> {
    path: &'a Path,
    text: String,
}

impl PidFile<'_> {
    fn write(path: &Path) -> Result<PidFile<'_>, Error> {
        let text = format!("{}\n", std::process::id());
        match std::fs::write(path, &text) {
            Ok(()) => Ok(PidFile { path, text }),
            Err(source) => Err(Error::PidFile { path: path.to_owned(), source }),
        }
    }
}

impl Drop for PidFile<'_> {
    fn drop(&mut self) {
        if std::fs::read_to_string(self.path).is_ok_and(|text| text == self.text) {
            let _ = std::fs::remove_file(self.path);
        }
    }
}

/// Prints a line. Nobody reading it is no reason to die.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Role, Verdict};
    use crate::model::{Ask, BrokerAsk, FastdfsAsk, Get, Question};
    use crate::probe::Asker;
    use crate::probe::testing::nobody;

    async fn stand_in(kind: Kind) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(kind, listener));
        address
    }

    async fn ask(ask: Ask) -> Verdict {
        let mut asker = Asker::new(Question { ask, timeout: Duration::from_secs(5) });
        let first = asker.ask().await.verdict;
        assert_eq!(asker.ask().await.verdict, first, "on a kept connection too");
        first
    }

    #[tokio::test]
    async fn each_passes_its_own_probe() {
        let address = stand_in(Kind::FastdfsTracker).await;
        assert_eq!(
            ask(Ask::Fastdfs { address, ask: FastdfsAsk::Active }).await.to_string(),
            "ready (active test passed)"
        );
        let address = stand_in(Kind::FastdfsStorage).await;
        assert_eq!(
            ask(Ask::Fastdfs { address, ask: FastdfsAsk::Active }).await.to_string(),
            "ready (active test passed)"
        );
        let address = stand_in(Kind::Redis).await;
        assert_eq!(ask(Ask::Redis { address, login: None }).await.to_string(), "ready (PONG, master)");
        let address = stand_in(Kind::Activemq).await;
        assert_eq!(
            ask(Ask::Activemq { address, also: BrokerAsk::default() }).await.to_string(),
            "ready (broker stand-in)"
        );
        let address = stand_in(Kind::Office).await;
        assert_eq!(ask(Ask::Tcp { address }).await.to_string(), "ready (accepts connections)");
        let address = stand_in(Kind::Http).await;
        let url = format!("http://{address}/");
        let contains = Some("stand-in".to_owned());
        assert!(ask(Ask::Http(Get { contains, ..Get::of(url) })).await.is_ready());
        let address = stand_in(Kind::Mysql).await;
        let Verdict::Ready(ready) = ask(Ask::Mysql { address, login: None }).await else { panic!() };
        assert_eq!(
            (ready.detail.as_str(), ready.roles),
            ("SELECT 1, 5.7.0-standin, writable", vec![Role::Writable])
        );
    }

    #[tokio::test]
    async fn two_stand_ins_are_two_servers() {
        let mut ids = Vec::new();
        for _ in 0..2 {
            let address = stand_in(Kind::Redis).await;
            let Verdict::Ready(ready) = ask(Ask::Redis { address, login: None }).await else { panic!() };
            ids.push(ready.identity);
        }
        assert!(ids[0].is_some());
        assert_ne!(ids[0], ids[1]);
    }

    fn args(kind: Kind) -> Args {
        Args { kind, listen: None, delay_ms: 0, pidfile: None, strict_pidfile: false, needs: None }
    }

    #[test]
    fn an_existing_pid_file_is_taken_for_a_running_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        std::fs::write(&path, "").unwrap();
        let args = Args { pidfile: Some(path.clone()), strict_pidfile: true, ..args(Kind::Redis) };
        run(&args).expect("it starts nothing, and calls that a success");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "", "the file is left alone");
    }

    #[tokio::test]
    async fn what_it_needs_must_be_there() {
        let (_port, gone) = nobody().await;
        let error = stand(&Args { needs: Some(gone), ..args(Kind::Activemq) }).await.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot reach {gone}, which the stand-in for activemq needs: ")),
            "{error}"
        );
    }

    #[test]
    fn a_pid_file_goes_with_its_process_and_stays_when_it_is_anothers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        drop(PidFile::write(&path).unwrap());
        assert!(!path.exists());
        let ours = PidFile::write(&path).unwrap();
        std::fs::write(&path, "1\n").unwrap();
        drop(ours);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n");
    }

    #[test]
    fn no_address_is_an_error() {
        assert_eq!(run(&args(Kind::Http)).unwrap_err().to_string(), "a stand-in for http needs --listen");
    }
}
