//! nginx: HTTP and HTTPS.

use super::*;
use std::path::Path;

/// Writes `nginx.conf` into the folder, in which `key.pem` and `certificate.pem` are: a site without TLS that also has
/// `more`, and one with it.
fn configure(dir: &Path, plain: SocketAddr, tls: SocketAddr, more: &str) {
    let at = |name: &str| dir.join(name).display().to_string();
    let configuration = format!(
        "daemon off; master_process off; pid {pid}; error_log {log}; events {{}}
         http {{ access_log off; client_body_temp_path {t}; proxy_temp_path {t}; fastcgi_temp_path {t};
           uwsgi_temp_path {t}; scgi_temp_path {t};
           server {{ listen {plain}; location / {{ return 200 'shop is open'; }}
             {more} }}
           server {{ listen {tls} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};
             location / {{ return 200 'safe'; }} }} }}",
        certificate = at("certificate.pem"),
        key = at("key.pem"),
        pid = at("pid"),
        log = at("log"),
        t = at("tmp"),
    );
    std::fs::write(at("nginx.conf"), configuration).unwrap();
}

/// Makes `key.pem` and `certificate.pem` for 127.0.0.1, good for so many days from what `faketime` is told of the time; the
/// certificate's path.
pub fn self_signed(dir: &Path, days: u32, made: &str) -> PathBuf {
    let (key, certificate) = (dir.join("key.pem"), dir.join("certificate.pem"));
    let mut openssl = Command::new("faketime");
    openssl.args([
        made,
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=127.0.0.1",
    ]);
    openssl.args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"]);
    openssl.args(["-days", &days.to_string(), "-keyout"]).arg(key).arg("-out").arg(&certificate);
    // It calls a semaphore by its pid, and whoever was killed under it has left one; the next try has another pid.
    for _ in 0..100 {
        let out = openssl.stdin(Stdio::null()).output().expect("the package `faketime` is installed");
        if out.status.success() {
            return certificate;
        }
        let why = String::from_utf8_lossy(&out.stderr);
        assert!(why.contains("sem_open: File exists"), "{openssl:?}: {why}");
    }
    panic!("{openssl:?}: each pid has a semaphore")
}

