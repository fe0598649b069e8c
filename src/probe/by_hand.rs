//! Asking by hand: one question, once, over a new connection, with the time of each stage and what the answer means.
//!
//! Two ways. An instance's own question is taken from the cluster file, so an agent may ask it for whoever reaches its
//! API. A question that somebody types is asked by the command itself, never by an agent.

use super::course::{Commitment, Course, Stages};
use super::{Asker, meaning, net};
use crate::facts::Report;
use crate::model::{
    Ask, BrokerAsk, FastdfsAsk, Get, GrpcHealth, Instance, Login, Probe, Question, Record, Secret, StoreAsk,
    is_systemd_unit,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

/// What can be typed as KIND, each with its port where it has one of its own.
const KINDS: [(&str, Option<u16>); 16] = [
    ("tcp", None),
    ("http", None),
    ("mysql", Some(3306)),
    ("postgres", Some(5432)),
    ("redis", Some(6379)),
    ("activemq", Some(61616)),
    ("fastdfs", Some(22122)),
    ("uno", Some(2002)),
    ("udp", None),
    ("dns", Some(53)),
    ("grpc", None),
    ("unix", None),
    ("file", None),
    ("mount", None),
    ("systemd", None),
    ("clock", None),
];

/// Those that take a login. A broker is asked for its store with it.
const WITH_LOGIN: [&str; 4] = ["mysql", "postgres", "redis", "activemq"];

/// Why there is nothing to ask.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct NoQuestion {
    text: String,
    /// What to do instead.
    pub hint: String,
}

impl NoQuestion {
    fn new(text: impl Into<String>, hint: impl Into<String>) -> NoQuestion {
        NoQuestion { text: text.into(), hint: hint.into() }
    }
}

/// The question that the cluster file has for an instance: the own one on its own node, from elsewhere the one that
/// dependents ask.
pub fn configured(instance: &Instance, on_its_node: bool) -> Result<Question, NoQuestion> {
    let name = &instance.name;
    let ready = &instance.unit.ready;
    match (&ready.local, &ready.remote) {
        (Probe::Ask(question), _) if on_its_node => Ok(question.clone()),
        (_, Some(question)) if !on_its_node => Ok(question.clone()),
        (Probe::Ask(_), _) => Err(NoQuestion::new(
            format!("{name} can be asked on its own node only"),
            format!("leave out --from: clusterctl probe {name}"),
        )),
        _ => Err(NoQuestion::new(
            format!("{name} is not asked: its agent knows from the process itself whether it is ready"),
            format!("clusterctl why {name}"),
        )),
    }
}

/// Asks a question once.
pub async fn ask(question: Question) -> Report {
    let ask = question.ask.clone();
    let mut asker = Asker::new(question);
    let verdict = asker.ask().await.verdict;
    Report {
        asked: meaning::asked(&ask),
        meaning: meaning::of(&ask, &verdict).into(),
        stages: asker.taken(),
        verdict,
    }
}

/// A question as somebody typed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    ask: Ask,
    /// Whose address must be known before it can be asked; `None` where the protocol looks it up by itself.
    host: Option<(String, u16)>,
}

