//! `clusterctl doctor` among real agents.

use super::agents::{Cluster, wait};
use super::switch::Switch;
use std::fs;
use std::net::TcpListener;
use std::process::Command;

#[test]
fn what_is_wrong_is_found_where_it_is_and_between_the_machines() {
    let mut cluster = Cluster::new("doctor");
    let file = "[cluster]\nname = \"NAME\"\ninsecure = true\n[nodes]\nall = { n1 = \"A1\", n2 = \"A2\", n3 = \"A3\" }\n\
                [services]\ncache = { on = \"n1\" }\nweb = { on = \"n2\" }\n";
    let cache = "[run]\ncommand = [\"PROGRAM\", \"stand-in\", \"redis\", \"--listen\", \"{address}:7401\"]\n\
                 [ready]\nprobe = { kind = \"redis\", port = 7401 }\n";
    let web = "[run]\ncommand = [\"/nowhere/at-all\"]\n[ready]\nprobe = { kind = \"tcp\", port = 7400 }\n";
    cluster.write(file, &[("cache", cache), ("web", web)]);
    ["n1", "n2", "n3"].iter().for_each(|node| cluster.give_own_file(node));
    ["n1", "n2", "n3"].iter().for_each(|node| cluster.start(node));
    wait("the cache to be ready", || cluster.pid_if("n1", "cache@n1", "ready"));
    wait("the others to answer", || cluster.node_status("n2").and(cluster.node_status("n3")));
    let found = |cluster: &Cluster| {
        let told = cluster.ctl("n1", &["doctor", "--json"]);
        assert_eq!(told.code, 3, "{told:?}");
        let found: Vec<serde_json::Value> = serde_json::from_str(&told.out).unwrap();
        let text = |f: &serde_json::Value, key: &str| f[key].as_str().unwrap().to_owned();
        // What this machine has at boot, and how full it is, is none of ours.
        let ours =
            found.iter().filter(|f| !["disk", "boot", "unit-file"].contains(&f["about"].as_str().unwrap()));
        ours.map(|f| format!("{} {}: {}", text(f, "about"), text(f, "node"), text(f, "what")))
            .collect::<Vec<_>>()
    };
    // Each has to hear of the others first.
    let missing = ["program n2: /nowhere/at-all, which web@n2 runs, is not there"];
    wait("nothing but that to be found", || (found(&cluster) == missing).then_some(()));

    // A stranger on its port, a file that differs, an agent that is gone.
    let _stranger = TcpListener::bind(format!("{}:7400", cluster.address(2))).unwrap();
    let own = cluster.file_of("n2");
    fs::write(&own, format!("# by hand\n{}", fs::read_to_string(&own).unwrap())).unwrap();
    assert_eq!(cluster.ctl("n2", &["reload", "n2"]).code, 0);
    cluster.kill("n3");
    let found = found(&cluster);
    let pid = std::process::id();
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(found[0].starts_with("config n1, n2: 2 cluster files are in force: "), "{found:#?}");
    assert!(found[1].starts_with("reach n3: no agent reaches that of n3: "), "{found:#?}");
    assert!(
        found[3].ends_with(&format!("(pid {pid}) listens on port 7400, which web@n2 wants")),
        "{found:#?}"
    );

    let told = cluster.ctl("n1", &["doctor", "n3"]);
    assert!(told.code == 3 && told.out.contains("type: on n3: systemctl status clusterd"), "{told:?}");
}

