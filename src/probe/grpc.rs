//! gRPC: the server's own health service, `grpc.health.v1.Health/Check`, over HTTP/2.
//!
//! hyper speaks HTTP/2 over a connection that we make. The two messages are small enough to be written and read here.

use super::course::Course;
use super::{net, tls};
use crate::facts::{Stage, Trouble, Verdict};
use crate::model::GrpcHealth;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper::header::{CONTENT_TYPE, TE, USER_AGENT};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

/// The most bytes of an answer's body that are read. A health answer has 7.
pub(super) const MOST: usize = 4096;
/// The most bytes of its headers, and of its trailers.
const MOST_HEAD: u32 = 16 * 1024;
/// How far it may run ahead of what we read (the least that HTTP/2 has).
const WINDOW: u32 = 65_535;

/// Keeps what certificates are checked by.
#[derive(Default)]
pub(super) struct Client {
    tls: Option<Arc<ClientConfig>>,
}

/// What came back.
struct Answer {
    status: StatusCode,
    /// `grpc-status` and `grpc-message`, from the trailers, or the headers where there is no body.
    code: Option<String>,
    message: String,
    body: Vec<u8>,
}

impl Client {
    pub async fn ask(&mut self, ask: &GrpcHealth, course: Course<'_>) -> Verdict {
        match self.answer(ask, course).await {
            Ok(answer) => judge(ask.address, &ask.service, &answer),
            Err(verdict) => verdict,
        }
    }

    async fn answer(&mut self, ask: &GrpcHealth, course: Course<'_>) -> Result<Answer, Verdict> {
        let stream = net::connect(ask.address, course).await?;
        if !ask.tls {
            return exchange(stream, ask, course).await;
        }
        let unaskable = |why| Verdict::not_ready(Trouble::Unaskable, why);
        let configuration = match &self.tls {
            Some(configuration) => configuration.clone(),
            None => {
                let plain = tls::configuration(ask.ca.as_deref(), None).map_err(unaskable)?;
                let mut h2 = Arc::unwrap_or_clone(plain);
                h2.alpn_protocols = vec![b"h2".to_vec()];
                self.tls.insert(Arc::new(h2)).clone()
            }
        };
        let (ip, authority) = (ask.address.ip().to_string(), ask.address.to_string());
        let name = ask.name.as_deref().unwrap_or(&ip);
        let stream = tls::handshake(stream, configuration, name, &authority, course).await?;
        exchange(stream, ask, course).await
    }
}

async fn exchange<S>(stream: S, ask: &GrpcHealth, course: Course<'_>) -> Result<Answer, Verdict>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    course.enter(Stage::Reply);
    let scheme = if ask.tls { "https" } else { "http" };
    let host = match &ask.name {
        Some(name) => format!("{name}:{}", ask.address.port()),
        None => ask.address.to_string(),
    };
    let request = Request::post(format!("{scheme}://{host}/grpc.health.v1.Health/Check"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, concat!("clusterd/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(Bytes::from(request(&ask.service))))
        .map_err(|e| {
            Verdict::not_ready(Trouble::Unaskable, format!("the question cannot be written: {e}"))
        })?;
    let talk = async {
        let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_header_list_size(MOST_HEAD)
            .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
            .await?;
        let asking = async {
            let mut response = sender.send_request(request).await?;
            let (mut body, mut trailers) = (Vec::new(), None);
            while let Some(frame) = response.body_mut().frame().await.transpose()? {
                match frame.into_data() {
                    Ok(data) => body.extend_from_slice(&data[..data.len().min(MOST - body.len())]),
                    Err(frame) => trailers = frame.into_trailers().ok(),
                }
                if body.len() == MOST {
                    break; // that is no health answer
                }
            }
            let (head, _) = response.into_parts();
            let said = trailers.as_ref().unwrap_or(&head.headers);
            Ok::<_, hyper::Error>(Answer {
                status: head.status,
                code: word(said, "grpc-status"),
                message: word(said, "grpc-message").unwrap_or_default(),
                body,
            })
        };
        // The connection does the work of the exchange. It ends first only when it has broken: the exchange says how,
        // unless it had not begun.
        tokio::pin!(asking);
        tokio::select! {
            answer = &mut asking => answer,
            ended = connection => match asking.await {
                Err(error) if error.is_canceled() => Err(ended.err().unwrap_or(error)),
                said => said,
            },
        }
    };
    match course.limit(talk).await {
        Some(answer) => answer.map_err(|error| trouble(ask, &error)),
        None => Err(net::silent(ask.address, course)),
    }
}

fn word(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| net::shown(value.as_bytes()))
}

/// `HealthCheckRequest { service }` behind its length: gRPC's framing and protobuf's.
fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a); // field 1, a string
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0][..], &length, &message].concat()
}

