//! Secrets, planted wherever one can be given, are looked for wherever something is told; and what the agent gives up.

use crate::agents::{Cluster, Told, told_typing, wait};
use crate::secured::{Secured, clusterctl};
use base64::Engine;
use clusterd::api::client::{Client, Target};
use clusterd::pki::Validity;
use clusterd::pki::Who;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
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
            match fs::read(&path) {
                Ok(text) => found.push((path.display().to_string(), text)),
                // It was being written, and has its own name now.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => panic!("{}: {e}", path.display()),
            }
        }
    }
    found
}

fn holds(text: &[u8], secret: &str) -> bool {
    text.windows(secret.len()).any(|part| part == secret.as_bytes())
}

/// Answers HTTP by giving back in its refusal all that it was told, the login too.
fn mirror(address: String) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = [0; 4096];
            let heard = stream.read(&mut bytes).unwrap_or(0);
            let body = String::from_utf8_lossy(&bytes[..heard]).replace(['\r', '\n'], " ");
            let head = format!("HTTP/1.1 403 {}\r\nContent-Length: {}\r\n\r\n", "no", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
}

const FILE: &str = "correct-horse-battery-staple";
const ENVIRONMENT: &str = "planted-for-mysql";
const CREDENTIAL: &str = "planted-for-postgres";
const JOLOKIA: &str = "planted-for-jolokia";
const OF_A_SERVICE: &str = "planted-for-the-service-itself";
const OF_A_BROKEN_FILE: &str = "planted-in-a-line-without-a-name";
const INLINE: &str = "planted-where-it-does-not-belong";
const PASSPHRASE: &str = "planted as a passphrase";
const AUTH_PASS: &str = "planted8";
const TYPED: &str = "planted-in-a-url";

/// Secrets and where each of them may be, and all that was told.
#[derive(Default)]
struct Search {
    secrets: Vec<String>,
    told: Vec<(String, Vec<u8>)>,
}

impl Search {
    fn hears(&mut self, place: impl Into<String>, text: impl Into<Vec<u8>>) {
        self.told.push((place.into(), text.into()));
    }

    /// Each whole line of a key, or of what is in its file.
    fn hides_key(&mut self, bundle: &str) {
        let before = self.secrets.len();
        let key = bundle.split("PRIVATE KEY-----").nth(1);
        let lines = key.into_iter().flat_map(str::lines).filter(|l| l.len() > 40);
        self.secrets.extend(lines.map(str::to_owned));
        assert!(self.secrets.len() > before, "a key to look for");
    }

    /// A command, with nothing of this machine's own.
    fn runs(&mut self, args: &[&str]) -> Told {
        let told = clusterctl(args);
        self.hears(args[..2.min(args.len())].join(" "), told.text());
        told
    }

    /// Nothing that was told holds a secret, unless it is `allowed` there.
    fn ends(&self, allowed: impl Fn(&str, &str) -> bool) {
        assert!(
            self.told.len() > 100 && self.secrets.len() > 20,
            "{} {}",
            self.told.len(),
            self.secrets.len()
        );
        for secret in &self.secrets {
            for (place, text) in &self.told {
                let found = holds(text, secret) && !allowed(place, secret);
                assert!(!found, "{place} tells {secret}: {}", String::from_utf8_lossy(text));
            }
        }
        println!("{} secrets, {} places", self.secrets.len(), self.told.len());
    }
}

/// The agents, and all that they and their children have started, with the name of the instance that each is of.
fn family(agents: &[u32]) -> Vec<(u32, String)> {
    let mut known: Vec<u32> = agents.to_vec();
    let processes: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()?))
        })
        .collect();
    loop {
        let more = processes.iter().filter(|(pid, parent)| known.contains(parent) && !known.contains(pid));
        let more: Vec<u32> = more.map(|(pid, _)| *pid).collect();
        if more.is_empty() {
            break;
        }
        known.extend(more);
    }
    let instance = |pid: u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let text = String::from_utf8_lossy(&environment).into_owned();
        let mark = text.split('\0').find_map(|v| v.strip_prefix("CLUSTERD_INSTANCE=").map(str::to_owned));
        mark.unwrap_or_else(|| if agents.contains(&pid) { "an agent".into() } else { String::new() })
    };
    known.into_iter().map(|pid| (pid, instance(pid))).collect()
}

