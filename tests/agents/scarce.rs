//! What runs out: disks, descriptors, processes. Real agents; what they run keeps running, what is wrong is said in a
//! plain sentence, nothing is tried without end, and all is well by itself when there is room again.

#[path = "scarce/room.rs"]
mod room;

use crate::agents::{Cluster, wait};
use clusterd::crash::Done;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use room::{Disk, PidsGroup};
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// A service that prints nothing and has no file of its own open.
const QUIET: &str = "[run]\ncommand = [\"/bin/sh\", \"-c\", \"exec sleep 1000 >/dev/null 2>&1\"]\n[ready]\nprobe = { kind = \
                     \"running\", for = \"10ms\" }\n[restart]\ndelay = \"10ms\"\nlimit = 0\n";

/// One node with `it` and `other`, both of this unit.
fn two_of(name: &str, unit: &str) -> Cluster {
    let cluster = Cluster::new(name);
    cluster.write(
        "[cluster]\nname = \"NAME\"\ninsecure = true\n[nodes]\nall = { n1 = \"A1\" }\n[services]\nit = { on = \"n1\" }\nother = { on = \"n1\" }\n",
        &[("it", unit), ("other", unit)],
    );
    fs::create_dir_all(cluster.node("n1")).unwrap();
    cluster
}

/// Both quiet, and the agent's folder of that name is on a disk of its own.
fn two_on(disk: &Disk, folder: &str, name: &str) -> Cluster {
    let cluster = two_of(name, QUIET);
    symlink(disk.path(), cluster.node("n1").join(folder)).unwrap();
    cluster
}

impl Cluster {
    fn node(&self, node: &str) -> PathBuf {
        self.dir().join(node)
    }

    /// Starts the agent with so many file descriptors.
    fn start_with_descriptors(&mut self, node: &str, most: u32) {
        let agent = self.agent(node);
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--nofile={most}:{most}")).arg(agent.get_program()).args(agent.get_args());
        self.start_as(node, limited);
    }

    fn ready(&self, instance: &str) -> i64 {
        wait(&format!("{instance} to be ready"), || self.pid_if("n1", instance, "ready"))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.node("n1").join("agent.log")).unwrap_or_default()
    }

    fn agent_pid(&self) -> i32 {
        self.pid("n1") as i32
    }

    fn reason_with(&self, instance: &str, state: &str, part: &str) -> Option<String> {
        let view = self.view("n1", instance)?;
        let reason = view["reason"].as_str()?.to_owned();
        (view["state"] == state && reason.contains(part)).then_some(reason)
    }

    /// The agent's problems that contain this.
    fn problem(&self, part: &str) -> Option<String> {
        let status = self.status("n1")?;
        let problems = status["nodes"][0]["status"]["problems"].as_array()?.clone();
        problems.iter().filter_map(|p| p.as_str()).find(|p| p.contains(part)).map(str::to_owned)
    }

    /// Kills a service and waits until another process of it is ready.
    fn crash(&self, instance: &str) -> i64 {
        let pid = self.ready(instance);
        end(pid);
        wait(&format!("{instance} to be started again"), || {
            self.pid_if("n1", instance, "ready").filter(|again| *again != pid)
        })
    }
}

fn end(pid: i64) {
    nix::sys::signal::kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
}

/// The processor time that a process has used.
fn worked(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10) // USER_HZ is 100
}

/// Nobody asks the agent for two seconds: it has next to nothing to do.
fn rests(cluster: &Cluster) {
    let (pid, begun) = (cluster.agent_pid(), Instant::now());
    let before = worked(pid);
    wait("two seconds", || (begun.elapsed() > Duration::from_secs(2)).then_some(()));
    let busy = worked(pid) - before;
    assert!(busy < Duration::from_millis(500), "{} ms of processor time in 2 s", busy.as_millis());
}

