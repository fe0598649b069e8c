//! `probe = { kind = …, … }`: one question, as typed in a unit file.

use super::diag::Problem;
use super::fields::{Fields, Value};
use super::{Ask, FastdfsAsk, Get, Login, Probe, Question, Secret};
use super::{plain_probes, probe_daemons};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use toml::de::DeValue;

/// One deadline for connect, TLS and reply together.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long a process must live to count as ready where nothing better is known.
const RUNNING: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Tcp,
    Http,
    Exec,
    Mysql,
    Postgres,
    Redis,
    Activemq,
    Fastdfs,
    Uno,
    Vip,
    Ipvs,
    Udp,
    Dns,
    Grpc,
    Unix,
    File,
    Mount,
    Clock,
    Systemd,
    Running,
    Notified,
}

const KINDS: [(&str, Kind); 21] = [
    ("tcp", Kind::Tcp),
    ("http", Kind::Http),
    ("exec", Kind::Exec),
    ("mysql", Kind::Mysql),
    ("postgres", Kind::Postgres),
    ("redis", Kind::Redis),
    ("activemq", Kind::Activemq),
    ("fastdfs", Kind::Fastdfs),
    ("uno", Kind::Uno),
    ("vip", Kind::Vip),
    ("ipvs", Kind::Ipvs),
    ("udp", Kind::Udp),
    ("dns", Kind::Dns),
    ("grpc", Kind::Grpc),
    ("unix", Kind::Unix),
    ("file", Kind::File),
    ("mount", Kind::Mount),
    ("clock", Kind::Clock),
    ("systemd", Kind::Systemd),
    ("running", Kind::Running),
    ("notified", Kind::Notified),
];

/// The question that the agent asks on its own node.
pub(super) fn local_probe(value: Value<'_>, node: IpAddr) -> Option<Probe> {
    let mut fields = value.table("this probe")?;
    let kind = fields
        .need("kind", "write `kind = \"tcp\"`, or better the component's own protocol")?
        .choice(&KINDS)?;
    let probe = if kind == Kind::Running {
        let time = match fields.take("for") {
            Some(value) => value.span_of_time(),
            None => Some(RUNNING),
        };
        time.map(|for_| Probe::Running { for_ })
    } else if kind == Kind::Notified {
        Some(Probe::Notified)
    } else {
        question(&mut fields, kind, node).map(Probe::Ask)
    };
    fields.finish();
    probe
}

/// The question that dependents ask; `Some(None)` for `remote = false`: nothing can be asked from outside.
pub(super) fn remote_question(value: Value<'_>, node: IpAddr) -> Option<Option<Question>> {
    if value.raw().as_bool() == Some(false) {
        return Some(None);
    }
    match local_probe(value, node)? {
        Probe::Ask(question) if question.is_remote() => Some(Some(question)),
        _ => {
            value.error(
                "this probe means something on its own machine only",
                "write one that goes over the network, or `remote = false`; dependents on other nodes then need \
                 `proof = \"agent\"`",
            );
            None
        }
    }
}

/// The same question as asked from another machine: a loopback address becomes the node's own.
pub(super) fn from_outside(question: &Question, node: IpAddr) -> Option<Question> {
    if !question.is_remote() {
        return None;
    }
    let mut question = question.clone();
    let Some(old) = question.address().filter(|a| a.ip().is_loopback()) else { return Some(question) };
    let new = SocketAddr::new(node, old.port());
    if let Ask::Http(Get { url, .. }) = &mut question.ask {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let path = rest.find('/').map_or("/", |i| &rest[i..]);
        *url = format!("{scheme}://{new}{path}");
    } else if let Some(address) = question.ask.address_mut() {
        *address = new;
    }
    Some(question)
}

