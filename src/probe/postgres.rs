//! PostgreSQL: log in, and ask whether it is in recovery and takes writes.
//!
//! tokio-postgres speaks the protocol over a connection that we make, so that a late connect and a late answer can
//! be told apart, and that what it reads has a limit.

use super::course::Course;
use super::{FRESH_FOR, lag, net, password};
use crate::facts::{Ready, Role, Stage, Trouble, Verdict};
use crate::model::Login;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, Error, NoTls, SimpleQueryMessage};
use zeroize::Zeroizing;

/// The most bytes read over one connection. An answer is about 150 bytes, and a connection lives for six hundred
/// answers at most.
const MOST: usize = 1 << 20;

/// The start of the postmaster, to the microsecond, tells one server from another; the system identifier does not:
/// a replica has its primary's. A replica that has replayed all it received is not behind, however long ago the last
/// write was. How far one is behind goes by the last commit that it has replayed, of which it knows none after its start.
const QUESTION: &str = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only'), \
    current_setting('server_version'), extract(epoch from pg_postmaster_start_time()), \
    (SELECT count(*) FROM pg_stat_wal_receiver), \
    CASE WHEN pg_is_in_recovery() AND coalesce(pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn(), true) \
    THEN coalesce(extract(epoch from now() - pg_last_xact_replay_timestamp())::text, 'unknown') END";

/// Keeps the connection between questions.
#[derive(Default)]
pub(super) struct Client {
    kept: Option<Kept>,
}

struct Kept {
    connection: tokio_postgres::Client,
    since: Instant,
}

impl Client {
    pub async fn ask(
        &mut self,
        address: SocketAddr,
        login: &Login,
        database: &str,
        course: Course<'_>,
    ) -> Verdict {
        if let Some(kept) = self.kept.take().filter(|kept| kept.since.elapsed() < FRESH_FOR) {
            course.commit();
            if let Some(Ok(verdict)) = self.question(kept, address, course.half()).await {
                return verdict;
            }
            // The server may have been restarted: ask the one that is there now.
            course.uncommit();
        }
        let password = match password::of(login) {
            Ok(password) => password,
            Err(verdict) => return verdict,
        };
        let stream = match net::connect(address, course).await {
            Ok(stream) => stream,
            Err(verdict) => return verdict,
        };
        course.commit();
        course.enter(Stage::Login);
        let exchange = async {
            let connection = log_in(stream, login, password, database).await?;
            self.question(Kept { connection, since: Instant::now() }, address, course).await.transpose()
        };
        match course.limit(exchange).await.and_then(Result::transpose) {
            Some(Ok(verdict)) => verdict,
            Some(Err(error)) => trouble(address, login, &error),
            None => net::silent(address, course),
        }
    }

    /// Asks on a connection, and keeps it when it was good.
    async fn question(
        &mut self,
        kept: Kept,
        address: SocketAddr,
        course: Course<'_>,
    ) -> Option<Result<Verdict, Error>> {
        course.enter(Stage::Reply);
        let answer = course.limit(kept.connection.simple_query(QUESTION)).await?;
        Some(answer.map(|messages| {
            self.kept = Some(kept);
            judge(address, &messages)
        }))
    }
}

async fn log_in<S>(
    stream: S,
    login: &Login,
    password: Option<Zeroizing<String>>,
    database: &str,
) -> Result<tokio_postgres::Client, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut config = Config::new();
    config.user(&login.user).dbname(database).application_name("clusterd").ssl_mode(SslMode::Disable);
    if let Some(password) = password {
        config.password(password.as_bytes());
    }
    let (client, connection) = config.connect_raw(Capped { stream, left: MOST }, NoTls).await?;
    // It ends when the client is dropped, or the server hangs up; what went wrong, the client tells.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

fn judge(address: SocketAddr, messages: &[SimpleQueryMessage]) -> Verdict {
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let Some(row) = row else { return net::garbled(address, "PostgreSQL", "the question brings no row") };
    let column = |i| row.try_get(i).ok().flatten().unwrap_or_default();
    let (recovers, read_only, started) = (column(0) == "t", column(1) == "on", column(3));
    let version = net::shown(column(2).split(' ').next().unwrap_or_default().as_bytes());
    let (mode, roles) = match (recovers, read_only) {
        (false, false) => ("writable", vec![Role::Writable]),
        (false, true) => ("read-only", vec![]),
        (true, _) if column(4) == "1" => ("in recovery, replica", vec![Role::Replica]),
        (true, _) => ("in recovery, without a link to a primary", vec![]),
    };
    let behind = match column(5) {
        // Without a link there is nothing that it could be behind.
        "unknown" if roles == [Role::Replica] => ", behind: it has replayed no commit since its start",
        seconds => seconds.parse().map_or("", lag::told),
    };
    let identity = Some(format!("postmaster started at {started}"));
    Verdict::Ready(Ready { detail: format!("answers queries, {version}, {mode}{behind}"), roles, identity })
}

