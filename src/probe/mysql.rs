//! MySQL and MariaDB: log in, `SELECT 1`, whether it takes writes, and if not whom it follows.
//!
//! mysql_async speaks the protocol. What is special:
//!
//! - **Nobody hangs up between the greeting and the end of the login.** The server counts that as an error of this
//!   host and after a hundred of them blocks it (1129). So a connection is opened by a task of its own, which our
//!   deadline does not cancel: the next question goes on waiting for the same one.
//! - Without a login, a made-up one is refused with error 1045, which proves that the server speaks the protocol.
//!   Each such try raises `Aborted_connects` there, so the prober asks seldom while all is well.
//! - A kept connection that fails is replaced once, at once, within the same deadline: a server that was restarted
//!   has not stopped being ready.

use super::course::Course;
use super::{FRESH_FOR, lag, net, password};
use crate::facts::{Ready, Role, Stage, Trouble, Verdict};
use crate::model::Login;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error, IoError, OptsBuilder, Row};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

/// The largest packet that is read, in bytes.
const MOST: usize = 64 * 1024;

/// How long opening a connection may take in the background before it is given up after all: three times what a
/// server grants a login (`connect_timeout`, 10 s). Longer would be kinder to a frozen server (at this length it is
/// the better part of an hour away from blocking us), and blinder to a host that died just after it took the connection.
const OPENING: Duration = Duration::from_secs(30);

/// The name for logging in where no login is given.
const NOBODY: &str = "clusterd-probe";

/// One round trip for both kinds of server: MariaDB takes comments of versions from 50700 for comments, MySQL
/// runs what is in them. `@@datadir` tells servers apart that were set up from one image.
const QUESTION: &str = "SELECT 1, @@global.read_only, @@version, @@hostname, @@port, @@server_id, @@datadir \
    /*!50700 , @@global.super_read_only, @@global.server_uuid */";

/// Keeps the connection between questions.
#[derive(Default)]
pub(super) struct Client {
    kept: Option<Kept>,
    opening: Option<Opening>,
}

/// A connection that has logged in. Dropping it says goodbye (`COM_QUIT`) in the background.
struct Kept {
    connection: Option<Conn>,
    since: Instant,
}

/// A connection that is being opened by a task.
struct Opening {
    result: oneshot::Receiver<Result<Conn, Error>>,
    task: AbortHandle,
}

impl Client {
    pub async fn ask(&mut self, address: SocketAddr, login: Option<&Login>, course: Course<'_>) -> Verdict {
        if let Some(kept) = self.kept.take().filter(|kept| kept.since.elapsed() < FRESH_FOR) {
            // An old connection must not use up all the time: whether the server is frozen or cut off shows only
            // on a new one.
            if let Some(Ok(verdict)) = self.question(kept, address, course.half()).await {
                return verdict;
            }
        }
        let kept = match self.open(address, login, course).await {
            Ok(connection) => Kept { connection: Some(connection), since: Instant::now() },
            Err(verdict) => return verdict,
        };
        match self.question(kept, address, course).await {
            Some(Ok(verdict)) => verdict,
            Some(Err(error)) => trouble(address, login, &error),
            None => net::silent(address, course),
        }
    }

    /// Asks on a connection, and keeps it when it was good.
    async fn question(
        &mut self,
        mut kept: Kept,
        address: SocketAddr,
        course: Course<'_>,
    ) -> Option<Result<Verdict, Error>> {
        let connection = kept.connection.as_mut()?;
        course.enter(Stage::Reply);
        let answer = course.limit(look(connection)).await?;
        Some(answer.map(|(row, replica)| {
            self.kept = Some(kept);
            judge(address, row, replica)
        }))
    }

