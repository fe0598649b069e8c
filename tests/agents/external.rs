//! Needs on what is outside the cluster, and on what only another machine's agent can tell.

use super::agents::{Cluster, wait};
use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};

const SLEEP: &str = "[run]\ncommand = [\"/bin/sleep\", \"100000\"]\n[ready]\nprobe = { kind = \"running\", for = \"10ms\" }\n";

#[test]
fn what_is_outside_is_asked_from_each_dependents_node() {
    let mut cluster = Cluster::new("outside");
    let store = SocketAddr::new(cluster.address(9).parse().unwrap(), 7409);
    cluster.write(
        &format!(
            "[cluster]\nname = \"NAME\"\ninsecure = true\n[nodes]\nall = {{ n1 = \"A1\", n2 = \"A2\" }}\n\
             [services]\nweb = {{ on = \"all\", unit = \"sleep\", needs.store = \"any\" }}\n\
             job = {{ on = \"n1\", unit = \"sleep\", needs = [\"store\", \"flag\"] }}\n\
             [external.store]\naddress = \"{}\"\nprobe = {{ kind = \"tcp\", port = 7409 }}\nevery = \"100ms\"\n\
             [external.flag]\nprobe = {{ kind = \"file\", path = \"DIR/flag\", contains = \"go\" }}\nevery = \"100ms\"\n",
            store.ip()
        ),
        &[("sleep", SLEEP)],
    );
    cluster.start("n1");
    cluster.start("n2");
    let refused = format!("connection refused by {store}");
    wait("both to wait for the store", || {
        let status = cluster.ctl("n1", &["status"]).text();
        (status.matches("waits for store (any, 0 of 1)").count() == 2).then_some(())
    });
    let status = cluster.ctl("n1", &["status"]).text();
    assert!(status.contains("Outside the cluster") && status.contains(&refused), "{status}");
    let why = cluster.ctl("n1", &["why", "web@n2"]).text();
    let says = format!("it is outside the cluster, and n2 hears: {refused}");
    assert!(why.contains(&says) && why.contains("clusterctl probe store --from n2"), "{why}");
    // By its own name: those who need it, and what each of them hears.
    let named = cluster.ctl("n1", &["status", "store"]).text();
    let parts = ["web@n1", "web@n2", "job@n1", "Outside the cluster", "store: from n1 for "];
    assert!(parts.iter().all(|part| named.contains(part)), "{named}");
    let one = cluster.ctl("n1", &["status", "web@n2"]).text();
    assert!(one.contains("store: from n2 for ") && !one.contains("flag: "), "{one}");
    let why = cluster.ctl("n1", &["why", "store"]).text();
    assert!(why.contains("it is outside the cluster, and n"), "{why}");
    let near = cluster.ctl("n1", &["status", "stor"]).text();
    assert!(near.contains("did you mean 'store'?"), "{near}");
    let probe = cluster.ctl("n1", &["probe", "store", "--from", "n2"]);
    assert!(probe.code == 3 && probe.text().contains(&refused), "{probe:?}");

    let listener = TcpListener::bind(store).unwrap();
    let pid = wait("a web server to be ready", || cluster.pid_if("n1", "web@n2", "ready"));
    wait("the other one too", || cluster.in_state("n1", "web@n1", "ready"));
    let why = cluster.ctl("n1", &["why", "job"]).text();
    let missing = format!("n1 hears: there is no {}", cluster.file_named("flag").display());
    assert!(why.contains(&missing) && !why.contains("refused"), "{why}");
    fs::write(cluster.file_named("flag"), "go").unwrap();
    wait("the job to be ready", || cluster.in_state("n1", "job@n1", "ready"));
    let status = cluster.ctl("n2", &["status"]).text();
    assert!(
        status.contains("store: ready from 2 nodes") && status.contains("flag: ready from n1"),
        "{status}"
    );

    // One prober for both that ask the store on n1, one for the flag; nothing else is asked there.
    let trace = fs::read_to_string(cluster.recording("n1")).unwrap();
    let paced = trace.split("\"action\":\"pace\",\"question\":").skip(1);
    let asked: BTreeSet<&str> = paced.filter_map(|rest| rest.split([',', '}']).next()).collect();
    assert_eq!(asked.len(), 2, "{asked:?}");

    // A loss is told, and takes nothing down.
    drop(listener);
    wait("the loss to be told", || {
        cluster.ctl("n1", &["status"]).text().contains("need store lost").then_some(())
    });
    assert_eq!(cluster.pid_if("n1", "web@n2", "ready"), Some(pid));
    // What is outside is nobody's to stop.
    assert_ne!(cluster.ctl("n1", &["stop", "store"]).code, 0);
}

/// A file, a unix socket, a mount and a program's output say nothing on another machine: its agent's word is taken.
#[test]
fn what_only_its_own_machine_can_tell_is_needed_by_its_agents_word() {
    let mut cluster = Cluster::new("by-agent");
    let unit = |probe: &str| {
        format!(
            "[run]\ncommand = [\"/bin/sleep\", \"100000\"]\n[ready]\nprobe = {{ {probe} }}\nevery = \"100ms\"\n"
        )
    };
    let units = [
        ("file", unit("kind = \"file\", path = \"DIR/flag\"")),
        ("unix", unit("kind = \"unix\", path = \"DIR/socket\"")),
        ("mount", unit("kind = \"mount\", path = \"/proc\", fs = \"proc\"")),
        (
            "exec",
            unit("kind = \"exec\", command = [\"/bin/echo\", \"all replicated\"], contains = \"replicated\""),
        ),
        ("sleep", SLEEP.to_owned()),
    ];
    let units: Vec<(&str, &str)> = units.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let needs =
        ["file", "unix", "mount", "exec"].map(|name| format!("{name} = {{ proof = \"agent\" }}")).join(", ");
    let placed =
        ["file", "unix", "mount", "exec"].map(|name| format!("{name} = {{ on = \"n1\" }}\n")).concat();
    let file = format!(
        "[cluster]\nname = \"NAME\"\ninsecure = true\n[nodes]\nall = {{ n1 = \"A1\", n2 = \"A2\" }}\n[services]\n{placed}\
         app = {{ on = \"n2\", unit = \"sleep\", needs = {{ {needs} }} }}\n"
    );
    cluster.write(&file, &units);
    // Without a proof by the agent it is refused.
    let refused = file.replacen("{ proof = \"agent\" }", "\"any\"", 1);
    let good = fs::read_to_string(cluster.file()).unwrap();
    cluster.write(&refused, &[]);
    let check = cluster.run_agent_to_its_end("n2");
    assert!(check.text().contains("can be proven only on its own machine"), "{check:?}");
    fs::write(cluster.file(), good).unwrap();

    cluster.start("n1");
    cluster.start("n2");
    wait("the program to be ready", || cluster.in_state("n1", "exec@n1", "ready"));
    wait("the mount to be ready", || cluster.in_state("n1", "mount@n1", "ready"));
    wait("the application to wait", || cluster.in_state("n2", "app@n2", "waiting"));
    fs::write(cluster.file_named("flag"), "").unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(cluster.file_named("socket")).unwrap();
    wait("the application to be ready", || cluster.in_state("n2", "app@n2", "ready"));
    let probe = cluster.ctl("n2", &["probe", "unix@n1"]);
    assert!(probe.code == 0 && probe.text().contains("unix socket"), "{probe:?}");
    let elsewhere = cluster.ctl("n2", &["probe", "unix@n1", "--from", "n2"]);
    assert!(elsewhere.text().contains("can be asked on its own node only"), "{elsewhere:?}");
}
