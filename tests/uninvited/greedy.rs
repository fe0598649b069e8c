//! A rightful reader who asks for everything that is dear, on all the connections that it may have, without end.

use crate::agents::wait;
use crate::secured::Secured;
use clusterd::api::client::Client;
use clusterd::api::door::MOST_OF_A_GUEST;
use clusterd::api::tls::Security;
use clusterd::pki::{Bundle, Role, Tls, Validity, Who};
use hyper::{Method, StatusCode};
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What makes work: a minute's look at the machine, a question that takes half a second, pages, the whole cluster.
const DEAR: [&str; 8] = [
    "/v1/doctor",
    "/v1/probe?instance=slow@n1",
    "/v1/logs?instance=slow@n1&last=100000",
    "/v1/trail",
    "/v1/cluster",
    "/v1/node",
    "/v1/events",
    "/v1/leftovers",
];
/// How long anybody else waits at most, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn who_asks_for_everything_at_once_leaves_the_others_their_turns() {
    let mut cluster = Secured::new("greedy", "");
    let file = fs::read_to_string(cluster.file()).unwrap();
    fs::write(
        cluster.file(),
        file.replace("cache = { on = \"cache\" }", "cache = { on = \"cache\" }\nslow = { on = \"cache\" }"),
    )
    .unwrap();
    fs::write(
        cluster.file_named("units/slow.toml"),
        "[run]\ncommand = [\"/bin/sh\", \"-c\", \"yes some line | head -n 200000; exec sleep 100000\"]\n[ready]\n\
         probe = { kind = \"exec\", command = [\"/bin/sleep\", \"0.5\"] }\n",
    )
    .unwrap();
    cluster.join_and_start("n1");
    cluster.join_and_start("n2");
    wait("the agents to hear each other", || cluster.whole("n1"));
    wait("it to be ready", || cluster.pid_if("n1", "slow@n1", "ready"));
    let target = cluster.target(1);
    let as_one = |name: &str| {
        let who = Who::Operator { name: name.into(), role: Role::Read };
        let issued = cluster.ca().issue(who, Validity::days(1)).unwrap();
        let security = Security::Tls(Arc::new(Tls::new(&Bundle::parse(&issued.bundle).unwrap()).unwrap()));
        let target = target.clone();
        move || Client::new(target.clone()).secured(security.clone(), Some("n1")).within(PATIENCE, PATIENCE)
    };
    let (greedy, modest) = (as_one("greedy"), as_one("modest"));
    let asks_for_ever = async |n: usize| {
        let mut client = greedy();
        for path in DEAR.iter().cycle().skip(n) {
            // What it gets is its own business.
            let _ = client.raw(Method::GET, path, bytes::Bytes::new(), None).await;
        }
    };
    let asks_each_twice = async {
        let mut times = Vec::new();
        tokio::time::sleep(Duration::from_millis(500)).await; // until the other one has begun
        for path in DEAR.iter().chain(&DEAR) {
            let begun = Instant::now();
            let (status, body) = modest().raw(Method::GET, path, bytes::Bytes::new(), None).await.unwrap();
            assert_eq!(status, StatusCode::OK, "{path}: {}", String::from_utf8_lossy(&body));
            times.push((begun.elapsed(), *path));
        }
        times
    };
    let times = cluster.block_on(async {
        let greed = futures_util::future::join_all((0..MOST_OF_A_GUEST).map(asks_for_ever));
        tokio::select! {
            _ = greed => unreachable!("it never has enough"),
            times = asks_each_twice => times,
        }
    });
    for (took, path) in &times {
        println!("{path}: {:.2} s beside {MOST_OF_A_GUEST} greedy connections", took.as_secs_f64());
        assert!(*took < PATIENCE, "{path} took {took:?}");
    }
}

/// A node's agent has one stream, and another one for a moment; further ones take its own places, and nobody else's.
#[test]
fn a_node_that_subscribes_again_and_again_ends_its_own_streams() {
    let mut cluster = Secured::new("subscribes", "");
    cluster.join_and_start("n1");
    wait("the agent to answer", || cluster.status("n1"));
    let as_node = |name: &str| {
        let issued = cluster.ca().issue(Who::Node(name.into()), Validity::days(1)).unwrap();
        let security = Security::Tls(Arc::new(Tls::new(&Bundle::parse(&issued.bundle).unwrap()).unwrap()));
        Client::new(cluster.target(1)).secured(security, Some("n1"))
    };
    let (itself, greedy) = (as_node("n1"), as_node("n2"));
    cluster.block_on(async {
        let mut other = itself.lines("/v1/watch?node=n1").await.unwrap();
        assert!(other.next().await.unwrap().is_some(), "all that there is, at once");
        let mut streams = Vec::new();
        for _ in 0..20 {
            let mut lines = greedy.lines("/v1/watch?node=n2").await.unwrap();
            assert!(lines.next().await.unwrap().is_some());
            streams.push(lines);
        }
        // All but the last two are ended, which they hear; what lives has nothing to say.
        let live = streams.split_off(streams.len() - 2);
        for mut lines in streams {
            let ended = async { while let Ok(Some(_)) = lines.next().await {} };
            tokio::time::timeout(PATIENCE, ended).await.expect("a stream too many is ended");
        }
        for mut lines in live {
            let still = tokio::time::timeout(Duration::from_millis(100), lines.next()).await;
            assert!(matches!(still, Err(_) | Ok(Ok(Some(_)))), "one of the last two was ended");
        }
        let still = tokio::time::timeout(Duration::from_millis(100), other.next()).await;
        assert!(matches!(still, Err(_) | Ok(Ok(Some(_)))), "another one's stream was ended");
    });
}
