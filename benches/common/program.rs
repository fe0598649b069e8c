//! The programs that the benches start: one that tells when it began (`teller.rs`), and the bench binary itself in
//! another life, as one that listens.
//!
//! The floor is the same telling program, started by nothing but a wake-up and an exec.

use clusterd::clock;
use clusterd::facts::Moment;
use clusterd::process::Handle;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

/// How long anything may take to begin before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Becomes the service that the command line asks for, if it asks for one. To be called first in `main`.
pub fn act() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("--listen") => {
            let address = arguments.next().unwrap_or_default();
            let listener = TcpListener::bind(&address).expect("a loopback address is free");
            while listener.accept().is_ok() {}
        }
        _ => return,
    }
    loop {
        std::thread::park();
    }
}

/// The bench binary itself.
pub fn own_path() -> PathBuf {
    std::env::current_exe().expect("Linux tells a program its path")
}

/// The ear of the bench.
pub struct Ear {
    /// Filled by a thread: the kernel keeps ten messages only, and a program that cannot tell does not go on.
    told: mpsc::Receiver<Told>,
    path: PathBuf,
    folder: PathBuf,
    /// The telling program.
    teller: PathBuf,
    /// The same, linked statically: it is begun and gone sooner.
    link: OnceLock<PathBuf>,
}

/// What a telling program said first.
pub struct Told {
    pub label: String,
    pub begun: Moment,
    pub pid: i32,
}

impl Told {
    fn read(text: &str) -> Told {
        let mut words = text.split(' ');
        let mut next = || words.next().expect("a label and two numbers");
        Told {
            label: next().to_owned(),
            begun: Moment(next().parse().expect("nanoseconds")),
            pid: next().parse().expect("a pid"),
        }
    }
}

impl Ear {
    pub fn new(folder: &Path) -> Ear {
        let path = folder.join("ear");
        let socket = UnixDatagram::bind(&path).expect("a fresh temporary folder");
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 256];
            while let Ok(length) = socket.recv(&mut buffer) {
                if tell.send(Told::read(&String::from_utf8_lossy(&buffer[..length]))).is_err() {
                    return;
                }
            }
        });
        let teller = compile_teller(folder, "teller", &[]);
        Ear { told, path, folder: folder.to_owned(), teller, link: OnceLock::new() }
    }

    /// The command of a service that tells.
    pub fn telling(&self, label: &str) -> Vec<String> {
        vec![shown(&self.teller), shown(&self.path), label.into()]
    }

    /// The command of a link of a chain: a service that says on `ready` that it is ready, and notes when it ends as the
    /// line-th number of the file `ends`. As little as can be is its own work, for what is measured is the supervisor's.
    pub fn linking(&self, label: &str, ready: i32, ends: &Path, line: usize) -> Vec<String> {
        let statically = ["-C", "target-feature=+crt-static"];
        let link = self.link.get_or_init(|| compile_teller(&self.folder, "link", &statically));
        let mut command = self.telling(label);
        command[0] = shown(link);
        command.extend([ready.to_string(), shown(ends), line.to_string()]);
        command
    }

    /// The first instruction of the next program with this label; what others tell is passed over.
    pub fn hear(&self, label: &str) -> Moment {
        loop {
            let told = self.hear_any(label);
            if told.label == label {
                return told.begun;
            }
        }
    }

    /// The next program, whichever it is. `who` is for the message when none comes.
    pub fn hear_any(&self, who: &str) -> Told {
        self.told.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("{who} did not begin: {e}"))
    }

    /// Forgets what has been told so far.
    pub fn drain(&self) {
        self.told.try_iter().for_each(drop);
    }

    /// One sample of the floor of a boot: a wake-up by a pipe, then fork and exec, until the first instruction.
    pub fn floor_of_boot(&self) -> Duration {
        let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
        self.floor(
            move || drop(reader.read_exact(&mut [0])),
            move || {
                let begun = clock::now();
                writer.write_all(&[0]).expect("the reader waits");
                begun
            },
        )
    }

    /// One sample of the floor of a crash: a wake-up by a pidfd, then fork and exec, until the first instruction.
    pub fn floor_of_crash(&self) -> Duration {
        let mut victim = start(&self.telling("victim"));
        self.hear("victim");
        let handle = Handle::open(victim.id() as i32).expect("it lives");
        let sample = self.floor(
            move || drop(handle.wait(PATIENCE)),
            || {
                let begun = clock::now();
                victim.kill().expect("our own child");
                begun
            },
        );
        let _ = victim.wait();
        sample
    }

    fn floor(&self, wait: impl FnOnce() + Send + 'static, wake: impl FnOnce() -> Moment) -> Duration {
        let command = self.telling("floor");
        let (ready, is_ready) = mpsc::channel();
        let waiter = std::thread::spawn(move || {
            ready.send(()).expect("the bench waits for it");
            wait();
            start(&command)
        });
        is_ready.recv().expect("the thread has begun");
        // It has said that it is about to block; give it the time to do so.
        std::thread::sleep(Duration::from_millis(2));
        let begun = wake();
        let first = self.hear("floor");
        let mut child = waiter.join().expect("the thread does not panic");
        let _ = child.kill();
        let _ = child.wait();
        first.since(begun)
    }
}

/// Starts it as the standard library does a plain program: by posix_spawn(3), which is vfork and exec.
pub fn start(command: &[String]) -> Child {
    Command::new(&command[0]).args(&command[1..]).spawn().expect("it was compiled just now")
}

fn compile_teller(folder: &Path, name: &str, flags: &[&str]) -> PathBuf {
    let teller = folder.join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/common/teller.rs");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(compiler);
    command.args(["--edition", "2024", "-O", "-C", "panic=abort", "-C", "strip=symbols"]).args(flags);
    let done = command.arg("-o").arg(&teller).arg(&source).status().expect("rustc can be run");
    assert!(done.success(), "{} cannot be compiled", source.display());
    teller
}

pub fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Looks again and again until `look` finds something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {} s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}
