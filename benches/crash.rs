//! How long from the crash of a service to the first instruction of its replacement, with no delay configured?
//!
//! The floor is taken between the samples: a wake-up by a pidfd, then fork and exec of the same program.

mod common;

use clusterd::clock;
use clusterd::process::Handle;
use common::agents::Cluster;
use common::figures::{self, Figure};
use common::program::{self, Ear, wait_for};
use nix::sys::signal::Signal;

const SAMPLES: usize = 100;
/// The promise: at most this many times the floor.
const RATIO: f64 = 1.5;

fn main() {
    program::act();
    let mut cluster = Cluster::new("crash");
    cluster.node("left", "a");
    let ear = Ear::new(cluster.folder());
    let unit = format!(
        "[run]\ncommand = {:?}\n[ready]\nprobe = {{ kind = \"running\", for = \"5ms\" }}\n\
         [restart]\ndelay = \"0s\"\nmax = \"0s\"\nlimit = 0\n",
        ear.telling("crashing")
    );
    cluster.service("crashing", "on = \"a\"", &unit);
    cluster.start_all();
    cluster.wait_all_up();
    ear.drain();

    let mut figure = Figure::of_times("crash (kill -9) -> replacement's first instruction", None);
    figure.target_ratio = Some(RATIO);
    let mut pid = 0;
    for _ in 0..SAMPLES {
        pid = wait_for("the service is ready", || {
            let seen = cluster.status("a").instances.remove(0);
            seen.pid.filter(|p| seen.state.is_up() && *p != pid)
        });
        let service = Handle::open(pid).expect("it lives");
        let begun = clock::now();
        service.signal(Signal::SIGKILL as i32).expect("it is ours");
        figure.push(ear.hear("crashing").since(begun));
        figure.floor.push(figures::millis(ear.floor_of_crash()));
    }
    figures::print("A crash", &[figure]);
}
