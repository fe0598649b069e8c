//! HTTP and HTTPS: a GET with an expected status, and if wanted a text, values in a JSON answer, or headers.
//!
//! hyper speaks the protocol over a connection that we make, so that each part of it has its own words and its own
//! time. A new connection is made for each question: it costs little, and it is what the service's clients do. A
//! redirect is an answer, not followed.

use super::course::Course;
use super::{net, tls};
use crate::facts::{Stage, Trouble, Verdict};
use crate::model::Get;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue, LOCATION, USER_AGENT};
use hyper::{HeaderMap, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncRead, AsyncWrite};

/// The most bytes of a body that are read.
pub(super) const MOST: usize = 64 * 1024;
/// The most bytes of a head that are read.
pub(super) const MOST_HEAD: usize = 64 * 1024;

/// Keeps what certificates are checked by.
#[derive(Default)]
pub(super) struct Client {
    tls: Option<Arc<ClientConfig>>,
}

/// The parts of the URL. Only some may be shown: it can hold a token in its query.
struct Place {
    uri: Uri,
    secure: bool,
    host: String,
    port: u16,
    /// `host:port`
    authority: String,
}

/// What came back.
pub(super) struct Answer {
    pub status: StatusCode,
    headers: HeaderMap,
    pub body: Vec<u8>,
    /// Whether `body` is all of it.
    whole: bool,
}

impl Client {
    pub async fn ask(&mut self, get: &Get, course: Course<'_>) -> Verdict {
        match self.answer(get, course).await {
            Ok(verdict) | Err(verdict) => verdict,
        }
    }

    async fn answer(&mut self, get: &Get, course: Course<'_>) -> Result<Verdict, Verdict> {
        let unaskable = |why| Verdict::not_ready(Trouble::Unaskable, why);
        let place = Place::of(&get.url).map_err(unaskable)?;
        let address = net::look_up(&place.host, place.port, course).await?;
        let mut notes = Vec::new();
        let answer = if place.secure {
            let configuration = match &self.tls {
                Some(configuration) => configuration.clone(),
                None => {
                    self.tls.insert(tls::configuration(get.ca.as_deref(), None).map_err(unaskable)?).clone()
                }
            };
            let stream = net::connect(address, course).await?;
            let name = get.name.as_deref().unwrap_or(&place.host);
            let stream = tls::handshake(stream, configuration, name, &place.authority, course).await?;
            notes.extend(tls::ends_soon(&stream));
            exchange(stream, &place, get, course).await?
        } else {
            let stream = net::connect(address, course).await?;
            exchange(stream, &place, get, course).await?
        };
        Ok(judge(&place.authority, place.uri.path(), get, &answer, notes))
    }
}

impl Place {
    fn of(url: &str) -> Result<Place, String> {
        let wrong = |why: &str| format!("the URL of the probe is wrong: {why}");
        let uri: Uri = url.parse().map_err(|e: hyper::http::uri::InvalidUri| wrong(&e.to_string()))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("it does not begin with http:// or https://")),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("it names no host"))?;
        let host = host.to_owned();
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let authority = format!("{host}:{port}");
        Ok(Place { uri, secure, host, port, authority })
    }
}

/// Sends the GET and reads the answer, its body only where something is looked for in it.
async fn exchange<S>(stream: S, place: &Place, get: &Get, course: Course<'_>) -> Result<Answer, Verdict>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let host = match (&get.name, place.uri.port_u16()) {
        (Some(name), Some(port)) => format!("{name}:{port}"),
        (Some(name), None) => name.clone(),
        (None, _) => place.uri.authority().map(ToString::to_string).unwrap_or_default(),
    };
    let request = Request::get(place.uri.path_and_query().map_or("/", |p| p.as_str()))
        .header(HOST, host)
        .body(Full::default())
        .map_err(|e| Verdict::not_ready(Trouble::Unaskable, format!("the URL of the probe is wrong: {e}")))?;
    send(stream, &place.authority, request, get.looks_inside(), course).await
}

/// Sends a request and reads its answer, the body only where that is wanted.
pub(super) async fn send<S>(
    stream: S,
    authority: &str,
    mut request: Request<Full<Bytes>>,
    looks_inside: bool,
    course: Course<'_>,
) -> Result<Answer, Verdict>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    course.enter(Stage::Reply);
    let begun = AtomicBool::new(false);
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("clusterd/", env!("CARGO_PKG_VERSION"))));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let talk = async {
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(MOST_HEAD).handshake(TokioIo::new(stream)).await?;
        let asking = async {
            let response = sender.send_request(request).await?;
            begun.store(true, Ordering::Relaxed);
            read(response, looks_inside).await
        };
        // The connection does the work of the exchange. It ends first only when it has broken, which the exchange says.
        tokio::pin!(asking);
        tokio::select! {
            answer = &mut asking => answer,
            _ = connection => asking.await,
        }
    };
    match course.limit(talk).await {
        Some(answer) => answer.map_err(|error| trouble(authority, &error)),
        None if begun.load(Ordering::Relaxed) => Err(Verdict::not_ready(
            Trouble::Silent,
            format!("{authority} is slow: its answer has begun and is not there within {course}"),
        )),
        None => Err(net::silent(authority, course)),
    }
}