impl Typed {
    /// Reads `KIND URL`: a full URL for `http`; a path for `unix`, `file` and `mount`; nothing for `clock`; else
    /// `[user@]host[:port]`, for `postgres` with `/database`, for `dns` with `/name`, for `grpc` with `/service`, for `udp`
    /// with `/` and what is sent.
    ///
    /// # Errors
    /// What is wrong with it. A password that was typed is not told again.
    pub fn read(kind: &str, url: &str, password: Option<Secret>) -> Result<Typed, NoQuestion> {
        let Some((kind, port)) = KINDS.iter().find(|(name, _)| *name == kind) else {
            let known = KINDS.map(|(name, _)| name).join(", ");
            return Err(NoQuestion::new(
                format!("there is no probe '{}'", told(kind)),
                format!("write one of {known}"),
            ));
        };
        if password.is_some() && !WITH_LOGIN.contains(kind) {
            let hint = format!("those that do are {}", WITH_LOGIN.join(", "));
            return Err(NoQuestion::new(format!("{kind} takes no password"), hint));
        }
        if *kind == "http" {
            let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
            return match authority(&url).contains('@') {
                true => Err(secret()),
                false => Ok(Typed { ask: Ask::Http(Get::of(url)), host: None }),
            };
        }
        if let Some(ask) = of_this_machine(kind, url)? {
            return Ok(Typed { ask, host: None });
        }
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        // Elsewhere such a word would mean something, and might be a password.
        if user.is_some_and(|user| user.contains(':')) || (WITH_LOGIN.contains(kind) && rest.contains('?')) {
            return Err(secret());
        }
        if user.is_some() && !WITH_LOGIN.contains(kind) {
            let hint = format!("those that do are {}", WITH_LOGIN.join(", "));
            return Err(NoQuestion::new(format!("{kind} takes no user"), hint));
        }
        let (host, port) = host_and_port(place, *port)?;
        let anonymous = if *kind == "redis" { Some("default") } else { None };
        let login = match (user.or(anonymous.filter(|_| password.is_some())), password) {
            (Some(user), password) => Some(Login { user: user.to_owned(), password }),
            (None, Some(_)) => {
                let hint = format!("write whose password it is: {kind} USER@{place}");
                return Err(NoQuestion::new("a password without a user", hint));
            }
            (None, None) => None,
        };
        // Filled in once it has been looked up.
        let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
        let ask = match (*kind, login) {
            ("mysql", login) => Ask::Mysql { address, login },
            ("redis", login) => Ask::Redis { address, login },
            ("postgres", Some(login)) => {
                let database = if path.is_empty() { "postgres" } else { path }.to_owned();
                Ask::Postgres { address, login, database }
            }
            ("postgres", None) => {
                let hint = format!("write the user: postgres USER@{place}");
                return Err(NoQuestion::new("PostgreSQL says nothing to nobody", hint));
            }
            ("activemq", login) => {
                let store = login.map(|login| StoreAsk { login: Some(login) });
                Ask::Activemq { address, also: BrokerAsk { store, ..BrokerAsk::default() } }
            }
            ("uno", _) => Ask::Uno { address, convert: None },
            ("fastdfs", _) => Ask::Fastdfs { address, ask: FastdfsAsk::Active },
            ("udp", _) if path.is_empty() => {
                let hint = format!("write what is sent: udp {place}/ping");
                return Err(NoQuestion::new("an empty datagram gets no reply", hint));
            }
            ("udp", _) => Ask::Udp { address, send: path.into(), expect: Vec::new() },
            ("dns", _) if path.is_empty() => {
                let hint = format!("write the name that is asked for: dns {place}/shop.example");
                return Err(NoQuestion::new("a name server is asked for a name", hint));
            }
            ("dns", _) => Ask::Dns { address, name: path.to_owned(), record: Record::A, expect: None },
            ("grpc", _) => {
                let service = path.to_owned();
                Ask::Grpc(GrpcHealth { address, service, tls: false, name: None, ca: None })
            }
            _ => Ask::Tcp { address },
        };
        Ok(Typed { ask, host: Some((host, port)) })
    }

    /// Asks it, the look-up of a name included in the time.
    pub async fn ask(mut self, timeout: Duration) -> Report {
        let begun = Instant::now();
        let mut stages = Vec::new();
        if let Some((host, port)) = &self.host {
            let (commitment, looked) = (Commitment::default(), Stages::default());
            let found = net::look_up(host, *port, Course::begin(timeout, &commitment, &looked)).await;
            stages = looked.taken();
            match (found, self.ask.address_mut()) {
                (Ok(found), Some(address)) => *address = found,
                (Err(verdict), _) => {
                    let asked = format!("{host}:{port}");
                    return Report {
                        asked,
                        meaning: meaning::of(&self.ask, &verdict).into(),
                        stages,
                        verdict,
                    };
                }
                (Ok(_), None) => {}
            }
        }
        // At least a millisecond, so that what is too late is said by who is late; all of it where nothing was looked up.
        let left = match stages.is_empty() {
            true => timeout,
            false => timeout.saturating_sub(begun.elapsed()).max(Duration::from_millis(1)),
        };
        let mut report = ask(Question { ask: self.ask, timeout: left }).await;
        stages.append(&mut report.stages);
        Report { stages, ..report }
    }
}

