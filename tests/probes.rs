//! The probes against the real daemons, each in a folder and on a port of its own.
//!
//! Needs Debian's redis-server, mariadb-server, postgresql, nginx, activemq and openssl, and root (PostgreSQL and
//! MariaDB run as their own users). What is missing fails.

use clusterd::facts::{Role, Trouble, Verdict};
use clusterd::model::{Ask, Get, Login, Question};
use clusterd::probe::{Asker, Pace, Prober};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Long enough for each daemon's start on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(3);

/// A daemon in the foreground; killed when dropped.
struct Daemon {
    child: Child,
}

impl Daemon {
    fn start(command: &mut Command) -> Daemon {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|e| panic!("{command:?}: {e} (is its package installed?)"));
        Daemon { child }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Ends it as a power cut would.
    fn cut(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Runs a set-up command to its end.
fn done(command: &mut Command) -> String {
    let out = command.stdin(Stdio::null()).output();
    let out = out.unwrap_or_else(|e| panic!("{command:?}: {e} (is its package installed?)"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A folder that `user` owns and may reach.
fn folder_of(user: &User) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    chown(dir.path(), Some(user.uid), Some(user.gid)).unwrap();
    dir
}

fn user(name: &str) -> User {
    User::from_name(name).unwrap().unwrap_or_else(|| panic!("no user {name} (is its package installed?)"))
}

fn login(dir: &Path, user: &str, password: &str) -> Login {
    let path = dir.join(format!("password-{user}-{password}"));
    std::fs::write(&path, format!("{password}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    Login { user: user.into(), password_file: Some(path) }
}

fn asker(ask: Ask) -> Asker {
    Asker::new(Question { ask, timeout: TIMEOUT })
}

async fn ask(ask: Ask) -> Verdict {
    asker(ask).ask().await.verdict
}

/// Asks at the waiting pace, through the prober, until `wanted`.
async fn until(ask: Ask, wanted: impl Fn(&Verdict) -> bool) -> Verdict {
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let prober = Prober::spawn(1, Question { ask, timeout: TIMEOUT }, sender);
    prober.pace(Pace::Fast);
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            let verdict = events.recv().await.unwrap().answer.verdict;
            if wanted(&verdict) {
                return verdict;
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("given up; the last answer: {:?}", prober.last()))
}

#[track_caller]
fn not_ready(verdict: Verdict, kind: Trouble, reason: impl Into<String>) {
    assert_eq!(verdict, Verdict::not_ready(kind, reason));
}

fn roles(verdict: &Verdict) -> &[Role] {
    match verdict {
        Verdict::Ready(ready) => &ready.roles,
        other => panic!("not ready: {other:?}"),
    }
}

fn identity(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Ready(ready) => ready.identity.as_deref().expect("an identity"),
        other => panic!("not ready: {other:?}"),
    }
}

fn redis(dir: &Path, address: SocketAddr, more: &[&str]) -> Daemon {
    let port = address.port().to_string();
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port, "--dir"]).arg(dir).args(more);
    Daemon::start(&mut command)
}

fn redis_cli(address: SocketAddr, words: &[&str]) -> String {
    done(Command::new("redis-cli").args(["-p", &address.port().to_string()]).args(words))
}

#[tokio::test]
async fn redis_master_replica_and_frozen() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (address, other) = (free_address(), free_address());
    let question = |address| Ask::Redis { address, login: None };
    not_ready(ask(question(address)).await, Trouble::Refused, format!("connection refused by {address}"));

    let master = redis(dirs[0].path(), address, &[]);
    let up = until(question(address), Verdict::is_ready).await;
    assert_eq!(roles(&up), [Role::Writable, Role::Master]);
    assert_eq!(identity(&up).len(), 40);
    assert!(up.to_string().starts_with("ready (PONG, master"), "{up}");

    let master_port = address.port().to_string();
    let _replica = redis(
        dirs[1].path(),
        other,
        &["--replicaof", "127.0.0.1", &master_port, "--repl-diskless-sync-delay", "0"],
    );
    let replica = until(question(other), Verdict::is_ready).await;
    assert_eq!(roles(&replica), [Role::Replica]);
    assert_ne!(identity(&replica), identity(&up));

    master.signal(Signal::SIGSTOP);
    let reason = format!("{address} accepts the connection and says nothing within 3 s");
    not_ready(ask(question(address)).await, Trouble::Silent, reason);
    master.cut();
    let lost = until(question(other), |v| matches!(v, Verdict::NotReady { .. })).await;
    let reason = format!("{other} is a replica without a link to its master {address} (connect)");
    not_ready(lost, Trouble::Declined, reason);
}

#[tokio::test]
async fn redis_with_a_password() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let _redis = redis(dir.path(), address, &["--requirepass", "secret"]);
    let with = |login| Ask::Redis { address, login };
    let denied = until(with(None), |v| !matches!(v, Verdict::NotReady { kind: Trouble::Refused, .. })).await;
    not_ready(denied, Trouble::Denied, format!("{address} asks for a password, and none is given"));
    let wrong = ask(with(Some(login(dir.path(), "default", "wrong")))).await;
    let reason = format!("{address} refuses the login: invalid username-password pair or user is disabled");
    not_ready(wrong, Trouble::Denied, reason);
    let right = ask(with(Some(login(dir.path(), "default", "secret")))).await;
    assert_eq!(roles(&right), [Role::Writable, Role::Master]);
}

#[tokio::test]
async fn redis_loading_its_data_set_is_progress() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let question = || Ask::Redis { address, login: None };
    let first = redis(dir.path(), address, &["--enable-debug-command", "yes"]);
    until(question(), Verdict::is_ready).await;
    redis_cli(address, &["DEBUG", "POPULATE", "100000"]);
    redis_cli(address, &["SAVE"]);
    first.cut();
    // A delay a key, in microseconds; and it looks at its clients more often than every 2 MiB.
    let slowly = ["--key-load-delay", "50", "--loading-process-events-interval-bytes", "1024"];
    let _second = redis(dir.path(), address, &slowly);
    let progress = until(question(), |v| matches!(v, Verdict::Progress { .. })).await;
    let Verdict::Progress { reason, percent: Some(percent), left: Some(_) } = progress else {
        panic!("{progress:?}")
    };
    assert_eq!(reason, format!("{address} is loading its data set: {percent} %"));
}