async fn read(
    mut response: Response<hyper::body::Incoming>,
    looks_inside: bool,
) -> Result<Answer, hyper::Error> {
    let mut body = Vec::new();
    let mut whole = true;
    while looks_inside && let Some(frame) = response.body_mut().frame().await.transpose()? {
        let Some(data) = frame.data_ref() else { continue };
        whole = data.len() <= MOST - body.len();
        body.extend_from_slice(&data[..data.len().min(MOST - body.len())]);
        if !whole {
            break;
        }
    }
    let (head, _) = response.into_parts();
    Ok(Answer { status: head.status, headers: head.headers, body, whole })
}

pub(super) fn judge(authority: &str, path: &str, get: &Get, answer: &Answer, notes: Vec<String>) -> Verdict {
    let got = answer.status;
    let declined = |why: String| {
        Verdict::not_ready(Trouble::Declined, format!("{authority} answers GET {path} with {got}{why}"))
    };
    if got.as_u16() != get.status {
        let target = answer.headers.get(LOCATION).filter(|_| got.is_redirection());
        let to = target.map_or_else(String::new, |to| {
            let to = String::from_utf8_lossy(to.as_bytes());
            let shown = to.split(['?', '#']).next().unwrap_or_default();
            format!(" (a redirect to {})", net::shown(shown.as_bytes()))
        });
        return declined(format!("{to}, not {}", get.status));
    }
    let mut told = vec![got.to_string()];
    for (name, wanted) in &get.headers {
        let values = answer.headers.get_all(name.as_str());
        let found: Vec<_> = values.iter().map(|v| net::shown(v.as_bytes())).collect();
        if !found.iter().any(|value| value.contains(wanted.as_str())) {
            return declined(match found.first() {
                Some(value) => format!(", but its header {name} is \"{value}\", not \"{wanted}\""),
                None => format!(", but has no header {name}"),
            });
        }
        told.push(format!("{name} \"{wanted}\""));
    }
    if let Some(text) = &get.contains {
        if !holds(&answer.body, text.as_bytes()) {
            let read = if answer.whole { "its answer" } else { "the first 64 KiB of its answer" };
            return declined(format!(", but \"{text}\" is not in {read}"));
        }
        told.push(format!("with \"{text}\""));
    }
    if !get.json.is_empty() {
        let json: Value = match serde_json::from_slice(&answer.body) {
            Ok(json) => json,
            Err(_) if !answer.whole => return declined(", but with more than 64 KiB of JSON".into()),
            Err(error) => return declined(format!(", but its answer is no JSON: {error}")),
        };
        for (pointer, wanted) in &get.json {
            match json.pointer(pointer).map(value_text) {
                Some(value) if value == *wanted => told.push(format!("{pointer} is {wanted}")),
                Some(value) => {
                    let value = net::shown(value.as_bytes());
                    return declined(format!(", but {pointer} is {value}, not {wanted}"));
                }
                None => return declined(format!(", but there is no {pointer} in its answer")),
            }
        }
    }
    told.extend(notes);
    Verdict::ready(told.join(", "))
}

/// Whether `text` is in `body`. An empty text is in every one.
fn holds(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|w| w == text)
}