    /// A new connection, or the verdict on what came instead.
    async fn open(
        &mut self,
        address: SocketAddr,
        login: Option<&Login>,
        course: Course<'_>,
    ) -> Result<Conn, Verdict> {
        // One that has failed since the last question tells of a time before this one.
        let earlier = self.opening.take().and_then(|mut opening| match opening.result.try_recv() {
            Ok(result) => result.ok().map(Ok),
            Err(oneshot::error::TryRecvError::Empty) => Some(Err(opening)),
            Err(oneshot::error::TryRecvError::Closed) => None,
        });
        let mut opening = match earlier {
            Some(Ok(connection)) => return Ok(connection),
            Some(Err(opening)) => opening,
            None => Opening::start(address, login)?,
        };
        course.enter(Stage::Open);
        match course.limit(&mut opening.result).await {
            Some(Ok(Ok(connection))) => Ok(connection),
            Some(Ok(Err(error))) => Err(trouble(address, login, &error)),
            // The task ends without a word only when it is aborted, or has waited for `OPENING`.
            Some(Err(_)) => Err(net::silent(address, course)),
            None if net::connect_is_unanswered(address) => {
                opening.task.abort();
                Err(net::unanswered(address, course))
            }
            None => {
                self.opening = Some(opening);
                Err(net::silent(address, course))
            }
        }
    }
}

impl Opening {
    fn start(address: SocketAddr, login: Option<&Login>) -> Result<Opening, Verdict> {
        let (user, password) = match login {
            Some(login) => (login.user.as_str(), password::of(login)?),
            None => (NOBODY, None),
        };
        let options = OptsBuilder::default()
            .ip_or_hostname(address.ip().to_string())
            .resolved_ips(Some(vec![address.ip()]))
            .tcp_port(address.port())
            .user(Some(user))
            .pass(password.map(|password| password.to_string()))
            // The way of the service itself, not a short cut through a socket file.
            .prefer_socket(false)
            // Given here, they are not asked for: two round trips less.
            .max_allowed_packet(Some(MOST))
            .wait_timeout(Some(FRESH_FOR.as_secs() as usize * 2))
            .stmt_cache_size(0);
        let (answer, result) = oneshot::channel();
        let task = tokio::spawn(async move {
            if let Ok(opened) = timeout(OPENING, Conn::new(options)).await
                && let Err(Ok(unwanted)) = answer.send(opened)
            {
                // The asker is gone. Its server is still owed a goodbye, not an answer.
                let _ = unwanted.disconnect().await;
            }
        });
        Ok(Opening { result, task: task.abort_handle() })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Outside a runtime (the agent is ending) the closing of the socket has to do.
        if let (Some(connection), Ok(runtime)) =
            (self.connection.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(async move {
                let _ = timeout(Duration::from_secs(1), connection.disconnect()).await;
            });
        }
    }
}

/// Asks what there is to ask: of one that takes no writes, also whether it follows another.
async fn look(connection: &mut Conn) -> Result<(Option<Row>, Replica), Error> {
    let row = connection.query_first::<Row, _>(QUESTION).await?;
    let column = |i| row.as_ref().and_then(|row| row.get_opt::<String, usize>(i)?.ok()).unwrap_or_default();
    if column(1) == "0" {
        return Ok((row, Replica::None));
    }
    // MySQL has had the new word since 8.0.22, and only that since 8.4; MariaDB takes the old one for ever.
    let version = column(2);
    let (major, _) = version.split_once('.').unwrap_or_default();
    let new = !version.contains("MariaDB") && major.parse().is_ok_and(|major: u32| major >= 8);
    let question = if new { "SHOW REPLICA STATUS" } else { "SHOW SLAVE STATUS" };
    let replica = match connection.query_first::<Row, _>(question).await {
        Ok(Some(status)) => Replica::of(&status),
        Ok(None) => Replica::None,
        Err(Error::Server(_)) => Replica::Hidden,
        Err(error) => return Err(error),
    };
    Ok((row, replica))
}

/// Whom a server follows, and whether it does.
enum Replica {
    None,
    /// Our account may not see it.
    Hidden,
    Follows {
        primary: String,
        /// Both threads run: one fetches, one applies.
        fetches: bool,
        applies: bool,
        /// The last error of each, 0 for none.
        errors: [u32; 2],
        /// Seconds.
        behind: Option<f64>,
    },
}

