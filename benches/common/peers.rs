//! Supervisors side by side: clusterd, and others where they are installed. Each holds the same services, and is told to
//! start all and to stop all by the quickest way that it offers.

use super::agents::Cluster;
use super::program::{shown, wait_for};
use clusterd::api::wire::Verb;
use clusterd::engine::view::StateName;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The descriptor on which a service says that it is ready.
pub const READY_FD: i32 = 3;

/// A service of the bench.
pub struct Service {
    pub label: String,
    pub command: Vec<String>,
    /// It is to be started when this one has said that it is ready, and says so itself by a newline.
    pub chained: bool,
}

/// One that holds a set of services. Dropping it kills it and them.
pub trait Supervisor {
    fn name(&self) -> &'static str;
    /// Tells it to start all of them; some return when it is ordered, others when it is done.
    fn start(&mut self);
    /// Tells it to stop all of them, likewise.
    fn stop(&mut self);
    /// Waits until it has taken note that all are stopped.
    fn settle(&mut self) {}
    /// The command that shows the state of all of them.
    fn status(&self) -> Option<Command>;
    /// Its own processes.
    fn pids(&mut self) -> Vec<i32>;
    /// When it had written down the last of so many stops, if it tells.
    fn stops_told(&mut self, _many: usize) -> Option<clusterd::facts::Moment> {
        None
    }
}

/// The supervisors that are there and can hold these services, ours first; each is laid out when it is asked for.
pub fn each<'a>(services: &'a [Service]) -> impl Iterator<Item = Box<dyn Supervisor>> + 'a {
    type Make = fn(&[Service]) -> Option<Box<dyn Supervisor>>;
    let makers: [Make; 5] = [
        |services| Some(Box::new(Ours::hold(services))),
        |services| Some(Box::new(Dinit::hold(&on_path("dinit")?, services))),
        |services| Some(Box::new(Scanned::hold(S6, services)?)),
        |services| Some(Box::new(Scanned::hold(RUNIT, services)?)),
        |services| Some(Box::new(Supervisord::hold(&on_path("supervisord")?, services))),
    ];
    // Only the first two know an order among services.
    let makers = makers.into_iter().take(if services.iter().any(|s| s.chained) { 2 } else { 5 });
    makers.filter_map(|make| make(services))
}

