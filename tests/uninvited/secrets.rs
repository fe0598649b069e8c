//! Secrets, planted wherever one can be given, are looked for wherever something is told; and what the agent gives up.

use crate::agents::{Cluster, wait};
use crate::secured::{Secured, clusterctl};
use clusterd::api::client::{Client, Target};
use clusterd::pki::Validity;
use clusterd::pki::Who;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// All that is printed and kept in the files below a folder, but for those that hold secrets by design.
fn all_text(folder: &Path, not: &[&Path]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if not.iter().any(|n| path.starts_with(n)) {
            continue;
        }
        if kind.is_dir() {
            found.extend(all_text(&path, not));
        } else if kind.is_file() {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    found
}

fn holds(text: &[u8], secret: &str) -> bool {
    text.windows(secret.len()).any(|part| part == secret.as_bytes())
}

#[test]
fn a_secret_is_found_where_it_was_put_and_nowhere_else() {
    let mut cluster = Secured::new("secrets", "");
    // A password for probes, in a file; it is wrong, so that it is talked about. A certificate's key, in a bundle.
    let password = "correct-horse-battery-staple";
    fs::write(cluster.file_named("password"), format!("{password}\n")).unwrap();
    fs::set_permissions(cluster.file_named("password"), fs::Permissions::from_mode(0o600)).unwrap();
    let unit = cluster.file_named("units").join("cache.toml");
    let text = fs::read_to_string(&unit).unwrap();
    let probe = format!(
        "probe = {{ kind = \"redis\", port = \"{{port}}\", user = \"default\", password_file = \"{}\" }}\nwithin = \"2s\"",
        cluster.file_named("password").display()
    );
    let text = text.replace("probe = { kind = \"redis\", port = \"{port}\" }", &probe);
    assert!(text.contains("password_file"), "{text}");
    fs::write(&unit, text).unwrap();
    let mut bundles = Vec::new();
    for node in ["n1", "n2"] {
        let issued = cluster.ca().issue(Who::Node(node.to_owned()), Validity::days(100)).unwrap();
        cluster.hand_out(node, &issued.bundle);
        bundles.push(issued.bundle.to_string());
        // Damaged ones are talked about, too.
        let good = fs::read_to_string(cluster.handed_out(node)).unwrap();
        fs::write(cluster.handed_out(node), &good[..good.len() - 60]).unwrap();
        let told = cluster.try_join(node);
        assert!(told.code != 0);
        bundles.push(told.text());
        fs::write(cluster.handed_out(node), good).unwrap();
        cluster.join_and_start(node);
    }
    let refusals: Vec<String> = vec![bundles.remove(3), bundles.remove(1)];
    let ca_key = fs::read_to_string(cluster.file_named("ca").join("ca.key"))
        .or_else(|_| fs::read_to_string(cluster.file_named("ca").join("ca.pem")));
    bundles.extend(ca_key);
    // Whole lines of each key.
    let mut secrets = vec![password.to_owned()];
    for bundle in &bundles {
        let key = bundle.split("PRIVATE KEY-----").nth(1);
        secrets.extend(key.into_iter().flat_map(str::lines).filter(|l| l.len() > 40).map(str::to_owned));
    }
    assert!(secrets.len() > 3, "keys were found to look for");

    wait("the probe to be asked", || {
        let view = cluster.view("n1", "cache@n1")?;
        (view["state"] != "waiting" && !view["pid"].is_null()).then_some(())
    });
    wait("the agents to hear each other", || cluster.whole("n1"));

    let mut told: Vec<(String, Vec<u8>)> = Vec::new();
    // Every answer of the API.
    let socket = Target::Unix(cluster.socket("n1").into());
    for (method, path, _) in clusterd::api::caller::CALLS {
        let ask = match *path {
            "/v1/watch" => continue,
            "/v1/logs" => "/v1/logs?instance=cache@n1&last=1000".to_owned(),
            "/v1/probe" => "/v1/probe?instance=cache@n1".to_owned(),
            path => path.to_owned(),
        };
        let mut client = Client::new(socket.clone());
        let (_, answer) = cluster
            .block_on(client.raw(method.clone(), &ask, bytes::Bytes::from_static(b"{}"), None))
            .unwrap();
        told.push((ask, answer.to_vec()));
    }
    for verb in [&["status"][..], &["why", "cache@n1"], &["plan"], &["events"], &["leftovers"], &["check"]] {
        let here: &[&str] = if matches!(verb[0], "plan" | "check") {
            &["--config", &cluster.file().display().to_string()]
        } else {
            &["--socket", &cluster.socket("n1")]
        };
        told.push((verb.join(" "), clusterctl(&[verb, here].concat()).text().into_bytes()));
    }
    told.extend(refusals.into_iter().map(|text| ("join".to_owned(), text.into_bytes())));
    // Logs, events, journals, recordings: every file but the ones that hold secrets.
    let holding = [
        cluster.file_named("ca"),
        cluster.file_named("password"),
        cluster.handed_out("n1"),
        cluster.handed_out("n2"),
        cluster.identity("n1"),
        cluster.identity("n2"),
    ];
    let holding: Vec<&Path> = holding.iter().map(AsRef::as_ref).collect();
    told.extend(all_text(&cluster.file_named(""), &holding));
    // What everybody may see of processes: the agents' and their children's.
    let agents = ["n1", "n2"].map(|node| cluster.pid(node));
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let status = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent =
            status.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).and_then(|p| p.parse().ok());
        let pid = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok());
        if parent.is_some_and(|p| agents.contains(&p)) || pid.is_some_and(|p| agents.contains(&p)) {
            for file in ["cmdline", "environ"] {
                let path = entry.path().join(file);
                told.push((path.display().to_string(), fs::read(&path).unwrap_or_default()));
            }
        }
    }
    assert!(told.len() > 40, "{}", told.len());
    for secret in &secrets {
        for (place, text) in &told {
            assert!(!holds(text, secret), "{place} tells a secret");
        }
    }
}

