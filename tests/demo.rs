//! `clusterctl demo`, as a new user runs it: all fourteen nodes come up with the real daemons, before and after a power
//! cut, as root and as nobody; and nothing is left behind.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

/// One demo at a time: two of them on two cores tell nothing that one does not.
static ONE: Mutex<()> = Mutex::new(());

struct Played {
    code: Option<i32>,
    out: String,
}

/// Runs a demo to its end. `user` is a uid without any right.
fn play(name: &str, args: &[&str], user: Option<u32>) -> Played {
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let before = cgroups();
    // A folder that the daemons' own users may pass through, unlike a private temporary one.
    let dir = std::env::temp_dir().join(format!("clusterd-test-{name}-{}", std::process::id()));
    let programs = programs();
    let clusterctl = programs.path().join("clusterctl");
    let mut command = match user {
        None => Command::new(&clusterctl),
        Some(uid) => {
            let uid = uid.to_string();
            let mut command = Command::new("setpriv");
            command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--"]);
            command.arg(&clusterctl);
            command
        }
    };
    let output = command.args(["demo", "--once", "--dir"]).arg(&dir).args(args).output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));

    assert!(!dir.exists(), "{} was left behind:\n{text}", dir.display());
    let left = processes_of(&dir);
    assert!(left.is_empty(), "these were left running: {left:?}\n{text}");
    let new: Vec<_> = cgroups().difference(&before).cloned().collect();
    assert!(new.is_empty(), "these cgroups were left: {new:?}\n{text}");
    Played { code: output.status.code(), out: text }
}

/// The programs, where any user can run them.
fn programs() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for program in [env!("CARGO_BIN_EXE_clusterctl"), env!("CARGO_BIN_EXE_clusterd")] {
        fs::copy(program, folder.path().join(Path::new(program).file_name().unwrap())).unwrap();
    }
    folder
}

fn processes_of(dir: &Path) -> Vec<String> {
    let needle = dir.display().to_string();
    let lines = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(&needle)).collect()
}

/// Our folders below every cgroup v2 mount.
fn cgroups() -> BTreeSet<String> {
    let mounts = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
    let entries = mounts.iter().filter_map(|mount| fs::read_dir(mount).ok()).flatten().flatten();
    let names = entries.map(|e| e.path().display().to_string());
    names.filter(|name| name.contains("clusterd-shop-")).collect()
}

#[test]
fn the_whole_cluster_comes_up_with_the_real_daemons() {
    let demo = play("root", &[], None);
    assert_eq!(demo.code, Some(0), "{}", demo.out);
    assert!(demo.out.contains("shop: all 16 up"), "{}", demo.out);
    for real in
        ["/usr/sbin/mariadbd", "/usr/bin/redis-server", "/usr/sbin/nginx", "/usr/sbin/keepalived", "java"]
    {
        assert!(demo.out.contains(real), "{real} is installed for the tests:\n{}", demo.out);
    }
    // No broker before a database has answered it, and no web server before a broker has. Each asks for itself, so the
    // word `ready` of the database's own node, printed by another agent, may come later than the start that rests on it.
    rests_on(&demo.out, "activemq@mq1", "mysql@", "(SELECT 1");
    rests_on(&demo.out, "web@web1", "activemq@", "(broker");
}

/// `instance` was started after one of `needed` had been, and its start names that one's answer as its evidence.
fn rests_on(out: &str, instance: &str, needed: &str, answer: &str) {
    let started = |name: &str| {
        let line = out.lines().find(|line| {
            let mut words = line.split_whitespace().skip(2);
            words.next() == Some(name) && words.next() == Some("started")
        });
        let line = line.unwrap_or_else(|| panic!("{name} was never started:\n{out}"));
        (line.split_whitespace().next().unwrap().parse::<f64>().unwrap(), line)
    };
    let (at, line) = started(instance);
    let evidence = line.split([',', ' ']).skip_while(|word| !word.starts_with(needed)).collect::<Vec<_>>();
    let by = evidence.first().unwrap_or_else(|| panic!("no {needed} in: {line}"));
    assert!(evidence[1..].join(" ").starts_with(answer), "{by} gave no such answer: {line}");
    assert!(started(by).0 <= at, "{instance} was started before {by}:\n{out}");
}

#[test]
fn it_comes_back_from_a_power_cut_and_says_what_was_cleaned() {
    let demo = play("cut", &["--power-cut"], None);
    assert_eq!(demo.code, Some(0), "{}", demo.out);
    let (_, after) = demo.out.split_once("POWER CUT").expect("the power was cut");
    for instance in ["redis@redis1", "redis@redis2", "mysql@mysql1", "web@web1", "keepalived@lvs1"] {
        let cleaned =
            after.lines().any(|l| l.contains(instance) && l.contains("cleaned") && l.contains(".pid"));
        assert!(cleaned, "the pid file of {instance} was not cleaned:\n{}", demo.out);
    }
    assert!(after.contains("shop: all 16 up"), "{}", demo.out);
}

#[test]
fn it_needs_no_root() {
    let demo = play("nobody", &[], Some(65534));
    assert_eq!(demo.code, Some(0), "{}", demo.out);
    assert!(demo.out.contains("STAND-IN (keepalived needs root"), "{}", demo.out);
    assert!(!demo.out.contains("adopted"), "what it started is its own:\n{}", demo.out);
}
