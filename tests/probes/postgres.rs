//! PostgreSQL, alone and with a replica.

use super::*;

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

    /// Runs this as the superuser that the probe is here.
    fn psql(&self, sql: &str) -> Command {
        let (host, port) = (self.address.ip(), self.address.port());
        let mut command = Postgres::command("psql");
        command.env("PGPASSWORD", "secret").args(["-X", "-A", "-t", "-c", sql, "-d"]);
        command.arg(format!("host={host} port={port} user=probe dbname=postgres"));
        command
    }

    /// What the probe says of it when it answers.
    fn ready(&self, mode: &str) -> String {
        let version = done(&mut self.psql("SHOW server_version"));
        format!("ready (answers queries, {}, {mode})", version.split(' ').next().unwrap())
    }

    fn stop(&self, mut daemon: Daemon) {
        daemon.signal(Signal::SIGINT);
        daemon.child.wait().unwrap();
    }

    /// How many of its processes there are whose title ends so: what a session does is the last word of it.
    fn processes(&self, end: &str) -> usize {
        let data = self.dir.path().join("data");
        let is_one = |process: &Path| {
            let title = std::fs::read(process.join("cmdline")).unwrap_or_default();
            std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == data)
                && String::from_utf8_lossy(&title).trim_end_matches(['\0', ' ']).ends_with(end)
        };
        std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| is_one(&entry.path())).count()
    }

    /// Waits for the end of the helpers of one that was killed, which they see by themselves.
    async fn wait_gone(&self) {
        let begun = Instant::now();
        while self.processes("") > 0 {
            assert!(begun.elapsed() < PATIENCE, "some of it are left");
            tokio::time::sleep(Duration::from_millis(20)).await; // between two looks
        }
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
    assert_eq!(up.to_string(), db.ready("writable"));
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
    assert_eq!(read_only.to_string(), db.ready("read-only"));
    assert_ne!(identity(&read_only), identity(&up));

    db.stop(daemon);
    let signal = db.dir.path().join("data/standby.signal");
    std::fs::write(&signal, "").unwrap();
    let daemon = db.start(&[]);
    let standby = until(question(), Verdict::is_ready).await;
    assert_eq!(roles(&standby), []);
    assert_eq!(standby.to_string(), db.ready("in recovery, without a link to a primary"));

    daemon.freeze();
    let reason = format!("{address} accepts the connection and says nothing within 3 s");
    not_ready(ask_in_vain(question()).await, Trouble::Silent, reason);
    daemon.thaw();
    // Its helpers end when it does so in good order.
    db.stop(daemon);
}

#[tokio::test]
async fn a_replica_of_postgres_tells_whether_its_link_stands() {
    let primary = Postgres::install();
    let daemon = primary.start(&[]);
    until(primary.question("secret"), Verdict::is_ready).await;
    let replica = Postgres { dir: folder_of(&user("postgres")), address: free_address() };
    let (host, port) = (primary.address.ip(), primary.address.port());
    let from = format!("host={host} port={port} user=probe password=secret");
    let to = replica.dir.path().join("data");
    done(
        Postgres::command("pg_basebackup")
            .args(["-R", "-X", "stream", "-c", "fast", "-d", &from, "-D"])
            .arg(to),
    );
    let following = replica.start(&[]);

    let plays = |v: &Verdict| matches!(v, Verdict::Ready(ready) if ready.roles == [Role::Replica]);
    let follows = until(replica.question("secret"), plays).await;
    assert_eq!(follows.to_string(), replica.ready("in recovery, replica"));

    // What has come is not applied, and nothing has been before: since when is not known.
    done(&mut replica.psql("SELECT pg_wal_replay_pause()"));
    done(&mut primary.psql("CREATE TABLE early (i int)"));
    let behind = until(replica.question("secret"), |v| v.to_string().contains("behind")).await;
    let words = "in recovery, replica, behind: it has replayed no commit since its start";
    assert_eq!(behind.to_string(), replica.ready(words));
    done(&mut replica.psql("SELECT pg_wal_replay_resume()"));
    until(replica.question("secret"), |v| !v.to_string().contains("behind")).await;

    // The first step of what is told is ten seconds.
    let begun = Instant::now();
    while done(&mut replica.psql("SELECT pg_last_xact_replay_timestamp() IS NOT NULL")).trim() != "t" {
        assert!(begun.elapsed() < PATIENCE, "the table has not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    done(&mut replica.psql("SELECT pg_wal_replay_pause()"));
    done(&mut primary.psql("CREATE TABLE late (i int)"));
    let late = until(replica.question("secret"), |v| v.to_string().contains("behind")).await;
    assert_eq!(late.to_string(), replica.ready("in recovery, replica, more than ten seconds behind"));
    assert_eq!(roles(&late), [Role::Replica]);
    done(&mut replica.psql("SELECT pg_wal_replay_resume()"));
    until(replica.question("secret"), |v| !v.to_string().contains("behind")).await;

    primary.stop(daemon);
    let lost = until(replica.question("secret"), |v| !plays(v)).await;
    assert_eq!(lost.to_string(), replica.ready("in recovery, without a link to a primary"));
    replica.stop(following);
}

#[tokio::test]
async fn postgres_that_starts_up_is_full_or_wants_a_password_says_so() {
    let db = Postgres::install();
    let address = db.address;
    // Killed, it recovers: held up at the first file that it asks the archive for.
    let few =
        ["-c", "max_connections=4", "-c", "superuser_reserved_connections=0", "-c", "max_wal_senders=0"];
    let running = db.start(&few);
    until(db.question("secret"), Verdict::is_ready).await;
    done(&mut db.psql("CREATE TABLE t (i int)"));
    running.cut();
    std::fs::write(db.dir.path().join("data/recovery.signal"), "").unwrap();
    let go = db.dir.path().join("go");
    let archive = format!("restore_command=until test -e {}; do sleep 0.1; done; false", go.display());
    // As long as a helper of the one before is there it does not start.
    db.wait_gone().await;
    let daemon = db.start(&[&["-c", &archive], &few[..]].concat());
    let starting = until(db.question("secret"), |v| matches!(v, Verdict::Progress { .. })).await;
    let reason = format!("{address} is not ready yet: the database system is starting up");
    assert_eq!(starting, Verdict::Progress { reason, percent: None, left: None });
    std::fs::write(go, "").unwrap();
    until(db.question("secret"), Verdict::is_ready).await;

    let mut silent = db.question("secret");
    if let Ask::Postgres { login, .. } = &mut silent {
        login.password = None;
    }
    let reason = format!("{address} asks for the password of probe, and none is given");
    not_ready(ask(silent).await, Trouble::Denied, reason);

    // Sleepers take all four seats. Nobody asks meanwhile: one that comes as the last seat is asked from finds none.
    let mut asleep: Vec<Daemon> = Vec::new();
    let begun = Instant::now();
    while db.processes("SELECT") < 4 {
        asleep.retain_mut(|sleeper| sleeper.child.try_wait().unwrap().is_none());
        if asleep.len() < 4 {
            asleep.push(Daemon::start(&mut db.psql("SELECT pg_sleep(600)")));
        }
        assert!(begun.elapsed() < PATIENCE, "{} of 4 sleep", db.processes("SELECT"));
        tokio::time::sleep(Duration::from_millis(20)).await; // between two looks
    }
    let full = ask(db.question("secret")).await;
    let reason = format!("{address} answers error 53300: sorry, too many clients already");
    not_ready(full, Trouble::Declined, reason);
    db.stop(daemon);
}
