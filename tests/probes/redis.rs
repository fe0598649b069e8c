//! Redis, alone and with a replica.

use super::*;

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

    // A delay a key, in microseconds: the first copy takes some seconds.
    let slowly = [
        "--enable-debug-command",
        "yes",
        "--rdb-key-save-delay",
        "30",
        "--repl-diskless-sync",
        "yes",
        "--repl-diskless-sync-delay",
        "0",
    ];
    let master = redis(dirs[0].path(), address, &slowly);
    let up = until(question(address), Verdict::is_ready).await;
    assert_eq!(roles(&up), [Role::Writable, Role::Master]);
    assert_eq!(identity(&up).len(), 40);
    assert_eq!(up.to_string(), "ready (PONG, master)");

    redis_cli(address, &["DEBUG", "POPULATE", "100000"]);
    let master_port = address.port().to_string();
    let _replica = redis(dirs[1].path(), other, &["--replicaof", "127.0.0.1", &master_port]);
    let copying = until(question(other), |v| matches!(v, Verdict::Progress { .. })).await;
    let reason = format!("{other} is copying the data set of its master {address}");
    assert_eq!(copying, Verdict::Progress { reason, percent: None, left: None });
    let replica = until(question(other), Verdict::is_ready).await;
    assert_eq!(replica.to_string(), format!("ready (PONG, replica of {address})"));
    assert_eq!(roles(&replica), [Role::Replica]);
    assert_ne!(identity(&replica), identity(&up));

    master.freeze();
    let reason = format!("{address} accepts the connection and says nothing within 3 s");
    not_ready(ask_in_vain(question(address)).await, Trouble::Silent, reason);
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

    // Who may ping and look, and not ask for the role.
    let acl =
        ["--no-auth-warning", "-a", "secret", "ACL", "SETUSER", "probe", "on", ">word", "+ping", "+info"];
    redis_cli(address, &acl);
    let probe = ask(with(Some(login(dir.path(), "probe", "word")))).await;
    assert_eq!(roles(&probe), []);
    assert_eq!(
        probe.to_string(),
        "ready (PONG, role unknown: NoPerm: this user has no permissions to run the 'role' command)"
    );
}

#[tokio::test]
async fn redis_without_a_password_refuses_one() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let _redis = redis(dir.path(), address, &[]);
    until(Ask::Redis { address, login: None }, Verdict::is_ready).await;
    let given = ask(Ask::Redis { address, login: Some(login(dir.path(), "default", "secret")) }).await;
    not_ready(given, Trouble::Denied, format!("{address} has no password, and one is given"));
}

#[tokio::test]
async fn redis_without_a_free_connection_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let _redis = redis(dir.path(), address, &["--maxclients", "1"]);
    let begun = Instant::now();
    // It takes its connections in their order, so this one is its first client.
    let _client = loop {
        match std::net::TcpStream::connect(address) {
            Ok(client) => break client,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let full = ask(Ask::Redis { address, login: None }).await;
    let reason = format!("{address} answers ERR: max number of clients reached");
    not_ready(full, Trouble::Declined, reason);
}

#[test]
fn redis_in_protected_mode_says_so() {
    alone(async || {
        ip("link add eth0 type veth peer name end");
        ip("addr add 192.0.2.1/24 dev eth0");
        ip("link set eth0 up");
        let dir = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([192, 0, 2, 1], 6379));
        let _redis = redis(dir.path(), address, &["--bind", "192.0.2.1"]);
        let question = Ask::Redis { address, login: None };
        let denied =
            until(question, |v| !matches!(v, Verdict::NotReady { kind: Trouble::Refused, .. })).await;
        let reason =
            format!("{address} is in protected mode: it has no password and answers its own machine only");
        not_ready(denied, Trouble::Denied, reason);
    });
}

#[tokio::test]
async fn a_sentinel_says_that_it_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let config = dir.path().join("sentinel.conf");
    let text = format!("port {}\nbind 127.0.0.1\ndir {}\n", address.port(), dir.path().display());
    std::fs::write(&config, text).unwrap();
    let _sentinel = Daemon::start(Command::new("redis-server").arg(&config).arg("--sentinel"));
    let up = until(Ask::Redis { address, login: None }, Verdict::is_ready).await;
    assert_eq!(up.to_string(), "ready (PONG, sentinel)");
    assert_eq!(roles(&up), []);
}

/// From the moment that something waits to the first answer: half of ten within 100 ms, on a loaded machine too.
#[tokio::test]
async fn a_first_answer_comes_within_100_ms() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let _redis = redis(dir.path(), address, &[]);
    let ask = || Ask::Redis { address, login: None };
    until(ask(), Verdict::is_ready).await;
    let mut took = Vec::new();
    for id in 0..10 {
        let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
        let prober = Prober::spawn(id, Question { ask: ask(), timeout: TIMEOUT }, sender);
        let begun = Instant::now();
        prober.pace(Pace::Fast);
        assert!(events.recv().await.unwrap().answer.verdict.is_ready());
        took.push(begun.elapsed());
    }
    took.sort();
    assert!(took[5] < Duration::from_millis(100), "{took:?}");
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
    let Verdict::Progress { reason, percent: Some(percent), left: Some(left) } = progress else {
        panic!("{progress:?}")
    };
    assert_eq!(reason, format!("{address} is loading its data set: {percent} %"));
    assert!(left < Duration::from_secs(600), "{left:?}");
}

#[tokio::test]
async fn redis_that_answers_nobody_without_its_master_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (address, nobody) = (free_address(), free_address().port().to_string());
    let alone = ["--replicaof", "127.0.0.1", &nobody, "--replica-serve-stale-data", "no"];
    let _replica = redis(dir.path(), address, &alone);
    let question = Ask::Redis { address, login: None };
    let down = until(question, |v| !matches!(v, Verdict::NotReady { kind: Trouble::Refused, .. })).await;
    let reason = format!(
        "{address} is a replica without a link to its master, and answers nobody meanwhile (MASTERDOWN)"
    );
    not_ready(down, Trouble::Declined, reason);
}