#[tokio::test]
async fn nginx_by_http_and_https() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, tls) = (free_address(), free_address());
    let at = |name: &str| dir.path().join(name).display().to_string();
    let certificate = self_signed(dir.path(), 13, "now");
    let more = r#"location /away { return 302 https://shop.example/; } location /broken { return 503; }
        location /health { default_type application/json; add_header X-Node web1;
          return 200 '{"status": "UP", "parts": [{"name": "db", "free": 12}], "a/b": null}'; }"#;
    configure(dir.path(), plain, tls, more);
    let get = |url: String, contains: Option<&str>| {
        Ask::Http(Get { contains: contains.map(Into::into), ..Get::of(url) })
    };
    let refused = ask(get(format!("http://{plain}/"), None)).await;
    not_ready(refused, Trouble::Refused, format!("connection refused by {plain}"));

    let _nginx = Daemon::start(Command::new("nginx").args(["-c", &at("nginx.conf")]));
    assert_eq!(
        until(get(format!("http://{plain}/"), None), Verdict::is_ready).await,
        Verdict::ready("200 OK")
    );
    let open = ask(get(format!("http://{plain}/"), Some("is open"))).await;
    assert_eq!(open, Verdict::ready("200 OK, with \"is open\""));
    let away = ask(get(format!("http://{plain}/away"), None)).await;
    let reason =
        format!("{plain} answers GET /away with 302 Found (a redirect to https://shop.example/), not 200");
    not_ready(away, Trouble::Declined, reason);
    let broken = ask(get(format!("http://{plain}/broken"), None)).await;
    let reason = format!("{plain} answers GET /broken with 503 Service Unavailable, not 200");
    not_ready(broken, Trouble::Declined, reason);

    // What is in its JSON, by pointers, and in its head.
    let json = |values: &[(&str, &str)], headers: &[(&str, &str)]| {
        let texts = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
        Ask::Http(Get {
            json: texts(values),
            headers: texts(headers),
            ..Get::of(format!("http://{plain}/health?token=of-its-own"))
        })
    };
    let all = [("/status", "UP"), ("/parts/0/free", "12"), ("/a~1b", "null")];
    let up = ask(json(&all, &[("X-Node", "web"), ("content-type", "json")])).await;
    let told =
        "200 OK, X-Node \"web\", content-type \"json\", /status is UP, /parts/0/free is 12, /a~1b is null";
    assert_eq!(up, Verdict::ready(told));
    for (question, why) in [
        (json(&[("/parts/0/name", "cache")], &[]), "/parts/0/name is db, not cache"),
        (json(&[("/parts/1/name", "db")], &[]), "there is no /parts/1/name in its answer"),
        (json(&[], &[("X-Node", "web2")]), "its header X-Node is \"web1\", not \"web2\""),
        (json(&[], &[("X-Version", "7")]), "has no header X-Version"),
    ] {
        let reason = format!("{plain} answers GET /health with 200 OK, but {why}");
        not_ready(ask(question).await, Trouble::Declined, reason);
    }
    let text =
        Ask::Http(Get { json: vec![("/status".into(), "UP".into())], ..Get::of(format!("http://{plain}/")) });
    let reason = format!(
        "{plain} answers GET / with 200 OK, but its answer is no JSON: expected value at line 1 column 1"
    );
    not_ready(ask(text).await, Trouble::Declined, reason);
    let closed = ask(get(format!("http://{plain}/"), Some("is closed"))).await;
    let reason = format!("{plain} answers GET / with 200 OK, but \"is closed\" is not in its answer");
    not_ready(closed, Trouble::Declined, reason);

    let untrusted = ask(get(format!("https://{tls}/"), None)).await;
    let reason = format!("TLS with {tls} fails: nobody that is trusted here has signed its certificate");
    not_ready(untrusted, Trouble::Declined, reason);
    let trusting = |url: String, name: Option<&str>| {
        let (ca, name) = (Some(certificate.clone()), name.map(Into::into));
        Ask::Http(Get { ca, name, headers: vec![("Server".into(), "nginx".into())], ..Get::of(url) })
    };
    let trusted = ask(trusting(format!("https://{tls}/"), None)).await;
    let ends =
        |days| Verdict::ready(format!("200 OK, Server \"nginx\", its certificate ends in {days} days"));
    assert!([12, 13].map(ends).contains(&trusted), "made for 13 days, less this moment: {trusted}");
    let other = ask(trusting(format!("https://{tls}/"), Some("shop.example"))).await;
    let reason = format!("TLS with {tls} fails: its certificate is for another name");
    not_ready(other, Trouble::Declined, reason);
    let not_tls = ask(get(format!("https://{plain}/"), None)).await;
    not_ready(
        not_tls,
        Trouble::Garbled,
        format!("{plain} does not speak TLS: received corrupt message of type InvalidContentType"),
    );
}

/// One that was made for the future, by a clock that was ahead of this one; and one in its last day.
#[tokio::test]
async fn a_certificate_that_has_hardly_begun_or_nearly_ended_says_so() {
    for (days, made, told) in [
        (13, "+2 days", Err("its certificate is not valid yet: is the clock of this machine right?")),
        (2, "-36 hours", Ok("200 OK, its certificate ends today")),
        (2, "-12 hours", Ok("200 OK, its certificate ends in 1 day")),
        (60, "now", Ok("200 OK")),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (plain, tls) = (free_address(), free_address());
        let ca = Some(self_signed(dir.path(), days, made));
        configure(dir.path(), plain, tls, "");
        let _nginx = Daemon::start(Command::new("nginx").arg("-c").arg(dir.path().join("nginx.conf")));
        until(Ask::Http(Get::of(format!("http://{plain}/"))), Verdict::is_ready).await;
        let verdict = ask(Ask::Http(Get { ca, ..Get::of(format!("https://{tls}/")) })).await;
        match told {
            Ok(told) => assert_eq!(verdict, Verdict::ready(told)),
            Err(why) => not_ready(verdict, Trouble::Declined, format!("TLS with {tls} fails: {why}")),
        }
    }
}