/// The verdict on a login or a query that failed.
fn trouble(address: SocketAddr, login: &Login, error: &Error) -> Verdict {
    let cause = std::error::Error::source(error);
    if let Some(answer) = error.as_db_error() {
        let said = password::said(Some(login), answer.message().as_bytes());
        let code = answer.code();
        if *code == SqlState::CANNOT_CONNECT_NOW && !said.contains("shutting down") {
            let reason = format!("{address} is not ready yet: {said}");
            return Verdict::Progress { reason, percent: None, left: None };
        }
        let kind = match *code {
            SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => Trouble::Denied,
            _ => Trouble::Declined,
        };
        return Verdict::not_ready(
            kind,
            format!("{address} answers error {}: {said}", net::shown(code.code().as_bytes())),
        );
    }
    if let Some(io) = cause.and_then(|cause| cause.downcast_ref::<io::Error>()) {
        return match io.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
                net::garbled(address, "PostgreSQL", io)
            }
            _ => net::exchange_trouble(address, io),
        };
    }
    if error.is_closed() {
        return net::hung_up(address);
    }
    match cause {
        Some(cause) if cause.to_string() == "password missing" => Verdict::not_ready(
            Trouble::Denied,
            format!("{address} asks for the password of {}, and none is given", login.user),
        ),
        // The driver's words, which may hold the server's.
        Some(cause) => {
            net::garbled(address, "PostgreSQL", password::said(Some(login), cause.to_string().as_bytes()))
        }
        None => net::garbled(address, "PostgreSQL", error),
    }
}

/// A connection that reads no more than so many bytes in its life.
struct Capped<S> {
    stream: S,
    left: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Capped<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other(format!("it has sent more than {MOST} bytes"))));
        }
        let room = buffer.remaining().min(self.left);
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut part);
        let count = part.filled().len();
        buffer.advance(count);
        self.left -= count;
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Capped<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// One question on this stream, for [`super::hostile`].
#[cfg(any(test, feature = "fuzz"))]
pub(super) async fn talk<S>(stream: S, address: SocketAddr) -> Verdict
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let login = Login { user: "clusterd".into(), password: None };
    let answer = async {
        let connection = log_in(stream, &login, Some(String::from("secret").into()), "postgres").await?;
        connection.simple_query(QUESTION).await
    };
    match answer.await {
        Ok(messages) => judge(address, &messages),
        Err(error) => trouble(address, &login, &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Ask, Secret};
    use crate::probe::testing::{answers, ask, ask_in_vain, greets, login, nobody, not_ready};

    fn question(address: SocketAddr) -> Ask {
        let login = Login { user: "probe".into(), password: None };
        Ask::Postgres { address, login, database: "postgres".into() }
    }

    /// An `ErrorResponse`.
    fn error(code: &str, message: &str) -> Vec<u8> {
        let fields = format!("SFATAL\0VFATAL\0C{code}\0M{message}\0\0");
        [b"E", &(fields.len() as u32 + 4).to_be_bytes()[..], fields.as_bytes()].concat()
    }

    #[tokio::test]
    async fn starting_up_is_progress() {
        let address = answers(error("57P03", "the database system is starting up")).await;
        let reason = format!("{address} is not ready yet: the database system is starting up");
        assert_eq!(ask(question(address)).await, Verdict::Progress { reason, percent: None, left: None });

        let address = answers(error("57P03", "the database system is shutting down")).await;
        let reason = format!("{address} answers error 57P03: the database system is shutting down");
        not_ready(ask(question(address)).await, Trouble::Declined, reason);
    }

    #[tokio::test]
    async fn refusals_are_told_in_words() {
        let address = answers(error("28P01", "password authentication failed for user \"probe\"")).await;
        let reason =
            format!("{address} answers error 28P01: password authentication failed for user \"probe\"");
        not_ready(ask(question(address)).await, Trouble::Denied, reason);

        let address = answers(error("53300", "sorry, too many clients already")).await;
        let reason = format!("{address} answers error 53300: sorry, too many clients already");
        not_ready(ask(question(address)).await, Trouble::Declined, reason);

        // AuthenticationMD5Password, and we have none.
        let address = greets(*b"R\0\0\0\x0c\0\0\0\x05salt").await;
        let reason = format!("{address} asks for the password of probe, and none is given");
        not_ready(ask(question(address)).await, Trouble::Denied, reason);
    }

    #[tokio::test]
    async fn what_is_no_answer_is_said() {
        let (_port, address) = nobody().await;
        not_ready(ask(question(address)).await, Trouble::Refused, format!("connection refused by {address}"));

        let address = greets("").await;
        let reason = format!("{address} accepts the connection and says nothing within 200 ms");
        not_ready(ask_in_vain(question(address)).await, Trouble::Silent, reason);

        let address = answers("").await;
        let reason = format!("{address} closed the connection without an answer");
        not_ready(ask(question(address)).await, Trouble::Declined, reason);

        let address = answers("HTTP/1.1 400 Bad Request\r\n\r\n".repeat(4)).await;
        let reason = format!("{address} does not speak PostgreSQL: bytes remaining on stream");
        not_ready(ask(question(address)).await, Trouble::Garbled, reason);
    }

    #[tokio::test]
    async fn a_password_file_that_others_can_read_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let login = login(dir.path(), "probe", "secret");
        let path = match &login.password {
            Some(Secret::File(path)) => path.clone(),
            other => panic!("{other:?}"),
        };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let (_port, address) = nobody().await;
        let verdict = ask(Ask::Postgres { address, login, database: "postgres".into() }).await;
        let reason = format!(
            "the password file {} is open to others than its owner (mode 644): chmod 600 it",
            path.display()
        );
        not_ready(verdict, Trouble::Unaskable, reason);
    }
}