impl Replica {
    /// From the row of `SHOW REPLICA STATUS`, by its new names or its old ones.
    fn of(row: &Row) -> Replica {
        let text = |new: &str, old: &str| -> String {
            [new, old].iter().find_map(|name| row.get_opt::<String, _>(*name)?.ok()).unwrap_or_default()
        };
        let error = |name: &str| text(name, name).parse().unwrap_or(0);
        Replica::Follows {
            primary: format!("{}:{}", text("Source_Host", "Master_Host"), text("Source_Port", "Master_Port")),
            fetches: text("Replica_IO_Running", "Slave_IO_Running") == "Yes",
            applies: text("Replica_SQL_Running", "Slave_SQL_Running") == "Yes",
            errors: [error("Last_IO_Errno"), error("Last_SQL_Errno")],
            behind: text("Seconds_Behind_Source", "Seconds_Behind_Master").parse().ok(),
        }
    }

    /// As it is told after the mode, and whether it plays a replica's role.
    fn told(&self) -> (String, bool) {
        let (primary, fetches, applies, [io, sql], behind) = match self {
            Replica::None => return (String::new(), false),
            Replica::Hidden => return (", replication not shown to this user".into(), false),
            Replica::Follows { primary, fetches, applies, errors, behind } => {
                (net::shown(primary.as_bytes()), *fetches, *applies, errors, behind)
            }
        };
        let error = |code: &u32| if *code == 0 { String::new() } else { format!(" (error {code})") };
        let told = match (fetches, applies) {
            (true, true) => format!("replica of {primary}{}", behind.map_or("", lag::told)),
            (_, false) => {
                format!("replica of {primary} that applies nothing: its SQL thread has stopped{}", error(sql))
            }
            (false, true) => format!("replica without a link to its primary {primary}{}", error(io)),
        };
        (format!(", {told}"), fetches && applies)
    }
}

fn judge(address: SocketAddr, row: Option<Row>, replica: Replica) -> Verdict {
    let Some(mut row) = row else { return net::garbled(address, "MySQL", "SELECT 1 brings no row") };
    let mut text = |column: usize| row.take_opt::<String, _>(column).and_then(Result::ok).unwrap_or_default();
    if text(0) != "1" {
        return net::garbled(address, "MySQL", "SELECT 1 brings something else than 1");
    }
    let (read_only, version) = (text(1), text(2));
    let (host, port, id, folder) = (text(3), text(4), text(5), text(6));
    let (super_read_only, uuid) = (text(7), text(8));
    // `10.11.14-MariaDB-0+deb12u2`: what comes after the second dash is for packagers.
    let version = version.splitn(3, '-').take(2).collect::<Vec<_>>().join("-");
    let (follows, is_replica) = replica.told();
    let (mode, roles) = match (read_only.as_str(), super_read_only.as_str()) {
        ("0", "0" | "") => ("writable", vec![Role::Writable]),
        (_, "1") => ("super_read_only", if is_replica { vec![Role::Replica] } else { vec![] }),
        _ => ("read_only", if is_replica { vec![Role::Replica] } else { vec![] }),
    };
    let identity = if uuid.is_empty() { format!("{host}:{port} {folder} server_id {id}") } else { uuid };
    Verdict::Ready(Ready {
        detail: format!("SELECT 1, {version}, {mode}{follows}"),
        roles,
        identity: Some(identity),
    })
}

/// The verdict on a login or a query that failed.
fn trouble(address: SocketAddr, login: Option<&Login>, error: &Error) -> Verdict {
    match error {
        Error::Server(error) => refused(address, login, error.code, &error.message),
        Error::Io(IoError::Io(error)) if is_of_connect(error) => net::connect_trouble(address, error),
        // The driver's own words for bytes that make no sense: a packet too large, or out of order.
        Error::Io(IoError::Io(error)) if error.kind() == std::io::ErrorKind::Other => {
            net::garbled(address, "MySQL", error)
        }
        Error::Io(IoError::Io(error)) => net::exchange_trouble(address, error),
        Error::Driver(DriverError::ConnectionClosed) => net::hung_up(address),
        Error::Driver(DriverError::UnknownAuthPlugin { name }) => match login {
            // It has greeted us and named what it wants: the handshake is all that was asked for.
            None => unverified(),
            Some(_) => Verdict::not_ready(Trouble::Denied, {
                let name = password::said(login, name.as_bytes());
                format!("{address} wants to authenticate by {name}, which this probe cannot")
            }),
        },
        // The driver's words, which may hold the server's.
        other => net::garbled(address, "MySQL", password::said(login, other.to_string().as_bytes())),
    }
}

