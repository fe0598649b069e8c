//! Leftovers on a real file system, with real processes behind the numbers.

mod processes;

use clusterd::facts::{Cleaned, Finding, Judgement};
use clusterd::leftover::{Context, Known, Mode, Outcome, clean};
use clusterd::model::{Ask, Probe, Question, Unit};
use clusterd::process::{Handle, Identity, Journalled, Spawn, Tree};
use processes::*;
use std::fs;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A yard with a unit whose program is a file of its own, so that no other test's process looks like it.
struct Scene {
    yard: Yard,
    unit: Unit,
    me: Known,
    others: Vec<Known>,
    journal: Option<Identity>,
}

impl Scene {
    fn new() -> Scene {
        Scene::running("/bin/sleep", &["1000"])
    }

    /// The unit's program is a copy of `program` under the name `redis-server`.
    fn running(program: &str, arguments: &[&str]) -> Scene {
        Scene::under_the_name("redis-server", program, arguments)
    }

    /// A program whose name no process has that another test starts.
    fn of_one_kind(name: &str) -> Scene {
        Scene::under_the_name(name, "/bin/sleep", &["1000"])
    }

    fn under_the_name(name: &str, program: &str, arguments: &[&str]) -> Scene {
        let yard = Yard::new();
        let copy = yard.path(name);
        copy_program(program, &copy);
        let mut unit = unit(&[copy.to_str().unwrap()]);
        unit.run.command.extend(arguments.iter().map(|a| a.to_string()));
        unit.run.pidfile = Some(yard.path("redis.pid"));
        let me = Known { instance: yard.instance.clone(), ..Known::default() };
        Scene { yard, unit, me, others: vec![], journal: None }
    }

    fn clean(&self, mode: Mode) -> Outcome {
        let journal = self.journal.clone().map_or(Journalled::Nothing, Journalled::Process);
        let ctx = Context {
            tree: &self.yard.tree,
            journal: &journal,
            me: &self.me,
            others: &self.others,
            keep: &self.yard.path("kept"),
        };
        clean(&ctx, &self.unit, mode)
    }

    fn pidfile(&self) -> PathBuf {
        self.yard.path("redis.pid")
    }

    fn write_pid(&self, pid: impl ToString) {
        fs::write(self.pidfile(), format!("{}\n", pid.to_string())).unwrap();
    }

    /// The same program, started by somebody else: no leaf, no marks.
    fn stranger(&self) -> Stranger {
        Stranger::start(Command::new(&self.unit.run.command[0]).args(&self.unit.run.command[1..]))
    }

    #[track_caller]
    fn expect_clear(&self, judgement: Judgement) -> Finding {
        let outcome = self.clean(Mode::Remove);
        let Cleaned::Clear { findings } = outcome.cleaned else { panic!("{outcome:?}") };
        let [finding] = <[Finding; 1]>::try_from(findings).unwrap();
        assert_eq!(finding.judgement, judgement, "{finding:?}");
        finding
    }

    #[track_caller]
    fn expect_doubt(&self) -> (Finding, Option<Handle>) {
        let outcome = self.clean(Mode::Remove);
        let Cleaned::Doubt { findings } = outcome.cleaned else { panic!("{outcome:?}") };
        let [finding] = <[Finding; 1]>::try_from(findings).unwrap();
        assert_eq!(finding.judgement, Judgement::Doubt);
        (finding, outcome.suspect)
    }

    #[track_caller]
    fn expect_alive(&self, pid: i32) -> Finding {
        let outcome = self.clean(Mode::Remove);
        let Cleaned::Alive { pid: found, findings } = outcome.cleaned else { panic!("{outcome:?}") };
        assert_eq!((found, outcome.main.unwrap().pid()), (pid, pid));
        findings.into_iter().find(|f| f.judgement == Judgement::Alive).unwrap()
    }
}

/// By a process of its own: were the copy open for writing here, a fork of another test could carry that into its
/// child for a moment, and executing the copy would fail as "busy".
fn copy_program(from: &str, to: &Path) {
    assert!(Command::new("/bin/cp").arg(from).arg(to).status().unwrap().success());
}

/// A process that clusterd did not start. It is killed at the end.
struct Stranger(Child);

impl Stranger {
    fn start(command: &mut Command) -> Stranger {
        let child = Stranger(command.stdout(Stdio::null()).spawn().unwrap());
        wait_for("its exec", || {
            let exe = fs::read_link(format!("/proc/{}/exe", child.pid()));
            let me = std::env::current_exe().unwrap();
            exe.as_ref().is_ok_and(|e| *e != me).then_some(()).ok_or(exe)
        });
        child
    }