/// What has a path instead of a host, or nothing at all.
fn of_this_machine(kind: &str, url: &str) -> Result<Option<Ask>, NoQuestion> {
    let path = PathBuf::from(url);
    let ask = match kind {
        "clock" if url.is_empty() => Ask::Clock { max_error: None },
        "clock" => {
            return Err(NoQuestion::new("the clock of this machine has no URL", "clusterctl probe clock"));
        }
        "unix" => Ask::Unix { path },
        "file" => Ask::File { path, contains: None, max_age: None },
        "mount" => Ask::Mount { path, fs: None },
        "systemd" if is_systemd_unit(url) => return Ok(Some(Ask::Systemd { unit: url.to_owned() })),
        "systemd" => {
            let why = format!("'{url}' is no unit of systemd's");
            return Err(NoQuestion::new(
                why,
                "write it as `systemctl list-units` shows it: systemd nginx.service",
            ));
        }
        _ => return Ok(None),
    };
    if kind != "clock" && !url.starts_with('/') {
        let why = format!("'{}' is not an absolute path", told(url));
        return Err(NoQuestion::new(why, format!("write it from the root: {kind} /run/…")));
    }
    Ok(Some(ask))
}

fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

fn secret() -> NoQuestion {
    NoQuestion::new(
        "a password in a command is seen by every user of this machine",
        "name a file that only you can read with --password-file, a variable with --password-env, or a credential of \
         systemd's with --password-credential",
    )
}

/// What somebody typed, without what may be a login in it.
fn told(typed: &str) -> &str {
    typed.rsplit_once('@').map_or(typed, |(_, rest)| rest)
}

