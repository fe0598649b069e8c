//! Redis: `PING`, `ROLE` and two sections of `INFO`, in one round trip.
//!
//! The `redis` crate packs the commands and parses the replies. Its connections are not used: they keep a task of
//! their own, send set-up commands, read without a limit, and hide whether a connect or a reply is late. A fresh
//! connection costs 0.1 ms, so each question makes one.

use super::course::Course;
use super::{net, password};
use crate::facts::{Ready, Role, Stage, Trouble, Verdict};
use crate::model::Login;
use redis::{Parser, Value};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The most bytes of replies that are read. The sections asked for are about 3 KiB; `ROLE` of a master adds 60
/// bytes a replica.
pub(super) const MOST: usize = 64 * 1024;

/// The most pieces that it may come in; two are usual. Each is looked at with all before it, so one that drips would
/// keep a core busy.
const PIECES: usize = 256;

pub(super) async fn ask(address: SocketAddr, login: Option<&Login>, course: Course<'_>) -> Verdict {
    let mut questions = redis::pipe();
    let mut count = 4;
    if let Some(login) = login {
        let password = match password::of(login) {
            Ok(password) => password.unwrap_or_default(),
            Err(verdict) => return verdict,
        };
        count += 1;
        // Without ACLs (before Redis 6) AUTH takes a password alone, and it means the user `default`.
        match login.user.as_str() {
            "" | "default" => questions.cmd("AUTH").arg(password.as_str()),
            user => questions.cmd("AUTH").arg(user).arg(password.as_str()),
        };
    }
    questions.cmd("PING").cmd("ROLE").cmd("INFO").arg("server").cmd("INFO").arg("persistence");
    let questions = questions.get_packed_pipeline();

    let mut stream = match net::connect(address, course).await {
        Ok(stream) => stream,
        Err(verdict) => return verdict,
    };
    course.commit();
    course.enter(Stage::Reply);
    match course.limit(exchange(&mut stream, &questions, count)).await {
        Some(Ok(replies)) => judge(address, replies, login),
        Some(Err(Failure::Io(error))) => net::exchange_trouble(address, &error),
        Some(Err(Failure::Garbled(heard))) => net::garbled(address, "Redis", heard),
        Some(Err(Failure::Says(words))) => {
            net::garbled(address, "Redis", format!("it says \"{}\"", password::said(login, &words)))
        }
        None => net::silent(address, course),
    }
}

pub(super) enum Failure {
    Io(io::Error),
    Garbled(String),
    /// The other side's own words.
    Says(Vec<u8>),
}

/// Sends the packed `questions` and reads `count` replies, or fewer when the server closes after an error reply
/// (protected mode, too many clients).
pub(super) async fn exchange<S>(stream: &mut S, questions: &[u8], count: usize) -> Result<Vec<Value>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // A server that refuses this client answers and closes without reading: its words are still there to be read.
    let sent = stream.write_all(questions).await;
    let mut heard = Vec::with_capacity(4096);
    for _ in 0..=PIECES {
        let replies = parse(&heard, count)?;
        if replies.len() == count {
            return Ok(replies);
        }
        if heard.len() >= MOST {
            return Err(Failure::Garbled(format!("the answer is longer than {MOST} bytes")));
        }
        match stream.read_buf(&mut heard).await {
            Ok(1..) => {}
            _ if !replies.is_empty() => return Ok(replies),
            Ok(0) => return Err(Failure::Io(sent.err().unwrap_or(io::ErrorKind::UnexpectedEof.into()))),
            Err(error) => return Err(Failure::Io(error)),
        }
    }
    Err(Failure::Garbled(format!("its answer comes in more than {PIECES} pieces")))
}

/// The complete replies in `bytes`, and no more than so many: to find out that there is none left costs as much as one.
fn parse(bytes: &[u8], count: usize) -> Result<Vec<Value>, Failure> {
    let mut rest = bytes;
    // It takes more than it needs from `rest`: only the same parser knows where the next reply begins.
    let mut parser = Parser::new();
    let mut replies = Vec::with_capacity(count);
    while replies.len() < count && !bytes.is_empty() {
        match parser.parse_value(&mut rest) {
            Ok(value) => replies.push(value),
            // The parser's word for "not complete yet".
            Err(error) if error.is_io_error() => break,
            Err(_) => return Err(Failure::Says(bytes.to_vec())),
        }
    }
    Ok(replies)
}

pub(super) fn judge(address: SocketAddr, mut replies: Vec<Value>, login: Option<&Login>) -> Verdict {
    if login.is_some() && matches!(replies.first(), Some(Value::Okay)) {
        replies.remove(0);
    }
    // An error to AUTH, or to PING, is the whole answer.
    let mut replies = replies.into_iter();
    let (ping, role) = (replies.next().unwrap_or_default(), replies.next().unwrap_or_default());
    let (server, persistence) = (text(replies.next()), text(replies.next()));
    match ping {
        Value::SimpleString(pong) if pong == "PONG" => {}
        Value::ServerError(error) => {
            let said = error.details().unwrap_or_default();
            return match error.code() {
                "LOADING" => loading(address, &persistence),
                code => refused(address, login, code, said),
            };
        }
        other => {
            return net::garbled(address, "Redis", format!("PING is answered by {}", brief(login, &other)));
        }
    }
    let identity = field(&server, "run_id").map(str::to_owned);
    by_role(address, login, &role, identity)
}

