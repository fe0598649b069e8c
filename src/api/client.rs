//! The client half of the API: one agent, asked over a unix socket or TCP.
//!
//! A [`Client`] owns at most one warm connection and is made to be owned by one long-lived task. Every call has a
//! deadline for the connect and one for the whole; every body has a cap. A call that is dropped half-way closes
//! the connection, so that the next one never reads the rest of an old answer.

use super::caller::ON_BEHALF;
use super::tls::{self, Security};
use super::wire::{MAX_REPLY, Refusal};
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Where an agent of this machine listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/clusterd/clusterd.sock";
/// How long a connect may take. A machine that is off never answers; a busy one answers within milliseconds.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// How long a whole call may take, connect included. An agent waits 1 s for silent peers; the rest is for size.
pub const CALL_WITHIN: Duration = Duration::from_secs(10);
/// The longest line of a stream, in bytes: a peer line with a thousand instances fits.
pub const MAX_LINE: usize = 1 << 20;

/// Where an agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The unix socket of the agent on this machine.
    Unix(PathBuf),
    /// `host:port`, or `[v6]:port`.
    Tcp(String),
}

impl Default for Target {
    fn default() -> Target {
        Target::Unix(DEFAULT_SOCKET.into())
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Target {
        Target::Tcp(address.to_string())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Unix(path) => path.display().fmt(f),
            Target::Tcp(address) => f.write_str(address),
        }
    }
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connect failed; nothing was sent.
    #[error("no agent answers at {target}: {}", in_words(target, cause))]
    NoAgent { target: Target, cause: io::Error },
    /// One end does not trust the other; nothing was done.
    #[error("no trust between us and the agent at {target}: {why}")]
    Distrust { target: Target, why: String },
    /// Agents are spoken to with a certificate, and there is none here.
    #[error("cannot ask {target}: this machine has no certificate of the cluster yet")]
    NoCertificate { target: Target },
    /// The connect took too long; nothing was sent.
    #[error("no agent answers at {target}: no connection within {}", seconds(within))]
    ConnectTimeout { target: Target, within: Duration },
    /// The answer took too long; whether the call was done is not known.
    #[error("the agent at {target} gave no answer to {path} within {}", seconds(within))]
    CallTimeout { target: Target, path: String, within: Duration },
    /// The connection ended before the answer did; whether the call was done is not known.
    #[error("the agent at {target} hung up during {path}: {cause}")]
    HungUp { target: Target, path: String, cause: hyper::Error },
    /// The body is longer than a client reads.
    #[error("the answer of {target} to {path} is longer than {} MiB", most >> 20)]
    TooLong { target: Target, path: String, most: usize },
    /// A line of a stream is longer than [`MAX_LINE`].
    #[error("a line of {path} from {target} is longer than {} KiB", MAX_LINE >> 10)]
    LineTooLong { target: Target, path: String },
    /// Something answers there, and it does not speak this API.
    #[error(
        "the answer of {target} to {path} cannot be read ({cause}): is it a clusterd of another version?"
    )]
    Garbled { target: Target, path: String, cause: serde_json::Error },
    /// The path or the body of a call cannot be sent.
    #[error("cannot ask {path}: {reason}")]
    Unaskable { path: String, reason: String },
    /// The agent refused, with its own words.
    #[error("{}", .refusal.error)]
    Refused { status: StatusCode, refusal: Refusal },
}

impl ClientError {
    /// What to do about it, when something can be said.
    pub fn hint(&self) -> Option<String> {
        match self {
            ClientError::NoAgent { target: Target::Unix(_), cause }
                if cause.kind() == io::ErrorKind::PermissionDenied =>
            {
                Some("run it as root, or as a member of the group that owns the socket".into())
            }
            ClientError::NoAgent { target: Target::Unix(_), .. } => {
                Some("systemctl status clusterd; or ask another node's agent with --agent HOST:PORT, or all with --direct".into())
            }
            ClientError::Distrust { .. } => Some("clusterctl pki show; --identity FILE names another one".into()),
            ClientError::NoCertificate { .. } => {
                Some("clusterctl pki bundle, then here: clusterd join FILE".into())
            }
            ClientError::NoAgent { .. } | ClientError::ConnectTimeout { .. } => {
                Some("ask another node's agent with --agent HOST:PORT, or all of them with --direct".into())
            }
            ClientError::HungUp { target: Target::Tcp(_), .. } => {
                Some("if this agent wants a certificate: --identity FILE, from clusterctl pki operator".into())
            }
            ClientError::Refused { refusal, .. } => refusal.hint.clone(),
            _ => None,
        }
    }

