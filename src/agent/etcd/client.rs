//! Asks one server: the JSON that etcd serves beside gRPC, over HTTP/1.1, with TLS where that is told.
//!
//! Whether somebody has to log in is etcd's to say: a call that it refuses for want of a login, or of one that still counts,
//! is done again after one. So `etcdctl auth enable` may come before or after, and a token that has run out, or that a
//! server which began anew has forgotten, is no matter.

use super::answer::{self, Failed, Found, Lines, Token};
use super::place::{Access, Place};
use crate::model::MAX_CLUSTER_FILE;
use crate::probe::secure;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use zeroize::Zeroizing;

/// How long a server may take for an answer, or to be connected to.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The most of an answer that is read: base64 of the largest file, with its units.
const MOST: usize = 2 * MAX_CLUSTER_FILE as usize;
/// The most of a refusal that is read.
const MOST_REFUSAL: usize = 4096;

/// One server, and that we have logged in there.
pub(super) struct Client {
    server: SocketAddr,
    access: Rc<Access>,
    token: Option<Zeroizing<String>>,
}

impl Client {
    pub fn new(server: SocketAddr, access: Rc<Access>) -> Client {
        Client { server, access, token: None }
    }

    /// All keys, as most of the servers agree on them.
    ///
    /// # Errors
    /// A sentence that names the server.
    pub async fn read(&mut self, place: &Place) -> Result<Found, String> {
        let response = self.call(place, "/v3/kv/range", &place.range()).await?;
        self.body(response, MOST).await.and_then(|bytes| answer::understood(self.server, &bytes))
    }

    /// A watch, from the revision that comes after what was read.
    ///
    /// # Errors
    /// As [`Client::read`].
    pub async fn watch(&mut self, place: &Place, read: &Found) -> Result<Watch, String> {
        let mut create = place.range();
        create["start_revision"] = json!(read.next_revision().to_string());
        let body = json!({ "create_request": create });
        let response = self.call(place, "/v3/watch", &body).await?;
        Ok(Watch { server: self.server, body: response.into_body(), lines: Lines::default() })
    }

    /// Asks it, and logs in where it wants that.
    async fn call(&mut self, place: &Place, path: &str, body: &Value) -> Result<Response<Incoming>, String> {
        let body = Bytes::from(body.to_string());
        let first = match self.post(path, body.clone()).await {
            Err(Failed::LogIn) => {
                self.log_in().await?;
                self.post(path, body).await
            }
            first => first,
        };
        let server = self.server;
        first.map_err(|failed| match failed {
            Failed::Other(why) => why,
            Failed::LogIn => format!("{server} does not take its own login for one"),
            Failed::Open => format!("{server} does not know what it wants of a login"),
            Failed::Forbidden => format!(
                "{server}: {} may not read what is below {key}/: `etcdctl role grant-permission --prefix=true ROLE read {key}/`",
                self.access.etcd_user.as_deref().unwrap_or("who does not log in"),
                key = place.key(),
            ),
        })
    }

    async fn log_in(&mut self) -> Result<(), String> {
        let server = self.server;
        self.token = None;
        let Some(login) = self.access.login() else {
            return Err(format!("{server} wants a login: --etcd-user and --etcd-password-file"));
        };
        let password = secure::password(&login)?;
        let user = &login.user;
        // Wiped when it is sent, and with room for all of it: one that grows leaves copies behind.
        let mut body = Zeroizing::new(Vec::with_capacity(6 * (user.len() + password.len()) + 64));
        serde_json::to_writer(&mut *body, &Named { name: user, password: &password })
            .map_err(|e| e.to_string())?;
        let response = match self.post("/v3/auth/authenticate", Bytes::from_owner(body)).await {
            Ok(response) => response,
            Err(Failed::Open) => return Ok(()),
            Err(Failed::Other(why)) => return Err(why),
            Err(_) => return Err(format!("{server} refuses the login of {user}: wrong name or password")),
        };
        let bytes = Zeroizing::new(self.body(response, MOST_REFUSAL).await?);
        let told: Token = answer::understood(server, &bytes)?;
        self.token = Some(Zeroizing::new(told.token));
        Ok(())
    }

    async fn post(&self, path: &str, body: Bytes) -> Result<Response<Incoming>, Failed> {
        let server = self.server;
        let exchange = async {
            let mut sender = self.connect().await?;
            let mut request = Request::post(path)
                .header("host", server.to_string())
                .header("content-type", "application/json");
            if let Some(token) = &self.token {
                request = request.header("authorization", token.as_str());
            }
            let request = request.body(Full::new(body));
            let request = request.map_err(|e| format!("{server}: {e}"))?;
            sender.send_request(request).await.map_err(|e| {
                let why = secure::broken(server, &e);
                let is_plain = self.access.etcd_ca.is_none();
                let hint = ": if it speaks TLS, say by --etcd-ca who has signed its certificate";
                if is_plain { why + hint } else { why }
            })
        };
        let late = || Failed::Other(format!("{server}: no answer within {} s", ANSWER_WITHIN.as_secs()));
        let response = timeout(ANSWER_WITHIN, exchange).await.map_err(|_| late())?.map_err(Failed::Other)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let said = self.body(response, MOST_REFUSAL).await.unwrap_or_default();
        Err(answer::refused(server, status, &said, self.access.login().as_ref()))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        match &self.access.etcd_ca {
            None => begin(self.server, secure::connect(self.server, ANSWER_WITHIN).await?).await,
            Some(ca) => {
                let identity = self.access.identity();
                let secured = secure::connect_secure(self.server, ca, identity.as_ref(), ANSWER_WITHIN);
                begin(self.server, secured.await?).await
            }
        }
    }

    async fn body(&self, response: Response<Incoming>, most: usize) -> Result<Vec<u8>, String> {
        let server = self.server;
        let whole = timeout(ANSWER_WITHIN, Limited::new(response.into_body(), most).collect()).await;
        let whole = whole.map_err(|_| format!("{server}: its answer does not end"))?;
        Ok(whole.map_err(|e| format!("{server}: {e}"))?.to_bytes().into())
    }
}

/// HTTP over a connection.
async fn begin<S>(server: SocketAddr, stream: S) -> Result<SendRequest<Full<Bytes>>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let begun = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = begun.map_err(|e| secure::broken(server, &e))?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    password: &'a str,
}

/// A watch that stands.
pub(super) struct Watch {
    server: SocketAddr,
    body: Incoming,
    lines: Lines,
}

impl Watch {
    /// Ends when something has changed; an error when nothing more is told.
    pub async fn change(&mut self) -> Result<(), String> {
        loop {
            let frame = match self.body.frame().await {
                Some(Ok(frame)) => frame,
                Some(Err(e)) => return Err(secure::broken(self.server, &e)),
                None => return Err(format!("{}: it has hung up", self.server)),
            };
            let Some(data) = frame.data_ref() else { continue };
            if self.lines.take(data).map_err(|why| format!("{}: {why}", self.server))? {
                return Ok(());
            }
        }
    }
}
