//! keepalived's health check that comes nearest to a probe.
//!
//! It speaks HTTP; of all other protocols it knows only whether the port accepts. What it cannot check is said in a
//! comment, so that nobody takes the one for the other.

use crate::model::{Ask, Get, Question, Readiness};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The block of one real server at `address`, indented for its place; a comment where nothing can be asked.
pub(super) fn checked(ready: &Readiness, address: IpAddr) -> String {
    let Some(question) = &ready.remote else {
        return note("not checked: whether it is ready shows only on its own machine");
    };
    let Some(target) = question.address() else {
        return note("not checked: its probe goes to no address");
    };
    match &question.ask {
        Ask::Http(get) => http(get, question, ready, target, address),
        Ask::Tcp { .. } => block("TCP_CHECK", "", question, ready, target, address),
        Ask::Udp { .. } | Ask::Dns { .. } => note("not checked: its probe is asked over UDP"),
        other => {
            let words = format!("keepalived does not speak {}: only the port is tried", protocol(other));
            note(&words) + &block("TCP_CHECK", "", question, ready, target, address)
        }
    }
}

fn http(get: &Get, question: &Question, ready: &Readiness, target: SocketAddr, address: IpAddr) -> String {
    let tls = get.url.starts_with("https:");
    let Some(path) = word(path_of(&get.url)) else {
        return note("the path of its probe cannot be written here: only the port is tried")
            + &block("TCP_CHECK", "", question, ready, target, address);
    };
    let mut url = format!("            http_protocol 1.1\n            url {{\n                path {path}\n");
    let _ = writeln!(url, "                status_code {}", get.status);
    let mut notes = String::new();
    if let Some(text) = &get.contains {
        match regex(text) {
            Some(regex) => {
                let _ = writeln!(url, "                regex {regex}");
            }
            None => notes += &note("`contains` of its probe cannot be written here"),
        }
    }
    let name = get.name.as_deref().and_then(word);
    if let Some(name) = &name {
        let _ = writeln!(url, "                virtualhost {name}");
    }
    url.push_str("            }\n");
    if tls && name.is_some() {
        url.push_str("            enable_sni\n");
    }
    let left_out =
        [(!get.json.is_empty(), "`json`"), (!get.headers.is_empty(), "`headers`"), (tls, "the certificate")];
    let left_out: Vec<&str> = left_out.iter().filter(|(is, _)| *is).map(|(_, what)| *what).collect();
    if !left_out.is_empty() {
        notes += &note(&format!("keepalived does not look at {}", left_out.join(" and ")));
    }
    notes + &block(if tls { "SSL_GET" } else { "HTTP_GET" }, &url, question, ready, target, address)
}

fn block(
    kind: &str,
    inside: &str,
    question: &Question,
    ready: &Readiness,
    target: SocketAddr,
    address: IpAddr,
) -> String {
    let mut out = format!("        {kind} {{\n");
    if target.ip() != address {
        let _ = writeln!(out, "            connect_ip {}", target.ip());
    }
    let _ = writeln!(out, "            connect_port {}", target.port());
    let _ = writeln!(out, "            connect_timeout {}", seconds(question.timeout));
    let _ = writeln!(out, "            retry {}", ready.lost_after.saturating_sub(1));
    out.push_str("            delay_before_retry 1\n");
    out.push_str(inside);
    out.push_str("        }\n");
    out
}

fn note(words: &str) -> String {
    format!("        # {words}\n")
}

fn protocol(ask: &Ask) -> &'static str {
    match ask {
        Ask::Mysql { .. } => "MySQL",
        Ask::Postgres { .. } => "PostgreSQL",
        Ask::Redis { .. } => "Redis",
        Ask::Activemq { .. } => "OpenWire",
        Ask::Fastdfs { .. } => "FastDFS",
        Ask::Grpc(_) => "gRPC",
        _ => "that",
    }
}

/// Seconds as keepalived takes them: whole where they are.
pub(super) fn seconds(time: Duration) -> String {
    match time.subsec_millis() {
        0 => time.as_secs().to_string(),
        millis => format!("{}.{millis:03}", time.as_secs()).trim_end_matches('0').to_owned(),
    }
}

/// What follows the host of a URL.
fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or("/", |at| &rest[at..])
}

/// A text as one word of the file: quoted where it must be. `None` where no quoting helps: `$` starts a parameter,
/// and a backslash escapes in some places only.
fn word(text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:?=&%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return Some(text.to_owned());
    }
    let hopeless = |c: char| c.is_control() || "\"\\$".contains(c);
    (!text.is_empty() && !text.chars().any(hopeless)).then(|| format!("\"{text}\""))
}

/// A regular expression for just this text. A class holds each character with a meaning of its own, since a backslash
/// would have to pass two parsers.
fn regex(text: &str) -> Option<String> {
    if text.is_empty() || text.chars().any(|c| c.is_control() || "\"\\$^".contains(c)) {
        return None;
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if ".*+?()[{|".contains(c) {
            out.extend(['[', c, ']']);
        } else {
            out.push(c);
        }
    }
    Some(format!("\"{out}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_or_given_up() {
        for (text, out) in [
            ("/health?a=b&c=%20", Some("/health?a=b&c=%20")),
            ("/a b#c!d{e}", Some("\"/a b#c!d{e}\"")),
            ("/a\"b", None),
            ("/a$b", None),
            ("/a\nb", None),
            ("", None),
        ] {
            assert_eq!(word(text).as_deref(), out, "{text}");
        }
        assert_eq!(regex("up (v1.2)").as_deref(), Some("\"up [(]v1[.]2[)]\""));
        assert_eq!(regex("^a"), None);
    }

    #[test]
    fn seconds_are_whole_where_they_can_be() {
        for (millis, text) in [(1000, "1"), (500, "0.5"), (1250, "1.25"), (30_000, "30"), (1001, "1.001")] {
            assert_eq!(seconds(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn paths_of_urls() {
        for (url, path) in
            [("http://1.2.3.4:80/a/b", "/a/b"), ("https://[::1]:443", "/"), ("http://h?x", "/")]
        {
            assert_eq!(path_of(url), path);
        }
    }
}
