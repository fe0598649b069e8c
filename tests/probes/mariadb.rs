//! MariaDB, alone and with a replica.

use super::*;

pub struct MariaDb {
    dir: TempDir,
    pub address: SocketAddr,
}

impl MariaDb {
    pub fn install() -> MariaDb {
        let mysql = user("mysql");
        let dir = folder_of(&mysql);
        done(
            // Of its own: installs that run side by side clear each other's temporary tables.
            Command::new("mariadb-install-db")
                .env("TMPDIR", dir.path())
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

    pub fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    fn start_with(&self, more: &[&str]) -> Daemon {
        Daemon::start(&mut self.command(more))
    }

    fn command(&self, more: &[&str]) -> Command {
        let MariaDb { address, .. } = self;
        let mut command = Command::new("mariadbd");
        command
            .args(["--no-defaults", "--user=mysql", "--bind-address=127.0.0.1", "--skip-name-resolve"])
            .arg(format!("--port={}", address.port()))
            .arg(format!("--datadir={}", self.path("data").display()))
            .arg(format!("--socket={}", self.path("sock").display()))
            .arg(format!("--pid-file={}", self.path("pid").display()))
            .arg(format!("--init-file={}", self.path("init.sql").display()))
            .arg("--innodb-buffer-pool-size=16M")
            .args(more);
        command
    }

    pub fn sql(&self, text: &str) -> String {
        let socket = format!("--socket={}", self.path("sock").display());
        done(Command::new("mariadb").args(["--no-defaults", "-uroot", "-N", "-B", &socket, "-e", text]))
    }

    /// What the probe says of it when it answers.
    fn ready(&self, mode: &str) -> String {
        let version = self.sql("SELECT VERSION()");
        let version: Vec<&str> = version.trim().splitn(3, '-').take(2).collect();
        format!("ready (SELECT 1, {}, {mode})", version.join("-"))
    }

    fn aborted(&self) -> u64 {
        let status = self.sql("SHOW GLOBAL STATUS LIKE 'Aborted_connects'");
        status.split_whitespace().last().unwrap().parse().unwrap()
    }

    pub fn question(&self, password: &str) -> Ask {
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
    assert_eq!(up.to_string(), db.ready("writable"));

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
    assert_eq!(read_only.to_string(), db.ready("read_only, replication not shown to this user"));
    db.sql("SET GLOBAL read_only = 0");

    let reason = format!("{address} refuses the login of probe (error 1045): wrong name or password");
    not_ready(ask(db.question("guessed")).await, Trouble::Denied, reason);
    let stranger = ask(Ask::Mysql { address, login: None }).await;
    assert_eq!(stranger, Verdict::ready("handshake completed, unverified: no login is given"));
    let aborted = db.aborted();
    assert_eq!(aborted, 2, "the two that were refused");

    // Frozen: every question has a connection that hangs. None of them may count against us when it thaws.
    daemon.freeze();
    let mut frozen = Asker::new(Question { ask: question(), timeout: Duration::from_millis(300) });
    for _ in 0..3 {
        let reason = format!("{address} accepts the connection and says nothing within 300 ms");
        not_ready(frozen.ask().await.verdict, Trouble::Silent, reason);
    }
    daemon.thaw();
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

/// A bare TCP probe is all it takes. MariaDB counts only against hosts whose name it finds, and never over loopback.
#[test]
fn mariadb_that_has_blocked_this_host_says_so_and_what_mends_it() {
    alone(async || {
        ip("link add eth0 type veth peer name end");
        ip("addr add 192.0.2.1/24 dev eth0");
        ip("link set eth0 up");
        let mut db = MariaDb::install();
        let hosts = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(hosts.path(), "127.0.0.1 localhost\n192.0.2.1 prober\n").unwrap();
        std::fs::set_permissions(hosts.path(), PermissionsExt::from_mode(0o644)).unwrap();
        unshare(CloneFlags::CLONE_NEWNS).expect("root");
        done(Command::new("mount").args(["--make-rprivate", "/"]));
        done(Command::new("mount").arg("--bind").arg(hosts.path()).arg("/etc/hosts"));
        db.address.set_ip([192, 0, 2, 1].into());
        let address = db.address;
        let open = ["--bind-address=192.0.2.1", "--skip-name-resolve=0", "--max-connect-errors=1"];
        let _daemon = db.start_with(&open);
        let unknown =
            until(db.question("secret"), |v| !matches!(v, Verdict::NotReady { kind: Trouble::Refused, .. }));
        assert!(!unknown.await.is_ready());
        db.sql("CREATE USER probe@'%' IDENTIFIED BY 'secret'; FLUSH HOSTS");
        assert_eq!(roles(&until(db.question("secret"), Verdict::is_ready).await), [Role::Writable]);
        let begun = Instant::now();
        let blocked = loop {
            // Hangs up after the greeting.
            use std::io::Read;
            let mut bare = std::net::TcpStream::connect(address).unwrap();
            let _ = bare.read(&mut [0; 64]);
            drop(bare);
            let verdict = ask(db.question("secret")).await;
            if !verdict.is_ready() {
                break verdict;
            }
            assert!(begun.elapsed() < PATIENCE, "{verdict}");
        };
        let reason = format!(
            "{address} has blocked this host for its many connection errors (error 1129): run FLUSH HOSTS there"
        );
        not_ready(blocked, Trouble::Declined, reason);
        db.sql("FLUSH HOSTS");
        assert!(ask(db.question("secret")).await.is_ready());
    });
}

#[tokio::test]
async fn a_replica_of_mariadb_tells_whom_it_follows_and_when_it_stops() {
    let (primary, replica) = (MariaDb::install(), MariaDb::install());
    let first = primary.start_with(&["--server-id=1", "--log-bin=bin"]);
    let _second = replica.start_with(&["--server-id=2", "--read-only", "--slave-ddl-exec-mode=STRICT"]);
    until(primary.question("secret"), Verdict::is_ready).await;
    until(replica.question("secret"), Verdict::is_ready).await;
    primary.sql("CREATE USER repl@'127.0.0.1' IDENTIFIED BY 'repl'; GRANT REPLICATION SLAVE ON *.* TO repl@'127.0.0.1'");
    replica.sql(&format!(
        "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={}, MASTER_USER='repl', MASTER_PASSWORD='repl', \
         MASTER_CONNECT_RETRY=1; START SLAVE",
        primary.address.port()
    ));

    let told =
        |verdict: &Verdict| verdict.to_string().split_once(", read_only").unwrap_or_default().1.to_owned();
    let hidden = ask(replica.question("secret")).await;
    let right = ", replication not shown to this user)";
    assert_eq!(told(&hidden), right);
    assert_eq!(roles(&hidden), []);

    replica.sql("GRANT REPLICA MONITOR ON *.* TO probe@'127.0.0.1'");
    let plays = |v: &Verdict| matches!(v, Verdict::Ready(ready) if ready.roles == [Role::Replica]);
    let follows = until(replica.question("secret"), plays).await;
    assert_eq!(told(&follows), format!(", replica of {})", primary.address));

    // What the primary writes cannot be applied: the port is open, queries are answered, and nothing moves any more.
    replica.sql("CREATE DATABASE taken");
    primary.sql("CREATE DATABASE taken");
    let stopped = until(replica.question("secret"), |v| !plays(v)).await;
    let stopped_by = format!(
        ", replica of {} that applies nothing: its SQL thread has stopped (error 1007))",
        primary.address
    );
    assert_eq!(told(&stopped), stopped_by);
    replica.sql("DROP DATABASE taken; START SLAVE");
    until(replica.question("secret"), plays).await;

    // Somebody's lock holds up what the primary writes: the first step of what is told is ten seconds.
    primary.sql("CREATE DATABASE d; CREATE TABLE d.t (i INT)");
    let begun = Instant::now();
    let tables = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'd'";
    while replica.sql(tables).trim() != "1" {
        assert!(begun.elapsed() < PATIENCE, "the table has not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let socket = format!("--socket={}", replica.path("sock").display());
    let lock = "LOCK TABLES d.t WRITE; SELECT SLEEP(600)";
    let locked =
        Daemon::start(Command::new("mariadb").args(["--no-defaults", "-uroot", &socket, "-e", lock]));
    while !replica.sql("SHOW PROCESSLIST").contains("SLEEP(600)") {
        assert!(begun.elapsed() < PATIENCE, "nobody holds the lock");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    primary.sql("INSERT INTO d.t VALUES (1)");
    let late = until(replica.question("secret"), |v| told(v).contains("behind")).await;
    assert_eq!(told(&late), format!(", replica of {}, more than ten seconds behind)", primary.address));
    assert_eq!(roles(&late), [Role::Replica]);
    locked.cut();
    let caught_up = until(replica.question("secret"), |v| !told(v).contains("behind")).await;
    assert_eq!(told(&caught_up), format!(", replica of {})", primary.address));

    first.cut();
    let lost = until(replica.question("secret"), |v| !plays(v)).await;
    // The link broke, or a new one is refused.
    let without =
        |error| format!(", replica without a link to its primary {} (error {error}))", primary.address);
    assert!([2013, 2003].map(without).contains(&told(&lost)), "{lost}");
}

/// What `units/mysql.toml` gets by `kind = "notify"`: its port is closed until it has recovered, and it says so itself.
#[tokio::test]
async fn mariadb_tells_that_its_crash_recovery_is_under_way() {
    use std::os::unix::net::UnixDatagram;
    let db = MariaDb::install();
    let daemon = db.start();
    until(db.question("secret"), Verdict::is_ready).await;
    db.sql("CREATE DATABASE d; CREATE TABLE d.t (b VARCHAR(200)); INSERT INTO d.t VALUES (REPEAT('x', 200))");
    for _ in 0..12 {
        db.sql("INSERT INTO d.t SELECT b FROM d.t");
    }
    daemon.cut();
    let socket = db.path("notify");
    let heard = UnixDatagram::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).unwrap();
    heard.set_read_timeout(Some(PATIENCE)).unwrap();
    let _again = Daemon::start(db.command(&[]).env("NOTIFY_SOCKET", &socket));
    let words = || {
        let mut bytes = [0; 4096];
        let length = heard.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let first = words();
    assert!(first.starts_with("STATUS=To recover: ") && first.contains("EXTEND_TIMEOUT_USEC="), "{first}");
    while !words().contains("READY=1") {}
    until(db.question("secret"), Verdict::is_ready).await;
}

/// Fourteen agents, each with a probe of its own, once a second: none of them leaves a trace.
#[tokio::test]
async fn fourteen_that_ask_one_mariadb_leave_no_aborted_connection() {
    let db = MariaDb::install();
    let _daemon = db.start();
    until(db.question("secret"), Verdict::is_ready).await;
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let probers: Vec<_> = (0..14)
        .map(|id| {
            let question = Question { ask: db.question("secret"), timeout: PATIENCE };
            let prober = Prober::spawn(id, question, sender.clone());
            prober.pace(Pace::Slow(Duration::from_secs(1)));
            prober
        })
        .collect();
    let answered = |status: &str| {
        let text = db.sql(&format!("SHOW GLOBAL STATUS LIKE '{status}'"));
        text.split_whitespace().last().unwrap().parse::<u64>().unwrap()
    };
    // Three rounds of all of them, and some that begin afresh as after a restart of their agents.
    let before = answered("Com_select");
    let begun = Instant::now();
    while answered("Com_select") < before + 3 * 14 {
        assert!(begun.elapsed() < PATIENCE);
        for _ in 0..14 {
            assert!(ask(db.question("secret")).await.is_ready());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    while let Ok(event) = events.try_recv() {
        assert!(event.answer.verdict.is_ready(), "{event:?}");
    }
    drop(probers);
    assert_eq!(db.aborted(), 0);
}