    fn sleep() -> Stranger {
        Stranger::start(Command::new("/bin/sleep").arg("1000"))
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Closes a socket. A child that another test makes at this moment has a copy until its exec.
fn close(socket: impl AsRawFd, path: &Path) {
    drop(socket);
    wait_for("nobody to answer", || {
        let stream = UnixStream::connect(path).map(drop);
        let datagram = UnixDatagram::unbound().and_then(|own| own.connect(path));
        if stream.is_err() && datagram.is_err() { Ok(()) } else { Err((stream, datagram)) }
    });
}

/// A number that no process has: that of a child that is dead and reaped. (Numbers are given out in turn, so it
/// does not come back within a test.)
fn dead_number() -> u32 {
    let mut child = Command::new("/bin/true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

#[test]
fn without_leftovers_the_way_is_clear() {
    let outcome = Scene::new().clean(Mode::Remove);
    assert_eq!(outcome.cleaned, Cleaned::Clear { findings: vec![] });
}

#[test]
fn what_holds_no_living_number_is_removed_and_a_copy_is_kept() {
    let scene = Scene::new();
    let dead = dead_number().to_string();
    for (content, says) in [
        ("", "is empty"),
        ("\0\0\0\0", "holds no number"),
        ("garbage", "holds no number but \"garbage\""),
        ("-1\n", "holds -1"),
        ("99999999\n", "holds 99999999"),
        (dead.as_str(), "and no such process exists"),
    ] {
        fs::write(scene.pidfile(), content).unwrap();
        let looked = scene.clean(Mode::Look);
        assert!(scene.pidfile().exists(), "a look removes nothing");
        let finding = scene.expect_clear(Judgement::Stale);
        assert!(finding.evidence.contains(says), "{finding:?}");
        assert!(!scene.pidfile().exists());
        assert_eq!(fs::read_to_string(finding.kept.as_ref().unwrap()).unwrap(), content);
        let same = Finding { kept: None, ..finding };
        assert_eq!(looked.cleaned, Cleaned::Clear { findings: vec![same] });
    }
}

#[test]
fn a_file_written_before_the_boot_is_called_so() {
    let scene = Scene::new();
    scene.write_pid(dead_number());
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    fs::File::options().write(true).open(scene.pidfile()).unwrap().set_modified(long_ago).unwrap();
    assert!(scene.expect_clear(Judgement::Stale).evidence.ends_with("; the file is older than this boot"));

    let kernel = fs::read_to_string("/proc/stat").unwrap();
    let boot = kernel.lines().find_map(|l| l.strip_prefix("btime ")).unwrap().trim().parse().unwrap();
    let boot = std::time::UNIX_EPOCH + std::time::Duration::from_secs(boot);
    scene.write_pid(dead_number());
    fs::File::options().write(true).open(scene.pidfile()).unwrap().set_modified(boot).unwrap();
    assert!(scene.expect_clear(Judgement::Stale).evidence.ends_with("and no such process exists"));
}

/// Makes what stands at the second path; the first is a file outside, which is not to be touched.
type Make = fn(&Path, &Path);

fn run(words: &[&std::ffi::OsStr]) {
    assert!(Command::new(words[0]).args(&words[1..]).status().unwrap().success(), "{words:?}");
}

#[test]
fn what_is_no_plain_file_is_refused_and_stays() {
    let mut scene = Scene::new();
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("target");
    let secret = format!("{}\n", dead_number());
    fs::write(&target, &secret).unwrap();
    let path = scene.yard.path("odd");
    let make: [(Make, &str); 7] = [
        (|t, p| std::os::unix::fs::symlink(t, p).unwrap(), "a symlink"),
        (|_, p| std::os::unix::fs::symlink("/proc/self/odd", p).unwrap(), "a symlink"),
        (|t, p| fs::hard_link(t, p).unwrap(), "a file with a second name (a hard link)"),
        (|_, p| fs::create_dir(p).unwrap(), "a folder"),
        // Opening one would wait for a writer for ever.
        (|_, p| nix::unistd::mkfifo(p, nix::sys::stat::Mode::S_IRWXU).unwrap(), "a pipe"),
        (
            |_, p| run(&["mknod".as_ref(), p.as_os_str(), "c".as_ref(), "1".as_ref(), "5".as_ref()]),
            "a device",
        ),
        // A terabyte of holes: read whole it would take minutes, and its copy would not fit.
        (|_, p| fs::File::create(p).unwrap().set_len(1 << 40).unwrap(), "a file of more than 64 KiB"),
    ];
    for (make, what) in make {
        for place in ["the pid file", "a further pid file", "a lock"] {
            make(&target, &path);
            scene.unit.run.pidfile = None;
            scene.unit.leftovers = Default::default();
            match place {
                "the pid file" => scene.unit.run.pidfile = Some(path.clone()),
                "a lock" => scene.unit.leftovers.locks = vec![path.clone()],
                _ => scene.unit.leftovers.pidfiles = vec![path.clone()],
            }
            let before = path.symlink_metadata().unwrap();
            let finding = scene.expect_clear(Judgement::Refused);
            assert_eq!(
                finding.evidence,
                format!("{} is {what}; it is not touched", path.display()),
                "{place}"
            );
            let after = path.symlink_metadata().unwrap();
            assert_eq!((before.ino(), before.mtime()), (after.ino(), after.mtime()), "{what}: {place}");
            assert_eq!(fs::read_to_string(&target).unwrap(), secret);
            assert!(finding.kept.is_none() && !scene.yard.path("kept").exists());
            if after.is_dir() { fs::remove_dir(&path).unwrap() } else { fs::remove_file(&path).unwrap() }
        }
    }
}

#[test]
fn a_socket_in_the_place_of_a_file_and_a_file_in_that_of_a_socket_are_refused() {
    let mut scene = Scene::new();
    let path = scene.yard.path("odd");
    close(UnixListener::bind(&path).unwrap(), &path);
    scene.unit.run.pidfile = Some(path.clone());
    assert!(scene.expect_clear(Judgement::Refused).evidence.contains("is a socket"));
    scene.unit.run.pidfile = None;
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    scene.unit.leftovers.sockets = vec![path.clone()];
    assert!(scene.expect_clear(Judgement::Refused).evidence.contains("is a plain file, not a socket"));
    assert!(path.exists());
}

#[test]
fn a_path_that_leads_into_the_systems_folders_is_refused() {
    let mut scene = Scene::new();
    let link = scene.yard.path("link");
    std::os::unix::fs::symlink("/etc", &link).unwrap();
    let up = "../".repeat(10);
    for path in [
        PathBuf::from("/proc/version"),
        link.join("passwd"),
        scene.yard.path(&format!("{up}etc/passwd")),
        PathBuf::from("/dev/null"),
    ] {
        scene.unit.run.pidfile = Some(path.clone());
        let finding = scene.expect_clear(Judgement::Refused);
        assert!(finding.evidence.ends_with("where nothing is ever removed"), "{finding:?}");
        assert!(path.exists());
    }
}

#[test]
fn a_mount_point_cannot_be_removed_and_blocks() {
    use nix::mount::{MsFlags, mount};
    // In a mount namespace of a thread's own.
    let judged = std::thread::spawn(|| {
        let scene = Scene::new();
        scene.write_pid(dead_number());
        let other = scene.yard.path("other");
        fs::write(&other, format!("{}\n", dead_number())).unwrap();
        let none = None::<&str>;
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("this test needs root");
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some(&other), &scene.pidfile(), none, MsFlags::MS_BIND, none).unwrap();
        let (finding, _) = scene.expect_doubt();
        assert!(scene.pidfile().exists() && other.exists());
        nix::mount::umount(&scene.pidfile()).unwrap();
        finding
    });
    let judged = judged.join().unwrap();
    assert!(judged.evidence.contains("cannot remove it") && judged.kept.is_none(), "{judged:?}");
}

#[test]
fn a_pid_file_that_somebody_holds_open_is_in_doubt() {
    let scene = Scene::new();
    scene.write_pid(dead_number());
    let open = OwnedFd::from(fs::File::open(scene.pidfile()).unwrap());
    let holder = Stranger::start(Command::new("/bin/sleep").arg("1000").stdin(Stdio::from(open)));
    let (finding, suspect) = scene.expect_doubt();
    assert!(
        finding.evidence.contains(&format!("is held open by {}, which is sleep", holder.pid())),
        "{finding:?}"
    );
    assert_eq!(suspect.unwrap().pid(), holder.pid());
    drop(holder);
    scene.expect_clear(Judgement::Stale);
}

#[test]
fn a_folder_that_is_a_symlink_is_resolved_as_var_run_is() {
    let mut scene = Scene::new();
    scene.write_pid(dead_number());
    let link = scene.yard.path("link");
    std::os::unix::fs::symlink(scene.yard.dir.path(), &link).unwrap();
    scene.unit.run.pidfile = Some(link.join("redis.pid"));
    scene.expect_clear(Judgement::Stale);
    assert!(!scene.pidfile().exists());
}

#[test]
fn a_path_that_cannot_be_looked_at_is_not_taken_for_empty() {
    let mut scene = Scene::new();
    let circle = scene.yard.path("circle");
    std::os::unix::fs::symlink(&circle, &circle).unwrap();
    let path = circle.join("redis.pid");
    scene.unit.run.pidfile = Some(path.clone());
    let (finding, _) = scene.expect_doubt();
    assert!(
        finding.evidence.starts_with(&format!("{} cannot be looked at: ", path.display())),
        "{finding:?}"
    );
}

#[test]
fn a_zombie_is_dead_and_a_thread_is_no_process() {
    let scene = Scene::new();
    let mut child = Command::new("/bin/true").spawn().unwrap();
    let stat = format!("/proc/{}/stat", child.id());
    wait_for("a zombie", || {
        let stat = fs::read_to_string(&stat).unwrap();
        stat.contains(") Z ").then_some(()).ok_or(stat)
    });
    scene.write_pid(child.id());
    assert!(scene.expect_clear(Judgement::Stale).evidence.contains("a zombie"));
    child.wait().unwrap();

    let (tell, hear) = std::sync::mpsc::channel();
    let (stop, until) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        tell.send(nix::unistd::gettid()).unwrap();
        let _ = until.recv();
    });
    scene.write_pid(hear.recv().unwrap());
    let says = format!("which is a thread of process {} and no process", std::process::id());
    assert!(scene.expect_clear(Judgement::Stale).evidence.contains(&says));
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn a_reused_number_frees_the_way_and_its_process_is_left_alone() {
    let scene = Scene::new();
    let mut stranger = Stranger::sleep();
    scene.write_pid(stranger.pid());
    let finding = scene.expect_clear(Judgement::Stale);
    let (path, pid) = (scene.pidfile().display().to_string(), stranger.pid());
    assert_eq!(
        finding.evidence,
        format!(
            "{path} names {pid}, which is sleep (started by somebody else), not redis-server: the number was \
             reused; sleep is left alone"
        )
    );
    assert!(!scene.pidfile().exists() && stranger.is_alive());
    scene.write_pid(std::process::id());
    scene.expect_clear(Judgement::Stale);
}

#[test]
fn a_kernel_thread_is_somebody_else() {
    let kthreadd = fs::read_to_string("/proc/2/comm").unwrap_or_default();
    if kthreadd.trim() != "kthreadd" {
        return; // a pid namespace without kernel threads; the table test of the judge covers the rule
    }
    let scene = Scene::new();
    scene.write_pid(2);
    assert!(scene.expect_clear(Judgement::Stale).evidence.contains("the kernel's own thread kthreadd"));
}

#[test]
fn the_right_program_without_a_tie_blocks_until_it_exits() {
    let scene = Scene::new();
    let mut stranger = scene.stranger();
    scene.write_pid(stranger.pid());
    let (finding, suspect) = scene.expect_doubt();
    assert!(finding.evidence.contains("which is redis-server, as this instance could be"), "{finding:?}");
    assert!(scene.pidfile().exists() && stranger.is_alive());
    let suspect = suspect.expect("the process to watch");
    assert_eq!(suspect.pid(), stranger.pid());
    stranger.0.kill().unwrap();
    assert!(suspect.wait(SOON).unwrap());
    scene.expect_clear(Judgement::Stale);
}

#[test]
fn an_upgraded_executable_blocks() {
    let scene = Scene::new();
    let stranger = scene.stranger();
    scene.write_pid(stranger.pid());
    let program = Path::new(&scene.unit.run.command[0]);
    fs::remove_file(program).unwrap();
    copy_program("/bin/sleep", program);
    assert!(scene.expect_doubt().0.evidence.contains("deleted or replaced since it started"));
}

#[test]
fn another_name_of_the_program_is_the_program() {
    let scene = Scene::new();
    let second = scene.yard.path("redis-check-rdb");
    fs::hard_link(&scene.unit.run.command[0], &second).unwrap();
    let mut stranger = Stranger::start(Command::new(&second).arg("1000"));
    scene.write_pid(stranger.pid());
    assert!(scene.expect_doubt().0.evidence.contains("which is redis-check-rdb, as this instance could be"));
    assert!(stranger.is_alive());
}

#[test]
fn a_script_blocks_unless_the_unit_lists_what_it_leads_to() {
    let mut scene = Scene::new();
    let program = PathBuf::from(&scene.unit.run.command[0]);
    fs::write(&program, "#!/bin/sh\n").unwrap();
    let stranger = Stranger::sleep();
    scene.write_pid(stranger.pid());
    assert!(scene.expect_doubt().0.evidence.contains("run.executables"));
    scene.unit.run.executables = vec!["java".into()];
    scene.expect_clear(Judgement::Stale);
}

#[test]
fn the_process_of_another_instance_or_agent_is_not_ours() {
    let scene = Scene::new();
    let other = scene.yard.spawn_as(&scene.unit, "other@here").unwrap();
    scene.write_pid(other.pid());
    assert!(scene.expect_clear(Judgement::Stale).evidence.contains("of other@here (it "));
    assert!(other.is_alive());

    let neighbour = Yard::new();
    let theirs = neighbour.spawn_as(&scene.unit, &scene.yard.instance).unwrap();
    scene.write_pid(theirs.pid());
    let finding = scene.expect_clear(Judgement::Stale);
    let says = format!("of thing@here (of the agent {})", neighbour.tree.agent());
    assert!(finding.evidence.contains(&says), "{finding:?}");
    assert!(theirs.is_alive());
}

const LISTEN: &str = r#"
    use IO::Socket::INET;
    my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => $ARGV[0]) or die;
    open(F, ">", "$ARGV[1].new"); print F $s->sockport, "\n"; close(F); rename("$ARGV[1].new", $ARGV[1]);
    sleep 1000;
"#;

/// A program that listens, started by somebody else; gives back its port.
fn listening(address: &str) -> (Scene, Stranger, u16) {
    let mut scene = Scene::running("/usr/bin/perl", &["-e", LISTEN, address]);
    scene.unit.run.command.push(scene.yard.path("port").display().to_string());
    let stranger = scene.stranger();
    let port = wait_for_line(&scene.yard.path("port")).parse().unwrap();
    (scene, stranger, port)
}

#[test]
fn who_listens_where_we_do_is_ours() {
    let (mut scene, stranger, port) = listening("127.0.0.1:0");
    scene.write_pid(stranger.pid());
    scene.expect_doubt();
    scene.me.listens = vec![SocketAddr::from(([127, 0, 0, 1], port))];
    let finding = scene.expect_alive(stranger.pid());
    assert!(finding.evidence.ends_with(&format!("it listens on 127.0.0.1:{port}")), "{finding:?}");
    assert!(scene.pidfile().exists());
}

#[test]
fn who_listens_where_another_instance_does_is_its() {
    let (mut scene, mut stranger, port) = listening("127.0.0.1:0");
    scene.write_pid(stranger.pid());
    let listens = vec![SocketAddr::from(([127, 0, 0, 1], port))];
    scene.others = vec![Known { instance: "redis-b@here".into(), listens, folders: vec![] }];
    scene.me.listens = vec![SocketAddr::from(([127, 0, 0, 2], port))];
    assert!(scene.expect_clear(Judgement::Stale).evidence.contains("of redis-b@here"));
    assert!(stranger.is_alive());
}

#[test]
fn who_listens_at_another_address_of_our_port_is_not_tied_to_us() {
    let (mut scene, stranger, port) = listening("127.0.0.1:0");
    scene.write_pid(stranger.pid());
    scene.me.listens = vec![SocketAddr::from(([127, 0, 0, 2], port))];
    assert!(scene.expect_doubt().0.evidence.contains("nothing tells whose it is"));
}

#[test]
fn who_listens_everywhere_as_we_do_is_ours_alone() {
    let (mut scene, stranger, port) = listening("0.0.0.0:0");
    scene.write_pid(stranger.pid());
    scene.me.listens = vec![SocketAddr::from(([0, 0, 0, 0], port))];
    let listens = vec![SocketAddr::from(([127, 0, 0, 2], port))];
    scene.others = vec![Known { instance: "redis-b@here".into(), listens, folders: vec![] }];
    scene.expect_alive(stranger.pid());
}

#[test]
fn an_instance_listens_where_its_unit_asks() {
    let ask = |address: &str| Question { ask: Ask::Tcp { address: address.parse().unwrap() }, timeout: SOON };
    let mut unit = unit(&["/usr/bin/redis-server"]);
    assert_eq!(Known::of("redis@here", &unit).listens, []);
    unit.ready.local = Probe::Ask(ask("127.0.0.1:6379"));
    unit.ready.remote = Some(ask("10.0.0.1:6379"));
    let known = Known::of("redis@here", &unit);
    assert_eq!(known.instance, "redis@here");
    assert_eq!(known.listens, ["127.0.0.1:6379".parse().unwrap(), "10.0.0.1:6379".parse().unwrap()]);
}

#[test]
fn who_listens_everywhere_may_be_either() {
    let (mut scene, stranger, port) = listening("0.0.0.0:0");
    scene.write_pid(stranger.pid());
    scene.me.listens = vec![SocketAddr::from(([127, 0, 0, 1], port))];
    scene.expect_alive(stranger.pid());
    let listens = vec![SocketAddr::from(([127, 0, 0, 2], port))];
    scene.others = vec![Known { instance: "redis-b@here".into(), listens, folders: vec![] }];
    assert!(scene.expect_doubt().0.evidence.contains("claimed by two"));
}

/// A data folder, and a process of the unit's program that somebody else has started on it: it has a file there open.
fn working_in_our_folder(scene: &Scene) -> (PathBuf, PathBuf, Stranger) {
    let data = scene.yard.path("data");
    fs::create_dir(&data).unwrap();
    let path = data.join("dump.rdb");
    let file = fs::File::create(&path).unwrap();
    let stranger =
        Stranger::start(Command::new(&scene.unit.run.command[0]).arg("1000").stdin(Stdio::from(file)));
    (data, path, stranger)
}

#[test]
fn an_open_data_folder_is_a_tie() {
    let mut scene = Scene::new();
    let (data, _, stranger) = working_in_our_folder(&scene);
    scene.write_pid(stranger.pid());
    scene.expect_doubt();
    scene.me.folders = vec![data];
    scene.expect_alive(stranger.pid());
}

#[test]
fn what_only_a_further_pid_file_leads_to_may_be_the_main_process() {
    let mut scene = Scene::new();
    let (data, _, mut stranger) = working_in_our_folder(&scene);
    scene.write_pid(stranger.pid());
    scene.unit.leftovers.pidfiles = scene.unit.run.pidfile.take().into_iter().collect();
    scene.me.folders = vec![data];
    scene.expect_alive(stranger.pid());
    assert!(stranger.is_alive() && scene.pidfile().exists());
}

#[test]
fn whoever_holds_our_lock_and_is_ours_is_adopted() {
    let mut scene = Scene::new();
    let (data, lock, mut stranger) = working_in_our_folder(&scene);
    scene.unit.leftovers.locks = vec![lock.clone()];
    scene.expect_doubt();
    scene.me.folders = vec![data];
    let finding = scene.expect_alive(stranger.pid());
    assert!(finding.evidence.starts_with(&format!("{} is held by", lock.display())), "{finding:?}");
    assert!(stranger.is_alive() && lock.exists());
}

#[test]
fn the_journalled_process_is_ours_and_one_with_its_number_is_not() {
    let mut scene = Scene::new();
    let mut stranger = scene.stranger();
    scene.journal = Some(Handle::open(stranger.pid()).unwrap().identity().clone());
    let finding = scene.expect_alive(stranger.pid()); // with no pid file at all
    let says = format!("redis-server ({}) lives: boot, pid and start time are as journalled", stranger.pid());
    assert_eq!(finding.evidence, says);
    scene.write_pid(stranger.pid());
    scene.expect_alive(stranger.pid());

    scene.journal.as_mut().unwrap().start -= 1;
    let finding = scene.expect_clear(Judgement::Stale);
    assert!(finding.evidence.contains("started at another time than the journalled redis-server"));
    assert!(stranger.is_alive());
}

#[test]
fn a_main_process_without_a_journal_is_found_by_its_tree() {
    for by_file in [true, false] {
        let mut scene = Scene::new();
        let main = scene.yard.spawn(&scene.unit).unwrap();
        if by_file {
            scene.write_pid(main.pid());
        } else {
            scene.unit.run.pidfile = None;
        }
        scene.expect_alive(main.pid());
        assert!(main.is_alive());
    }
}

#[test]
fn what_outlived_its_main_process_is_killed_before_the_next_start() {
    for tree in [Tree::locate(&tag()), Tree::marks_only(&tag())] {
        let mut scene = Scene::new();
        scene.yard.tree.dismantle();
        scene.yard.tree = tree;
        let pidfile = scene.pidfile().display().to_string();
        let worker = scene.yard.path("worker.pid");
        let mut unit = shell("echo $$ > $0; sleep 1000 & echo $! > $1; wait");
        unit.run.command.extend([pidfile, worker.display().to_string()]);
        let main = scene.yard.spawn(&unit).unwrap();
        let worker_pid: i32 = wait_for_line(&worker).parse().unwrap();
        // Between its fork and its exec it is a shell, as the main process is.
        wait_for("the worker to be sleep", || {
            match std::fs::read_to_string(format!("/proc/{worker_pid}/comm")) {
                Ok(name) if name.trim() == "sleep" => Ok(()),
                other => Err(other),
            }
        });
        scene.unit.leftovers.pidfiles = vec![worker.clone()];
        scene.journal = Some(main.identity().clone());
        scene.expect_alive(main.pid());

        main.signal(libc::SIGKILL).unwrap();
        assert!(main.wait(SOON).unwrap());
        main.reap();
        let Cleaned::Clear { findings } = scene.clean(Mode::Look).cleaned else { panic!("not clear") };
        let told: Vec<_> = findings.iter().map(|f| (f.judgement, f.evidence.as_str())).collect();
        let says = format!("sleep ({worker_pid}) outlived its main process; a start kills it");
        assert_eq!(told.last(), Some(&(Judgement::Stale, says.as_str())), "{findings:?}");
        assert!(Handle::open(worker_pid).is_ok(), "a look kills nobody");

        let mut stranger = Stranger::sleep();
        let outcome = scene.clean(Mode::Remove);
        let Cleaned::Clear { findings } = outcome.cleaned else { panic!("{outcome:?}") };
        let told: Vec<_> = findings.iter().map(|f| (f.what.clone(), f.judgement)).collect();
        assert_eq!(
            told,
            [
                (scene.pidfile().display().to_string(), Judgement::Stale),
                (worker.display().to_string(), Judgement::Stale),
                (format!("process {worker_pid}"), Judgement::Stale),
            ]
        );
        let says = format!("sleep ({worker_pid}) outlived its main process; it was killed");
        assert_eq!(findings[2].evidence, says);
        assert!(Handle::open(worker_pid).is_err());
        assert!(!scene.pidfile().exists() && !worker.exists() && stranger.is_alive());
    }
}

#[test]
fn a_socket_is_stale_when_it_refuses() {
    let mut scene = Scene::new();
    let path = scene.yard.path("redis.sock");
    scene.unit.leftovers.sockets = vec![path.clone()];
    let listener = UnixListener::bind(&path).unwrap();
    let (finding, suspect) = scene.expect_doubt();
    assert!(finding.evidence.ends_with("it is in use"), "{finding:?}");
    assert_eq!(suspect.unwrap().pid(), std::process::id() as i32);
    close(listener, &path);
    assert!(scene.expect_clear(Judgement::Stale).evidence.ends_with("nobody listens, it refuses"));
    assert!(!path.exists());

    let datagram = UnixDatagram::bind(&path).unwrap();
    scene.expect_doubt();
    close(datagram, &path);
    scene.expect_clear(Judgement::Stale);
}

#[test]
fn a_star_stands_for_any_text_in_a_sockets_name() {
    let mut scene = Scene::new();
    scene.unit.leftovers.sockets = vec![scene.yard.path("OSL_PIPE_*_aa")];
    let (stale, other) = (scene.yard.path("OSL_PIPE_994_aa"), scene.yard.path("OSL_PIPE_994_ab"));
    for path in [&stale, &other] {
        close(UnixListener::bind(path).unwrap(), path);
    }
    let finding = scene.expect_clear(Judgement::Stale);
    assert_eq!(finding.what, stale.display().to_string());
    assert!(!stale.exists() && other.exists());
}

#[test]
fn a_socket_with_a_full_queue_is_in_use_and_is_not_waited_for() {
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
    };
    let mut scene = Scene::new();
    let path = scene.yard.path("redis.sock");
    scene.unit.leftovers.sockets = vec![path.clone()];
    let address = UnixAddr::new(&path).unwrap();
    let new = || socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).unwrap();
    let busy = new();
    bind(busy.as_raw_fd(), &address).unwrap();
    listen(&busy, Backlog::new(1).unwrap()).unwrap();
    let mut clients = vec![new()];
    while connect(clients.last().unwrap().as_raw_fd(), &address).is_ok() {
        clients.push(new());
    }
    let says = format!("{} is in use; by whom is not told", path.display());
    assert_eq!(scene.expect_doubt().0.evidence, says);
    assert!(path.exists());
}