/// Says who is not there to be measured.
pub fn announce() {
    let peers = [
        ("dinit", "build it: github.com/davmac314/dinit"),
        (S6.scanner, "apt-get install s6"),
        (RUNIT.scanner, "apt-get install runit"),
        ("supervisord", "apt-get install supervisor"),
    ];
    for (program, how) in peers {
        if on_path(program).is_none() {
            println!("missing: {program} is not installed ({how}); its figures are left out\n");
        }
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("clusterd-peer-").tempdir().expect("a temporary folder")
}

/// A program that says nothing, in the background.
fn background(command: &mut Command) -> Child {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.spawn().expect("it is installed")
}

/// Runs a command to its end.
fn run(command: &mut Command) {
    let done = command.stdin(Stdio::null()).output().expect("it is installed");
    assert!(
        done.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// clusterd, told over its own socket.
pub struct Ours {
    pub cluster: Cluster,
    seen: u64,
}

impl Ours {
    /// All are stopped when this returns.
    fn hold(services: &[Service]) -> Ours {
        let mut cluster = Cluster::new("peer");
        cluster.node("left", "a");
        let mut before = None;
        for service in services {
            let (kind, ready, entry) = match (service.chained, before) {
                (false, _) => {
                    ("exec", "[ready]\nprobe = { kind = \"running\", for = \"5ms\" }\n", String::new())
                }
                (true, None) => ("notify", "", String::new()),
                (true, Some(before)) => ("notify", "", format!(", needs.{before} = \"same-node\"")),
            };
            let fd = if service.chained { format!("ready_fd = {READY_FD}\n") } else { String::new() };
            let unit = format!(
                "[run]\nkind = \"{kind}\"\ncommand = {:?}\n{fd}{ready}\
                 [restart]\ndelay = \"0s\"\nmax = \"0s\"\nlimit = 0\n",
                service.command
            );
            cluster.service(&service.label, &format!("on = \"a\"{entry}"), &unit);
            before = Some(service.label.as_str());
        }
        cluster.start_all();
        cluster.wait_all_up();
        Ours { cluster, seen: 0 }
    }
}

impl Supervisor for Ours {
    fn name(&self) -> &'static str {
        "clusterd"
    }

    fn start(&mut self) {
        self.cluster.order("a", Verb::Start, &[]);
    }

    fn stop(&mut self) {
        self.cluster.order("a", Verb::Stop, &[]);
    }

    fn settle(&mut self) {
        wait_for("all are stopped", || {
            let status = self.cluster.status("a");
            status.instances.iter().all(|i| i.state == StateName::Stopped).then_some(())
        });
    }

    fn status(&self) -> Option<Command> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clusterctl"));
        command.arg("status").arg("--socket").arg(self.cluster.socket("a"));
        Some(command)
    }

    fn pids(&mut self) -> Vec<i32> {
        vec![self.cluster.pid("a")]
    }

    fn stops_told(&mut self, many: usize) -> Option<clusterd::facts::Moment> {
        let events = self.cluster.events("a", self.seen);
        self.seen = events.last()?.seq;
        let stops = events.iter().filter(|e| e.what == "stopped");
        assert_eq!(stops.clone().count(), many, "each stop has its event");
        stops.map(|e| e.at).max()
    }
}

/// dinit, told by its own command.
struct Dinit {
    daemon: Child,
    control: PathBuf,
    folder: TempDir,
}

impl Dinit {
    fn hold(program: &Path, services: &[Service]) -> Dinit {
        let folder = folder();
        let write = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).expect("a folder of our own");
        };
        let mut all = String::from("type = internal\n");
        let mut before = None;
        for service in services {
            let mut text = format!(
                "type = process\ncommand = {}\nrestart = true\nrestart-delay = 0\nrestart-limit-count = 0\n\
                 smooth-recovery = true\n",
                service.command.join(" ")
            );
            if service.chained {
                let _ = writeln!(text, "ready-notification = pipefd:{READY_FD}");
            }
            if let Some(before) = before.filter(|_| service.chained) {
                let _ = writeln!(text, "depends-on: {before}");
            }
            write(&service.label, &text);
            let _ = writeln!(all, "depends-on: {}", service.label);
            before = Some(&service.label);
        }
        write("all", &all);
        write("boot", "type = internal\n");
        let socket = folder.path().join("socket");
        let mut command = Command::new(program);
        command.args(["--user", "--quiet", "--services-dir"]).arg(folder.path());
        let daemon = background(command.arg("--socket-path").arg(&socket));
        wait_for("dinit listens", || socket.exists().then_some(()));
        Dinit { daemon, control: program.with_file_name("dinitctl"), folder }
    }

    fn control(&self, verb: &[&str]) -> Command {
        let mut command = Command::new(&self.control);
        command.arg("--socket-path").arg(self.folder.path().join("socket")).args(verb);
        command
    }
}

impl Supervisor for Dinit {
    fn name(&self) -> &'static str {
        "dinit"
    }

    fn start(&mut self) {
        run(&mut self.control(&["start", "all"]));
    }

    fn stop(&mut self) {
        run(&mut self.control(&["stop", "all"]));
    }

    fn status(&self) -> Option<Command> {
        Some(self.control(&["list"]))
    }

    fn pids(&mut self) -> Vec<i32> {
        vec![self.daemon.id() as i32]
    }
}

impl Drop for Dinit {
    fn drop(&mut self) {
        run(&mut self.control(&["stop", "all"]));
        end(&mut self.daemon);
    }
}

/// Those with a supervisor for each service, and one that scans a folder for services: told by a letter in the pipe
/// of each.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    scanner: &'static str,
    /// Shows the state of all services whose folders are given.
    status: Option<&'static str>,
}

const S6: Kind = Kind { name: "s6", scanner: "s6-svscan", status: None };
const RUNIT: Kind = Kind { name: "runit", scanner: "runsvdir", status: Some("sv") };

struct Scanned {
    kind: Kind,
    scanner: Child,
    folder: TempDir,
    labels: Vec<String>,
}