#[tokio::test]
async fn an_expired_certificate_and_a_slow_page_are_said() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, tls) = (free_address(), free_address());
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (key, request, certificate) = (at("key.pem"), at("request.pem"), at("certificate.pem"));
    std::fs::write(at("names"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    let new =
        ["req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-keyout", &key, "-out", &request];
    done(Command::new("openssl").args(new));
    // It ended before it began; what matters is that it has ended.
    let sign = ["x509", "-req", "-in", &request, "-signkey", &key, "-days", "-1", "-out", &certificate];
    done(Command::new("openssl").args(sign).args(["-extfile", &at("names")]));
    // The head and a part of the page come at once, the rest takes minutes.
    let page = "shop is open ".repeat(100) + "and says so slowly";
    std::fs::write(dir.path().join("slow"), page).unwrap();
    let root = dir.path().display();
    let more = &format!("location /slow {{ limit_rate_after 300; limit_rate 10; root {root}; }}");
    configure(dir.path(), plain, tls, more);
    let _nginx = Daemon::start(Command::new("nginx").args(["-c", &at("nginx.conf")]));
    until(Ask::Http(Get::of(format!("http://{plain}/"))), Verdict::is_ready).await;
    let slow = Ask::Http(Get { contains: Some("slowly".into()), ..Get::of(format!("http://{plain}/slow")) });
    let verdict = ask_in_vain(slow).await;
    let reason = format!("{plain} is slow: its answer has begun and is not there within 3 s");
    not_ready(verdict, Trouble::Silent, reason);
    let trusting = Ask::Http(Get { ca: Some(certificate.into()), ..Get::of(format!("https://{tls}/")) });
    let reason = format!("TLS with {tls} fails: its certificate has expired");
    not_ready(ask(trusting).await, Trouble::Declined, reason);
}

/// What holds the address sends it on to nginx, as a director does; we ask from another machine's end of the cable.
#[test]
fn nginx_through_the_virtual_address_that_another_machine_holds() {
    alone(async || {
        let far = super::keepalived::Far::make();
        ip("link add eth0 type veth peer name far0");
        ip(&format!("link set far0 netns {}", far.id()));
        ip("addr add 192.0.2.1/24 dev eth0");
        ip("link set eth0 up");
        for words in ["link set lo up", "link set far0 up", "addr add 192.0.2.2/24 dev far0"] {
            far.run(&format!("ip {words}"));
        }
        far.run("ip addr add 192.0.2.100/32 dev far0");
        far.run("nft add table ip director");
        far.run("nft add chain ip director in { type nat hook prerouting priority -100 ; }");
        far.run("nft add rule ip director in ip daddr 192.0.2.100 tcp dport 80 dnat to 192.0.2.2:8080");
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let configuration = format!(
            "daemon off; master_process off; pid {}; error_log {}; events {{}}
             http {{ access_log off; client_body_temp_path {t}; proxy_temp_path {t}; fastcgi_temp_path {t};
               uwsgi_temp_path {t}; scgi_temp_path {t};
               server {{ listen 192.0.2.2:8080; location / {{ return 200 'shop is open'; }} }} }}",
            at("pid"),
            at("log"),
            t = at("tmp"),
        );
        std::fs::write(at("nginx.conf"), configuration).unwrap();
        let vip: SocketAddr = "192.0.2.100:80".parse().unwrap();
        let shop = || {
            Ask::Http(Get { contains: Some("is open".into()), ..Get::of(format!("http://{}/", vip.ip())) })
        };
        // Held by a machine where nothing serves: the address answers, and refuses.
        let refused = until(shop(), |v| matches!(v, Verdict::NotReady { kind: Trouble::Refused, .. })).await;
        not_ready(refused, Trouble::Refused, format!("connection refused by {vip}"));
        let pid = far.id().to_string();
        let mut nginx = Command::new("nsenter");
        nginx.args(["--net", "--target", &pid, "nginx", "-c", &at("nginx.conf")]);
        let _nginx = Daemon::start(&mut nginx);
        let open = until(shop(), Verdict::is_ready).await;
        assert_eq!(open, Verdict::ready("200 OK, with \"is open\""));
        // Nobody holds it: nginx itself is as well as before.
        far.run("ip addr del 192.0.2.100/32 dev far0");
        ip("neigh flush dev eth0");
        let unheld = ask_in_vain(shop()).await;
        let Verdict::NotReady { kind: Trouble::Unreachable, reason } = unheld else { panic!("{unheld:?}") };
        let told = [
            format!("no answer from {vip} within 3 s"),
            format!("{vip} cannot be reached: its host does not answer"),
        ];
        assert!(told.contains(&reason), "{reason}");
        let direct = Ask::Http(Get { contains: Some("is open".into()), ..Get::of("http://192.0.2.2:8080/") });
        assert_eq!(ask(direct).await, open);
    });
}