/// Errors that a connect can end in, and an established connection hardly.
fn is_of_connect(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionRefused | Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::TimedOut
    ) || error.raw_os_error().is_some_and(|e| [libc::EMFILE, libc::ENFILE, libc::EADDRNOTAVAIL].contains(&e))
}

/// The verdict on an error packet.
fn refused(address: SocketAddr, login: Option<&Login>, code: u16, message: &str) -> Verdict {
    let (kind, reason) = match (code, login) {
        // 1698: the account logs in by a unix socket only.
        (1045 | 1698, None) => return unverified(),
        (1045 | 1698, Some(login)) => (
            Trouble::Denied,
            format!("{address} refuses the login of {} (error {code}): wrong name or password", login.user),
        ),
        (1040, _) => (Trouble::Declined, format!("{address} has too many connections already (error 1040)")),
        (1129, _) => (
            Trouble::Declined,
            format!(
                "{address} has blocked this host for its many connection errors (error 1129): run FLUSH HOSTS there"
            ),
        ),
        (1130, _) => (Trouble::Denied, format!("{address} does not let this host connect (error 1130)")),
        (1053, _) => (Trouble::Declined, format!("{address} is shutting down (error 1053)")),
        (3159, _) => (Trouble::Denied, format!("{address} lets nobody log in without TLS (error 3159)")),
        _ => {
            let message = password::said(login, message.trim_end_matches('.').as_bytes());
            (Trouble::Declined, format!("{address} answers error {code}: {message}"))
        }
    };
    Verdict::not_ready(kind, reason)
}