fn status_of(pid: impl std::fmt::Display, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|l| l.strip_prefix(field)).unwrap().trim().to_owned()
}

#[test]
fn the_agent_leaves_no_core_and_acts_without_what_it_does_not_need() {
    let mut cluster = Cluster::new("rights");
    cluster.write(
        "[cluster]\nname = \"NAME\"\ninsecure = true\n[nodes]\nn = { n1 = \"A1\" }\n[services]\nplain = { on = \"n\" }\n\
         user = { on = \"n\" }\n",
        &[
            ("plain", "[run]\ncommand = [\"/bin/sleep\", \"1000\"]\n[ready]\nprobe = { kind = \"running\" }\n"),
            (
                "user",
                "[run]\ncommand = [\"/bin/sleep\", \"1000\"]\nuser = \"nobody\"\ncapabilities = [\"CAP_SYS_TIME\"]\n\
                 [ready]\nprobe = { kind = \"running\" }\n",
            ),
        ],
    );
    cluster.start("n1");
    let plain = wait("the service of root", || cluster.pid_if("n1", "plain@n1", "ready"));
    let user = wait("the service of a user", || cluster.pid_if("n1", "user@n1", "ready"));
    let agent = cluster.pid("n1");

    // Nobody but root looks into it, not even after it started something as another user: its files in /proc are
    // root's, and mem cannot be opened by its own.
    let core = |pid: u32| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap().to_owned();
        line.split_whitespace().skip(4).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(core(agent)[0], "0");
    assert_eq!(core(plain as u32), core(std::process::id()), "services have what the agent was given");

    let all = status_of(std::process::id(), "CapEff:");
    let bits = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let acts = bits(&status_of(agent, "CapEff:"));
    for (number, what) in [(16, "modules"), (17, "raw I/O"), (22, "reboot"), (25, "the clock")] {
        assert_eq!(acts >> number & 1, 0, "the agent acts with the right for {what}");
    }
    assert_eq!(status_of(plain, "CapEff:"), all, "a service of root has all, unless its unit says which");
    assert_eq!(bits(&status_of(user, "CapEff:")), 1 << 25);
    assert_eq!(bits(&status_of(user, "CapBnd:")), 1 << 25);

    // A crash that would leave a core leaves none.
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let folder = cluster.dir().to_owned();
    let beside = || {
        let names = fs::read_dir(&folder).unwrap().flatten().map(|e| e.file_name());
        names.filter(|name| name.to_string_lossy().contains("core")).count()
    };
    let before = beside();
    cluster.signal("n1", nix::sys::signal::Signal::SIGABRT);
    let ended = wait("the agent to crash", || cluster.ended("n1"));
    assert!(!std::os::unix::process::ExitStatusExt::core_dumped(&ended), "{ended} {pattern}");
    assert_eq!(beside(), before);
}

#[test]
fn what_others_may_write_to_is_refused_with_what_to_type() {
    let mut cluster = Cluster::new("writable");
    cluster.write_file("needs.cache = \"any\"", &[("cache", "{ n1 = \"A1\" }"), ("web", "{ n2 = \"A2\" }")]);
    let unit = cluster.file_named("units/cache.toml");
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for path in [cluster.file(), unit.clone(), cluster.file_named("units"), cluster.dir().to_owned()] {
        let before = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        mode(&path, before | 0o020);
        let told = cluster.run_agent_to_its_end("n1");
        assert!(
            told.code != 0 && told.text().contains(&format!("chmod go-w {}", path.display())),
            "{told:?}"
        );
        mode(&path, before);
    }
    cluster.start("n1");
    wait("the cache to be ready", || cluster.pid_if("n1", "cache@n1", "ready"));
    // A new one is refused, and the last good one stays.
    mode(&unit, 0o666);
    let told = cluster.ctl("n1", &["reload", "n1"]);
    assert!(told.code != 0 && told.text().contains("chmod go-w"), "{told:?}");
    mode(&unit, 0o644);
    assert_eq!(cluster.ctl("n1", &["reload", "n1"]).code, 0);
    cluster.kill("n1");
    // The state of somebody else.
    let wishes = cluster.file_named("n1/state/id");
    std::os::unix::fs::chown(&wishes, Some(65534), None).unwrap();
    let told = cluster.run_agent_to_its_end("n1");
    assert!(told.code != 0 && told.text().contains("chown root"), "{told:?}");
    std::os::unix::fs::chown(&wishes, Some(0), None).unwrap();
}
