//! HTTP and HTTPS: a GET with an expected status, and if wanted a text in the answer.
//!
//! reqwest speaks the protocol and checks certificates by the system's own store. A new connection is made for each
//! question: it costs little, and it is what the service's clients do. A redirect is an answer, not followed.

use super::net::{self, Deadline};
use crate::facts::{Trouble, Verdict};
use reqwest::{Url, redirect};
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Once;
use std::time::Duration;

/// The most bytes of a body that are read.
const MOST: usize = 64 * 1024;

/// Keeps the HTTP client, which holds the certificate store.
#[derive(Default)]
pub(super) struct Client {
    http: Option<reqwest::Client>,
}

/// The parts of the URL that may be shown: it can hold a password, or a token in its query.
struct Place {
    url: Url,
    /// `host:port`
    authority: String,
    /// When the host is a literal address.
    address: Option<SocketAddr>,
}

impl Client {
    pub async fn ask(
        &mut self,
        url: &str,
        status: u16,
        contains: Option<&str>,
        deadline: Deadline,
    ) -> Verdict {
        let place = match Place::of(url) {
            Ok(place) => place,
            Err(why) => return Verdict::not_ready(Trouble::Unaskable, why),
        };
        let http = match self.http(&place.url) {
            Ok(http) => http,
            Err(error) => {
                let why = format!("cannot set up HTTP: {}", root(&error));
                return Verdict::not_ready(Trouble::Unaskable, why);
            }
        };
        let mut get = Box::pin(get(http, &place, status, contains));
        match deadline.limit(&mut get).await {
            Some(verdict) => verdict,
            // Asked while the connect, if that is what is late, is still there to be seen.
            None if place.address.is_some_and(net::connect_is_unanswered) => {
                net::unanswered(&place.authority, deadline)
            }
            None => net::silent(&place.authority, deadline),
        }
    }

    fn http(&mut self, url: &Url) -> reqwest::Result<reqwest::Client> {
        static PROVIDER: Once = Once::new();
        if let Some(http) = &self.http {
            return Ok(http.clone());
        }
        // Whoever was first has chosen one; any will do.
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .pool_idle_timeout(Duration::ZERO)
            .tcp_nodelay(true)
            .user_agent(concat!("clusterd/", env!("CARGO_PKG_VERSION")));
        if url.scheme() == "http" {
            // No certificate will be looked at: leave the system's store, half a megabyte, on the disk.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build()?;
        self.http = Some(http.clone());
        Ok(http)
    }
}

impl Place {
    fn of(url: &str) -> Result<Place, String> {
        let url = Url::parse(url).map_err(|e| format!("the URL of the probe is wrong: {e}"))?;
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err("the URL of the probe names no host".into());
        };
        let authority = format!("{host}:{port}");
        let address = authority.parse().ok();
        Ok(Place { url, authority, address })
    }
}

async fn get(http: reqwest::Client, place: &Place, status: u16, contains: Option<&str>) -> Verdict {
    let mut response = match http.get(place.url.clone()).send().await {
        Ok(response) => response,
        Err(error) => return trouble(place, &error),
    };
    let (authority, path, got) = (&place.authority, place.url.path(), response.status());
    if got.as_u16() != status {
        let target = response.headers().get(reqwest::header::LOCATION).filter(|_| got.is_redirection());
        let to = target.map_or_else(String::new, |to| {
            let to = String::from_utf8_lossy(to.as_bytes());
            let shown = to.split(['?', '#']).next().unwrap_or_default();
            format!(" (a redirect to {})", shown.chars().take(100).collect::<String>())
        });
        let why = format!("{authority} answers GET {path} with {got}{to}, not {status}");
        return Verdict::not_ready(Trouble::Declined, why);
    }
    let Some(text) = contains else { return Verdict::ready(got.to_string()) };
    let mut body = Vec::new();
    let whole = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk[..chunk.len().min(MOST - body.len())]),
            Ok(None) => break true,
            Err(error) => return trouble(place, &error),
        }
        if body.len() == MOST {
            break false;
        }
    };
    if body.windows(text.len().max(1)).any(|w| w == text.as_bytes()) || text.is_empty() {
        return Verdict::ready(format!("{got}, with \"{text}\""));
    }
    let read = if whole { "its answer" } else { "the first 64 KiB of its answer" };
    let why = format!("{authority} answers GET {path} with {got}, but \"{text}\" is not in {read}");
    Verdict::not_ready(Trouble::Declined, why)
}

/// The verdict on a GET that brought no response.
fn trouble(place: &Place, error: &reqwest::Error) -> Verdict {
    let authority = &place.authority;
    let chain = || std::iter::successors(Some(error as &(dyn Error + 'static)), |e| (*e).source());
    let tls = chain().find_map(tls_error);
    if let Some(tls) = tls {
        return match tls {
            rustls::Error::InvalidMessage(_) => net::garbled(authority, "TLS", tls),
            _ => Verdict::not_ready(Trouble::Declined, format!("TLS with {authority} fails: {tls}")),
        };
    }
    let io = chain().find_map(|e| e.downcast_ref::<io::Error>());
    match io {
        Some(io) if error.is_connect() => net::connect_trouble(authority, io),
        Some(io) => net::exchange_trouble(authority, io),
        None if error.is_connect() => {
            let why = format!("cannot connect to {authority}: {}", root(error));
            Verdict::not_ready(Trouble::Unaskable, why)
        }
        None => match chain().find_map(|e| e.downcast_ref::<hyper::Error>()) {
            Some(http) if http.is_incomplete_message() => net::hung_up(authority),
            _ => net::garbled(authority, "HTTP", root(error)),
        },
    }
}

/// The TLS error that `error` is or holds: an `io::Error` holds one, or another `io::Error`, without its being the
/// source.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    match error.downcast_ref::<io::Error>() {
        Some(io) => tls_error(io.get_ref()?),
        None => error.downcast_ref(),
    }
}

/// The innermost cause: reqwest's own words repeat the URL.
fn root(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use crate::facts::{Trouble, Verdict};
    use crate::model::Ask;
    use crate::probe::testing::{answers, ask, ask_in_vain, greets, nobody, not_ready};
    use std::net::SocketAddr;

    fn get(address: SocketAddr) -> Ask {
        containing(address, None)
    }

    fn containing(address: SocketAddr, contains: Option<&str>) -> Ask {
        let url = format!("http://{address}/health?token=secret");
        Ask::Http { url, status: 200, contains: contains.map(str::to_owned) }
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
        let verdict = ask(Ask::Http { url, status: 200, contains: None }).await;
        let Verdict::NotReady { kind: Trouble::Garbled, reason } = verdict else { panic!("{verdict:?}") };
        assert!(reason.starts_with(&format!("{address} does not speak TLS: ")), "{reason}");
    }

    #[tokio::test]
    async fn a_wrong_url_is_said() {
        let verdict = ask(Ask::Http { url: "nonsense".into(), status: 200, contains: None }).await;
        let reason = "the URL of the probe is wrong: relative URL without a base";
        not_ready(verdict, Trouble::Unaskable, reason);
    }
}