struct MariaDb {
    dir: TempDir,
    address: SocketAddr,
}

impl MariaDb {
    fn install() -> MariaDb {
        let mysql = user("mysql");
        let dir = folder_of(&mysql);
        done(
            Command::new("mariadb-install-db")
                .args([
                    "--no-defaults",
                    "--user=mysql",
                    "--skip-test-db",
                    "--auth-root-authentication-method=normal",
                ])
                .arg(format!("--datadir={}", dir.path().join("data").display())),
        );
        let init = dir.path().join("init.sql");
        std::fs::write(&init, "CREATE USER IF NOT EXISTS probe@'127.0.0.1' IDENTIFIED BY 'secret';\n")
            .unwrap();
        MariaDb { dir, address: free_address() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&self) -> Daemon {
        let MariaDb { address, .. } = self;
        Daemon::start(
            Command::new("mariadbd")
                .args(["--no-defaults", "--user=mysql", "--bind-address=127.0.0.1", "--skip-name-resolve"])
                .arg(format!("--port={}", address.port()))
                .arg(format!("--datadir={}", self.path("data").display()))
                .arg(format!("--socket={}", self.path("sock").display()))
                .arg(format!("--pid-file={}", self.path("pid").display()))
                .arg(format!("--init-file={}", self.path("init.sql").display()))
                .arg("--innodb-buffer-pool-size=16M"),
        )
    }

    fn sql(&self, text: &str) -> String {
        let socket = format!("--socket={}", self.path("sock").display());
        done(Command::new("mariadb").args(["--no-defaults", "-uroot", "-N", "-B", &socket, "-e", text]))
    }

    fn aborted(&self) -> u64 {
        let status = self.sql("SHOW GLOBAL STATUS LIKE 'Aborted_connects'");
        status.split_whitespace().last().unwrap().parse().unwrap()
    }

    fn question(&self, password: &str) -> Ask {
        let login = Some(login(self.dir.path(), "probe", password));
        Ask::Mysql { address: self.address, login }
    }
}

#[tokio::test]
async fn mariadb_tells_its_role_and_survives_its_restart_and_our_probes() {
    let db = MariaDb::install();
    let address = db.address;
    let question = || db.question("secret");
    not_ready(ask(question()).await, Trouble::Refused, format!("connection refused by {address}"));

    let daemon = db.start();
    let up = until(question(), Verdict::is_ready).await;
    assert_eq!(roles(&up), [Role::Writable]);
    assert!(identity(&up).contains(&format!(":{} {}", address.port(), db.path("data").display())), "{up:?}");
    assert!(up.to_string().ends_with("writable)"), "{up}");

    let mut kept = asker(question());
    for _ in 0..20 {
        assert_eq!(kept.ask().await.verdict, up);
    }
    for _ in 0..20 {
        assert_eq!(ask(question()).await, up);
    }
    assert_eq!(db.aborted(), 0, "no login was left before its end");

    db.sql("SET GLOBAL read_only = 1");
    let read_only = kept.ask().await.verdict;
    assert_eq!(roles(&read_only), []);
    assert!(read_only.to_string().ends_with("read_only)"), "{read_only}");
    db.sql("SET GLOBAL read_only = 0");

    let reason = format!("{address} refuses the login of probe (error 1045): wrong name or password");
    not_ready(ask(db.question("wrong")).await, Trouble::Denied, reason);
    let stranger = ask(Ask::Mysql { address, login: None }).await;
    assert_eq!(stranger, Verdict::ready("handshake completed, unverified: no login is given"));
    let aborted = db.aborted();
    assert_eq!(aborted, 2, "the two that were refused");

    // Frozen: every question has a connection that hangs. None of them may count against us when it thaws.
    daemon.signal(Signal::SIGSTOP);
    let mut frozen = Asker::new(Question { ask: question(), timeout: Duration::from_millis(300) });
    for _ in 0..3 {
        let reason = format!("{address} accepts the connection and says nothing within 300 ms");
        not_ready(frozen.ask().await.verdict, Trouble::Silent, reason);
    }
    daemon.signal(Signal::SIGCONT);
    assert_eq!(until(question(), Verdict::is_ready).await, up);
    drop(frozen);
    assert_eq!(db.aborted(), aborted);

    // Killed and started again between two questions on a kept connection: no false alarm.
    daemon.cut();
    not_ready(kept.ask().await.verdict, Trouble::Refused, format!("connection refused by {address}"));
    let again = db.start();
    until(question(), Verdict::is_ready).await;
    assert!(kept.ask().await.verdict.is_ready());
    again.cut();
    let _third = db.start();
    until(question(), Verdict::is_ready).await;
    assert!(kept.ask().await.verdict.is_ready(), "the dead connection is replaced within the same question");
}

#[tokio::test]
async fn mariadb_without_a_free_connection_says_so() {
    let db = MariaDb::install();
    let _daemon = db.start();
    until(db.question("secret"), Verdict::is_ready).await;
    db.sql("SET GLOBAL max_connections = 10");
    let address = db.address;
    let mut kept = asker(db.question("secret"));
    assert!(kept.ask().await.verdict.is_ready());
    let sockets: Vec<_> = (0..12).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    let full = until(db.question("secret"), |v| !v.is_ready()).await;
    not_ready(full, Trouble::Declined, format!("{address} has too many connections already (error 1040)"));
    assert!(
        kept.ask().await.verdict.is_ready(),
        "which a kept connection does not see, for half a minute at most"
    );
    drop(sockets);
}

struct Postgres {
    dir: TempDir,
    address: SocketAddr,
}

impl Postgres {
    fn command(program: &str) -> Command {
        let postgres = user("postgres");
        // Debian keeps each version's binaries in a folder of its own.
        let versions = std::fs::read_dir("/usr/lib/postgresql").expect("postgresql is installed");
        let newest = versions.map(|entry| entry.unwrap().path()).max().expect("a version of it");
        let mut command = Command::new(newest.join("bin").join(program));
        command.uid(postgres.uid.as_raw()).gid(postgres.gid.as_raw()).current_dir("/");
        command
    }