fn question(fields: &mut Fields<'_>, kind: Kind, node: IpAddr) -> Option<Question> {
    let timeout = match fields.take("timeout") {
        Some(value) => value.span_of_time(),
        None => Some(TIMEOUT),
    };
    let ask = match kind {
        Kind::Tcp => tcp(fields, node),
        Kind::Http => http(fields, node),
        Kind::Exec => plain_probes::exec(fields),
        Kind::Mysql => mysql(fields, node),
        Kind::Postgres => postgres(fields, node),
        Kind::Redis => {
            let address = address(fields, node, Some(6379));
            let login = login(fields, Some("default"));
            address.zip(login).map(|(address, login)| Ask::Redis { address, login })
        }
        Kind::Activemq => probe_daemons::activemq(fields, node),
        Kind::Fastdfs => fastdfs(fields, node),
        Kind::Uno => probe_daemons::uno(fields, node),
        Kind::Vip => probe_daemons::vip(fields),
        Kind::Ipvs => probe_daemons::ipvs(fields),
        Kind::Udp => plain_probes::udp(fields, node),
        Kind::Dns => plain_probes::dns(fields, node),
        Kind::Grpc => plain_probes::grpc(fields, node),
        Kind::Unix => fields
            .need("path", "write `path = \"/run/…\"`")
            .and_then(|v| v.path())
            .map(|path| Ask::Unix { path }),
        Kind::File => plain_probes::file(fields),
        Kind::Mount => plain_probes::mount(fields),
        Kind::Clock => plain_probes::clock(fields),
        Kind::Systemd => plain_probes::systemd(fields),
        Kind::Running | Kind::Notified => None,
    };
    Some(Question { ask: ask?, timeout: timeout? })
}

fn tcp(fields: &mut Fields<'_>, node: IpAddr) -> Option<Ask> {
    let address = address(fields, node, None)?;
    let (daemon, harm) = match address.port() {
        3306 => ("mysql", "after about a hundred such connections MySQL shuts this host out (error 1129)"),
        61616 => ("activemq", "an open port of a broker lies, and each such probe logs a warning in it"),
        _ => return Some(Ask::Tcp { address }),
    };
    fields.reader.log.warn(
        Problem::new(fields.span, format!("a bare tcp probe of port {} harms: {harm}", address.port()))
            .hint(format!("use kind = \"{daemon}\"")),
    );
    Some(Ask::Tcp { address })
}

fn mysql(fields: &mut Fields<'_>, node: IpAddr) -> Option<Ask> {
    let address = address(fields, node, Some(3306));
    let login = login(fields, None)?;
    if login.is_none() {
        fields.reader.log.warn(
            Problem::new(fields.span, "without a login MySQL's handshake is all that can be seen, and each look raises its Aborted_connects")
                .hint("give the probe a `user` (it needs no rights) and, if it has one, its `password_file`"),
        );
    }
    Some(Ask::Mysql { address: address?, login })
}

fn postgres(fields: &mut Fields<'_>, node: IpAddr) -> Option<Ask> {
    let address = address(fields, node, Some(5432));
    fields.need(
        "user",
        "PostgreSQL says nothing to nobody: write `user = \"…\"` and, if it has one, its `password_file`",
    );
    let login = login(fields, None)?;
    let database = match fields.take("database") {
        Some(value) => value.words()?.into_owned(),
        None => "postgres".to_string(),
    };
    Some(Ask::Postgres { address: address?, login: login?, database })
}

fn fastdfs(fields: &mut Fields<'_>, node: IpAddr) -> Option<Ask> {
    let address = address(fields, node, None);
    let group_value = fields.take("group");
    let group = group_value.map_or(Some(None), |v| read_group(&v).map(Some));
    let upload = fields.take("upload").map_or(Some(false), |v| v.flag());
    let ask = match (fields.take("trackers"), upload?, group?) {
        (Some(value), true, _) => {
            let hint = "leave out `upload` for a storage, and `trackers` for a tracker";
            value.error("a storage has `trackers`, and a tracker is asked for an `upload`", hint);
            return None;
        }
        (Some(value), false, group) => {
            if let Some(address) = address.filter(|address| address.ip().is_loopback()) {
                let hint =
                    "write the address that it has for its trackers, or leave it out for the node's own";
                value.error(format!("no tracker knows a storage as {}", address.ip()), hint);
                return None;
            }
            let trackers = socket_addresses(value);
            if trackers.is_empty() {
                value.error("`trackers` names none", "write them as \"192.168.1.61:22122\"");
                return None;
            }
            FastdfsAsk::Storage { group: group.unwrap_or_else(|| "group1".into()), trackers }
        }
        (None, true, group) => FastdfsAsk::Upload { group },
        (None, false, None) => FastdfsAsk::Active,
        (None, false, Some(_)) => {
            if let Some(value) = group_value {
                let hint = "add `upload = true` for a tracker, or `trackers = [\"ip:port\"]` for a storage";
                value.error("the active test knows no `group`", hint);
            }
            return None;
        }
    };
    Some(Ask::Fastdfs { address: address?, ask })
}

/// The name of a group: 16 bytes have room for it.
fn read_group(value: &Value<'_>) -> Option<String> {
    let name = value.words()?;
    if name.len() > 16 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        let hint = "write it as in storage.conf: at most 16 letters, digits, `_` and `-`";
        value.error(format!("`group` is \"{name}\", which is no group of FastDFS"), hint);
        return None;
    }
    Some(name.into_owned())
}

