//! Where a test may kill the agent: at each thing that it does to processes and files.
//!
//! In a debug build `CLUSTERD_DIE_AT=POINT:N` makes the agent kill itself, as `kill -9` would, when it comes to that
//! point for the Nth time. A release build has nothing of it. `tests/crash.rs` dies at all of them.
//!
//! And where a test may have one task of the agent crash ([`trip`]), with `CLUSTERD_PANIC_IN=TASK:N`.

use std::fmt;

/// What is done, and is worth dying just after. The lines of the journal (`journal::Line`) are further points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// A slot's new value stands behind the old one.
    Appended,
    /// A slot's new value lies beside the old one.
    Aside,
    /// The copy before it has its second name.
    Previous,
    /// The new value has its name, which is not yet synced.
    Replaced,
    /// The configuration in force is kept as the last good one.
    ConfigKept,
    /// A configuration that came over the network is kept aside.
    Staged,
    /// It is what is kept as the one in force, and nobody acts by it yet.
    Switched,
    /// It is written to where people look for it, and that is not kept.
    FilesWritten,
    /// Wishes are kept, and who ordered that is not answered. Nothing was started or removed that relies on them.
    WishesKept,
    /// An event is in the log.
    Event,
    /// What carries our marks has been looked for; nothing is made of it.
    Searched,
    /// What the unit left behind has been judged; nothing is removed.
    Judged,
    /// What outlived its main process was killed before a start.
    Survivors,
    /// A leftover's copy is kept.
    Copied,
    /// The leftover is removed.
    Removed,
    /// There is a leaf for the process to be born in.
    Leaf,
    /// The socket is there by which it will say how it fares.
    Listening,
    /// There is a child, which has not become its program yet. It kills the agent from there.
    Born,
    /// The program runs. Only the kernel knows who it is.
    Launched,
    /// It is identified and held, and not journalled.
    Held,
    /// Its main process was found, and is not journalled.
    MainHeld,
    /// How it ended was heard. The kernel has forgotten it, and nobody else knows.
    Reaped,
    /// It was told to stop.
    Signalled,
    /// Its tree was told to die.
    Killed,
    /// Nothing is left of it, and it is held still.
    Swept,
    /// Its leaf is gone, and that is not told.
    LetGo,
    /// All is stopped, for the machine goes down.
    Finished,
    /// A folder for keys is there. (This one and those below: `clusterctl pki` and `clusterd join` end here as well.)
    KeyFolder,
    /// A file with a key or a certificate lies whole beside its place.
    KeyAside,
    /// It has its place.
    KeyPlaced,
    /// One that is of no use any more is gone.
    KeyRemoved,
}

impl Done {
    /// What an agent comes to only when a configuration is applied. `tests/agents/apply.rs` dies at these.
    pub const APPLY: [Done; 3] = [Done::Staged, Done::Switched, Done::FilesWritten];

    /// What `clusterctl pki` and `clusterd join` come to. `tests/pki_kills.rs` dies at these.
    pub const KEYS: [Done; 4] = [Done::KeyFolder, Done::KeyAside, Done::KeyPlaced, Done::KeyRemoved];

    /// What it comes to in any life.
    pub const ALL: [Done; 24] = [
        Done::Appended,
        Done::Aside,
        Done::Previous,
        Done::Replaced,
        Done::ConfigKept,
        Done::WishesKept,
        Done::Event,
        Done::Searched,
        Done::Judged,
        Done::Survivors,
        Done::Copied,
        Done::Removed,
        Done::Leaf,
        Done::Listening,
        Done::Born,
        Done::Launched,
        Done::Held,
        Done::MainHeld,
        Done::Reaped,
        Done::Signalled,
        Done::Killed,
        Done::Swept,
        Done::LetGo,
        Done::Finished,
    ];
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A point: the agent ends here, if a test wants it to.
#[inline]
pub fn here(point: impl fmt::Display) {
    if is_due(point) {
        #[cfg(debug_assertions)]
        order::die();
    }
}

/// A task comes by: it panics here, if a test wants it to.
#[inline]
pub fn trip(task: &str) {
    #[cfg(debug_assertions)]
    order::trip(task);
    #[cfg(not(debug_assertions))]
    let _ = task;
}

/// As [`here`], for who has the agent killed by somebody else.
#[inline]
pub fn is_due(point: impl fmt::Display) -> bool {
    #[cfg(debug_assertions)]
    return order::is_due(&point);
    #[cfg(not(debug_assertions))]
    {
        let _ = point;
        false
    }
}

#[cfg(debug_assertions)]
mod order {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use std::fmt::Display;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    struct Order {
        point: String,
        /// How often it is yet to be passed.
        left: AtomicU32,
    }

    static ORDER: OnceLock<Option<Order>> = OnceLock::new();
    static STUMBLE: OnceLock<Option<Order>> = OnceLock::new();

    fn read(variable: &str) -> Option<Order> {
        let text = std::env::var(variable).ok()?;
        let (point, count) = text.rsplit_once(':')?;
        Some(Order { point: point.to_owned(), left: AtomicU32::new(count.parse().ok()?) })
    }

    impl Order {
        fn is_due(&self, point: &impl Display) -> bool {
            self.point == point.to_string() && self.left.fetch_sub(1, Relaxed) == 1
        }
    }

    pub fn trip(task: &str) {
        let Some(order) = STUMBLE.get_or_init(|| read("CLUSTERD_PANIC_IN")) else { return };
        assert!(!order.is_due(&task), "a test wants this task to crash: {task}");
    }

    pub fn is_due(point: &impl Display) -> bool {
        let Some(order) = ORDER.get_or_init(|| read("CLUSTERD_DIE_AT")) else { return false };
        let due = order.is_due(point);
        if due {
            eprintln!("died at {point}");
        }
        due
    }

    pub fn die() -> ! {
        let _ = kill(Pid::this(), Signal::SIGKILL);
        std::process::abort() // not reached: the signal is taken before the call returns
    }
}