/// `host`, `host:port`, `[v6]:port`.
fn host_and_port(place: &str, default: Option<u16>) -> Result<(String, u16), NoQuestion> {
    let wrong = || {
        NoQuestion::new(format!("'{place}' is no host with a port"), "write HOST:PORT, such as redis1:6379")
    };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, Some(port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?))
        }
        _ => (place, default),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match port {
        Some(port) if !bare.is_empty() => Ok((bare.to_owned(), port)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Stage, Trouble, Verdict};
    use crate::probe::testing::{answers, nobody};

    fn read(kind: &str, url: &str) -> Result<Typed, NoQuestion> {
        Typed::read(kind, url, None)
    }

    #[test]
    fn what_is_typed_becomes_a_question() {
        let host = |kind, url| read(kind, url).unwrap().host.unwrap();
        assert_eq!(host("redis", "redis1"), ("redis1".into(), 6379));
        assert_eq!(host("redis", "redis://[::1]:7000"), ("::1".into(), 7000));
        assert_eq!(host("mysql", "probe@10.0.0.1"), ("10.0.0.1".into(), 3306));
        let shop = read("postgres", "postgres://probe@db:5433/shop").unwrap();
        let Ask::Postgres { login, database, .. } = shop.ask else { panic!() };
        assert_eq!((login.user.as_str(), database.as_str()), ("probe", "shop"));
        let file = || Some(Secret::File("/secret".into()));
        let with_file = Typed::read("redis", "redis1", file()).unwrap();
        let Ask::Redis { login: Some(login), .. } = with_file.ask else { panic!() };
        assert_eq!(login.user, "default");
        let store = Typed::read("activemq", "admin@mq1", Some(Secret::Env("PW".into()))).unwrap();
        let Ask::Activemq { also: BrokerAsk { store: Some(store), .. }, .. } = store.ask else { panic!() };
        assert_eq!(store.login.unwrap().password, Some(Secret::Env("PW".into())));
        let Ask::Dns { name, .. } = read("dns", "dns://10.0.0.1/shop.example").unwrap().ask else { panic!() };
        assert_eq!(name, "shop.example");
        assert_eq!(host("grpc", "web1:50051/orders"), ("web1".into(), 50051));
        assert_eq!(read("clock", "").unwrap().ask, Ask::Clock { max_error: None });
        assert_eq!(read("systemd", "a@b.mount").unwrap().ask, Ask::Systemd { unit: "a@b.mount".into() });
        assert_eq!(read("mount", "/srv").unwrap().ask, Ask::Mount { path: "/srv".into(), fs: None });
        assert_eq!(read("http", "web1/health").unwrap().ask, Ask::Http(Get::of("http://web1/health")));
    }

    #[test]
    fn what_cannot_be_asked_is_said() {
        let why = |kind, url| read(kind, url).unwrap_err().to_string();
        assert_eq!(why("radius", "x:1"), "there is no probe 'radius'");
        assert_eq!(why("tcp", "web1"), "'web1' is no host with a port");
        assert_eq!(why("tcp", "web1:0"), "'web1:0' is no host with a port");
        assert_eq!(why("postgres", "db"), "PostgreSQL says nothing to nobody");
        let secret = "a password in a command is seen by every user of this machine";
        assert_eq!(why("mysql", "root:hunter2@db"), secret);
        assert_eq!(why("http", "https://me:hunter2@web1/"), secret);
        assert_eq!(why("systemd", "nginx"), "'nginx' is no unit of systemd's");
        assert_eq!(why("unix", "run/x"), "'run/x' is not an absolute path");
        assert_eq!(why("dns", "10.0.0.1"), "a name server is asked for a name");
        assert_eq!(why("udp", "10.0.0.1:9"), "an empty datagram gets no reply");
        let file = || Some(Secret::File("/secret".into()));
        let why_with = |kind, url| Typed::read(kind, url, file()).unwrap_err().to_string();
        assert_eq!(why_with("mysql", "db"), "a password without a user");
        assert_eq!(why_with("tcp", "web1:80"), "tcp takes no password");
        assert_eq!(why("tcp", "me@web1:80"), "tcp takes no user");
        assert_eq!(why("postgres", "me@db/shop?password=hunter2"), secret);
        assert_eq!(why("redis", "redis1?password=hunter2"), secret);
        assert_eq!(why("me:hunter2@db", "mysql"), "there is no probe 'db'");
        assert_eq!(why("unix", "me:hunter2@db"), "'db' is not an absolute path");
    }

    #[tokio::test]
    async fn each_stage_has_its_time() {
        let stages = |report: &Report| report.stages.iter().map(|took| took.stage).collect::<Vec<_>>();
        let address = answers("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        let url = format!("localhost:{}/?token=secret", address.port());
        let report = read("http", &url).unwrap().ask(Duration::from_secs(5)).await;
        assert_eq!(report.verdict, Verdict::ready("200 OK"), "{report:?}");
        assert_eq!(stages(&report), [Stage::LookUp, Stage::Connect, Stage::Reply]);
        assert_eq!(report.asked, format!("GET http://localhost:{}/", address.port()));

        let (_port, address) = nobody().await;
        let report = read("redis", &address.to_string()).unwrap().ask(Duration::from_secs(5)).await;
        assert_eq!(stages(&report), [Stage::Connect], "it ended there");
        assert!(report.meaning.starts_with("the machine is up and nothing listens there"), "{report:?}");

        let report = read("tcp", "no.such.name.invalid:1").unwrap().ask(Duration::from_secs(5)).await;
        let Verdict::NotReady { kind: Trouble::Unaskable, reason } = &report.verdict else {
            panic!("{report:?}")
        };
        assert!(reason.starts_with("cannot look up no.such.name.invalid"), "{reason}");
        assert_eq!(stages(&report), [Stage::LookUp]);
    }
}