#[test]
fn a_full_state_disk_stops_nothing_and_is_said() {
    let disk = Disk::memory("1m");
    let mut cluster = two_on(&disk, "state", "full");
    cluster.start("n1");
    let other = cluster.ready("other@n1");
    disk.fill();
    let said = wait("it to be said", || {
        cluster.crash("it@n1"); // what fits into the last page of the file is written still
        cluster.problem("events are kept in memory only")
    });
    assert!(said.contains("events.jsonl: No space left on device"), "{said}");
    let events = cluster.ctl("n1", &["events", "it"]).text();
    assert!(events.contains("killed by SIGKILL"), "from memory: {events}");
    // A stop is done, and the command says that it will not survive a reboot.
    let stop = cluster.ctl("n1", &["stop", "it"]);
    assert!(stop.text().contains("the disk did not take the wish: it is done"), "{stop:?}");
    assert_ne!(stop.code, 0);
    cluster.in_state("n1", "it@n1", "stopped").unwrap();
    rests(&cluster);

    disk.make_room();
    assert_eq!(cluster.ctl("n1", &["start", "it"]).code, 0);
    cluster.ready("it@n1");
    assert_eq!(cluster.problem("events"), None);
    wait("events to be written again", || cluster.event_on_disk("n1", "it@n1", "ready"));
    assert_eq!(cluster.ready("other@n1"), other);
}

#[test]
fn on_a_state_disk_that_has_become_read_only_what_ends_is_started_again_and_a_new_agent_takes_over() {
    let disk = Disk::ext4();
    let mut cluster = two_on(&disk, "state", "ro");
    cluster.start("n1");
    let other = cluster.ready("other@n1");
    disk.fail();
    let first = cluster.crash("it@n1");
    let said = wait("it to be said", || cluster.problem("events are kept in memory only"));
    assert!(said.contains("Read-only file system"), "{said}");
    let events = cluster.ctl("n1", &["events", "it"]).text();
    assert!(
        events.contains(
            "Read-only file system (os error 30); it is started all the same, and what it prints is lost"
        ),
        "{events}"
    );
    cluster.kill("n1");
    cluster.start("n1");
    assert_eq!(cluster.ready("it@n1"), first, "the new agent finds it");
    assert_eq!(cluster.ready("other@n1"), other);
    cluster.crash("it@n1");
    let stop = cluster.ctl("n1", &["stop", "it"]);
    assert!(stop.text().contains("the disk did not take the wish: it is done"), "{stop:?}");
    rests(&cluster);
}