#[test]
fn a_secret_is_found_where_it_was_put_and_nowhere_else() {
    let mut cluster = Secured::new("secrets", "");
    let mut search = Search::default();
    let at = cluster.address(1);
    [7431, 7433, 7434].iter().for_each(|port| mirror(format!("{at}:{port}")));
    let hidden = cluster.file_named("hidden");
    let secret = |name: &str, text: &str| {
        let path = hidden.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let jolokia_login = base64::prelude::BASE64_STANDARD.encode(format!("probe:{JOLOKIA}"));
    search.secrets.extend(
        [
            FILE,
            ENVIRONMENT,
            CREDENTIAL,
            JOLOKIA,
            &jolokia_login,
            OF_A_SERVICE,
            OF_A_BROKEN_FILE,
            INLINE,
            PASSPHRASE,
        ]
        .map(str::to_owned),
    );
    search.secrets.extend([AUTH_PASS, TYPED].map(str::to_owned));

    // Passwords of probes, in each way that there is; wrong ones, so that they are talked about.
    let (of_file, of_jolokia) = (secret("password", FILE), secret("jolokia", JOLOKIA));
    secret("credentials/postgres", CREDENTIAL);
    let of_service = secret("service.env", &format!("SECRET={OF_A_SERVICE}\n"));
    let broken = secret("broken.env", &format!("A=b\n{OF_A_BROKEN_FILE}\n"));
    let unit = cluster.file_named("units").join("cache.toml");
    let text = fs::read_to_string(&unit).unwrap();
    let probe = format!("user = \"default\", password_file = \"{of_file}\" }}\nwithin = \"60s\"");
    let text = text.replace("port = \"{port}\" }", &format!("port = \"{{port}}\", {probe}"));
    assert!(text.contains("password_file"), "{text}");
    fs::write(&unit, text).unwrap();
    let sleeps = |run: &str, probe: &str| {
        format!(
            "[run]\ncommand = [\"/bin/sleep\", \"100000\"]\n{run}\n[ready]\nprobe = {{ {probe} }}\nwithin = \"60s\"\n"
        )
    };
    let program = env!("CARGO_BIN_EXE_clusterctl");
    let broker = format!(
        "[run]\ncommand = [\"{program}\", \"stand-in\", \"activemq\", \"--listen\", \"{{address}}:7432\"]\n[ready]\n\
         probe = {{ kind = \"activemq\", port = 7432, jolokia = {{ port = 7431, user = \"probe\", password_file = \
         \"{of_jolokia}\" }} }}\n"
    );
    let units = [
        ("mysql", sleeps("", "kind = \"mysql\", port = 7433, user = \"probe\", password_env = \"PLANTED\"")),
        (
            "pg",
            sleeps(
                "",
                "kind = \"postgres\", port = 7434, user = \"probe\", password_credential = \"postgres\"",
            ),
        ),
        ("broker", broker),
        ("own", sleeps(&format!("environment_files = [\"{of_service}\"]"), "kind = \"running\"")),
        ("broken", sleeps(&format!("environment_files = [\"{broken}\"]"), "kind = \"running\"")),
    ];
    let mut services = String::from("cache = { on = \"cache\" }\n");
    for (name, text) in &units {
        fs::write(cluster.file_named("units").join(format!("{name}.toml")), text).unwrap();
        services += &format!("{name} = {{ on = \"cache\" }}\n");
    }
    let file = fs::read_to_string(cluster.file()).unwrap();
    fs::write(cluster.file(), file.replace("cache = { on = \"cache\" }\n", &services)).unwrap();

    // Keys of nodes and operators. Damaged ones are talked about, too.
    for node in ["n1", "n2"] {
        let issued = cluster.ca().issue(Who::Node(node.to_owned()), Validity::days(100)).unwrap();
        search.hides_key(&issued.bundle);
        cluster.hand_out(node, &issued.bundle[..issued.bundle.len() - 60]);
        let told = cluster.try_join(node);
        assert!(told.code != 0);
        search.hears("join", told.text());
        cluster.hand_out(node, &issued.bundle);
        cluster.join(node);
    }
    let mut agent = cluster.agent("n1");
    agent.env("PLANTED", ENVIRONMENT).env("RUST_LOG", "trace");
    agent.env("CREDENTIALS_DIRECTORY", cluster.file_named("hidden/credentials"));
    cluster.start_as("n1", agent);
    cluster.start("n2");
    wait("the agents to hear each other", || cluster.whole("n1"));
    for (instance, part) in [
        ("cache@n1", "PONG"),
        ("mysql@n1", ":7433"),
        ("pg@n1", ":7434"),
        ("broker@n1", "403"),
        ("broken@n1", "there is no `=` in it"),
    ] {
        wait(&format!("{part} of {instance}"), || {
            let view = cluster.view("n1", instance)?.to_string();
            view.contains(part).then_some(())
        });
    }
    wait("the service with a secret of its own", || cluster.pid_if("n1", "own@n1", "ready"));

    // The CA's key, with a passphrase and without, and what is done with it.
    let (socket, config) = (cluster.socket("n1"), cluster.file().display().to_string());
    let (ca, target) = (cluster.file_named("ca").display().to_string(), cluster.target(1).to_string());
    let out = cluster.file_named("hidden").display().to_string();
    search.hides_key(&fs::read_to_string(cluster.file_named("ca/ca.pem")).unwrap());
    let (pass, wrong) = (secret("passphrase", PASSPHRASE), secret("wrong", "not the right one"));
    let pki = |search: &mut Search, args: &[&str]| {
        search.runs(&[&["pki"], args, &["--config", &config, "--ca", &ca, "--socket", &socket]].concat())
    };
    assert_eq!(pki(&mut search, &["passphrase", "--new-passphrase-file", &pass]).code, 0);
    search.hides_key(&fs::read_to_string(cluster.file_named("ca/ca.pem")).unwrap());
    assert_eq!(
        pki(
            &mut search,
            &["operator", "alice", "--role", "read", "--passphrase-file", &wrong, "--out", &out]
        )
        .code,
        1
    );
    let operator = ["operator", "alice", "--role", "read", "--passphrase-file", &pass, "--out", &out];
    assert_eq!(pki(&mut search, &operator).code, 0);
    fs::set_permissions(&pass, fs::Permissions::from_mode(0o604)).unwrap();
    assert_eq!(
        pki(&mut search, &["bundle", "--passphrase-file", &pass, "--out", &out]).code,
        0,
        "nothing to sign"
    );
    assert_eq!(pki(&mut search, &["issue", "n2", "--passphrase-file", &pass, "--out", &out]).code, 1);
    fs::set_permissions(&pass, fs::Permissions::from_mode(0o600)).unwrap();
    let invited = clusterctl(&[
        "pki",
        "invite",
        "n2",
        "--config",
        &config,
        "--ca",
        &ca,
        "--socket",
        &socket,
        "--passphrase-file",
        &pass,
    ]);
    assert_eq!(invited.code, 0, "{invited:?}");
    search.hears("pki invite, but for what it is there to print", invited.err);
    let token = invited.out.trim().to_owned();
    search.secrets.extend([token.clone(), token.replace('-', "")]);
    let joins = |state: &str, typed: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_clusterd"));
        command.args(["join", "--token", "--node", "n2", "--config", &config, "--from", &target]);
        command.arg("--state").arg(cluster.file_named(state));
        told_typing(command, typed)
    };
    for typed in [&token[..30], &format!("{token}x"), &token, &token] {
        search.hears("join", joins("hidden/again", typed).text());
    }
    assert!(cluster.file_named("hidden/again/identity.pem").exists());
    let alice = format!("{out}/alice.pem");
    let bundle = fs::read_to_string(&alice).unwrap();
    search.hides_key(&bundle);
    assert_eq!(search.runs(&["events", "--agent", &target, "--identity", &alice]).code, 0);
    fs::write(&alice, &bundle[..bundle.len() - 60]).unwrap();
    assert_eq!(search.runs(&["events", "--agent", &target, "--identity", &alice]).code, 1);
    fs::write(&alice, bundle).unwrap();
    fs::write(cluster.file_named("ca/ca.pem"), &fs::read(cluster.file_named("ca/ca.pem")).unwrap()[300..])
        .unwrap();
    assert_eq!(pki(&mut search, &["show"]).code, 1);

    // Directors' files, whole and broken; what is typed where it does not belong.
    let conf = |priority: u8, end: &str| {
        format!(
            "vrrp_instance www {{\n interface eth0\n virtual_router_id 51\n priority {priority}\n authentication {{\n  \
             auth_type PASS\n  auth_pass {AUTH_PASS}\n }}\n virtual_ipaddress {{\n 192.168.1.100/24\n }}\n{end}"
        )
    };
    let (one, two) = (secret("one.conf", &conf(150, "}\n")), secret("two.conf", &conf(100, "")));
    search.runs(&["import", "keepalived", &one, &two]);
    search.runs(&["check", "--config", &config, "--keepalived", &one, &two]);
    for (kind, url) in [
        ("http", format!("http://{at}:7431/?token={TYPED}")),
        ("http", format!("http://me:{TYPED}@{at}:7431/")),
        ("redis", format!("default:{TYPED}@{at}:7431")),
        ("postgres", format!("me@{at}:7431/shop?password={TYPED}")),
        ("unix", format!("me:{TYPED}@{at}")),
        (&format!("me:{TYPED}@{at}"), "redis".to_owned()),
    ] {
        search.runs(&["probe", kind, &url, "--timing"]);
        search.runs(&["probe", kind, &url, "--json"]);
    }
    for (kind, url) in [("redis", "default"), ("mysql", "me"), ("postgres", "me"), ("activemq", "me")] {
        search.runs(&["probe", kind, &format!("{url}@{at}:7431"), "--password-file", &of_file, "--timing"]);
    }
    // A secret in a unit is refused without being told, also by the agent.
    let good = fs::read_to_string(&unit).unwrap();
    for bad in ["password = \"INLINE\", kind", "password = INLINE, kind", "pasword_env = \"INLINE\", kind"] {
        fs::write(&unit, good.replacen("kind", &bad.replace("INLINE", INLINE), 1)).unwrap();
        assert_eq!(search.runs(&["check", "--config", &config]).code, 4, "{bad}");
        assert_ne!(search.runs(&["reload", "n1", "--socket", &socket]).code, 0);
        search.runs(&["status", "--json", "--socket", &socket]);
    }
    fs::write(&unit, good).unwrap();
    assert_eq!(search.runs(&["reload", "n1", "--socket", &socket, "--reason", "no secret"]).code, 0);

    // Every answer of the API, from both and through each other.
    let unix = Target::Unix(socket.clone().into());
    for (method, path, _) in clusterd::api::caller::CALLS {
        for (via, of) in [("", "cache@n1"), ("/v1/at/n1", "broker@n1"), ("/v1/at/n2", "web@n2")] {
            let ask = match *path {
                "/v1/watch" => continue,
                "/v1/logs" => format!("{via}/v1/logs?instance={of}&last=1000"),
                "/v1/probe" => format!("{via}/v1/probe?instance={of}"),
                path => format!("{via}{path}"),
            };
            let mut client = Client::new(unix.clone());
            let answer = client.raw(method.clone(), &ask, bytes::Bytes::from_static(b"{}"), None);
            let (_, body) = cluster.block_on(answer).unwrap();
            search.hears(format!("{method} {ask}"), body);
        }
    }
    for instance in ["cache@n1", "mysql@n1", "pg@n1", "broker@n1", "own@n1", "broken@n1"] {
        for verb in ["why", "events", "logs", "probe"] {
            search.runs(&[verb, instance, "--socket", &socket]);
        }
    }
    for verb in [&["status"][..], &["events", "--json"], &["leftovers"], &["audit"], &["doctor"], &["vip"]] {
        search.runs(&[verb, &["--socket", &socket]].concat());
    }
    for verb in [&["plan"][..], &["plan", "--json"], &["check"], &["graph"], &["render"], &["simulate"]] {
        search.runs(&[verb, &["--config", &config]].concat());
    }

    // What everybody may see of processes, and all that lies on the disk, but for the files that hold secrets.
    let agents = ["n1", "n2"].map(|node| cluster.pid(node));
    let family = family(&agents);
    assert!(family.len() >= 2 + 6, "{family:?}");
    for (pid, of) in family {
        for file in ["cmdline", "environ"] {
            let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            search.hears(format!("/proc/{pid}/{file} of {of}"), text);
        }
    }
    let holding = ["ca", "hidden", "n1.pem", "n2.pem"].map(|name| cluster.file_named(name));
    let holding = [&holding[..], &[cluster.identity("n1"), cluster.identity("n2")]].concat();
    let holding: Vec<&Path> = holding.iter().map(AsRef::as_ref).collect();
    let files = all_text(&cluster.file_named(""), &holding);
    for part in
        ["agent.log", "events.jsonl", "trace.jsonl", "trail", "instances/", "run/invitations", "config.json"]
    {
        assert!(files.iter().any(|(path, _)| path.contains(part)), "{part}");
    }
    let is_core = |path: &str| path.rsplit('/').next().is_some_and(|name| name.starts_with("core"));
    assert!(!files.iter().any(|(path, _)| is_core(path)) && !Path::new("core").exists(), "a core file");
    search.told.extend(files);
    search.ends(|place, secret| match secret {
        // Root has put it there, for the agent alone.
        ENVIRONMENT => place.ends_with("environ of an agent"),
        // The unit insists.
        OF_A_SERVICE => place.ends_with("environ of own@n1"),
        _ => false,
    });
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