    fn install() -> Postgres {
        let dir = folder_of(&user("postgres"));
        let word = dir.path().join("password");
        std::fs::write(&word, "secret\n").unwrap();
        std::fs::set_permissions(&word, PermissionsExt::from_mode(0o644)).unwrap();
        let data = dir.path().join("data");
        let arguments = ["-A", "scram-sha-256", "-U", "probe", "-N", "--pwfile"];
        done(Postgres::command("initdb").args(arguments).arg(&word).arg("-D").arg(data));
        Postgres { dir, address: free_address() }
    }

    fn start(&self, more: &[&str]) -> Daemon {
        let port = self.address.port().to_string();
        let mut command = Postgres::command("postgres");
        command.args(["-h", "127.0.0.1", "-p", &port, "-c", "unix_socket_directories=", "-c", "fsync=off"]);
        Daemon::start(command.args(more).arg("-D").arg(self.dir.path().join("data")))
    }

    fn question(&self, password: &str) -> Ask {
        let login = login(self.dir.path(), "probe", password);
        Ask::Postgres { address: self.address, login, database: "postgres".into() }
    }

    fn stop(&self, mut daemon: Daemon) {
        daemon.signal(Signal::SIGINT);
        daemon.child.wait().unwrap();
    }
}

#[tokio::test]
async fn postgres_tells_its_role_and_survives_its_restart() {
    let db = Postgres::install();
    let address = db.address;
    let question = || db.question("secret");
    not_ready(ask(question()).await, Trouble::Refused, format!("connection refused by {address}"));

    let daemon = db.start(&[]);
    let up = until(question(), Verdict::is_ready).await;
    assert_eq!(roles(&up), [Role::Writable]);
    assert!(up.to_string().ends_with("writable)"), "{up}");
    let reason = format!("{address} answers error 28P01: password authentication failed for user \"probe\"");
    not_ready(ask(db.question("wrong")).await, Trouble::Denied, reason);
    let mut missing = db.question("secret");
    if let Ask::Postgres { database, .. } = &mut missing {
        *database = "shop".into();
    }
    let reason = format!("{address} answers error 3D000: database \"shop\" does not exist");
    not_ready(ask(missing).await, Trouble::Declined, reason);

    let mut kept = asker(question());
    assert_eq!(kept.ask().await.verdict, up);
    assert_eq!(kept.ask().await.verdict, up);
    db.stop(daemon);
    let daemon = db.start(&["-c", "default_transaction_read_only=on"]);
    until(question(), Verdict::is_ready).await;
    let read_only = kept.ask().await.verdict;
    assert_eq!(roles(&read_only), [], "the dead connection is replaced within the same question");
    assert!(read_only.to_string().ends_with(", read-only)"), "{read_only}");
    assert_ne!(identity(&read_only), identity(&up));

    db.stop(daemon);
    let signal = db.dir.path().join("data/standby.signal");
    std::fs::write(&signal, "").unwrap();
    let daemon = db.start(&[]);
    let standby = until(question(), Verdict::is_ready).await;
    assert_eq!(roles(&standby), []);
    assert!(standby.to_string().ends_with("in recovery, read-only)"), "{standby}");

    daemon.signal(Signal::SIGSTOP);
    let reason = format!("{address} accepts the connection and says nothing within 3 s");
    not_ready(ask(question()).await, Trouble::Silent, reason);
    daemon.signal(Signal::SIGCONT);
    // Its helpers end when it does so in good order.
    db.stop(daemon);
}

#[tokio::test]
async fn nginx_by_http_and_https() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, tls) = (free_address(), free_address());
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (key, certificate) = (at("key.pem"), at("certificate.pem"));
    let names = [
        "-subj",
        "/CN=127.0.0.1",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=CA:FALSE",
    ];
    let files = ["-keyout", &key, "-out", &certificate];
    done(
        Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "13"])
            .args(names)
            .args(files),
    );
    let configuration = format!(
        "daemon off; master_process off; pid {pid}; error_log {log}; events {{}}
         http {{ access_log off; client_body_temp_path {t}; proxy_temp_path {t}; fastcgi_temp_path {t};
           uwsgi_temp_path {t}; scgi_temp_path {t};
           server {{ listen {plain}; location / {{ return 200 'shop is open'; }}
             location /away {{ return 302 https://shop.example/; }} location /broken {{ return 503; }} }}
           server {{ listen {tls} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};
             location / {{ return 200 'safe'; }} }} }}",
        pid = at("pid"),
        log = at("log"),
        t = at("tmp"),
    );
    std::fs::write(at("nginx.conf"), configuration).unwrap();
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

    let untrusted = ask(get(format!("https://{tls}/"), None)).await;
    let reason = format!("TLS with {tls} fails: nobody that is trusted here has signed its certificate");
    not_ready(untrusted, Trouble::Declined, reason);
    let trusting = |url: String, name: Option<&str>| {
        let (ca, name) = (Some(certificate.clone().into()), name.map(Into::into));
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
    let Verdict::NotReady { kind: Trouble::Garbled, reason } = not_tls else { panic!("{not_tls:?}") };
    assert!(reason.starts_with(&format!("{plain} does not speak TLS: ")), "{reason}");
}

#[tokio::test]
async fn activemq_introduces_itself_and_complains_of_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let beans = format!(
        r#"<beans xmlns="http://www.springframework.org/schema/beans"
             xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="
               http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans-2.0.xsd
               http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
             <broker xmlns="http://activemq.apache.org/schema/core" brokerName="mq1" persistent="false" useJmx="false">
               <transportConnectors><transportConnector name="openwire" uri="tcp://{address}"/></transportConnectors>
             </broker></beans>"#
    );
    std::fs::write(at("activemq.xml"), beans).unwrap();
    let log4j = format!(
        "log4j.rootLogger=INFO, f\nlog4j.appender.f=org.apache.log4j.FileAppender\nlog4j.appender.f.file={}\n\
         log4j.appender.f.layout=org.apache.log4j.PatternLayout\nlog4j.appender.f.layout.ConversionPattern=%p %m%n\n",
        at("log")
    );
    std::fs::write(at("log4j.properties"), log4j).unwrap();
    let mut broker = Daemon::start(
        Command::new("java")
            .args(["-Xmx64m", "-Dactivemq.home=/usr/share/activemq"])
            .arg(format!("-Dlog4j.configuration=file:{}", at("log4j.properties")))
            .arg(format!("-Dactivemq.base={}", dir.path().display()))
            .arg(format!("-Djava.io.tmpdir={}", dir.path().display()))
            .args(["-jar", "/usr/share/activemq/bin/activemq.jar", "start"])
            .arg(format!("xbean:file:{}", at("activemq.xml"))),
    );
    let question = || Ask::Activemq { address };
    let up = until(question(), Verdict::is_ready).await;
    assert_eq!(up.to_string(), "ready (broker mq1)");
    assert!(identity(&up).starts_with("ID:"), "{up:?}");
    for _ in 0..20 {
        assert_eq!(ask(question()).await, up);
    }
    broker.signal(Signal::SIGSTOP);
    let reason = format!("{address} accepts the connection and says nothing within 3 s");
    not_ready(ask(question()).await, Trouble::Silent, reason);
    broker.signal(Signal::SIGCONT);
    assert_eq!(until(question(), Verdict::is_ready).await, up);
    // Its last words are in the log once it has ended.
    broker.signal(Signal::SIGTERM);
    let begun = Instant::now();
    broker.child.wait().unwrap();
    assert!(begun.elapsed() < PATIENCE);
    let log = std::fs::read_to_string(at("log")).unwrap();
    assert!(log.contains("mq1"), "{log}");
    let complaints: Vec<_> = log.lines().filter(|l| l.contains("Transport Connection")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}