impl Scanned {
    fn hold(kind: Kind, services: &[Service]) -> Option<Scanned> {
        let scanner = on_path(kind.scanner)?;
        let folder = folder();
        for service in services {
            let own = folder.path().join(&service.label);
            fs::create_dir(&own).expect("a folder of our own");
            let (program, rest) = service.command.split_first().expect("a program");
            let script = own.join("run");
            // No shell in between.
            fs::write(&script, format!("#!{program} {}\n", rest.join(" "))).expect("a folder of our own");
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("our own file");
            fs::write(own.join("down"), "").expect("a folder of our own");
        }
        let mut command = Command::new(scanner);
        if kind.name == S6.name {
            command.args(["-c", "2000"]);
        }
        let scanner = background(command.arg(folder.path()));
        let labels = services.iter().map(|s| s.label.clone()).collect();
        let held = Scanned { kind, scanner, folder, labels };
        wait_for("each service has its supervisor", || {
            held.labels.iter().all(|l| held.pipe(l).is_some()).then_some(())
        });
        Some(held)
    }

    /// The control pipe, once somebody listens to it.
    fn pipe(&self, label: &str) -> Option<fs::File> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.folder.path().join(label).join("supervise/control");
        fs::File::options().write(true).custom_flags(nix::libc::O_NONBLOCK).open(path).ok()
    }

    fn tell(&self, letters: &str) {
        use std::io::Write;
        for label in &self.labels {
            let mut pipe = self.pipe(label).expect("its supervisor lives");
            pipe.write_all(letters.as_bytes()).expect("its supervisor lives");
        }
    }
}

impl Supervisor for Scanned {
    fn name(&self) -> &'static str {
        self.kind.name
    }

    fn start(&mut self) {
        self.tell("u");
    }

    fn stop(&mut self) {
        self.tell("d");
    }

    fn status(&self) -> Option<Command> {
        let mut command = Command::new(self.kind.status?);
        command.arg("status").args(self.labels.iter().map(|l| self.folder.path().join(l)));
        Some(command)
    }

    fn pids(&mut self) -> Vec<i32> {
        let scanner = self.scanner.id() as i32;
        let list = fs::read_to_string(format!("/proc/{scanner}/task/{scanner}/children")).unwrap_or_default();
        let children = list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
        std::iter::once(scanner).chain(children).collect()
    }
}

impl Drop for Scanned {
    fn drop(&mut self) {
        // The scanner first: it would start the supervisors anew. These end when their service is down.
        end(&mut self.scanner);
        self.tell("dx");
        wait_for("the supervisors have ended", || {
            self.labels.iter().all(|l| self.pipe(l).is_none()).then_some(())
        });
    }
}

/// supervisord, told by its own command.
struct Supervisord {
    daemon: Child,
    control: PathBuf,
    folder: TempDir,
}

impl Supervisord {
    fn hold(program: &Path, services: &[Service]) -> Supervisord {
        let folder = folder();
        let at = shown(folder.path());
        let mut text = format!(
            "[supervisord]\nnodaemon = true\nuser = root\nminfds = 10000\nlogfile = /dev/null\nlogfile_maxbytes = 0\n\
             pidfile = {at}/pid\n[unix_http_server]\nfile = {at}/socket\n[supervisorctl]\n\
             serverurl = unix://{at}/socket\n[rpcinterface:supervisor]\n\
             supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
        );
        for service in services {
            let _ = write!(
                text,
                "[program:{}]\ncommand = {}\nautostart = false\nautorestart = true\nstartsecs = 0\n\
                 stdout_logfile = NONE\nstderr_logfile = NONE\n",
                service.label,
                service.command.join(" ")
            );
        }
        let file = folder.path().join("conf");
        fs::write(&file, text).expect("a folder of our own");
        let daemon = background(Command::new(program).arg("--configuration").arg(&file));
        let socket = folder.path().join("socket");
        wait_for("supervisord listens", || socket.exists().then_some(()));
        Supervisord { daemon, control: program.with_file_name("supervisorctl"), folder }
    }

    fn control(&self, verb: &[&str]) -> Command {
        let mut command = Command::new(&self.control);
        command.arg("--configuration").arg(self.folder.path().join("conf")).args(verb);
        command
    }
}

impl Supervisor for Supervisord {
    fn name(&self) -> &'static str {
        "supervisord"
    }

    fn start(&mut self) {
        run(&mut self.control(&["start", "all"]));
    }

    fn stop(&mut self) {
        run(&mut self.control(&["stop", "all"]));
    }

    fn status(&self) -> Option<Command> {
        Some(self.control(&["status"]))
    }

    fn pids(&mut self) -> Vec<i32> {
        vec![self.daemon.id() as i32]
    }
}

impl Drop for Supervisord {
    fn drop(&mut self) {
        run(&mut self.control(&["stop", "all"]));
        end(&mut self.daemon);
    }
}