#[test]
fn a_lock_is_stale_when_nobody_holds_it() {
    let mut scene = Scene::of_one_kind("office-of-locks");
    let path = scene.yard.path(".lock");
    scene.unit.leftovers.locks = vec![path.clone()];

    fs::write(&path, "").unwrap();
    let held = fs::File::open(&path).unwrap();
    let held = nix::fcntl::Flock::lock(held, nix::fcntl::FlockArg::LockShared).unwrap();
    assert!(
        scene.expect_doubt().0.evidence.ends_with("is locked; by whom is not told"),
        "locked by ourselves"
    );
    drop(held);

    let open = OwnedFd::from(fs::File::open(&path).unwrap());
    let holder = Stranger::start(Command::new("/bin/sleep").arg("1000").stdin(Stdio::from(open)));
    let (finding, suspect) = scene.expect_doubt();
    assert!(
        finding.evidence.contains(&format!("is held by {}, which is sleep", holder.pid())),
        "{finding:?}"
    );
    assert_eq!(suspect.unwrap().pid(), holder.pid());
    drop(holder);

    assert!(scene.expect_clear(Judgement::Stale).evidence.ends_with("no process holds it open or locked"));
    assert!(!path.exists());
}

#[test]
fn a_lock_that_holds_a_number_is_judged_by_it() {
    let mut scene = Scene::new();
    let path = scene.yard.path("mysqld.sock.lock");
    scene.unit.leftovers.locks = vec![path.clone()];
    let stranger = scene.stranger();
    fs::write(&path, stranger.pid().to_string()).unwrap();
    scene.expect_doubt();
    drop(stranger);
    scene.expect_clear(Judgement::Stale);
    assert!(!path.exists());
}

