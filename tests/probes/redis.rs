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