/// The verdict on an error reply to `AUTH` or `PING`.
fn refused(address: SocketAddr, login: Option<&Login>, code: &str, words: &str) -> Verdict {
    let said = password::said(login, words.trim_end_matches('.').as_bytes());
    match code {
        "NOAUTH" => {
            Verdict::not_ready(Trouble::Denied, format!("{address} asks for a password, and none is given"))
        }
        "WRONGPASS" | "NOPERM" => {
            Verdict::not_ready(Trouble::Denied, format!("{address} refuses the login: {said}"))
        }
        "DENIED" => Verdict::not_ready(
            Trouble::Denied,
            format!("{address} is in protected mode: it has no password and answers its own machine only"),
        ),
        "MASTERDOWN" => Verdict::not_ready(
            Trouble::Declined,
            format!(
                "{address} is a replica without a link to its master, and answers nobody meanwhile (MASTERDOWN)"
            ),
        ),
        "ERR" if words.starts_with("AUTH ") => {
            Verdict::not_ready(Trouble::Denied, format!("{address} has no password, and one is given"))
        }
        _ => Verdict::not_ready(
            Trouble::Declined,
            format!("{address} answers {}: {said}", password::said(login, code.as_bytes())),
        ),
    }
}

fn loading(address: SocketAddr, persistence: &str) -> Verdict {
    let percent = field(persistence, "loading_loaded_perc")
        .and_then(|v| v.parse::<f64>().ok())
        .filter(|v| (0.0..=100.0).contains(v))
        .map(|v| v as u8);
    let left =
        field(persistence, "loading_eta_seconds").and_then(|v| v.parse().ok()).map(Duration::from_secs);
    let reason = match percent {
        Some(percent) => format!("{address} is loading its data set: {percent} %"),
        None => format!("{address} is loading its data set"),
    };
    Verdict::Progress { reason, percent, left }
}

/// The verdict on a server that said PONG, by its answer to `ROLE`.
fn by_role(address: SocketAddr, login: Option<&Login>, role: &Value, identity: Option<String>) -> Verdict {
    let ready = |detail: String, roles| Verdict::Ready(Ready { detail, roles, identity: identity.clone() });
    let parts = match role {
        Value::Array(parts) => parts.as_slice(),
        // An ACL may allow PING and not ROLE.
        Value::ServerError(error) => {
            let said = password::said(login, error.to_string().as_bytes());
            return ready(format!("PONG, role unknown: {said}"), vec![]);
        }
        other => {
            return net::garbled(address, "Redis", format!("ROLE is answered by {}", brief(login, other)));
        }
    };
    match (word(parts.first()).as_str(), parts) {
        ("master", [_, _, Value::Array(replicas), ..]) => {
            let replicas = match replicas.len() {
                0 => String::new(),
                1 => ", 1 replica".into(),
                n => format!(", {n} replicas"),
            };
            ready(format!("PONG, master{replicas}"), vec![Role::Writable, Role::Master])
        }
        ("slave", [_, host, Value::Int(port), state, ..]) => {
            let master = format!("{}:{port}", word(Some(host)));
            match word(Some(state)).as_str() {
                "connected" => ready(format!("PONG, replica of {master}"), vec![Role::Replica]),
                "sync" => Verdict::Progress {
                    reason: format!("{address} is copying the data set of its master {master}"),
                    percent: None,
                    left: None,
                },
                state => Verdict::not_ready(
                    Trouble::Declined,
                    format!("{address} is a replica without a link to its master {master} ({state})"),
                ),
            }
        }
        ("sentinel", _) => ready("PONG, sentinel".into(), vec![]),
        _ => net::garbled(address, "Redis", format!("ROLE is answered by {}", brief(login, role))),
    }
}