    /// Whether the machine answered that nobody listens there.
    pub fn is_refused_connection(&self) -> bool {
        matches!(self, ClientError::NoAgent { cause, .. } if cause.kind() == io::ErrorKind::ConnectionRefused)
    }

    /// Whether nobody was reached at all, so that certainly nothing was done.
    pub fn is_no_agent(&self) -> bool {
        matches!(
            self,
            ClientError::NoAgent { .. }
                | ClientError::ConnectTimeout { .. }
                | ClientError::Distrust { .. }
                | ClientError::NoCertificate { .. }
        )
    }
}

fn in_words(target: &Target, error: &io::Error) -> String {
    match (target, error.kind()) {
        (Target::Unix(_), io::ErrorKind::NotFound) => {
            "there is no such socket; is clusterd running here?".into()
        }
        (Target::Unix(_), io::ErrorKind::ConnectionRefused) => {
            "nobody listens on it any more; is clusterd running here?".into()
        }
        (Target::Unix(_), io::ErrorKind::PermissionDenied) => "this user may not open it".into(),
        (Target::Tcp(_), io::ErrorKind::ConnectionRefused) => {
            "connection refused; is clusterd running there?".into()
        }
        _ => error.to_string(),
    }
}

fn seconds(d: &Duration) -> String {
    format!("{} s", d.as_secs_f32())
}

type Body = Full<Bytes>;

/// A connection and the task that drives it; dropping it hangs up.
#[derive(Debug)]
struct Link {
    sender: SendRequest<Body>,
    driver: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A client of one agent. Calls go one after the other over one warm connection.
#[derive(Debug)]
pub struct Client {
    target: Target,
    security: Security,
    /// Whose agent it must be.
    node: Option<String>,
    connect_within: Duration,
    call_within: Duration,
    most: usize,
    warm: Option<Link>,
}

impl Client {
    /// A client that connects at its first call; over TCP it speaks plain HTTP.
    pub fn new(target: Target) -> Client {
        Client {
            target,
            security: Security::Plain,
            node: None,
            connect_within: CONNECT_WITHIN,
            call_within: CALL_WITHIN,
            most: MAX_REPLY,
            warm: None,
        }
    }

    /// The same client, over TCP so: with whom it talks must then be the agent of `node`, or of any node.
    pub fn secured(mut self, security: Security, node: Option<&str>) -> Client {
        (self.security, self.node) = (security, node.map(str::to_owned));
        self
    }

    /// A client that is connected already.
    pub async fn connect(target: Target) -> Result<Client, ClientError> {
        let mut client = Client::new(target);
        client.warm = Some(client.dial().await?);
        Ok(client)
    }

    /// The same client with other deadlines: for the connect, and for each whole call.
    pub fn within(mut self, connect: Duration, call: Duration) -> Client {
        (self.connect_within, self.call_within) = (connect, call);
        self
    }

    /// The same client, which takes no longer answer than this, in bytes.
    pub fn at_most(mut self, bytes: usize) -> Client {
        self.most = bytes;
        self
    }

    /// Whom it asks.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Another client of the same agent, for a call beside this one's.
    pub fn another(&self) -> Client {
        Client::new(self.target.clone())
            .secured(self.security.clone(), self.node.as_deref())
            .within(self.connect_within, self.call_within)
            .at_most(self.most)
    }

