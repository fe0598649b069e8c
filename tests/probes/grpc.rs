//! gRPC: etcd's own health service, beside its HTTP page; and the answers that etcd never gives, by a health service of ours
//! in the C core of gRPC (Debian's python3-grpcio), which says that it is a stand-in.

use super::nginx::self_signed;
use super::*;
use clusterd::model::GrpcHealth;

/// A member of an etcd cluster.
struct Etcd {
    dir: TempDir,
    name: &'static str,
    client: SocketAddr,
    peer: SocketAddr,
}

impl Etcd {
    fn new(name: &'static str) -> Etcd {
        Etcd { dir: tempfile::tempdir().unwrap(), name, client: free_address(), peer: free_address() }
    }

    fn is(&self) -> String {
        format!("{}=http://{}", self.name, self.peer)
    }

    /// As a member of a cluster of these.
    fn start(&self, cluster: &str, scheme: &str, more: &[&str]) -> Daemon {
        let Etcd { dir, name, client, peer } = self;
        let (client, peer) = (format!("{scheme}://{client}"), format!("http://{peer}"));
        let mut command = Command::new("etcd");
        command
            .args(["--name", name, "--initial-cluster", cluster])
            .arg("--data-dir")
            .arg(dir.path().join("etcd"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        Daemon::start(command.args(more))
    }

    fn health_page(&self) -> Get {
        Get {
            json: vec![("/health".into(), "true".into())],
            ..Get::of(format!("http://{}/health", self.client))
        }
    }
}

fn check(address: SocketAddr, service: &str) -> GrpcHealth {
    GrpcHealth { address, service: service.into(), tls: false, name: None, ca: None }
}

#[tokio::test]
async fn etcd_serves_by_its_own_word_alone_and_knows_no_other_service() {
    let etcd = Etcd::new("a");
    let address = etcd.client;
    let whole = || Ask::Grpc(check(address, ""));
    not_ready(ask(whole()).await, Trouble::Refused, format!("connection refused by {address}"));
    let daemon = etcd.start(&etcd.is(), "http", &[]);
    assert_eq!(until(whole(), Verdict::is_ready).await, Verdict::ready("SERVING"));
    let orders = ask(Ask::Grpc(check(address, "orders"))).await;
    not_ready(orders, Trouble::Declined, format!("{address} knows no service \"orders\""));

    // The JSON of its page by pointers.
    let page = |url: &str, pointer: &str, wanted: &str| {
        Ask::Http(Get {
            json: vec![(pointer.into(), wanted.into())],
            ..Get::of(format!("http://{address}{url}"))
        })
    };
    assert_eq!(ask(page("/health", "/health", "true")).await, Verdict::ready("200 OK, /health is true"));
    let other = ask(page("/health", "/health", "UP")).await;
    let reason = format!("{address} answers GET /health with 200 OK, but /health is true, not UP");
    not_ready(other, Trouble::Declined, reason);
    let missing = ask(page("/health", "/status/0", "UP")).await;
    let reason =
        format!("{address} answers GET /health with 200 OK, but there is no /status/0 in its answer");
    not_ready(missing, Trouble::Declined, reason);
    let plain = ask(page("/metrics", "/health", "true")).await;
    let reason = format!("{address} answers GET /metrics with 200 OK, but with more than 64 KiB of JSON");
    not_ready(plain, Trouble::Declined, reason);

    daemon.freeze();
    let reason = format!("{address} accepts the connection and says nothing within 3 s");
    not_ready(ask_in_vain(whole()).await, Trouble::Silent, reason);
    daemon.thaw();
    assert_eq!(ask(whole()).await, Verdict::ready("SERVING"));
    daemon.cut();
    not_ready(ask(whole()).await, Trouble::Refused, format!("connection refused by {address}"));
}

/// Its gRPC health is silent until its cluster has a leader for the first time, and tells nothing of a leader lost since: its
/// page does.
#[tokio::test]
async fn etcd_without_its_quorum_is_seen_by_its_page_and_not_by_its_grpc_health() {
    let (first, second) = (Etcd::new("a"), Etcd::new("b"));
    let cluster = format!("{},{}", first.is(), second.is());
    let address = first.client;
    let whole = || Ask::Grpc(check(address, ""));
    let fast = ["--heartbeat-interval=50", "--election-timeout=500"];
    let _one = first.start(&cluster, "http", &fast);
    let silent = |v: &Verdict| matches!(v, Verdict::NotReady { kind: Trouble::Silent, .. });
    let reason = format!("{address} accepts the connection and says nothing within 3 s");
    not_ready(until(whole(), silent).await, Trouble::Silent, reason);

    let other = second.start(&cluster, "http", &fast);
    assert_eq!(until(whole(), Verdict::is_ready).await, Verdict::ready("SERVING"));
    let page = until(Ask::Http(first.health_page()), Verdict::is_ready).await;
    assert_eq!(page, Verdict::ready("200 OK, /health is true"));
    other.cut();
    let lost = until(Ask::Http(first.health_page()), |v| !v.is_ready()).await;
    let reason = format!("{address} answers GET /health with 503 Service Unavailable, not 200");
    not_ready(lost, Trouble::Declined, reason);
    assert_eq!(ask(whole()).await, Verdict::ready("SERVING"), "which it says of itself, not of its cluster");
}

#[tokio::test]
async fn etcd_by_tls_is_asked_by_its_certificate() {
    let etcd = Etcd::new("a");
    let address = etcd.client;
    let certificate = self_signed(etcd.dir.path(), 30, "now");
    let at = |name: &str| etcd.dir.path().join(name).display().to_string();
    let files = [format!("--cert-file={}", at("certificate.pem")), format!("--key-file={}", at("key.pem"))];
    let _daemon = etcd.start(&etcd.is(), "https", &files.each_ref().map(String::as_str));
    let secure = |ca: Option<&PathBuf>, name: Option<&str>| {
        let (ca, name) = (ca.cloned(), name.map(Into::into));
        Ask::Grpc(GrpcHealth { tls: true, ca, name, ..check(address, "") })
    };
    let trusted = secure(Some(&certificate), None);
    assert_eq!(until(trusted, Verdict::is_ready).await, Verdict::ready("SERVING"));
    let says = |why: &str| format!("TLS with {address} fails: {why}");
    let unknown = ask(secure(None, None)).await;
    not_ready(unknown, Trouble::Declined, says("nobody that is trusted here has signed its certificate"));
    let other = ask(secure(Some(&certificate), Some("shop.example"))).await;
    not_ready(other, Trouble::Declined, says("its certificate is for another name"));
    let plain = ask(Ask::Grpc(check(address, ""))).await;
    let reason =
        format!("{address} closed the connection without an answer: if it speaks TLS, say `tls = true`");
    not_ready(plain, Trouble::Declined, reason);
}

/// Answers by what it is asked about; without a health service where `none` stands behind its address.
const HEALTH: &str = r#"
import sys, grpc
from concurrent import futures
says = {b"": b"\x08\x01", b"orders": b"\x08\x02", b"mails": b""}
def check(request, context):
    service = request[2:]
    if service == b"ours":
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
    if service == b"full":
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests")
    if service not in says:
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return says[service]
class Health(grpc.GenericRpcHandler):
    def service(self, call):
        if sys.argv[2:] == [] and call.method == "/grpc.health.v1.Health/Check":
            return grpc.unary_unary_rpc_method_handler(check)
server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Health()])
server.add_insecure_port(sys.argv[1])
server.start()
server.wait_for_termination()
"#;