fn http(fields: &mut Fields<'_>, node: IpAddr) -> Option<Ask> {
    let url = match fields.take("url") {
        Some(value) => {
            for key in ["host", "port", "path", "tls", "address"] {
                if let Some(other) = fields.take(key) {
                    other.error(
                        format!("`{key}` beside `url` says one thing twice"),
                        "keep `url` alone, or write host, port and path without it",
                    );
                }
            }
            read_url(value)
        }
        None => {
            let tls = fields.take("tls").map_or(Some(false), |v| v.flag());
            let port = if tls == Some(true) { 443 } else { 80 };
            let address = address(fields, node, Some(port));
            let path = match fields.take("path") {
                Some(value) => read_url_path(value),
                None => Some("/".to_string()),
            };
            tls.zip(address).zip(path).map(|((tls, address), path)| {
                let scheme = if tls { "https" } else { "http" };
                format!("{scheme}://{address}{path}")
            })
        }
    };
    let status = fields.take("status").map_or(Some(200), |v| v.number(100..=599));
    let contains = fields.take("contains").and_then(|v| v.words()).map(String::from);
    let json = fields.take("json").map_or(Some(vec![]), |v| read_json(&v));
    let headers = fields.take("headers").map_or(Some(vec![]), |v| pairs(&v, "what the header must hold"));
    let name = fields.take("name").map_or(Some(None), |v| read_host(&v).map(Some));
    let ca = fields.take("ca").map_or(Some(None), |v| v.path().map(Some));
    let (url, status) = (url?, u16::try_from(status?).ok()?);
    Some(Ask::Http(Get { url, status, contains, json: json?, headers: headers?, name: name?, ca: ca? }))
}

/// `json = { "/pointer" = "value" }`
fn read_json(value: &Value<'_>) -> Option<Vec<(String, String)>> {
    let pairs = pairs(value, "the value that it must lead to")?;
    for (pointer, _) in &pairs {
        if !pointer.is_empty() && !pointer.starts_with('/') {
            value.error(
                format!("\"{pointer}\" is not a JSON pointer"),
                format!("write it from the root of the answer: \"/{}\"", pointer.replace('.', "/")),
            );
            return None;
        }
    }
    Some(pairs)
}

/// A table of texts, numbers and flags, as texts.
fn pairs(value: &Value<'_>, means: &str) -> Option<Vec<(String, String)>> {
    let table = value.table(format!("`{}`", value.key))?;
    let mut pairs = Vec::new();
    for value in table.rest() {
        let text = match value.raw() {
            DeValue::Integer(number) => number.to_string(),
            DeValue::Boolean(flag) => flag.to_string(),
            DeValue::String(_) => value.text()?.into_owned(),
            _ => {
                let hint = "write a string, a number, true or false";
                value.error(format!("`{}` must say {means}", value.key), hint);
                return None;
            }
        };
        pairs.push((value.key.to_owned(), text));
    }
    Some(pairs)
}

/// The name of a site.
pub(super) fn read_host(value: &Value<'_>) -> Option<String> {
    let name = value.words()?;
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) {
        value.error(
            format!("`{}` is \"{name}\", which is not a host name", value.key),
            "write the name alone, without scheme, port or path: \"shop.example\"",
        );
        return None;
    }
    Some(name.into_owned())
}

fn read_url(value: Value<'_>) -> Option<String> {
    let url = value.words()?;
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let authority = rest.map(|r| r.split(['/', '?', '#']).next().unwrap_or(r));
    let literal = authority.is_some_and(|a| {
        a.parse::<SocketAddr>().is_ok() || a.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
    });
    if !literal || url.contains(char::is_whitespace) {
        value.error(
            format!("`url` is \"{url}\", which does not start with http:// or https:// and a literal address"),
            "write \"http://{address}:8080/health\": after a power cut DNS is one more thing that may not be up",
        );
        return None;
    }
    Some(url.into_owned())
}

fn read_url_path(value: Value<'_>) -> Option<String> {
    let path = value.words()?;
    if !path.starts_with('/') || path.contains(char::is_whitespace) {
        value.error(
            format!("`path` is \"{path}\", which is not the path of a URL"),
            "write it from the root, such as \"/health\"",
        );
        return None;
    }
    Some(path.into_owned())
}