/// The value of `name` in a section of `INFO`.
fn field<'a>(section: &'a str, name: &str) -> Option<&'a str> {
    section.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn text(value: Option<Value>) -> String {
    match value {
        Some(Value::BulkString(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        _ => String::new(),
    }
}

fn word(value: Option<&Value>) -> String {
    match value {
        Some(Value::BulkString(bytes)) => net::shown(bytes),
        Some(Value::SimpleString(text)) => net::shown(text.as_bytes()),
        _ => String::new(),
    }
}

/// An unexpected reply, cut to what fits in a sentence.
fn brief(login: Option<&Login>, value: &Value) -> String {
    let text = password::said(login, format!("{value:?}").as_bytes());
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Ask;
    use crate::probe::testing::{answers, ask, ask_in_vain, greets, login, not_ready};

    const MASTER: &str =
        "*3\r\n$6\r\nmaster\r\n:42\r\n*1\r\n*3\r\n$8\r\n10.0.0.2\r\n$4\r\n6379\r\n$2\r\n42\r\n";

    fn bulk(text: &str) -> String {
        format!("${}\r\n{text}\r\n", text.len())
    }

    /// The four replies of a server that works, with this answer to ROLE.
    fn replies(role: &str) -> String {
        format!("+PONG\r\n{role}{}{}", bulk("# Server\r\nrun_id:abc\r\n"), bulk("loading:0\r\n"))
    }

    fn replica(state: &str) -> String {
        replies(&format!("*5\r\n$5\r\nslave\r\n$8\r\n10.0.0.1\r\n:6379\r\n{}:-1\r\n", bulk(state)))
    }

    async fn asked(answer: impl Into<Vec<u8>>) -> (SocketAddr, Verdict) {
        let address = answers(answer).await;
        (address, ask(Ask::Redis { address, login: None }).await)
    }

    #[tokio::test]
    async fn a_master_is_writable() {
        let (_, verdict) = asked(replies(MASTER)).await;
        let detail = "PONG, master, 1 replica".into();
        let roles = vec![Role::Writable, Role::Master];
        assert_eq!(verdict, Verdict::Ready(Ready { detail, roles, identity: Some("abc".into()) }));
    }

    #[tokio::test]
    async fn a_replica_counts_while_its_link_stands() {
        let (_, verdict) = asked(replica("connected")).await;
        let detail = "PONG, replica of 10.0.0.1:6379".into();
        assert_eq!(
            verdict,
            Verdict::Ready(Ready { detail, roles: vec![Role::Replica], identity: Some("abc".into()) })
        );

        let (address, verdict) = asked(replica("connect")).await;
        let reason = format!("{address} is a replica without a link to its master 10.0.0.1:6379 (connect)");
        not_ready(verdict, Trouble::Declined, reason);

        let (address, verdict) = asked(replica("sync")).await;
        let reason = format!("{address} is copying the data set of its master 10.0.0.1:6379");
        assert_eq!(verdict, Verdict::Progress { reason, percent: None, left: None });
    }

    #[tokio::test]
    async fn loading_is_progress() {
        let loading = "-LOADING Redis is loading the dataset in memory\r\n";
        let info = bulk("loading:1\r\nloading_loaded_perc:43.97\r\nloading_eta_seconds:12\r\n");
        let (address, verdict) = asked(format!("{loading}{loading}{}{info}", bulk(""))).await;
        let reason = format!("{address} is loading its data set: 43 %");
        let left = Some(Duration::from_secs(12));
        assert_eq!(verdict, Verdict::Progress { reason, percent: Some(43), left });
    }

    #[tokio::test]
    async fn refusals_are_told_in_words() {
        let (address, verdict) = asked("-NOAUTH Authentication required.\r\n".repeat(4)).await;
        not_ready(verdict, Trouble::Denied, format!("{address} asks for a password, and none is given"));

        // Both of these hang up after one reply.
        let (address, verdict) = asked("-DENIED Redis is running in protected mode because …\r\n").await;
        let reason =
            format!("{address} is in protected mode: it has no password and answers its own machine only");
        not_ready(verdict, Trouble::Denied, reason);
        let (address, verdict) = asked("-ERR max number of clients reached\r\n").await;
        not_ready(
            verdict,
            Trouble::Declined,
            format!("{address} answers ERR: max number of clients reached"),
        );

        let (address, verdict) =
            asked("-MISCONF Redis is configured to save RDB snapshots.\r\n".repeat(4)).await;
        let reason = format!("{address} answers MISCONF: Redis is configured to save RDB snapshots");
        not_ready(verdict, Trouble::Declined, reason);

        let dir = tempfile::tempdir().unwrap();
        let address = answers("-WRONGPASS invalid username-password pair.\r\n").await;
        let login = Some(login(dir.path(), "probe", "wrong"));
        let verdict = ask(Ask::Redis { address, login }).await;
        let reason = format!("{address} refuses the login: invalid username-password pair");
        not_ready(verdict, Trouble::Denied, reason);
    }

    #[tokio::test]
    async fn what_is_not_redis_is_said() {
        let (address, verdict) = asked("HTTP/1.1 400 Bad Request\r\n").await;
        let reason = format!("{address} does not speak Redis: it says \"HTTP/1.1 400 Bad Request\\r\\n\"");
        not_ready(verdict, Trouble::Garbled, reason);

        let (address, verdict) = asked("+PING\r\n".repeat(4)).await;
        let reason = format!("{address} does not speak Redis: PING is answered by simple-string(\"PING\")");
        not_ready(verdict, Trouble::Garbled, reason);

        // A length that only a hoarder would believe, and no end.
        let address = greets(format!("$999999999\r\n{}", "x".repeat(2 * MOST))).await;
        let reason = format!("{address} does not speak Redis: the answer is longer than 65536 bytes");
        not_ready(ask(Ask::Redis { address, login: None }).await, Trouble::Garbled, reason);

        let (address, verdict) = asked("").await;
        not_ready(verdict, Trouble::Declined, format!("{address} closed the connection without an answer"));

        let address = greets("").await;
        let reason = format!("{address} accepts the connection and says nothing within 200 ms");
        not_ready(ask_in_vain(Ask::Redis { address, login: None }).await, Trouble::Silent, reason);
    }
}