    /// GET. Asked once more over a new connection when the warm one turns out to be dead.
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    /// POST with a JSON body. Never sent twice: an order that may have arrived is not repeated.
    pub async fn post<B: Serialize + ?Sized, T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body)
            .map_err(|e| ClientError::Unaskable { path: path.into(), reason: e.to_string() })?;
        self.call(Method::POST, path, body.into()).await
    }

    /// A GET whose answer is an endless stream of lines, over a connection of its own.
    pub async fn lines(&self, path: &str) -> Result<Lines, ClientError> {
        let open = async {
            let mut link = self.dial().await?;
            let request = request(Method::GET, path, Bytes::new(), None)?;
            let answer = match link.sender.send_request(request).await {
                Ok(answer) => answer,
                Err(cause) => return Err(self.hung_up(path, cause)),
            };
            if !answer.status().is_success() {
                let (status, body) = self.read(path, answer).await?;
                return Err(refused(status, &body));
            }
            Ok(Lines {
                target: self.target.clone(),
                path: path.into(),
                body: answer.into_body(),
                buffer: BytesMut::new(),
                searched: 0,
                _link: link,
            })
        };
        self.deadline(path, open).await
    }

    async fn call<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let (status, body) = self.raw(method, path, body, None).await?;
        if !status.is_success() {
            return Err(refused(status, &body));
        }
        serde_json::from_slice(&body).map_err(|cause| ClientError::Garbled {
            target: self.target.clone(),
            path: path.into(),
            cause,
        })
    }

    /// Any call with a JSON body, or an empty one; the answer is handed on as it came. For an agent that relays, on
    /// behalf of whom it says.
    pub async fn raw(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        on_behalf: Option<&str>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        // The link is taken out while it is used: whoever drops this future drops the half-used link with it.
        let warm = self.warm.take();
        let (link, status, body) =
            self.deadline(path, self.exchange(warm, method, path, body, on_behalf)).await?;
        self.warm = Some(link);
        Ok((status, body))
    }

    /// One request and its whole answer. A request that the dead warm link never took is sent anew; one that it
    /// took is sent anew only when asking twice does no harm.
    async fn exchange(
        &self,
        warm: Option<Link>,
        method: Method,
        path: &str,
        body: Bytes,
        on_behalf: Option<&str>,
    ) -> Result<(Link, StatusCode, Bytes), ClientError> {
        if let Some(mut link) = warm
            && link.sender.ready().await.is_ok()
        {
            let sent =
                link.sender.try_send_request(request(method.clone(), path, body.clone(), on_behalf)?).await;
            match sent {
                Ok(answer) => match self.read(path, answer).await {
                    Ok((status, body)) => return Ok((link, status, body)),
                    Err(ClientError::HungUp { .. }) if method == Method::GET => {}
                    Err(other) => return Err(other),
                },
                Err(mut failed) => {
                    let never_sent = failed.take_message().is_some();
                    if !never_sent && method != Method::GET {
                        return Err(self.hung_up(path, failed.into_error()));
                    }
                }
            }
        }
        let mut link = self.dial().await?;
        let answer = link
            .sender
            .send_request(request(method, path, body, on_behalf)?)
            .await
            .map_err(|cause| self.hung_up(path, cause))?;
        let (status, body) = self.read(path, answer).await?;
        Ok((link, status, body))
    }

    async fn read(&self, path: &str, answer: Response<Incoming>) -> Result<(StatusCode, Bytes), ClientError> {
        let status = answer.status();
        match Limited::new(answer.into_body(), self.most).collect().await {
            Ok(whole) => Ok((status, whole.to_bytes())),
            Err(e) if e.is::<LengthLimitError>() => {
                Err(ClientError::TooLong { target: self.target.clone(), path: path.into(), most: self.most })
            }
            Err(e) => match e.downcast::<hyper::Error>() {
                Ok(cause) => Err(self.hung_up(path, *cause)),
                Err(other) => Err(ClientError::Unaskable { path: path.into(), reason: other.to_string() }),
            },
        }
    }

    async fn dial(&self) -> Result<Link, ClientError> {
        let no_agent = |cause| ClientError::NoAgent { target: self.target.clone(), cause };
        let open = async {
            match &self.target {
                Target::Unix(path) => {
                    let stream = UnixStream::connect(path).await.map_err(no_agent)?;
                    self.handshake(stream).await
                }
                Target::Tcp(_) if matches!(self.security, Security::Missing) => {
                    Err(ClientError::NoCertificate { target: self.target.clone() })
                }
                Target::Tcp(address) => {
                    let stream = TcpStream::connect(address).await.map_err(no_agent)?;
                    // Without it a small request can wait 40 ms for an acknowledgement (Nagle).
                    stream.set_nodelay(true).map_err(no_agent)?;
                    keep_alive(&stream).map_err(no_agent)?;
                    let secured = match &self.security {
                        Security::Tls(tls) => tls::connect(stream, tls, self.node.as_deref()).await,
                        Security::Stranger(config) => tls::connect_as_stranger(stream, config).await,
                        Security::Plain | Security::Missing => return self.handshake(stream).await,
                    };
                    self.handshake(secured.map_err(|cause| self.distrusted(cause))?).await
                }
            }
        };
        // What it takes to speak TLS is long, and every call would have it on its stack.
        timeout(self.connect_within, Box::pin(open)).await.unwrap_or_else(|_| {
            Err(ClientError::ConnectTimeout { target: self.target.clone(), within: self.connect_within })
        })
    }

    async fn handshake<S>(&self, stream: S) -> Result<Link, ClientError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|cause| self.hung_up("/", cause))?;
        // Its error is told by the call that it breaks.
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Link { sender, driver })
    }

    async fn deadline<T>(
        &self,
        path: &str,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        timeout(self.call_within, work).await.unwrap_or_else(|_| {
            Err(ClientError::CallTimeout {
                target: self.target.clone(),
                path: path.into(),
                within: self.call_within,
            })
        })
    }

    /// A handshake came to nothing.
    fn distrusted(&self, cause: io::Error) -> ClientError {
        let target = self.target.clone();
        match tls::distrust(&cause) {
            Some(why) => ClientError::Distrust { target, why },
            None => ClientError::NoAgent { target, cause },
        }
    }

    /// An agent that refuses a certificate says so after its own half of the handshake, where an answer was awaited.
    fn hung_up(&self, path: &str, cause: hyper::Error) -> ClientError {
        if let Some(why) = tls::distrust(&cause) {
            return ClientError::Distrust { target: self.target.clone(), why };
        }
        ClientError::HungUp { target: self.target.clone(), path: path.into(), cause }
    }
}