#[test]
fn a_state_disk_that_hangs_holds_up_nobody() {
    let disk = Disk::ext4();
    let mut cluster = two_on(&disk, "state", "slow");
    cluster.start("n1");
    let other = cluster.ready("other@n1");
    cluster.ready("it@n1");
    let frozen = disk.freeze();
    cluster.crash("it@n1");
    let said = wait("it to be said", || cluster.problem("has not answered"));
    assert!(
        said.contains("events are kept in memory, and orders will not survive a reboot until it does"),
        "{said}"
    );
    // It answers at once, restarts, and stops; what has to be on the disk says that it is not.
    let begun = Instant::now();
    cluster.status("n1").unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{} ms", begun.elapsed().as_millis());
    let stop = cluster.ctl("n1", &["stop", "it"]);
    assert!(stop.text().contains("the disk did not take the wish: it is done"), "{stop:?}");
    let file = fs::read_to_string(cluster.file()).unwrap();
    fs::write(cluster.file(), format!("{file}more = {{ on = \"n1\", unit = \"it\" }}\n")).unwrap();
    let reload = cluster.ctl("n1", &["reload", "n1"]);
    assert!(reload.text().contains("cannot be kept aside as the last good one: the disk of"), "{reload:?}");
    assert_eq!(cluster.event_on_disk("n1", "it@n1", "stopped"), None, "nothing is on the disk yet");
    let begun = Instant::now();
    let audit = cluster.ctl("n1", &["audit"]);
    assert!(audit.text().contains("the disk did not answer within 3 s"), "{audit:?}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    rests(&cluster);

    drop(frozen);
    wait("the events to be on the disk", || cluster.event_on_disk("n1", "it@n1", "stopped"));
    let audit = cluster.ctl("n1", &["audit"]);
    assert!(audit.out.contains("stop it@n1") && audit.out.contains("n1: intact"), "{audit:?}");
    wait("the problem to be over", || cluster.problem("has not answered").is_none().then_some(()));
    assert_eq!(cluster.ctl("n1", &["reload", "n1"]).code, 0);
    cluster.ready("more@n1");
    assert_eq!(cluster.ready("other@n1"), other);
    // The hold that was ordered meanwhile is kept.
    cluster.kill("n1");
    cluster.start("n1");
    wait("it to be held still", || cluster.in_state("n1", "it@n1", "stopped"));
}

#[test]
fn a_stop_does_not_wait_for_the_disk_that_is_to_keep_it() {
    let disk = Disk::ext4();
    let mut cluster = two_on(&disk, "state", "unkept");
    let mut agent = cluster.agent("n1");
    agent.env("CLUSTERD_DIE_AT", format!("{}:1", Done::Signalled));
    cluster.start_as("n1", agent);
    let first = cluster.ready("it@n1");
    let log = || fs::read_to_string(cluster.node("n1").join("agent.log")).unwrap();
    let died = format!("died at {}", Done::Signalled);
    let frozen = disk.freeze();
    let stop = std::thread::scope(|threads| {
        let stop = threads.spawn(|| cluster.ctl("n1", &["stop", "it"]));
        wait("the agent to have sent the signal, and to die of that", || log().contains(&died).then_some(()));
        // Its clerk waits for the disk, and holds up its end until then.
        drop(frozen);
        stop.join().unwrap()
    });
    assert!(!log().contains("the disk of the state folder does not answer"), "it was waited for: {}", log());
    assert_ne!(stop.code, 0, "nothing is promised: {stop:?}");
    wait("the agent's end", || cluster.ended("n1"));
    // What was not promised need not be kept: the next agent ends the stop, and does by the wish that it finds.
    cluster.start("n1");
    wait("the first one to be gone", || (!PathBuf::from(format!("/proc/{first}")).exists()).then_some(()));
    assert_eq!(cluster.ctl("n1", &["start", "it"]).code, 0);
    assert_ne!(cluster.ready("it@n1"), first);
}

#[test]
fn an_order_that_waits_for_the_disk_does_not_hold_up_the_agent() {
    let disk = Disk::ext4();
    let mut cluster = two_on(&disk, "state", "unanswered");
    cluster.start("n1");
    cluster.ready("it@n1");
    let frozen = disk.freeze();
    let stop = std::thread::scope(|threads| {
        let stop = threads.spawn(|| cluster.ctl("n1", &["stop", "it"]));
        wait("it to be stopped", || cluster.in_state("n1", "it@n1", "stopped"));
        drop(frozen);
        stop.join().unwrap()
    });
    assert!(stop.err.contains("it@n1 stopped and held"), "{stop:?}");
    // However long all this took: before the order's patience was at its end.
    let log = fs::read_to_string(cluster.node("n1").join("agent.log")).unwrap();
    let impatient = log.find("the disk of the state folder does not answer").unwrap_or(usize::MAX);
    assert!(log.find("it@n1 stopped: ").unwrap() < impatient, "{log}");
}

#[test]
fn where_the_run_folder_is_full_nothing_is_started_and_it_is_when_there_is_room() {
    let disk = Disk::memory("1m");
    let mut cluster = two_on(&disk, "run", "run-full");
    cluster.start("n1");
    let other = cluster.ready("other@n1");
    cluster.ready("it@n1");
    disk.fill();
    // What fits into the last page of its file is written still, and may be enough for a start or two.
    let mut killed = Vec::new();
    let said = wait("the start to be refused", || {
        if let Some(it) = cluster.pid_if("n1", "it@n1", "ready").filter(|it| !killed.contains(it)) {
            end(it);
            killed.push(it);
        }
        cluster.reason_with("it@n1", "backoff", "the journal in")
    });
    assert!(said.contains("cannot be written") && said.contains("No space left on device"), "{said}");
    rests(&cluster);
    let starts = || cluster.view("n1", "it@n1")?["starts"].as_u64();
    let so_far = starts().unwrap();
    wait("more refusals", || (starts()? > so_far + 2).then_some(()));
    assert_eq!(cluster.view("n1", "it@n1").unwrap()["failures"], killed.len(), "the kills only");
    disk.make_room();
    cluster.ready("it@n1");
    assert_eq!(cluster.ready("other@n1"), other);
}

#[test]
fn without_a_process_to_be_had_nothing_is_started_and_it_is_when_there_is_one() {
    let group = PidsGroup::new("none");
    let mut cluster = two_of("pids", QUIET);
    cluster.start("n1");
    let other = cluster.ready("other@n1");
    let it = cluster.ready("it@n1");
    group.take(cluster.agent_pid());
    group.limit("1");
    end(it);
    let said = wait("the start to be refused", || cluster.reason_with("it@n1", "backoff", "cannot fork"));
    assert!(
        said.contains(&format!("the cgroup {} is full (pids.max is 1)", group.path().display())),
        "{said}"
    );
    rests(&cluster);
    group.limit("max");
    cluster.ready("it@n1");
    assert_eq!(cluster.ready("other@n1"), other);
}

#[test]
fn without_a_file_descriptor_left_a_crash_is_seen_and_mended_when_there_are_some() {
    let mut cluster = two_of("nofile", QUIET);
    cluster.start("n1");
    let other = cluster.ready("other@n1");
    let it = cluster.ready("it@n1");
    let agent = cluster.agent_pid();
    let before = room::descriptors(agent, 10);
    end(it);
    // It cannot even look whether something of it still runs: in doubt nothing is started.
    wait("that to be said", || {
        let told = "it@n1 doubt: cannot look for its processes: Too many open files";
        cluster.log().contains(told).then_some(())
    });
    // Somebody knocks all the while, and cannot be let in.
    let _waits: Vec<_> = (0..20).map(|_| TcpStream::connect((cluster.address(1).as_str(), 7117))).collect();
    let _knocks = std::os::unix::net::UnixStream::connect(cluster.run("n1").join("clusterd.sock")).unwrap();
    wait("that to be said", || {
        cluster.log().contains("cannot accept connections, and tries again").then_some(())
    });
    rests(&cluster);
    assert!(cluster.log().matches("cannot accept connections").count() <= 2, "said once by each listener");
    room::descriptors(agent, before);
    cluster.ready("it@n1");
    assert_eq!(cluster.ready("other@n1"), other);
}

#[test]
fn a_flood_of_connections_leaves_descriptors_for_services() {
    let mut cluster = two_of("flood", QUIET);
    cluster.start_with_descriptors("n1", 64);
    cluster.ready("it@n1");
    let flood: Vec<_> =
        (0..100).map(|_| TcpStream::connect((cluster.address(1).as_str(), 7117)).unwrap()).collect();
    cluster.crash("it@n1");
    let open = fs::read_dir(format!("/proc/{}/fd", cluster.agent_pid())).unwrap().count();
    assert!(open < 50, "{open} descriptors with {} connections", flood.len());
}

#[test]
fn a_fork_bomb_within_its_limit_does_not_take_the_agent_along_and_a_stop_ends_it() {
    let group = PidsGroup::new("bomb");
    group.limit("100");
    let script = format!("echo $$ > {}/cgroup.procs; exec perl -e 'fork while 1'", group.path().display());
    let bomb = format!(
        "[run]\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n[ready]\nprobe = {{ kind = \"running\", for = \"10ms\" }}\n[stop]\n\
         timeout = \"100ms\"\n[restart]\nlimit = 1\n"
    );
    let mut cluster = two_of("bomb", QUIET);
    cluster.write(&fs::read_to_string(cluster.file()).unwrap(), &[("it", &bomb)]);
    cluster.start("n1");
    let other = cluster.ready("other@n1");
    wait("the bomb to have reached its limit", || (group.count() == 100).then_some(()));
    let begun = Instant::now();
    cluster.status("n1").unwrap();
    let answered = begun.elapsed();
    assert!(answered < Duration::from_secs(5), "{} ms beside the bomb", answered.as_millis());
    cluster.crash("other@n1");
    let again = begun.elapsed();
    assert!(again < Duration::from_secs(10), "{} ms beside the bomb", again.as_millis());
    assert_ne!(cluster.ready("other@n1"), other);
    let stop = cluster.ctl("n1", &["stop", "it"]);
    assert_eq!(stop.code, 0, "{stop:?}");
    wait("all of it to be gone", || (group.count() == 0).then_some(()));
    cluster.in_state("n1", "it@n1", "stopped").unwrap();
}

#[test]
fn what_fails_on_damaged_data_is_given_up_with_its_last_words() {
    let unit = "[run]\ncommand = [\"/bin/sh\", \"-c\", \"echo >>DIR/starts; echo page 4711 is damaged; exit 3\"]\n[restart]\ndelay = \
                \"10ms\"\nlimit = 4\n";
    let mut cluster = two_of("damaged", QUIET);
    cluster.write(&fs::read_to_string(cluster.file()).unwrap(), &[("it", unit)]);
    cluster.start("n1");
    let said = wait("it to be given up", || cluster.reason_with("it@n1", "failed", "gave up"));
    assert_eq!(said, "gave up after 4 failures: exit code 3; last words: page 4711 is damaged");
    let starts = fs::read_to_string(cluster.dir().join("starts")).unwrap().lines().count();
    assert_eq!(starts, 4);
    assert!(cluster.ctl("n1", &["why", "it@n1"]).text().contains("page 4711 is damaged"));
}
