//! What services print: with real agents that are killed, over rotations, through `clusterctl logs` and in the files.

use super::agents::{Cluster, wait};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// Agents that are killed while the daemon prints.
const KILLS: usize = 5;

fn one_node(folder: &Path, name: &str, unit: &str) -> Cluster {
    let cluster = Cluster::new_in(folder, name);
    cluster.write(
        "[cluster]\nname = \"NAME\"\ninsecure = true\n[nodes]\nall = { n1 = \"A1\" }\n[services]\nit = { on = \"n1\" }\n",
        &[("it", unit)],
    );
    cluster
}

fn shell(script: &str) -> String {
    format!("[run]\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n")
}

/// `clusterctl logs -f`, printing to a file, until it is dropped.
struct Follower {
    child: Child,
    out: PathBuf,
}

impl Follower {
    fn start(cluster: &Cluster, args: &[&str]) -> Follower {
        let out = cluster.file_named("followed");
        let mut command = cluster.ctl_command("n1", &[&["logs", "--follow"], args].concat());
        let child = command.stdout(File::create(&out).unwrap()).stderr(Stdio::null()).spawn().unwrap();
        Follower { child, out }
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The pieces beside a log, oldest first.
fn pieces(log: &Path) -> Vec<PathBuf> {
    let name = format!("{}.0", log.file_name().unwrap().to_string_lossy());
    let entries = fs::read_dir(log.parent().unwrap()).into_iter().flatten().map(|e| e.unwrap().path());
    let mut found: Vec<PathBuf> =
        entries.filter(|p| p.file_name().unwrap().to_string_lossy().starts_with(&name)).collect();
    found.sort();
    found
}

/// As `cat NAME.log.0* NAME.log` shows it, without the blanks or the hole at the beginning of the file.
fn cat(log: &Path) -> String {
    let mut text = String::new();
    for path in pieces(log).iter().map(PathBuf::as_path).chain([log]) {
        let part = fs::read_to_string(path).unwrap();
        text += part.trim_start_matches(['\0', ' ', '\n']);
    }
    text
}

fn assert_all(what: &str, text: &str, last: u64) {
    let mut next = 0;
    for line in text.lines() {
        assert_eq!(line, format!("line {next}"), "{what}: a line is missing, doubled or torn");
        next += 1;
    }
    assert_eq!(next, last + 1, "{what}: where it ends");
}

fn no_line_is_lost_or_doubled(folder: &Path, name: &str) {
    let script =
        "i=0; until [ -e DIR/enough ]; do echo line $i; i=$((i+1)); done; echo line $i; exec sleep 1000";
    let unit = shell(script) + "[log]\nsize = \"128K\"\nkeep = 1000\n";
    let mut cluster = one_node(folder, name, &unit);
    cluster.start("n1");
    let pid = wait("it to print", || cluster.pid_if("n1", "it@n1", "ready"));
    let follower = Follower::start(&cluster, &["it", "--since", "1h"]);
    let log = cluster.file_named("n1/state/log/it@n1.log");
    for _ in 0..KILLS {
        let before = pieces(&log).len();
        wait("rotations by this agent", || (pieces(&log).len() >= before + 3).then_some(()));
        cluster.kill("n1");
        cluster.start("n1");
    }
    fs::write(cluster.file_named("enough"), "").unwrap();
    let last = wait("the last agent to find it", || cluster.pid_if("n1", "it@n1", "ready"));
    assert_eq!(last, pid, "the same process has printed all along");
    // It prints no more once it is called sleep.
    let comm = format!("/proc/{pid}/comm");
    wait("it to have printed its last", || (fs::read_to_string(&comm).unwrap() == "sleep\n").then_some(()));

    let all = cluster.ctl("n1", &["logs", "it@n1", "-n", "1000000000"]);
    assert_eq!(all.code, 0, "{}", all.err);
    let last: u64 = all.out.lines().next_back().unwrap().strip_prefix("line ").unwrap().parse().unwrap();
    assert_all("clusterctl logs", &all.out, last);
    wait("the follower to come to the end", || {
        follower.text().ends_with(&format!("line {last}\n")).then_some(())
    });
    assert_all("clusterctl logs -f", &follower.text(), last);
    let rotated = pieces(&log).len();
    assert!(rotated >= 3 * KILLS, "only {rotated} rotations");
    // Not in the middle of the last rotation, in which a piece may have its name already.
    wait("the files to have each line once", || (cat(&log) == all.out).then_some(()));
}

#[test]
fn no_line_is_lost_or_doubled_over_rotations_and_killed_agents() {
    no_line_is_lost_or_doubled(&std::env::temp_dir(), "lines");
}

/// Memory cannot collapse the head of a file: holes only.
#[test]
fn no_line_is_lost_or_doubled_where_files_are_in_memory() {
    no_line_is_lost_or_doubled(Path::new("/dev/shm"), "lines-in-memory");
}

#[test]
fn logs_are_read_from_any_node_and_followed_over_a_restart_of_the_service() {
    let mut cluster = Cluster::new("logs");
    let unit = |word: &str| shell(&format!("echo {word} of $CLUSTERD_INSTANCE; exec sleep 1000"));
    cluster.write(
        "[cluster]\nname = \"NAME\"\ninsecure = true\n[nodes]\nall = { n1 = \"A1\", n2 = \"A2\" }\n[services]\na = { on = \"all\" }\n\
         b = { on = \"n2\" }\n",
        &[("a", &unit("words")), ("b", &unit("others"))],
    );
    cluster.start("n1");
    cluster.start("n2");
    wait("all to run", || cluster.pid_if("n2", "a@n2", "ready"));
    wait("all to run", || cluster.pid_if("n2", "b@n2", "ready"));
    wait("all to run", || cluster.pid_if("n1", "a@n1", "ready"));
    let follower = Follower::start(&cluster, &["b"]);
    let told = cluster.ctl("n1", &["logs", "b"]);
    assert_eq!((told.code, told.out.as_str()), (0, "others of b@n2\n"), "{told:?}");
    let told = cluster.ctl("n1", &["logs", "a"]);
    assert_eq!(told.out, "a@n1: words of a@n1\na@n2: words of a@n2\n", "{told:?}");
    let told = cluster.ctl("n1", &["logs", "b", "--json", "--since", "1h"]);
    assert_eq!(told.out, "{\"instance\":\"b@n2\",\"line\":\"others of b@n2\"}\n", "{told:?}");
    assert_eq!(cluster.ctl("n1", &["logs", "b", "--since", "0s"]).code, 0);

    assert_eq!(cluster.ctl("n1", &["restart", "b"]).code, 0);
    let twice = "others of b@n2\n".repeat(2);
    wait("what the next run prints", || (follower.text() == twice).then_some(()));
    assert_eq!(cluster.ctl("n1", &["logs", "b", "-n", "1"]).out, "others of b@n2\n");

    cluster.kill("n2");
    let told = cluster.ctl("n1", &["logs", "a"]);
    assert_eq!((told.code, told.out.as_str()), (3, "a@n1: words of a@n1\n"), "{told:?}");
    assert!(told.err.contains("a@n2: not read: "), "{told:?}");
    assert!(told.err.contains("see 'clusterctl status n2'"), "{told:?}");
    cluster.start("n2");
    wait("the agent to be back", || cluster.pid_if("n2", "b@n2", "ready"));
    assert_eq!(cluster.ctl("n2", &["restart", "b"]).code, 0);
    let thrice = "others of b@n2\n".repeat(3);
    wait("the follower to go on", || (follower.text() == thrice).then_some(()));
}

#[test]
fn last_words_are_never_an_earlier_runs() {
    let script = "if [ ! -e DIR/spoke ]; then echo my only words; touch DIR/spoke; fi; \
                  while [ ! -e DIR/go ]; do sleep 0.05; done; rm DIR/go; exit 3";
    let unit = shell(script) + "[restart]\ndelay = \"50ms\"\n";
    let mut cluster = one_node(&std::env::temp_dir(), "words", &unit);
    let go = cluster.file_named("go");
    cluster.start("n1");
    wait("it to have spoken", || cluster.file_named("spoke").exists().then_some(()));
    // Another agent knows where its words began.
    let pid = wait("it to run", || cluster.view("n1", "it@n1")?["pid"].as_i64());
    cluster.kill("n1");
    cluster.start("n1");
    wait("the next agent to find it", || {
        (cluster.view("n1", "it@n1")?["pid"].as_i64()? == pid).then_some(())
    });
    let exits = |cluster: &Cluster| cluster.sentences("n1", "it@n1", "exited");
    fs::write(&go, "").unwrap();
    wait("its first exit", || (exits(&cluster).len() == 1).then_some(()));
    wait("its next run", || cluster.view("n1", "it@n1")?["pid"].as_i64());
    fs::write(&go, "").unwrap();
    let told = wait("its second exit", || Some(exits(&cluster)).filter(|e| e.len() == 2));
    let adopted = "exit code unknown (it was not this agent's child); last words: my only words";
    assert_eq!(told, [adopted, "exit code 3"]);
}

#[test]
fn a_full_disk_is_told_and_the_service_runs_on() {
    let script = "until [ -e DIR/go ]; do sleep 0.05; done; seq 1 20000; exec sleep 1000";
    let unit = shell(script) + "[log]\nsize = \"64K\"\n";
    let mut cluster = one_node(&std::env::temp_dir(), "full", &unit);
    cluster.start_on_a_small_disk("n1", "1M");
    let pid = wait("it to run", || cluster.pid_if("n1", "it@n1", "ready"));
    // Room for its 109 KB, and none for a copy of 64.
    let state = cluster.file_named("n1/state").display().to_string();
    let fill = format!(
        "free=$(df -k --output=avail {state} | tail -1); head -c $(((free - 140) * 1024)) /dev/zero > {state}/fill"
    );
    cluster.beside("n1", &fill);
    fs::write(cluster.file_named("go"), "").unwrap();
    let told = || cluster.ctl("n1", &["events", "it"]).out;
    let text = wait("the trouble to be told", || Some(told()).filter(|t| t.contains("log-trouble")));
    assert!(text.contains("No space left on device") && text.contains("it runs on"), "{text}");
    assert_eq!(cluster.pid_if("n1", "it@n1", "ready"), Some(pid));
    wait("it to have printed its last", || {
        (cluster.ctl("n1", &["logs", "it", "-n", "2"]).out == "19999\n20000\n").then_some(())
    });
}

#[test]
fn a_call_for_a_log_that_makes_no_sense_is_refused() {
    let mut cluster = one_node(&std::env::temp_dir(), "garbage", &shell("echo word; exec sleep 1000"));
    cluster.start("n1");
    wait("it to run", || cluster.pid_if("n1", "it@n1", "ready"));
    let asked = |query: &str| {
        let socket = cluster.run("n1").join("clusterd.sock");
        let url = format!("http://clusterd/v1/logs?{query}");
        let answer = std::process::Command::new("curl")
            .args(["--silent", "--max-time", "20", "--unix-socket"])
            .arg(socket)
            .args(["--write-out", " %{http_code}", &url])
            .output()
            .unwrap();
        String::from_utf8(answer.stdout).unwrap()
    };
    assert!(
        asked("instance=it@n1&at=0").ends_with("\"text\":\"word\\n\"} 200"),
        "{}",
        asked("instance=it@n1&at=0")
    );
    let beyond = asked("instance=it@n1&at=18446744073709551615");
    assert!(beyond.contains("\"text\":\"\"") && beyond.ends_with(" 200"), "{beyond}");
    for (query, status) in [
        ("", " 400"),
        ("instance=it@n1&at=-1", " 400"),
        ("instance=it@n1&at=99999999999999999999", " 400"),
        ("instance=it@n1&last=many", " 400"),
        ("instance=../../../etc/passwd", " 409"),
        ("instance=other@n1", " 409"),
        ("instance=it@n1&ago=18446744073709551615&last=18446744073709551615", " 200"),
    ] {
        assert!(asked(query).ends_with(status), "{query}: {}", asked(query));
    }
}