/// Lets the kernel find out that a silent peer is gone (its machine lost power), within about ten seconds and
/// without a single wake-up of ours.
pub(super) fn keep_alive(stream: &TcpStream) -> std::io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &3)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &2)?;
    setsockopt(stream, sockopt::TcpKeepCount, &3)?;
    Ok(())
}

fn request(
    method: Method,
    path: &str,
    body: Bytes,
    on_behalf: Option<&str>,
) -> Result<Request<Body>, ClientError> {
    let mut request = Request::builder();
    if let Some(on_behalf) = on_behalf {
        request = request.header(ON_BEHALF, on_behalf);
    }
    request
        .method(method)
        .uri(path)
        .header(header::HOST, "clusterd")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|e| ClientError::Unaskable { path: path.into(), reason: e.to_string() })
}

fn refused(status: StatusCode, body: &[u8]) -> ClientError {
    let refusal = serde_json::from_slice(body)
        .unwrap_or_else(|_| Refusal { error: format!("the agent refused with {status}"), hint: None });
    ClientError::Refused { status, refusal }
}

/// A stream of lines; dropping it hangs up.
#[derive(Debug)]
pub struct Lines {
    target: Target,
    path: String,
    body: Incoming,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line end.
    searched: usize,
    _link: Link,
}

impl Lines {
    /// The next line, without its end; `None` when the agent ended the stream. It waits for ever on a silent
    /// agent: bound it with a timeout. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            if let Some(end) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(self.searched + end).freeze();
                self.buffer.advance(1);
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > MAX_LINE {
                return Err(ClientError::LineTooLong {
                    target: self.target.clone(),
                    path: self.path.clone(),
                });
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(cause)) => {
                    return Err(ClientError::HungUp {
                        target: self.target.clone(),
                        path: self.path.clone(),
                        cause,
                    });
                }
                None if self.buffer.is_empty() => return Ok(None),
                // A last line that was cut off is no line: half a statement must not be believed.
                None => {
                    self.buffer.clear();
                    self.searched = 0;
                    return Ok(None);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
