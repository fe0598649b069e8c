//! The agent's side: HTTP/1.1 on a unix socket and, over mutual TLS, on a TCP port.
//!
//! Limits: how many come in ([`super::door`]), [`tls::HANDSHAKE_DEADLINE`] for a handshake, how long the other end is
//! waited for ([`super::patience`]), [`MAX_HEAD`] for a request's head, [`BODY_DEADLINE`] and [`MAX_REQUEST`] for its
//! body ([`MAX_OFFER`] for a configuration), [`STREAM_BACKLOG`] unread lines for a reader of the peer stream. Nothing that a request can hold is nested
//! without end: serde_json stops at a depth of 128.
//!
//! A connection is a task of its own. One that crashes ends that connection, and is told to the agent
//! ([`Agent::crashed`]).

use super::caller::{CALLS, Caller, Right, right_for};
use super::deed::Watched;
use super::door::{Door, Guest, Knock, Place, Turns};
use super::patience::{Course, Patient};
use super::tls::{self, Peer, Security};
use super::wire::*;
use crate::crash;
use crate::facts::Report;
use crate::generation::{Generation, Offer};
use crate::trail::{Deed, Page};
use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// For the body of a request.
pub const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// Lines of the peer stream that may wait for a slow reader; one more, and it is dropped. It comes back and gets
/// the whole state anew.
pub const STREAM_BACKLOG: usize = 256;

/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 64 << 10;

/// What an agent can be asked.
pub trait Agent: Clone + 'static {
    fn node(&self) -> NodeStatus;
    /// Whether it is this node's.
    fn is_of(&self, node: &str) -> bool;
    fn cluster(&self) -> impl Future<Output = ClusterStatus>;
    /// Events after `seq`, of one instance or of all.
    fn events(&self, after: u64, instance: Option<&str>) -> Vec<EventRecord>;
    /// A page of an own instance's log.
    fn logs(&self, ask: LogAsk) -> impl Future<Output = Result<LogPage, Refusal>>;
    fn leftovers(&self) -> Vec<LeftoverView>;
    /// What is wrong on this machine, and with the others as seen from it.
    fn doctor(&self) -> impl Future<Output = Result<DoctorReport, Refusal>>;
    /// Asks the question that the cluster file has for an instance, from here.
    fn probe(&self, instance: &str) -> impl Future<Output = Result<Report, Refusal>>;
    /// Keeps a sealed bundle.
    fn invite(&self, ask: InviteAsk) -> Result<InviteReply, Refusal>;
    /// Hands it over to its node.
    fn join(&self, ask: &JoinAsk, from: &str) -> Result<JoinReply, Refusal>;
    fn order(&self, order: Order) -> impl Future<Output = Result<OrderReply, Refusal>>;
    fn reload(&self) -> impl Future<Output = Result<ReloadReply, Refusal>>;
    /// Where the configuration in force stands.
    fn generation(&self) -> Generation;
    /// Another agent has said which node it is: who else says that it is that one.
    fn hear_claim(&self, claim: Claim) -> Vec<Claim>;
    /// The configuration in force.
    fn config(&self) -> Offer;
    /// Checks a configuration and keeps it aside.
    fn stage(&self, offer: Offer) -> impl Future<Output = Result<ReloadReply, Refusal>>;
    /// Puts the one that was kept aside in force.
    fn switch(&self, to: Switch) -> impl Future<Output = Result<ReloadReply, Refusal>>;
    /// A new reader of the peer stream; each message is one whole line.
    fn watch(&self, node: &str) -> mpsc::Receiver<Bytes>;
    /// Writes down what somebody did, or what was refused for want of a right.
    fn on_trail(&self, deed: Deed, refused: bool);
    /// Lines of its trail, after an entry.
    fn trail(&self, after: u64) -> impl Future<Output = Result<Page, Refusal>>;
    /// A task that served somebody has crashed; what its panic says is in the log.
    fn crashed(&self, what: &str);
    /// How its TCP port is spoken to, now.
    fn security(&self) -> Security;
    /// Who a user of this machine is to it.
    fn local(&self, uid: u32) -> Caller;
    /// Asks another node's agent for a caller: status code and body.
    fn relay(
        &self,
        caller: &Caller,
        node: &str,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> impl Future<Output = Result<(StatusCode, Bytes), Refusal>>;
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves a unix socket for as long as the runtime lives. To be run in a `LocalSet`.
pub async fn serve_unix<A: Agent>(listener: Rc<UnixListener>, agent: A, door: Rc<Door>) {
    let mut failed = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                failed = false;
                match stream.peer_cred() {
                    Ok(credentials) => {
                        let caller = agent.local(credentials.uid());
                        let from = match credentials.pid() {
                            Some(pid) => format!("the unix socket, pid {pid}").into(),
                            None => "the unix socket".into(),
                        };
                        let Some(place) = door.enter(Guest::User(credentials.uid())) else { continue };
                        let peer = Peer { caller, from, shown: None };
                        serve_apart(&agent, serve_connection(stream, agent.clone(), peer, place));
                    }
                    Err(e) => {
                        tracing::warn!("cannot tell who is at the other end of the unix socket: {e}");
                    }
                }
            }
            Err(e) => accept_failed(e, &mut failed).await,
        }
    }
}