fn unverified() -> Verdict {
    Verdict::ready("handshake completed, unverified: no login is given")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Ask, Question};
    use crate::probe::Asker;
    use crate::probe::testing::{ask, ask_in_vain, greets, listener, login, nobody, not_ready, server};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn packet(seq: u8, payload: &[u8]) -> Vec<u8> {
        [&(payload.len() as u32).to_le_bytes()[..3], &[seq], payload].concat()
    }

    /// A greeting of protocol 10 that offers `plugin`, with PROTOCOL_41, SECURE_CONNECTION and PLUGIN_AUTH.
    fn greeting(plugin: &str) -> Vec<u8> {
        let abilities = [&[0][..], &[0x00, 0x82, 33, 2, 0, 0x08, 0x00, 21], &[0; 10]].concat();
        let start = b"\x0a8.0.36\0\x07\0\0\0abcdefgh";
        packet(0, &[start, &abilities[..], b"abcdefghijkl\0", plugin.as_bytes(), b"\0"].concat())
    }

    /// An error after the handshake, with its SQL state.
    fn error(seq: u8, code: u16, message: &str) -> Vec<u8> {
        packet(seq, &[&[0xff][..], &code.to_le_bytes(), b"#28000", message.as_bytes()].concat())
    }

    /// A server that refuses before it greets: such an error has no SQL state.
    async fn turns_away(code: u16, message: &str) -> SocketAddr {
        greets(packet(0, &[&[0xff][..], &code.to_le_bytes(), message.as_bytes()].concat())).await
    }

    /// A server that greets, and refuses every login.
    async fn refuses(code: u16, message: &'static str) -> SocketAddr {
        server(move |mut stream| async move {
            let _ = stream.write_all(&greeting("mysql_native_password")).await;
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(&error(2, code, message)).await;
        })
        .await
    }

    fn anonymous(address: SocketAddr) -> Ask {
        Ask::Mysql { address, login: None }
    }

    #[tokio::test]
    async fn a_refused_stranger_has_seen_a_handshake() {
        let address = refuses(1045, "Access denied for user 'clusterd-probe'@'localhost'").await;
        let detail = "handshake completed, unverified: no login is given";
        assert_eq!(ask(anonymous(address)).await, Verdict::ready(detail));
    }

    #[tokio::test]
    async fn a_refused_login_is_denied_without_its_password() {
        let dir = tempfile::tempdir().unwrap();
        let address = refuses(1045, "Access denied for user 'probe'@'localhost' (using password: YES)").await;
        let login = Some(login(dir.path(), "probe", "hunter2"));
        let reason = format!("{address} refuses the login of probe (error 1045): wrong name or password");
        not_ready(ask(Ask::Mysql { address, login }).await, Trouble::Denied, reason);
    }

    #[tokio::test]
    async fn errors_are_told_in_words() {
        let address = turns_away(1040, "Too many connections").await;
        let reason = format!("{address} has too many connections already (error 1040)");
        not_ready(ask(anonymous(address)).await, Trouble::Declined, reason);

        let address = turns_away(1129, "Host '10.0.0.1' is blocked because of many connection errors").await;
        let reason = format!(
            "{address} has blocked this host for its many connection errors (error 1129): run FLUSH HOSTS there"
        );
        not_ready(ask(anonymous(address)).await, Trouble::Declined, reason);

        let address =
            turns_away(1130, "Host '10.0.0.1' is not allowed to connect to this MySQL server").await;
        let reason = format!("{address} does not let this host connect (error 1130)");
        not_ready(ask(anonymous(address)).await, Trouble::Denied, reason);

        let address = refuses(1226, "User 'x' has exceeded the 'max_user_connections' resource.").await;
        let reason = format!(
            "{address} answers error 1226: User 'x' has exceeded the 'max_user_connections' resource"
        );
        not_ready(ask(anonymous(address)).await, Trouble::Declined, reason);
    }

    #[tokio::test]
    async fn what_is_no_answer_is_said() {
        let (_port, address) = nobody().await;
        let reason = format!("connection refused by {address}");
        not_ready(ask(anonymous(address)).await, Trouble::Refused, reason);

        let address = greets("").await;
        let silent = format!("{address} accepts the connection and says nothing within 200 ms");
        not_ready(ask_in_vain(anonymous(address)).await, Trouble::Silent, silent);

        let address = server(|stream| async { drop(stream) }).await;
        let reason = format!("{address} closed the connection without an answer");
        not_ready(ask(anonymous(address)).await, Trouble::Declined, reason);

        let address = greets("SSH-2.0-OpenSSH_9.2p1\r\n").await;
        let reason = format!("{address} does not speak MySQL: Packet is larger than max_allowed_packet");
        not_ready(ask(anonymous(address)).await, Trouble::Garbled, reason);
    }

    #[tokio::test]
    async fn a_connect_that_nobody_answers_is_not_taken_for_silence() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = socket.listen(0).unwrap();
        let address = full.local_addr().unwrap();
        let _in_the_queue = tokio::net::TcpStream::connect(address).await.unwrap();
        let reason = format!("no answer from {address} within 200 ms");
        not_ready(ask_in_vain(anonymous(address)).await, Trouble::Unreachable, reason);
    }

    #[tokio::test]
    async fn a_frozen_server_is_not_hung_up_on_nor_connected_to_again() {
        let (listener, address) = listener().await;
        let question = Question { ask: anonymous(address), timeout: Duration::from_millis(100) };
        let mut asker = Asker::new(question);
        for _ in 0..3 {
            let reason = format!("{address} accepts the connection and says nothing within 100 ms");
            not_ready(asker.ask().await.verdict, Trouble::Silent, reason);
        }
        // It thaws: there is one connection, and it is still open.
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&greeting("mysql_native_password")).await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 36, "the login goes on");
        stream.write_all(&error(2, 1045, "Access denied")).await.unwrap();
        let second = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(second.is_err(), "there was a second connection");
    }

    #[tokio::test]
    async fn an_asker_that_is_dropped_leaves_the_login_to_its_end() {
        let logins = Arc::new(AtomicUsize::new(0));
        let (counted, (go, gone)) = (logins.clone(), tokio::sync::watch::channel(false));
        let address = server(move |mut stream| {
            let (counted, mut gone) = (counted.clone(), gone.clone());
            async move {
                gone.changed().await.unwrap();
                stream.write_all(&greeting("mysql_native_password")).await.unwrap();
                if stream.read(&mut [0; 4096]).await.is_ok_and(|n| n > 36) {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
                let _ = stream.write_all(&error(2, 1045, "Access denied")).await;
            }
        })
        .await;
        let verdict = ask_in_vain(anonymous(address)).await;
        assert!(matches!(verdict, Verdict::NotReady { kind: Trouble::Silent, .. }), "{verdict:?}");
        go.send(true).unwrap();
        tokio::time::timeout(Duration::from_secs(5), async {
            while logins.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the login is completed in the background");
    }
}