#[tokio::test]
async fn what_other_grpc_servers_say_of_themselves_is_told_by_a_stand_in() {
    let (address, bare) = (free_address(), free_address());
    let python =
        |words: &[&str]| Daemon::start(Command::new("/usr/bin/python3").args(["-c", HEALTH]).args(words));
    let _health = python(&[&address.to_string()]);
    let _none = python(&[&bare.to_string(), "none"]);
    let of = |service: &str| Ask::Grpc(check(address, service));
    assert_eq!(until(of(""), Verdict::is_ready).await, Verdict::ready("SERVING"));
    for (service, kind, says) in [
        ("orders", Trouble::Declined, "says NOT_SERVING of orders"),
        ("mails", Trouble::Declined, "says UNKNOWN of mails: it does not know itself yet"),
        ("bills", Trouble::Declined, "knows no service \"bills\""),
        ("ours", Trouble::Denied, "does not let us ask about its health: no token"),
        ("full", Trouble::Declined, "answers with the gRPC status 8: too many requests"),
    ] {
        not_ready(ask(of(service)).await, kind, format!("{address} {says}"));
    }
    let none =
        until(Ask::Grpc(check(bare, "")), |v| !matches!(v, Verdict::NotReady { kind: Trouble::Refused, .. }))
            .await;
    let reason = format!("{bare} speaks gRPC, but has no health service (grpc.health.v1)");
    not_ready(none, Trouble::Declined, reason);
}