#[test]
fn one_doubt_keeps_everything_as_it_is() {
    let mut scene = Scene::new();
    scene.write_pid(dead_number());
    let further = scene.yard.path("further.pid");
    let stranger = scene.stranger();
    fs::write(&further, stranger.pid().to_string()).unwrap();
    scene.unit.leftovers.pidfiles = vec![further];
    let outcome = scene.clean(Mode::Remove);
    let Cleaned::Doubt { findings } = outcome.cleaned else { panic!("{outcome:?}") };
    let judged: Vec<_> = findings.iter().map(|f| f.judgement).collect();
    assert_eq!(judged, [Judgement::Stale, Judgement::Doubt]);
    assert!(scene.pidfile().exists());
}

#[test]
fn a_mark_outside_the_leaf_is_a_tie_too() {
    let scene = Scene::new();
    let moved = Spawn {
        unit: &scene.unit,
        instance: &scene.yard.instance,
        nonce: "n1",
        agent: scene.yard.tree.agent(),
        leaf: None,
        output: &scene.yard.path("output.log"),
        ready: None,
    };
    let main = moved.spawn().unwrap();
    scene.write_pid(main.pid());
    assert!(scene.expect_alive(main.pid()).evidence.contains("it carries the instance's mark"));
}

#[test]
fn what_was_moved_out_of_its_leaf_and_has_lost_its_main_process_is_killed() {
    let mut scene = Scene::new();
    let moved = Spawn {
        unit: &scene.unit,
        instance: &scene.yard.instance,
        nonce: "n1",
        agent: scene.yard.tree.agent(),
        leaf: None,
        output: &scene.yard.path("output.log"),
        ready: None,
    };
    let worker = moved.spawn().unwrap();
    let further = scene.yard.path("worker.pid");
    fs::write(&further, worker.pid().to_string()).unwrap();
    let gone = Stranger::sleep();
    scene.journal = Some(Handle::open(gone.pid()).unwrap().identity().clone());
    drop(gone);
    scene.unit.run.pidfile = None;
    scene.unit.leftovers.pidfiles = vec![further.clone()];

    let Cleaned::Clear { findings } = scene.clean(Mode::Remove).cleaned else { panic!("not clear") };
    let told: Vec<_> = findings.iter().map(|f| (f.what.clone(), f.judgement)).collect();
    let killed = (format!("process {}", worker.pid()), Judgement::Stale);
    assert_eq!(told, [(further.display().to_string(), Judgement::Stale), killed]);
    assert!(!worker.is_alive() && !further.exists());
}

#[test]
fn what_is_left_in_the_tree_is_no_main_process_unless_its_program_is_the_units() {
    let mut scene = Scene::new();
    scene.unit.run.pidfile = None;
    let worker = scene.yard.spawn(&unit(&["/bin/sleep", "1000"])).unwrap();
    let finding = scene.expect_clear(Judgement::Stale); // nothing is journalled of it
    assert_eq!(finding.what, format!("process {}", worker.pid()));
    assert!(!worker.is_alive());
}