/// Serves a TCP port, as [`serve_unix`].
pub async fn serve_tcp<A: Agent>(listener: Rc<TcpListener>, agent: A, door: Rc<Door>) {
    let mut failed = false;
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                failed = false;
                let Some(knock) = door.knock(from.ip()) else { continue };
                // Answers are small and awaited: never hold one back for a fuller packet.
                let _ = stream.set_nodelay(true);
                // A reader whose machine lost power is found out by the kernel, and gives its place back.
                let _ = super::client::keep_alive(&stream);
                let number = knock.number();
                let task = serve_apart(&agent, let_in(stream, from, agent.clone(), door.clone(), knock));
                Knock::by(number, &door, task);
            }
            Err(e) => accept_failed(e, &mut failed).await,
        }
    }
}

/// Serves somebody in a task whose crash is nobody else's.
fn serve_apart<A: Agent>(agent: &A, work: impl Future<Output = ()> + 'static) -> AbortHandle {
    let agent = agent.clone();
    let contained = async move {
        if AssertUnwindSafe(work).catch_unwind().await.is_err() {
            agent.crashed("the one that served a connection");
        }
    };
    tokio::task::spawn_local(contained).abort_handle()
}

/// Out of file descriptors, most likely: wait instead of spinning, and say it once.
async fn accept_failed(e: io::Error, failed: &mut bool) {
    if !std::mem::replace(failed, true) {
        tracing::warn!("cannot accept connections, and tries again: {e}");
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Finds out who is at the other end, then serves it.
async fn let_in<A: Agent>(stream: TcpStream, source: SocketAddr, agent: A, door: Rc<Door>, knock: Knock) {
    let from: Arc<str> = source.to_string().into();
    match agent.security() {
        Security::Plain => {
            drop(knock);
            let Some(place) = door.enter(Guest::Source(source.ip())) else { return };
            let peer = Peer { caller: Caller::anybody(), from, shown: None };
            serve_connection(stream, agent, peer, place).await;
        }
        Security::Tls(tls) => match tls::accept(stream, &tls).await {
            Ok((stream, peer)) => {
                drop(knock);
                let guest = peer.as_ref().map_or(Guest::Source(source.ip()), |peer| Guest::Key(peer.key));
                let Some(place) = door.enter(guest) else { return };
                let chain = stream.get_ref().1.peer_certificates().unwrap_or_default().into();
                let shown = peer.is_some().then_some((tls, chain));
                let caller = peer.map_or_else(Caller::stranger, |peer| Caller::certified(&peer));
                serve_connection(stream, agent, Peer { caller, from, shown }, place).await;
            }
            Err(e) => {
                // Whoever wants to fill the log only has to connect.
                tracing::debug!("a connection was not let in: {e}");
                if let Some(why) = tls::certificate_refused(&e) {
                    agent.on_trail(super::deed::not_let_in(&from, why), true);
                }
            }
        },
        Security::Missing | Security::Stranger(_) => {}
    }
}

async fn serve_connection<A: Agent>(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    agent: A,
    peer: Peer,
    place: Place,
) {
    let course = Course::default();
    let stream = Patient::new(stream, course.clone());
    let turns = place.turns.clone();
    let service = service_fn(move |request| {
        let (agent, peer, course, turns) = (agent.clone(), peer.clone(), course.clone(), turns.clone());
        course.answering();
        async move {
            let answer = answer(agent, peer, request, &turns).await;
            // A stream goes on for as long as both ends live.
            if answer.body().size_hint().exact().is_some() {
                course.answered();
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // A peer that breaks off is its own business; its next call tells us more than this error would.
    if let Err(e) = served.await {
        tracing::debug!("connection ended: {e}");
    }
    drop(place);
}

async fn answer<A: Agent>(agent: A, peer: Peer, request: Request<Incoming>, turns: &Turns) -> Response<Body> {
    crash::trip("connection");
    let caller = peer.caller.clone().behind(request.headers());
    if let Err(why) = agent.security().still_believes(&peer) {
        let error = format!("{} is not believed any more: {why}", caller.name);
        return json(StatusCode::FORBIDDEN, &Refusal { error, hint: None });
    }
    let watched = Watched::new(agent.clone(), &caller, &peer.from, request.method(), request.uri().path());
    match route(agent, &caller, &peer.from, request, turns, &watched).await {
        Ok(response) => {
            watched.done(response.status());
            response
        }
        Err((status, refusal)) => {
            watched.refused(status, &refusal.error);
            json(status, &refusal)
        }
    }
}

type Refused = (StatusCode, Refusal);

fn forbidden(refusal: Refusal) -> Refused {
    (StatusCode::FORBIDDEN, refusal)
}

async fn route<A: Agent>(
    agent: A,
    caller: &Caller,
    from: &str,
    request: Request<Incoming>,
    turns: &Turns,
    watched: &Watched<A>,
) -> Result<Response<Body>, Refused> {
    let mut path = request.uri().path().to_owned();
    // What is asked of this node's own agent is asked of nobody else.
    if let Some((node, rest)) = path.strip_prefix("/v1/at/").and_then(|at| at.split_once('/'))
        && agent.is_of(node)
        && !rest.starts_with("v1/at/")
        && !rest.starts_with("v1/watch")
    {
        path = format!("/{rest}");
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    let parameter = |name: &str| {
        let found = query.split('&').filter_map(|pair| pair.split_once('='));
        found.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.replace("%40", "@"))
    };
    if let Some(rest) = path.strip_prefix("/v1/at/") {
        let (node, rest) = rest.split_once('/').ok_or_else(|| not_found(&path))?;
        let (node, method) = (node.to_owned(), request.method().clone());
        // Nobody speaks for another node, and who has no certificate is nobody's to speak for.
        if ["v1/at/", "v1/watch", "v1/join"].iter().any(|call| rest.starts_with(call)) {
            return Err(not_found(&path));
        }
        // Judged here already, and once more there.
        caller.may(right_for(&method, &format!("/{rest}"))).map_err(forbidden)?;
        let onward = if query.is_empty() { format!("/{rest}") } else { format!("/{rest}?{query}") };
        let most = if rest == "v1/stage" { MAX_OFFER } else { MAX_REQUEST };
        let body = read_body(request, most).await?;
        watched.asks(Some(&node), &format!("/{rest}"), &body);
        let relayed = agent.relay(caller, &node, method, &onward, body).await;
        let (status, body) = relayed.map_err(|refusal| (StatusCode::BAD_GATEWAY, refusal))?;
        watched.was_said(&body);
        return Ok(respond(status, "application/json", whole(body)));
    }
    caller.may(right_for(request.method(), &path)).map_err(forbidden)?;
    if !CALLS.iter().any(|(method, known, _)| method == request.method() && *known == path) {
        return Err(not_found(&path));
    }
    let turn = match path.as_str() {
        "/v1/node" | "/v1/events" | "/v1/leftovers" => Some(&turns.answers),
        "/v1/logs" | "/v1/trail" => Some(&turns.pages),
        "/v1/cluster" => Some(&turns.whole),
        "/v1/probe" => Some(&turns.questions),
        "/v1/doctor" => Some(&turns.examinations),
        _ => None,
    };
    let my_turn = match turn {
        Some(turn) => turn.acquire().await.ok(),
        None => None,
    };
    let answer = call(agent, (caller, from), request, &path, parameter, watched).await;
    drop(my_turn);
    answer
}

async fn call<A: Agent>(
    agent: A,
    (caller, from): (&Caller, &str),
    request: Request<Incoming>,
    path: &str,
    parameter: impl Fn(&str) -> Option<String>,
    watched: &Watched<A>,
) -> Result<Response<Body>, Refused> {
    match (request.method(), path) {
        (&Method::GET, "/v1/node") => Ok(json(StatusCode::OK, &agent.node())),
        (&Method::GET, "/v1/cluster") => Ok(json(StatusCode::OK, &agent.cluster().await)),
        (&Method::GET, "/v1/events") => {
            let after = parameter("after").and_then(|v| v.parse().ok()).unwrap_or(0);
            Ok(json(StatusCode::OK, &agent.events(after, parameter("instance").as_deref())))
        }
        (&Method::GET, "/v1/logs") => {
            let ask = log_ask(parameter)?;
            let page = agent.logs(ask).await.map_err(|r| (StatusCode::CONFLICT, r))?;
            Ok(json(StatusCode::OK, &page))
        }
        (&Method::GET, "/v1/identity") => Ok(json(StatusCode::OK, &agent.security().identity())),
        (&Method::GET, "/v1/trail") => {
            let after = parameter("after").and_then(|v| v.parse().ok()).unwrap_or(0);
            let page = agent.trail(after).await.map_err(|r| (StatusCode::CONFLICT, r))?;
            Ok(json(StatusCode::OK, &page))
        }
        (&Method::GET, "/v1/leftovers") => Ok(json(StatusCode::OK, &agent.leftovers())),
        (&Method::GET, "/v1/doctor") => {
            let report = agent.doctor().await.map_err(|r| (StatusCode::CONFLICT, r))?;
            Ok(json(StatusCode::OK, &report))
        }
        (&Method::GET, "/v1/probe") => {
            let instance = parameter("instance").unwrap_or_default();
            let report = agent.probe(&instance).await.map_err(|r| (StatusCode::CONFLICT, r))?;
            Ok(json(StatusCode::OK, &report))
        }
        (&Method::POST, "/v1/invite") => {
            let body = read_body(request, MAX_REQUEST).await?;
            watched.asks(None, path, &body);
            let reply = agent.invite(from_json(&body)?).map_err(|r| (StatusCode::CONFLICT, r))?;
            Ok(json(StatusCode::OK, &reply))
        }
        (&Method::POST, "/v1/join") => {
            let ask: JoinAsk = from_json(&read_body(request, MAX_REQUEST).await?)?;
            let reply = agent.join(&ask, from).map_err(|r| (StatusCode::CONFLICT, r))?;
            watched.says(format!("the sealed bundle of {} was handed over", ask.node));
            Ok(json(StatusCode::OK, &reply))
        }
        (&Method::POST, "/v1/order") => {
            let body = read_body(request, MAX_REQUEST).await?;
            watched.asks(None, path, &body);
            let order: Order = from_json(&body)?;
            if order.force {
                caller.may(Right::Admin).map_err(forbidden)?;
            }
            let reply = agent.order(order).await.map_err(|r| (StatusCode::CONFLICT, r))?;
            watched.says(super::deed::in_words(&reply));
            Ok(json(StatusCode::OK, &reply))
        }
        (&Method::POST, "/v1/reload") => {
            let body = read_body(request, MAX_REQUEST).await?;
            watched.asks(None, path, &body);
            ReloadAsk::read(&body).map_err(not_understood)?;
            let reply = agent.reload().await.map_err(|r| (StatusCode::CONFLICT, r))?;
            watched.says(reply.text.clone());
            Ok(json(StatusCode::OK, &reply))
        }
        (&Method::GET, "/v1/generation") => {
            let mut namesakes = Vec::new();
            if let (Some(node), Some(id)) = (parameter("node"), parameter("id")) {
                caller.may_speak_for(&node).map_err(forbidden)?;
                namesakes = agent.hear_claim(Claim { node, id, from: watched.source() });
            }
            Ok(json(StatusCode::OK, &GenerationReply { generation: agent.generation(), namesakes }))
        }
        (&Method::GET, "/v1/config") => Ok(json(StatusCode::OK, &agent.config())),
        (&Method::POST, "/v1/stage") => {
            let body = read_body(request, MAX_OFFER).await?;
            watched.asks(None, path, &body);
            let reply = agent.stage(from_json(&body)?).await.map_err(|r| (StatusCode::CONFLICT, r))?;
            watched.says(reply.text.clone());
            Ok(json(StatusCode::OK, &reply))
        }
        (&Method::POST, "/v1/switch") => {
            let body = read_body(request, MAX_REQUEST).await?;
            watched.asks(None, path, &body);
            let reply = agent.switch(from_json(&body)?).await.map_err(|r| (StatusCode::CONFLICT, r))?;
            watched.says(reply.text.clone());
            Ok(json(StatusCode::OK, &reply))
        }
        (&Method::GET, "/v1/watch") => {
            let node = parameter("node").unwrap_or_default();
            caller.may_speak_for(&node).map_err(forbidden)?;
            let lines = agent.watch(&node);
            let lines = stream::unfold(lines, |mut lines| async move {
                let line = lines.recv().await?;
                Some((Ok::<_, Infallible>(Frame::data(line)), lines))
            });
            Ok(respond(StatusCode::OK, "application/x-ndjson", StreamBody::new(lines).boxed_unsync()))
        }
        _ => Err(not_found(path)),
    }
}

/// What a call for a log says in its query.
fn log_ask(parameter: impl Fn(&str) -> Option<String>) -> Result<LogAsk, Refused> {
    let number = |name: &str| match parameter(name).map(|text| text.parse::<u64>()) {
        None => Ok(None),
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(_)) => Err(bad_request(format!("{name} is not a number"))),
    };
    let last = number("last")?.map(|lines| lines.min(MAX_LOG_LINES as u64) as usize);
    let from = match number("at")? {
        Some(at) => LogFrom::Position(at),
        None => LogFrom::Recent { ago_ms: number("ago")?, last },
    };
    let instance = parameter("instance").ok_or_else(|| bad_request("no instance is named"))?;
    Ok(LogAsk { instance, from, partial: number("partial")?.unwrap_or(0) != 0 })
}

fn not_found(path: &str) -> Refused {
    let error = format!("this agent knows no call {path}");
    let hint = Some("is the other program of another version?".to_owned());
    (StatusCode::NOT_FOUND, Refusal { error, hint })
}

fn bad_request(error: impl Into<String>) -> Refused {
    (StatusCode::BAD_REQUEST, Refusal { error: error.into(), hint: None })
}

/// A body of at most so many bytes.
async fn read_body(request: Request<Incoming>, most: usize) -> Result<Bytes, Refused> {
    let body = Limited::new(request.into_body(), most).collect();
    match tokio::time::timeout(BODY_DEADLINE, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(e)) => Err(bad_request(format!("cannot read the request (at most {most} bytes): {e}"))),
        Err(_) => Err(bad_request(format!("the request did not come within {} s", BODY_DEADLINE.as_secs()))),
    }
}

fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(not_understood)
}

fn not_understood(e: serde_json::Error) -> Refused {
    bad_request(format!("cannot understand the request: {e}"))
}

fn whole(body: Bytes) -> Body {
    Full::new(body).boxed_unsync()
}

fn json<T: Serialize>(status: StatusCode, value: &T) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(body) => respond(status, "application/json", whole(body.into())),
        Err(e) => {
            let text = format!("{{\"error\":\"cannot encode the answer: {e}\"}}");
            respond(StatusCode::INTERNAL_SERVER_ERROR, "application/json", whole(text.into()))
        }
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}