/// `address = "ip:port"`, or `host` (by default the node's address) and `port`.
pub(super) fn address(fields: &mut Fields<'_>, node: IpAddr, port: Option<u16>) -> Option<SocketAddr> {
    let (host_value, port_value) = (fields.take("host"), fields.take("port"));
    if let Some(value) = fields.take("address") {
        if let Some(other) = host_value.or(port_value) {
            other.error(
                format!("`{}` beside `address` says one thing twice", other.key),
                "keep `address = \"ip:port\"` alone, or write `host` and `port`",
            );
            return None;
        }
        return socket_address(value);
    }
    let host = match host_value {
        Some(value) => value.ip().filter(|ip| is_askable(&value, *ip)),
        None => Some(node),
    };
    let port = match (port_value, port) {
        (Some(value), _) => value.number(1..=65535).and_then(|p| u16::try_from(p).ok()),
        (None, Some(port)) => Some(port),
        (None, None) => {
            let problem = Problem::new(fields.span, "this probe has no `port`").hint("write `port = 8080`");
            fields.reader.log.error(problem);
            None
        }
    };
    Some(SocketAddr::new(host?, port?))
}

pub(super) fn socket_address(value: Value<'_>) -> Option<SocketAddr> {
    let text = value.words()?;
    socket_address_in(&value, &text)
}

/// A list, or a text with commas: what `[set]` declares is no list.
fn socket_addresses(value: Value<'_>) -> Vec<SocketAddr> {
    if !value.raw().is_str() {
        return value.items().into_iter().filter_map(socket_address).collect();
    }
    let texts = value.words().unwrap_or_default();
    let texts = texts.split(',').map(str::trim).filter(|text| !text.is_empty());
    texts.filter_map(|text| socket_address_in(&value, text)).collect()
}

fn socket_address_in(value: &Value<'_>, text: &str) -> Option<SocketAddr> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => {
            value.error("nothing listens on port 0", "write the port that the daemon listens on");
            None
        }
        Ok(address) => is_askable(value, address.ip()).then_some(address),
        Err(_) => {
            value.error(
                format!("`{}` is \"{text}\", which is not an address with a port", value.key),
                "write \"{address}:8080\" or \"127.0.0.1:8080\"",
            );
            None
        }
    }
}

fn is_askable(value: &Value<'_>, ip: IpAddr) -> bool {
    if ip.is_unspecified() {
        value.error(
            format!("{ip} is where a daemon listens, not where it can be asked"),
            "write the node's address, \"{address}\"",
        );
    }
    !ip.is_unspecified()
}

/// `user`, and where the password is; `Some(None)` is a sound absence. `anonymous` is who is meant by a password alone.
pub(super) fn login(fields: &mut Fields<'_>, anonymous: Option<&str>) -> Option<Option<Login>> {
    let user = fields.take("user");
    let told = ["password_file", "password_env", "password_credential"].map(|key| fields.take(key));
    let mut told = told.into_iter().flatten();
    let (secret, twice) = (told.next(), told.next());
    if let Some(other) = twice {
        other.error("the password is said to be in two places", "keep one of them");
        return None;
    }
    let password = match &secret {
        Some(value) => Some(read_secret(value)?),
        None => None,
    };
    let user = match (user, anonymous, secret) {
        (Some(value), _, _) => value.words()?.into_owned(),
        (None, _, None) => return Some(None),
        (None, Some(name), Some(_)) => name.to_string(),
        (None, None, Some(value)) => {
            let key = value.key;
            value.error(format!("a `{key}` without a `user`"), "write whose password it is: user = \"…\"");
            return None;
        }
    };
    Some(Some(Login { user, password }))
}

fn read_secret(value: &Value<'_>) -> Option<Secret> {
    let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    match value.key {
        "password_env" => {
            let name = value.words()?;
            let sound = is_plain(&name)
                && !name.contains(['-', '.'])
                && !name.starts_with(|c: char| c.is_ascii_digit());
            if !sound {
                let hint = "write the name of a variable of the agent's environment: \"MYSQL_PASSWORD\"";
                value.error("`password_env` is not the name of a variable", hint);
                return None;
            }
            Some(Secret::Env(name.into_owned()))
        }
        "password_credential" => {
            let name = value.words()?;
            if !is_plain(&name) || name.starts_with('.') {
                let hint = "write the name that `LoadCredential=NAME:/path` in clusterd.service gives it";
                value.error("`password_credential` is not the name of a credential", hint);
                return None;
            }
            Some(Secret::Credential(name.into_owned()))
        }
        _ => value.path().map(Secret::File),
    }
}
