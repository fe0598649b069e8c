//! Planted passwords are looked for wherever they must not be: logs, events, journals, answers, arguments, environments.

use super::agents::{Cluster, wait};
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

const REDIS: &str = "planted-redis-secret";
const POSTGRES: &str = "planted-postgres-secret";
const MYSQL: &str = "planted-mysql-secret";
const OPEN: &str = "planted-in-an-open-file";
const ENVIRONMENT: &str = "planted-in-the-environment";
const ALL: [&str; 5] = [REDIS, POSTGRES, MYSQL, OPEN, ENVIRONMENT];

/// A server that gives back in its error whatever it was told.
fn mirror(address: String, answer: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + 'static) {
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.and_then(|mut stream| answer(&mut stream));
        }
    });
}

fn heard(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = [0; 1024];
    let length = stream.read(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).replace(['\r', '\n', '\0'], " "))
}

fn redis(stream: &mut TcpStream) -> std::io::Result<()> {
    let words = heard(stream)?;
    stream.write_all(format!("-WRONGPASS invalid username-password pair: {words}\r\n").repeat(4).as_bytes())
}

fn postgres(stream: &mut TcpStream) -> std::io::Result<()> {
    heard(stream)?;
    stream.write_all(b"R\0\0\0\x08\0\0\0\x03")?; // the password in clear, please
    let words = heard(stream)?;
    let fields = format!("SFATAL\0C28P01\0Mwrong password: {words}\0\0");
    let length = (fields.len() as u32 + 4).to_be_bytes();
    stream.write_all(&[b"E", &length[..], fields.as_bytes()].concat())
}

fn mysql(stream: &mut TcpStream) -> std::io::Result<()> {
    let greeting = b"\x0a8.0.0\0\x01\0\0\0abcdefgh\0\xff\xf7\x21\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0ijklmnopqrst\0mysql_clear_password\0";
    let head = [greeting.len() as u8, 0, 0, 0];
    stream.write_all(&[&head[..], greeting].concat())?;
    let words = heard(stream)?;
    let error = format!("\u{1}#28000Access denied: {words}");
    let error = [&[0xff, 0x15, 0x04], &error.as_bytes()[1..]].concat();
    stream.write_all(&[&[error.len() as u8, (error.len() >> 8) as u8, 0, 2], &error[..]].concat())
}

fn password(folder: &Path, name: &str, secret: &str, mode: u32) {
    let path = folder.join(name);
    fs::write(&path, format!("{secret}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
}

/// No secret is in this text.
#[track_caller]
fn clean(place: &str, text: &[u8]) {
    for secret in ALL {
        let found = text.windows(secret.len()).position(|some| some == secret.as_bytes());
        assert!(found.is_none(), "{secret} is in {place}: {}", String::from_utf8_lossy(text));
    }
}

/// All files below this folder.
fn clean_below(folder: &Path) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap().filter_map(Result::ok) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            count += clean_below(&entry.path());
        } else if kind.is_file() {
            let path = entry.path();
            match fs::read(&path) {
                Ok(text) => clean(&path.display().to_string(), &text),
                // It was being written, and has its own name now.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => panic!("{}: {e}", path.display()),
            }
            count += 1;
        }
    }
    count
}

