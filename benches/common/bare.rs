//! The floor of a supervisor: a loop that starts programs as vfork and exec do, holds each by a pidfd, and ends them.
//! No journal, no cgroup, no log file, no session.

use super::program::{Ear, start};
use clusterd::clock;
use clusterd::facts::Moment;
use clusterd::process::Handle;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use std::io::Read;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Programs that the loop has started.
#[derive(Default)]
pub struct Bare {
    running: Vec<(Child, Handle)>,
}

const PATIENCE: Duration = Duration::from_secs(10);

/// The loop at rest: one program, started again as soon as it has ended.
pub struct BareLoop {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl BareLoop {
    pub fn begin(command: &[String]) -> BareLoop {
        let (command, ends) = (command.to_owned(), Arc::new(AtomicBool::new(false)));
        let told = ends.clone();
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Acquire) {
                let mut child = start(&command);
                let handle = Handle::open(child.id() as i32).expect("our own child");
                while !handle.wait(PATIENCE).expect("a pidfd") {}
                let _ = child.wait();
            }
        });
        BareLoop { ends, thread }
    }

    /// Ends it with its program, which is the process `pid`.
    pub fn end(self, pid: i32) {
        self.ends.store(true, Ordering::Release);
        let last = Handle::open(pid).expect("it lives");
        last.signal(Signal::SIGKILL as i32).expect("it is ours");
        self.thread.join().expect("the loop does not panic");
    }
}

impl Bare {
    fn launch(&mut self, command: &[String]) {
        let child = start(command);
        let handle = Handle::open(child.id() as i32).expect("our own child");
        self.running.push((child, handle));
    }

    /// Starts them all; from the beginning to the last one's first instruction.
    pub fn start(&mut self, ear: &Ear, labels: &[String]) -> Duration {
        let begun = clock::now();
        labels.iter().for_each(|label| self.launch(&ear.telling(label)));
        last_of(ear, labels.len()).since(begun)
    }

    /// Starts each when the one before has written its newline.
    pub fn start_chain(&mut self, ear: &Ear, labels: &[String], ends: &Path) -> Duration {
        let begun = clock::now();
        for (line, label) in labels.iter().enumerate() {
            let (mut reader, writer) = std::io::pipe().expect("a pipe");
            // A copy that stays open over the exec.
            let handed = fcntl(&writer, FcntlArg::F_DUPFD(3)).expect("a free descriptor");
            self.launch(&ear.linking(label, handed, ends, line));
            nix::unistd::close(handed).expect("it was made just now");
            drop(writer);
            reader.read_exact(&mut [0]).expect("it says that it is ready");
        }
        last_of(ear, labels.len()).since(begun)
    }

    /// Ends them all; until the last has gone.
    pub fn stop(&mut self) -> Duration {
        let begun = clock::now();
        self.running.iter().for_each(|(_, handle)| drop(handle.signal(Signal::SIGTERM as i32)));
        for (child, handle) in &mut self.running {
            assert!(handle.wait(PATIENCE).expect("a pidfd"), "it ends");
            let _ = child.wait();
        }
        let took = clock::now().since(begun);
        self.running.clear();
        took
    }

    /// Ends each when the one after it has gone.
    pub fn stop_chain(&mut self) -> Duration {
        let begun = clock::now();
        for (child, handle) in self.running.iter_mut().rev() {
            let _ = handle.signal(Signal::SIGTERM as i32);
            assert!(handle.wait(PATIENCE).expect("a pidfd"), "it ends");
            let _ = child.wait();
        }
        let took = clock::now().since(begun);
        self.running.clear();
        took
    }
}

/// The first instruction of the last of so many programs.
fn last_of(ear: &Ear, many: usize) -> Moment {
    (0..many).map(|_| ear.hear_any("a program").begun).max().expect("there are some")
}