/// A value as it is compared: a string as it is, all else as JSON.
fn value_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The verdict on an exchange that brought no answer.
pub(super) fn trouble(authority: &str, error: &hyper::Error) -> Verdict {
    let cause = std::error::Error::source(error);
    match cause.and_then(|cause| cause.downcast_ref::<std::io::Error>()) {
        Some(io) => match io.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(tls) => tls::trouble(authority, tls),
            None => net::exchange_trouble(authority, io),
        },
        None if error.is_incomplete_message() => net::hung_up(authority),
        None => net::garbled(authority, "HTTP", cause.map_or_else(|| error.to_string(), ToString::to_string)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Ask;
    use crate::probe::testing::{answers, ask, ask_in_vain, greets, nobody, not_ready};
    use std::net::SocketAddr;

    fn get(address: SocketAddr) -> Ask {
        containing(address, None)
    }

    fn containing(address: SocketAddr, contains: Option<&str>) -> Ask {
        let url = format!("http://{address}/health?token=secret");
        Ask::Http(Get { contains: contains.map(str::to_owned), ..Get::of(url) })
    }

    #[tokio::test]
    async fn the_expected_status_is_ready() {
        let address = answers("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nall ok\n").await;
        assert_eq!(ask(get(address)).await, Verdict::ready("200 OK"));
        assert_eq!(ask(containing(address, Some("all ok"))).await, Verdict::ready("200 OK, with \"all ok\""));
        let reason = format!("{address} answers GET /health with 200 OK, but \"fine\" is not in its answer");
        not_ready(ask(containing(address, Some("fine"))).await, Trouble::Declined, reason);
    }

    #[tokio::test]
    async fn other_statuses_are_said() {
        let address = answers("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").await;
        let reason = format!("{address} answers GET /health with 503 Service Unavailable, not 200");
        not_ready(ask(get(address)).await, Trouble::Declined, reason);

        let head = "HTTP/1.1 301 Moved Permanently\r\nLocation: https://shop.example/?token=x\r\n";
        let address = answers(format!("{head}Content-Length: 0\r\n\r\n")).await;
        let reason = format!(
            "{address} answers GET /health with 301 Moved Permanently (a redirect to https://shop.example/), not 200"
        );
        not_ready(ask(get(address)).await, Trouble::Declined, reason);
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_a_limit() {
        let address = answers(format!("HTTP/1.1 200 OK\r\n\r\n{}needle", "x".repeat(1 << 17))).await;
        let reason = format!(
            "{address} answers GET /health with 200 OK, but \"needle\" is not in the first 64 KiB of its answer"
        );
        not_ready(ask(containing(address, Some("needle"))).await, Trouble::Declined, reason);
    }

    #[tokio::test]
    async fn what_is_no_answer_is_said() {
        let (_port, address) = nobody().await;
        not_ready(ask(get(address)).await, Trouble::Refused, format!("connection refused by {address}"));

        let address = greets("").await;
        let reason = format!("{address} accepts the connection and says nothing within 200 ms");
        not_ready(ask_in_vain(get(address)).await, Trouble::Silent, reason);

        let address = answers("").await;
        let reason = format!("{address} closed the connection without an answer");
        not_ready(ask(get(address)).await, Trouble::Declined, reason);

        let address = answers("-ERR unknown command\r\n").await;
        let reason = format!("{address} does not speak HTTP: invalid HTTP version parsed");
        not_ready(ask(get(address)).await, Trouble::Garbled, reason);
    }

    #[tokio::test]
    async fn tls_to_who_does_not_speak_it_is_said() {
        let address = answers("HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let url = format!("https://{address}/");
        let verdict = ask(Ask::Http(Get::of(url))).await;
        let Verdict::NotReady { kind: Trouble::Garbled, reason } = verdict else { panic!("{verdict:?}") };
        assert!(reason.starts_with(&format!("{address} does not speak TLS: ")), "{reason}");
    }

    #[tokio::test]
    async fn json_and_headers_are_looked_into() {
        let head = "HTTP/1.1 200 OK\r\nX-Backend: web1\r\nContent-Length: 41\r\n\r\n";
        let address =
            answers(format!("{head}{{\"status\":\"UP\",\"db\":{{\"ok\":true,\"n\":[7]}}}}\n ")).await;
        let with = |json: &[(&str, &str)], headers: &[(&str, &str)]| {
            let pairs =
                |of: &[(&str, &str)]| of.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
            let url = format!("http://{address}/health");
            Ask::Http(Get { json: pairs(json), headers: pairs(headers), ..Get::of(url) })
        };
        let good = with(&[("/status", "UP"), ("/db/ok", "true"), ("/db/n/0", "7")], &[("x-backend", "web1")]);
        let detail = "200 OK, x-backend \"web1\", /status is UP, /db/ok is true, /db/n/0 is 7";
        assert_eq!(ask(good).await, Verdict::ready(detail));
        let start = format!("{address} answers GET /health with 200 OK, but ");
        for (json, headers, says) in [
            (&[("/status", "DOWN")][..], &[][..], "/status is UP, not DOWN"),
            (&[("/queue", "0")], &[], "there is no /queue in its answer"),
            (&[], &[("X-Backend", "web2")], "its header X-Backend is \"web1\", not \"web2\""),
            (&[], &[("Server", "nginx")], "has no header Server"),
        ] {
            not_ready(ask(with(json, headers)).await, Trouble::Declined, format!("{start}{says}"));
        }
    }

    #[tokio::test]
    async fn a_wrong_url_is_said() {
        let verdict = ask(Ask::Http(Get::of("nonsense"))).await;
        let reason = "the URL of the probe is wrong: it does not begin with http:// or https://";
        not_ready(verdict, Trouble::Unaskable, reason);
    }
}
