use super::*;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::{TcpListener, UnixListener};

/// What one little server saw.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: AtomicUsize,
}

/// Answers by path; `/hang-up` ends the connection, `/never` does not answer.
async fn answer(request: Request<Incoming>, seen: Arc<Seen>) -> Result<Response<Body>, io::Error> {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    let path = request.uri().path().to_owned();
    let sent = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    let (status, body) = match path.as_str() {
        "/number" => (200, Bytes::from_static(b"7")),
        "/echo" => (200, sent),
        "/text" => (200, Bytes::from_static(b"<html>")),
        "/lines" => (200, Bytes::from_static(b"one\ntwo\ncut o")),
        "/long-line" => (200, Bytes::from(vec![b'x'; MAX_LINE + 2])),
        "/hang-up" => return Err(io::Error::other("asked to")),
        "/never" => std::future::pending().await,
        "/refuse" => (409, Bytes::from_static(br#"{"error":"not here","hint":"go there"}"#)),
        _ => (404, Bytes::new()),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::from_u16(status).map_err(io::Error::other)?;
    Ok(response)
}

async fn serve_one(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, seen: Arc<Seen>) {
    seen.connections.fetch_add(1, Ordering::SeqCst);
    let service = service_fn(|request| answer(request, seen.clone()));
    let _ = server::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn tcp_server() -> (Target, Arc<Seen>, JoinHandle<Infallible>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::from(listener.local_addr().unwrap());
    let seen = Arc::new(Seen::default());
    let counted = seen.clone();
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            serve_one(stream, counted.clone()).await;
        }
    });
    (target, seen, task)
}

#[tokio::test]
async fn calls_share_one_warm_connection() {
    let (target, seen, _task) = tcp_server().await;
    let mut client = Client::connect(target).await.unwrap();
    assert_eq!(client.get::<u32>("/number").await.unwrap(), 7);
    assert_eq!(client.post::<_, Vec<u32>>("/echo", &[1, 2]).await.unwrap(), [1, 2]);
    assert_eq!(seen.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_unix_socket_works_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve_one(stream, Arc::default()).await;
    });
    let mut client = Client::new(Target::Unix(path));
    assert_eq!(client.get::<u32>("/number").await.unwrap(), 7);
    task.abort();
}

#[tokio::test]
async fn a_get_is_asked_again_when_the_warm_connection_has_died() {
    let (target, seen, _task) = tcp_server().await;
    let mut client = Client::connect(target).await.unwrap();
    client.get::<u32>("/number").await.unwrap();
    let error = client.post::<_, u32>("/hang-up", &()).await.unwrap_err();
    assert!(matches!(error, ClientError::HungUp { .. }), "{error}");
    assert_eq!(client.get::<u32>("/number").await.unwrap(), 7);
    assert_eq!(seen.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_post_that_may_have_arrived_is_not_repeated_and_a_get_is_once() {
    let (target, seen, _task) = tcp_server().await;
    let mut client = Client::connect(target).await.unwrap();
    client.get::<u32>("/number").await.unwrap();
    client.post::<_, u32>("/hang-up", &()).await.unwrap_err();
    assert_eq!(seen.requests.load(Ordering::SeqCst), 2);
    client.get::<u32>("/number").await.unwrap();
    client.get::<u32>("/hang-up").await.unwrap_err();
    assert_eq!(seen.requests.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn a_missing_socket_is_told_in_words() {
    let error = Client::connect(Target::Unix("/nonexistent/agent.sock".into())).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no agent answers at /nonexistent/agent.sock: there is no such socket; is clusterd running here?"
    );
    assert!(error.is_no_agent());
    assert!(error.hint().unwrap().contains("systemctl status clusterd"));
}

#[tokio::test]
async fn a_closed_port_is_told_in_words() {
    // Taken, so that nobody else gets it, and not listened at.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let target = Target::from(socket.local_addr().unwrap());
    let error = Client::connect(target.clone()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("no agent answers at {target}: connection refused; is clusterd running there?")
    );
}

#[tokio::test]
async fn an_agent_that_never_answers_ends_by_the_deadline_and_the_next_call_gets_its_own_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::from(listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve_one(stream, Arc::default()));
        }
    });
    let mut client = Client::new(target).within(CONNECT_WITHIN, Duration::from_millis(300));
    let error = client.get::<u32>("/never").await.unwrap_err();
    assert!(error.to_string().ends_with("gave no answer to /never within 0.3 s"), "{error}");
    assert_eq!(client.get::<u32>("/number").await.unwrap(), 7);
    task.abort();
}

#[tokio::test]
async fn a_refusal_carries_the_agents_words() {
    let (target, _seen, _task) = tcp_server().await;
    let mut client = Client::new(target);
    let error = client.get::<u32>("/refuse").await.unwrap_err();
    assert_eq!(error.to_string(), "not here");
    assert_eq!(error.hint().as_deref(), Some("go there"));
    let error = client.get::<u32>("/other").await.unwrap_err();
    assert_eq!(error.to_string(), "the agent refused with 404 Not Found");
}

#[tokio::test]
async fn an_answer_that_is_not_ours_is_said_to_be_so() {
    let (target, _seen, _task) = tcp_server().await;
    let error = Client::new(target).get::<u32>("/text").await.unwrap_err();
    assert!(matches!(error, ClientError::Garbled { .. }), "{error}");
}

#[tokio::test]
async fn a_stream_gives_whole_lines_only() {
    let (target, _seen, _task) = tcp_server().await;
    let mut lines = Client::new(target).lines("/lines").await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap(), "one");
    assert_eq!(lines.next().await.unwrap().unwrap(), "two");
    assert_eq!(lines.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_stream_has_a_longest_line_and_can_be_refused() {
    let (target, _seen, _task) = tcp_server().await;
    let client = Client::new(target);
    let mut lines = client.lines("/long-line").await.unwrap();
    assert!(matches!(lines.next().await.unwrap_err(), ClientError::LineTooLong { .. }));
    drop(lines);
    let error = client.lines("/refuse").await.unwrap_err();
    assert_eq!(error.to_string(), "not here");
}