/// The number in `HealthCheckResponse { status }`; `None` where the body is no such message.
pub(super) fn status(body: &[u8]) -> Option<u64> {
    let (compressed, rest) = body.split_first()?;
    let (length, message) = rest.split_first_chunk::<4>()?;
    let mut message = message.get(..u32::from_be_bytes(*length) as usize)?;
    if *compressed != 0 {
        return None;
    }
    let mut status = 0; // what a message does not say is zero
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let skipped = match key & 7 {
            0 => {
                let value = varint(&mut message)?;
                if key >> 3 == 1 {
                    status = value;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        message = message.get(skipped..)?;
    }
    Some(status)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << (7 * place);
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn judge(address: SocketAddr, service: &str, answer: &Answer) -> Verdict {
    let of = if service.is_empty() { String::new() } else { format!(" of {service}") };
    let verdict = |kind, why: String| Verdict::not_ready(kind, format!("{address} {why}"));
    let code = answer.code.as_deref();
    let message = || if answer.message.is_empty() { String::new() } else { format!(": {}", answer.message) };
    match code {
        Some("0") => match status(&answer.body) {
            Some(1) => Verdict::ready(format!("SERVING{of}")),
            Some(2) => verdict(Trouble::Declined, format!("says NOT_SERVING{of}")),
            Some(3) => verdict(Trouble::Declined, format!("knows no service \"{service}\"")),
            Some(_) => verdict(Trouble::Declined, format!("says UNKNOWN{of}: it does not know itself yet")),
            None => net::garbled(address, "gRPC", "its answer is no HealthCheckResponse"),
        },
        Some("5") => verdict(Trouble::Declined, format!("knows no service \"{service}\"")),
        Some("7" | "16") => {
            verdict(Trouble::Denied, format!("does not let us ask about its health{}", message()))
        }
        Some("12") => {
            verdict(Trouble::Declined, "speaks gRPC, but has no health service (grpc.health.v1)".into())
        }
        Some(code) => verdict(Trouble::Declined, format!("answers with the gRPC status {code}{}", message())),
        None if answer.status != StatusCode::OK => {
            verdict(Trouble::Declined, format!("answers with {}, not with gRPC", answer.status))
        }
        None => net::garbled(address, "gRPC", "its answer has no grpc-status"),
    }
}

/// The verdict on an exchange that brought no answer.
///
/// Whether a server that hangs up is seen to end the connection or to reset it is chance (it resets what it has not read to
/// its end), so both are told alike.
fn trouble(ask: &GrpcHealth, error: &hyper::Error) -> Verdict {
    let address = ask.address;
    let mut ended = error.is_canceled();
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut last = error.to_string();
    while let Some(this) = cause {
        if let Some(io) = this.downcast_ref::<std::io::Error>() {
            // h2 has words of its own for an end alone: before an answer, or within it.
            ended = io.get_ref().is_some() || net::is_end(io);
            if !ended {
                return net::exchange_trouble(address, io);
            }
        }
        last = this.to_string();
        cause = this.source();
    }
    match ended {
        true if ask.tls => net::hung_up(address),
        true => Verdict::not_ready(
            Trouble::Declined,
            format!("{address} closed the connection without an answer: if it speaks TLS, say `tls = true`"),
        ),
        false => net::garbled(address, "gRPC", format!("no HTTP/2 ({})", net::shown(last.as_bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Ask;
    use crate::probe::testing::{answers, ask, ask_in_vain, greets, nobody, not_ready, server};
    use http_body_util::StreamBody;
    use hyper::Response;
    use hyper::body::{Frame, Incoming};
    use hyper::service::service_fn;
    use std::convert::Infallible;
    use tokio::io::AsyncReadExt;

    /// `SERVING` as grpc-go sends it.
    const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

    /// A health server: knows the server as a whole (which serves) and `orders` (which does not); asks for a
    /// `Bearer` nowhere.
    async fn health() -> SocketAddr {
        server(|stream| async move {
            let talk = service_fn(|request: Request<Incoming>| async move {
                let path = request.uri().path().to_owned();
                let asked = request.into_body().collect().await.unwrap().to_bytes();
                let (body, code) = match (path.as_str(), &asked[..]) {
                    ("/grpc.health.v1.Health/Check", [0, 0, 0, 0, 0]) => (SERVING, "0"),
                    ("/grpc.health.v1.Health/Check", b"\0\0\0\0\x08\x0a\x06orders") => {
                        (&[0, 0, 0, 0, 2, 8, 2][..], "0")
                    }
                    ("/grpc.health.v1.Health/Check", _) => (&[][..], "5"),
                    _ => (&[][..], "12"),
                };
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", code.parse().unwrap());
                let frames = [
                    Ok::<_, Infallible>(Frame::data(Bytes::from_static(body))),
                    Ok(Frame::trailers(trailers)),
                ];
                let body = StreamBody::new(futures_util::stream::iter(frames));
                Ok::<_, Infallible>(
                    Response::builder().header(CONTENT_TYPE, "application/grpc").body(body).unwrap(),
                )
            });
            let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = served.serve_connection(TokioIo::new(stream), talk).await;
        })
        .await
    }

    fn check(address: SocketAddr, service: &str) -> Ask {
        Ask::Grpc(GrpcHealth { address, service: service.into(), tls: false, name: None, ca: None })
    }

    #[tokio::test]
    async fn a_servers_own_word_counts() {
        let address = health().await;
        assert_eq!(ask(check(address, "")).await, Verdict::ready("SERVING"));
        let orders = ask(check(address, "orders")).await;
        not_ready(orders, Trouble::Declined, format!("{address} says NOT_SERVING of orders"));
        let none = ask(check(address, "nothing")).await;
        not_ready(none, Trouble::Declined, format!("{address} knows no service \"nothing\""));
    }

    #[tokio::test]
    async fn what_is_no_grpc_is_said() {
        let http = answers("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        let verdict = ask(check(http, "")).await;
        let Verdict::NotReady { kind, reason } = &verdict else { panic!("{verdict:?}") };
        assert_eq!(*kind, Trouble::Garbled, "{reason}");
        assert!(reason.starts_with(&format!("{http} does not speak gRPC: no HTTP/2")), "{reason}");
        let silent = greets("").await;
        let why = format!("{silent} accepts the connection and says nothing within 200 ms");
        not_ready(ask_in_vain(check(silent, "")).await, Trouble::Silent, why);
        let (_port, closed) = nobody().await;
        not_ready(ask(check(closed, "")).await, Trouble::Refused, format!("connection refused by {closed}"));
    }

    /// As a server does that wants TLS, whatever part of the question it has read.
    #[tokio::test]
    async fn whoever_hangs_up_hangs_up_however_it_does_so() {
        for read in [0, 1, 24, 57] {
            let address = server(move |mut stream| async move {
                let _ = stream.read_exact(&mut vec![0; read]).await;
            })
            .await;
            let reason = format!(
                "{address} closed the connection without an answer: if it speaks TLS, say `tls = true`"
            );
            not_ready(ask(check(address, "")).await, Trouble::Declined, reason);
        }
    }

    #[test]
    fn messages_are_as_protobuf_has_them() {
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = request(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2]);
        assert_eq!(status(SERVING), Some(1));
        assert_eq!(status(&[0, 0, 0, 0, 0]), Some(0));
        // Fields that a later version may add are passed over.
        assert_eq!(status(&[0, 0, 0, 0, 7, 0x12, 1, b'x', 8, 2, 0x18, 9]), Some(2));
        for broken in [&[][..], &[0, 0, 0, 0, 2, 8], &[1, 0, 0, 0, 2, 8, 1], &[0, 0, 0, 0, 1, 8]] {
            assert_eq!(status(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn other_codes_are_said() {
        let address = "10.0.0.1:50051".parse().unwrap();
        let says = |status: u16, code: Option<&str>, message: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let (code, message) = (code.map(Into::into), message.into());
            judge(address, "", &Answer { status, code, message, body: vec![] }).to_string()
        };
        assert_eq!(
            says(200, Some("12"), ""),
            "10.0.0.1:50051 speaks gRPC, but has no health service (grpc.health.v1)"
        );
        assert_eq!(
            says(200, Some("16"), "no token"),
            "10.0.0.1:50051 does not let us ask about its health: no token"
        );
        assert_eq!(says(200, Some("14"), ""), "10.0.0.1:50051 answers with the gRPC status 14");
        assert_eq!(says(404, None, ""), "10.0.0.1:50051 answers with 404 Not Found, not with gRPC");
    }
}