#[test]
fn secrets_are_nowhere() {
    let mut cluster = Cluster::new("secrets");
    let at = cluster.address(1);
    mirror(format!("{at}:7421"), redis);
    mirror(format!("{at}:7422"), postgres);
    mirror(format!("{at}:7423"), mysql);
    // Where systemd would put credentials: a folder beside those of the agent.
    let credentials = tempfile::tempdir().unwrap();
    password(credentials.path(), "redis", REDIS, 0o400);
    password(credentials.path(), "postgres", POSTGRES, 0o600);
    password(credentials.path(), "open", OPEN, 0o644);
    let file = |name: &str| format!("password_file = \"{}/{name}\"", credentials.path().display());
    let unit = |kind: &str, port: u16, password: &str| {
        format!(
            "[run]\ncommand = [\"/bin/sleep\", \"100000\"]\n[ready]\nprobe = {{ kind = \"{kind}\", port = {port}, user = \
             \"probe\", {password} }}\n"
        )
    };
    let asks = "[run]\ncommand = [\"/bin/sleep\", \"100000\"]\n[ready]\nprobe = { kind = \"exec\", command = \
                [\"/bin/sh\", \"-c\", \"tr '\\\\0' '\\\\n' </proc/self/environ; env; exit 3\"] }\n";
    let units = [
        ("redis", unit("redis", 7421, &file("redis"))),
        ("postgres", unit("postgres", 7422, "password_credential = \"postgres\"")),
        ("mysql", unit("mysql", 7423, "password_env = \"PLANTED_MYSQL\"")),
        ("open", unit("redis", 7424, &file("open"))),
        ("asks", asks.to_owned()),
    ];
    let units: Vec<(&str, &str)> = units.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let services = units.iter().map(|(name, _)| format!("{name} = {{ on = \"n1\" }}\n")).collect::<String>();
    cluster.write(
        &format!("[cluster]\nname = \"NAME\"\ninsecure = true\n[nodes]\nall = {{ n1 = \"A1\" }}\n[services]\n{services}"),
        &units,
    );
    let mut agent = cluster.agent("n1");
    agent.env("CREDENTIALS_DIRECTORY", credentials.path()).env("PLANTED_MYSQL", MYSQL);
    agent.env("PLANTED", ENVIRONMENT).env("RUST_LOG", "trace").env("MYSQL_PWD", ENVIRONMENT);
    cluster.start_as("n1", agent);

    // Each was asked, and has given back what it was told.
    let answers = [
        ("redis", "refuses the login: invalid username-password pair: "),
        ("redis", "(its password)"),
        ("postgres", "answers error 28P01: wrong password: "),
        ("postgres", "(its password)"),
        ("mysql", ":7423 "),
        ("open", "chmod 600 it"),
        ("asks", "exits 3"),
    ];
    for (name, part) in answers {
        let instance = format!("{name}@n1");
        wait(&format!("{name} to say {part:?}"), || {
            cluster.view("n1", &instance)?["own"]["reason"].as_str()?.contains(part).then_some(())
        });
    }
    let open = cluster.ctl("n1", &["status"]).text();
    let refused = format!(
        "{}/open is open to others than its owner (mode 644): chmod 600 it",
        credentials.path().display()
    );
    assert!(
        open.replace('\n', " ").split_whitespace().collect::<Vec<_>>().join(" ").contains(&refused),
        "{open}"
    );

    for args in [
        &["status", "--json"][..],
        &["why", "redis@n1", "--json"],
        &["events", "--json"],
        &["leftovers", "--json"],
        &["probe", "redis@n1", "--timing", "--json"],
        &["probe", "postgres@n1", "--json"],
        &["probe", "mysql@n1", "--json"],
        &["probe", "open@n1", "--json"],
        &["probe", "asks@n1", "--json"],
        &["logs", "redis@n1"],
    ] {
        clean(&format!("clusterctl {args:?}"), cluster.ctl("n1", args).text().as_bytes());
    }
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", cluster.pid("n1"))).unwrap();
    assert!(children.split_whitespace().count() >= 5, "{children}");
    for pid in children.split_whitespace() {
        for what in ["cmdline", "environ"] {
            // A probe's program may have ended since.
            let text = fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
            clean(&format!("/proc/{pid}/{what}"), &text);
        }
    }
    assert!(clean_below(cluster.dir()) > 10, "the agent's log, its journal, its events, its recording");
    // By hand, from each place where a password may be: it was told to the server, which gives it back.
    for from in [
        ["--password-file".to_owned(), format!("{}/redis", credentials.path().display())],
        ["--password-env".to_owned(), "PLANTED_REDIS".to_owned()],
        ["--password-credential".to_owned(), "redis".to_owned()],
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_clusterctl"));
        command.args(["probe", "redis", &format!("default@{at}:7421")]).args(&from);
        command.env("CREDENTIALS_DIRECTORY", credentials.path()).env("PLANTED_REDIS", REDIS);
        let told = super::agents::told(command);
        assert!(told.code == 3 && told.out.contains("(its password)"), "{from:?} {told:?}");
        clean(&format!("{from:?}"), told.text().as_bytes());
    }
    // By hand, where somebody does type it: refused, and not told again.
    let typed = cluster.ctl("n1", &["probe", "redis", &format!("default:{REDIS}@{at}:7421")]);
    assert!(typed.code != 0 && !typed.text().contains(REDIS), "{typed:?}");
}