/// Where Debian's package `libfaketime` has it.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// Three machines: the clock of n1 is wrong, n2 has a full disk and starts Redis at boot by systemd, too, and a fourth
/// says that it is n2.
#[test]
fn machines_that_are_wrong_each_in_its_way() {
    let at = ["10.78.0.1", "10.78.0.2", "10.78.0.3", "10.78.0.9"];
    let switch = Switch::new("doc", &[("n1", at[0]), ("n2", at[1]), ("n3", at[2]), ("n9", at[3])]);
    let mut cluster = Cluster::new("sick");
    let file = format!(
        "[cluster]\nname = \"NAME\"\ninsecure = true\n[nodes]\nall = {{ n1 = \"{}\", n2 = \"{}\", n3 = \"{}\" }}\n\
         [services]\nstore = {{ on = \"n2\" }}\n",
        at[0], at[1], at[2]
    );
    let store = "[run]\ncommand = [\"/usr/bin/redis-server\", \"--bind\", \"{address}\", \"--port\", \"6379\", \"--save\", \"\", \"--protected-mode\", \"no\"]\n\
                 executables = [\"/usr/bin/redis-check-rdb\"]\n[ready]\nprobe = { kind = \"redis\" }\n";
    cluster.write(&file, &[("store", store)]);

    let mut early = cluster.agent("n1");
    early.env("LD_PRELOAD", FAKETIME).env("FAKETIME", "-2h").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    early.env("FAKETIME_TIMESTAMP_FILE", "/dev/null");
    cluster.start_as("n1", switch.on("n1", &early));
    let agent = cluster.agent("n3");
    cluster.start_as("n3", switch.on("n3", &agent));
    // A disk of its own, and an /etc of its own that systemctl may change.
    let (agent, dir) = (cluster.agent("n2"), cluster.dir().join("n2"));
    let script = format!(
        "set -e; cd {0}; mkdir -p state etc; echo 0badcafe >state/id; mount -t tmpfs -o size=4m,mode=700 none state; \
         echo 0badcafe >state/id; mount -t tmpfs none etc; \
         mkdir etc/upper etc/work; mount -t overlay -o lowerdir=/etc,upperdir=etc/upper,workdir=etc/work none /etc; \
         systemctl --quiet enable redis-server 2>/dev/null; \
         printf '[Service]\\nExecStart=nowhere\\n' >/etc/systemd/system/clusterd.service; cd /; exec \"$@\"",
        dir.display()
    );
    fs::create_dir_all(&dir).unwrap();
    let mut machine = Command::new("unshare");
    machine.args(["--mount", "sh", "-c", &script, "sh"]).arg(agent.get_program()).args(agent.get_args());
    cluster.start_as("n2", switch.on("n2", &machine));
    wait("Redis to be ready", || cluster.pid_if("n2", "store@n2", "ready"));
    wait("the others to answer", || cluster.node_status("n1").and(cluster.node_status("n3")));

    // n2 lets nobody in from n1, and its disk is full.
    switch.nft("n2", "add table inet wall; add chain inet wall input { type filter hook input priority 0; policy accept; }");
    switch.nft("n2", &format!("add rule inet wall input ip saddr {} tcp dport 7117 drop", at[0]));
    cluster.beside("n2", &format!("head -c 8M /dev/zero >{}/state/full 2>/dev/null; true", dir.display()));
    // The fourth has the address of n2 where nobody asks for it, and a unit that leaves nothing behind.
    let mut quietly = Command::new("sh");
    quietly.args(["-c", "echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore && ip addr add 10.78.0.2/32 dev lo"]);
    assert!(switch.on("n9", &quietly).status().unwrap().success());
    let units = cluster.dir().join("n9/units");
    fs::create_dir_all(&units).unwrap();
    fs::write(units.join("store.toml"), store.replace("/usr/bin/redis-server", "/nowhere")).unwrap();
    let (state, run) = (cluster.dir().join("n9/state"), cluster.dir().join("n9/run"));
    let mut other = Command::new(cluster.agent("n2").get_program());
    other
        .args(["--node", "n2", "--config"])
        .arg(cluster.file())
        .arg("--state")
        .arg(state)
        .arg("--run")
        .arg(run);
    other.arg("--units").arg(units);
    other.arg("--record").arg(cluster.recording("n9"));
    cluster.start_as("n9", switch.on("n9", &other));
    wait("n3 to hear of two machines with one name", || {
        let problems = cluster.node_status("n3")?.problems.join("\n");
        problems.contains("2 machines say that they are n2").then_some(())
    });

    let ctl = |node: &str, words: &[&str]| {
        let socket = cluster.run(node).join("clusterd.sock");
        let mut ctl = Command::new("nsenter");
        ctl.args([
            "--target",
            &cluster.pid(node).to_string(),
            "--mount",
            "--net",
            env!("CARGO_BIN_EXE_clusterctl"),
        ]);
        let said = ctl.args(words).arg("--socket").arg(socket).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr))
            .split_ascii_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    let found = |node: &str, more: &[&str]| ctl(node, &[&["doctor"], more].concat());
    // It is told so by whomever it asks, and starts nothing new.
    wait("the second n2 to start nothing", || {
        let events = ctl("n9", &["events", "store@n2"]);
        events
            .contains("cannot be started: another machine, at 10.78.0.2, says that it is n2, too")
            .then_some(())
    });
    let seen = found("n3", &[]);
    for text in [
        "n2: 2 machines say that they are n2: ",
        "at 10.78.0.9",
        "n1: the clock of n1 is ",
        " behind the others'",
        "n2: n1 does not reach the agent of n2 (10.78.0.2:7117): ",
        "the other way it works",
        "state is full: 0 MiB of 4 MiB are free",
        "n2: systemd starts redis-server.service at boot, which is what store@n2 runs",
        "n2: systemd complains about /etc/systemd/system/clusterd.service: ",
    ] {
        assert!(seen.contains(text), "no {text:?} in:\n{seen}");
    }
    let elsewhere = found("n3", &["--fix"]);
    assert!(elsewhere.contains("redis-server.service is disabled there only"), "{elsewhere}");
    let done = found("n2", &["--fix"]);
    let undo =
        "redis-server.service is not started at boot any more; undo: systemctl enable redis-server.service";
    assert!(done.contains(undo), "{done}");
    assert!(!found("n2", &[]).contains("systemd starts"));
    cluster.beside("n2", "systemctl --quiet enable redis-server.service 2>/dev/null");
    assert!(found("n2", &[]).contains("systemd starts redis-server.service"));
}
