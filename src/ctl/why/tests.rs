use super::*;
use crate::ctl::fixture::*;
use crate::ctl::picture;
use crate::engine::view::{InstanceView, StateName};
use crate::facts::{Role, Trouble, Verdict};
use snapbox::{assert_data_eq, str};
use std::time::Duration;

/// What `clusterctl why` prints, hints included.
fn told(status: &ClusterStatus, instance: &str) -> String {
    let look = look(100);
    let explanation = why(status, instance, &look).unwrap();
    let mut text = anstream::adapter::strip_str(&render(&explanation, &look)).to_string();
    for hint in render::hints(&explanation) {
        text.push_str(&format!("hint: {hint}\n"));
    }
    text
}

/// web2 needs any master of one Redis, whose node is `other`; the edge is as given.
fn web_and_redis(edge: crate::engine::view::EdgeView, other: crate::api::wire::NodeEntry) -> ClusterStatus {
    let web = waiting("web@web2", vec![need("redis", "any master", 1, vec![edge])]);
    status(vec![node("web", "web2", vec![web]), other])
}

fn redis_ready() -> crate::api::wire::NodeEntry {
    node("redis", "redis1", vec![ready("redis@redis1")])
}

#[test]
fn an_instance_that_is_up() {
    let status = status(vec![node("redis", "redis1", vec![ready("redis@redis1")])]);
    assert!(why(&status, "redis@redis1", &look(80)).unwrap().up);
    assert_data_eq!(
        told(&status, "redis@redis1"),
        str![[r#"
redis@redis1 is ready for 3m 05s

"#]]
    );
}

#[test]
fn a_chain_down_to_a_failed_database() {
    let status = status(vec![
        node(
            "web",
            "web1",
            vec![waiting("web@web1", vec![need("activemq", "any", 1, vec![refused("activemq@mq1")])])],
        ),
        node(
            "mq",
            "mq1",
            vec![waiting(
                "activemq@mq1",
                vec![need(
                    "mysql",
                    "any writable",
                    1,
                    vec![refused("mysql@mysql1"), timed_out("mysql@mysql2")],
                )],
            )],
        ),
        node(
            "mysql",
            "mysql1",
            vec![because(
                StateName::Failed,
                "mysql@mysql1",
                "exit code 1 five times: /run/mysqld is missing",
            )],
        ),
        silent("mysql", "mysql2", vec![("mysql@mysql2", Some(StateName::Ready))]),
    ]);
    assert_data_eq!(
        told(&status, "web@web1"),
        str![[r#"
web@web1 is waiting for 41s
  needs activemq (any, 0 of 1) for 40s
    activemq@mq1: from web1 for 12s: connection refused
      on mq1: waiting for 41s
      needs mysql (any writable, 0 of 1) for 40s
        mysql@mysql1: from mq1 for 12s: connection refused
          on mysql1: failed for 41s: exit code 1 five times: /run/mysqld is missing
        mysql@mysql2: from mq1 for 12s: the connection times out
          on mysql2: unknown, last heard 32s ago: ready
          mysql2's agent does not answer either: the machine is down or cut off (mq1 gets no
            answer from mysql)

2 root causes
  mysql2: the machine is down or cut off (mq1 gets no answer from mysql)
  mysql@mysql1: failed for 41s: exit code 1 five times: /run/mysqld is missing
hint: is mysql2 powered on? clusterctl status --watch tells when it is back
hint: clusterctl events mysql@mysql1; once mended: clusterctl start mysql@mysql1

"#]]
    );
}

#[test]
fn a_firewall_shows_when_its_agent_says_ready_and_no_way_leads_there() {
    let edge = word(timed_out("redis@redis1"), StateName::Ready, true, None);
    assert_data_eq!(
        told(&web_and_redis(edge, redis_ready()), "web@web2"),
        str![[r#"
web@web2 is waiting for 41s
  needs redis (any master, 0 of 1) for 40s
    redis@redis1: from web2 for 12s: the connection times out
      on redis1: ready for 3m 05s
      its agent says ready, but from web2 there is no way to 192.168.1.41:6379 (the connection
        times out): look for a firewall between web2 and redis1

Root cause
  web2 -> redis1: its agent says ready, but from web2 there is no way to 192.168.1.41:6379 (the
    connection times out): look for a firewall between web2 and redis1
hint: on web2: nc -vz -w 3 192.168.1.41 6379

"#]]
    );
}

#[test]
fn a_cut_takes_the_agents_stream_with_it_while_the_asked_node_still_hears_it() {
    let edge = word(timed_out("redis@redis1"), StateName::Ready, false, None);
    assert_data_eq!(
        told(&web_and_redis(edge, redis_ready()), "web@web2"),
        str![[r#"
web@web2 is waiting for 41s
  needs redis (any master, 0 of 1) for 40s
    redis@redis1: from web2 for 12s: the connection times out
      on redis1: ready for 3m 05s
      redis1's agent answers the asked node, but web2 last heard it 45s ago
      its agent says ready, but from web2 there is no way to 192.168.1.41:6379 (the connection
        times out): look for a firewall between web2 and redis1

Root cause
  web2 -> redis1: its agent says ready, but from web2 there is no way to 192.168.1.41:6379 (the
    connection times out): look for a firewall between web2 and redis1
hint: on web2: nc -vz -w 3 192.168.1.41 6379

"#]]
    );
}

#[test]
fn with_its_agent_dead_too_the_machine_is_down_or_cut_off() {
    let edge = word(timed_out("redis@redis1"), StateName::Ready, false, None);
    let other = silent("redis", "redis1", vec![("redis@redis1", Some(StateName::Ready))]);
    assert_data_eq!(
        told(&web_and_redis(edge, other), "web@web2"),
        str![[r#"
web@web2 is waiting for 41s
  needs redis (any master, 0 of 1) for 40s
    redis@redis1: from web2 for 12s: the connection times out
      on redis1: unknown, last heard 32s ago: ready
      redis1's agent does not answer either: the machine is down or cut off (web2 gets no answer
        from redis)

Root cause
  redis1: the machine is down or cut off (web2 gets no answer from redis)
hint: is redis1 powered on? clusterctl status --watch tells when it is back

"#]]
    );
}

#[test]
fn a_refusal_from_a_machine_with_a_silent_agent_means_that_the_machine_lives() {
    let other = silent("redis", "redis1", vec![("redis@redis1", None)]);
    assert_data_eq!(
        told(&web_and_redis(refused("redis@redis1"), other), "web@web2"),
        str![[r#"
web@web2 is waiting for 41s
  needs redis (any master, 0 of 1) for 40s
    redis@redis1: from web2 for 12s: connection refused
      on redis1: unknown, never heard since the asked agent started
      redis1's agent does not answer either: the machine is up, since it refuses web2, but neither
        redis nor clusterd runs there

Root cause
  redis1: the machine is up, since it refuses web2, but neither redis nor clusterd runs there
hint: on redis1: systemctl start clusterd

"#]]
    );
}

#[test]
fn who_has_not_been_asked_yet_and_whose_agent_is_silent_is_not_called_down() {
    let other = silent("redis", "redis1", vec![("redis@redis1", None)]);
    assert_data_eq!(
        told(&web_and_redis(edge("redis@redis1", None), other), "web@web2"),
        str![[r#"
web@web2 is waiting for 41s
  needs redis (any master, 0 of 1) for 40s
    redis@redis1: not asked from web2 yet
      on redis1: unknown, never heard since the asked agent started
      redis1's agent does not answer (no connection within 1 s), and web2 has not asked yet

Root cause
  redis1: its agent does not answer: no connection within 1 s
hint: is redis1 powered on? there: systemctl status clusterd

"#]]
    );
}

#[test]
fn a_service_that_answers_while_its_agent_does_not_is_told_apart() {
    let other = || silent("redis", "redis1", vec![("redis@redis1", Some(StateName::Ready))]);
    let replica = in_role("redis@redis1", vec![Role::Replica]);
    assert_data_eq!(
        told(&web_and_redis(replica, other()), "web@web2"),
        str![[r#"
web@web2 is waiting for 41s
  needs redis (any master, 0 of 1) for 40s
    redis@redis1: from web2 for 12s: ready (PONG)
      on redis1: unknown, last heard 32s ago: ready
      redis1's agent does not answer: redis answers web2 and is not master; clusterd does not
        answer

Root cause
  redis1: redis answers web2 and is not master; clusterd does not answer
hint: on redis1: systemctl start clusterd

"#]]
    );
    let denied = says("redis@redis1", Trouble::Denied, "it wants a password");
    assert_data_eq!(
        told(&web_and_redis(denied, other()), "web@web2"),
        str![[r#"
web@web2 is waiting for 41s
  needs redis (any master, 0 of 1) for 40s
    redis@redis1: from web2 for 12s: it wants a password
      on redis1: unknown, last heard 32s ago: ready
      redis1's agent does not answer: the machine is up, and web2 hears from redis: it wants a
        password

Root cause
  redis1: the machine is up, and web2 hears from redis: it wants a password
hint: on redis1: systemctl start clusterd

"#]]
    );
}

#[test]
fn an_agent_that_lies_is_named_beside_what_is_heard() {
    let edge = word(refused("redis@redis1"), StateName::Ready, true, None);
    assert_data_eq!(
        told(&web_and_redis(edge, redis_ready()), "web@web2"),
        str![[r#"
web@web2 is waiting for 41s
  needs redis (any master, 0 of 1) for 40s
    redis@redis1: from web2 for 12s: connection refused
      on redis1: ready for 3m 05s
      redis1's agent says ready, but 192.168.1.41:6379 refuses web2: it listens on another
        address, a firewall rejects, or the agent is wrong

Root cause
  web2 -> redis1: redis1's agent says ready, but 192.168.1.41:6379 refuses web2: it listens on
    another address, a firewall rejects, or the agent is wrong
hint: on redis1: ss -ltnp

"#]]
    );
    let edge = says("redis@redis1", Trouble::Garbled, "it answers 'HTTP/1.1 400', which is no Redis");
    assert_data_eq!(
        told(&web_and_redis(edge, redis_ready()), "web@web2"),
        str![[r#"
web@web2 is waiting for 41s
  needs redis (any master, 0 of 1) for 40s
    redis@redis1: from web2 for 12s: it answers 'HTTP/1.1 400', which is no Redis
      on redis1: ready for 3m 05s
      redis1's agent says ready, but web2 hears otherwise from 192.168.1.41:6379: it answers
        'HTTP/1.1 400', which is no Redis; one of the two is wrong, or another machine has that
        address

Root cause
  web2 -> redis1: redis1's agent says ready, but web2 hears otherwise from 192.168.1.41:6379: it
    answers 'HTTP/1.1 400', which is no Redis; one of the two is wrong, or another machine has that
    address
hint: clusterctl events redis@redis1

"#]]
    );
}

#[test]
fn a_wrong_password_is_no_firewall() {
    let edge = says("redis@redis1", Trouble::Denied, "NOAUTH: a password is needed");
    assert_data_eq!(
        told(&web_and_redis(edge, redis_ready()), "web@web2"),
        str![[r#"
web@web2 is waiting for 41s
  needs redis (any master, 0 of 1) for 40s
    redis@redis1: from web2 for 12s: NOAUTH: a password is needed
      on redis1: ready for 3m 05s
      redis1's agent says ready, but it does not let web2 in: NOAUTH: a password is needed

Root cause
  redis@redis1: redis1's agent says ready, but it does not let web2 in: NOAUTH: a password is
    needed
hint: check the login that web2 uses for redis

"#]]
    );
}

#[test]
fn what_answers_in_another_role_is_said_to() {
    let edge = in_role("redis@redis1", vec![Role::Replica]);
    assert_data_eq!(
        told(&web_and_redis(edge, redis_ready()), "web@web2"),
        str![[r#"
web@web2 is waiting for 41s
  needs redis (any master, 0 of 1) for 40s
    redis@redis1: from web2 for 12s: ready (PONG)
      on redis1: ready for 3m 05s
      it answers, but is not master

Root cause
  redis@redis1: it answers, but is not master

"#]]
    );
}

#[test]
fn a_veto_is_told_with_its_reason() {
    let edge = word(in_role("redis@redis1", vec![Role::Master]), StateName::Stopping, true, Some("stopping"));
    let other = node(
        "redis",
        "redis1",
        vec![InstanceView {
            withdrawn: Some("alice stops it".into()),
            ..because(StateName::Stopping, "redis@redis1", "")
        }],
    );
    assert_data_eq!(
        told(&web_and_redis(edge, other), "web@web2"),
        str![[r#"
web@web2 is waiting for 41s
  needs redis (any master, 0 of 1) for 40s
    redis@redis1: from web2 for 12s: ready (PONG)
      on redis1: stopping for 41s: alice stops it
      it answers, but its own agent vetoes: alice stops it

Root cause
  redis@redis1: stopping for 41s: alice stops it

"#]]
    );
}

#[test]
fn a_held_root_is_released_with_the_needs() {
    let other = node("redis", "redis1", vec![held("redis@redis1", "new disks")]);
    assert_data_eq!(
        told(&web_and_redis(refused("redis@redis1"), other), "web@web2"),
        str![[r#"
web@web2 is waiting for 41s
  needs redis (any master, 0 of 1) for 40s
    redis@redis1: from web2 for 12s: connection refused
      on redis1: stopped, held by alice since 03:12 (new disks)

Root cause
  redis@redis1: held by alice since 03:12 (new disks)
hint: clusterctl start --with-needs web@web2

"#]]
    );
    let other = node("redis", "redis1", vec![held("redis@redis1", "")]);
    assert_data_eq!(
        told(&web_and_redis(refused("redis@redis1"), other), "redis@redis1"),
        str![[r#"
redis@redis1 is stopped, held by alice since 03:12

Root cause
  redis@redis1: held by alice since 03:12
hint: clusterctl start redis@redis1

"#]]
    );
}

#[test]
fn blocked_points_to_the_leftovers() {
    let reason = "/run/redis/redis.pid names pid 417, a redis-server without any tie to this instance";
    let other = node("redis", "redis1", vec![because(StateName::Blocked, "redis@redis1", reason)]);
    assert_data_eq!(
        told(&web_and_redis(refused("redis@redis1"), other), "web@web2"),
        str![[r#"
web@web2 is waiting for 41s
  needs redis (any master, 0 of 1) for 40s
    redis@redis1: from web2 for 12s: connection refused
      on redis1: blocked for 41s: /run/redis/redis.pid names pid 417, a redis-server without any
        tie to this instance

Root cause
  redis@redis1: blocked for 41s: /run/redis/redis.pid names pid 417, a redis-server without any
    tie to this instance
hint: clusterctl leftovers redis1

"#]]
    );
}

#[test]
fn what_is_on_its_way_is_a_root_without_a_hint() {
    let left = Some(Duration::from_secs(12));
    let reason = "loading its data set: 43 %";
    let loading = InstanceView {
        percent: Some(43),
        own: Some(Verdict::Progress { reason: reason.into(), percent: Some(43), left }),
        ..because(StateName::Starting, "redis@redis1", reason)
    };
    let edge =
        edge("redis@redis1", Some(Verdict::Progress { reason: "loading".into(), percent: Some(43), left }));
    let other = node("redis", "redis1", vec![loading]);
    assert_data_eq!(
        told(&web_and_redis(edge, other), "web@web2"),
        str![[r#"
web@web2 is waiting for 41s
  needs redis (any master, 0 of 1) for 40s
    redis@redis1: from web2 for 12s: loading, 12s left
      on redis1: starting for 41s: loading its data set: 43 %, 12s left

Root cause
  redis@redis1: starting for 41s: loading its data set: 43 %, 12s left

"#]]
    );
}

#[test]
fn backoff_tells_the_next_start() {
    let dying = InstanceView {
        next_ms: Some(4000),
        failures: 3,
        ..because(StateName::Backoff, "redis@redis1", "killed by SIGSEGV")
    };
    let other = node("redis", "redis1", vec![dying]);
    assert_data_eq!(
        told(&web_and_redis(refused("redis@redis1"), other), "web@web2"),
        str![[r#"
web@web2 is waiting for 41s
  needs redis (any master, 0 of 1) for 40s
    redis@redis1: from web2 for 12s: connection refused
      on redis1: backoff for 41s: killed by SIGSEGV, next start in 4s, failed 3 times in a row

Root cause
  redis@redis1: backoff for 41s: killed by SIGSEGV, next start in 4s, failed 3 times in a row
hint: clusterctl events redis@redis1

"#]]
    );
}

#[test]
fn standing_by_is_healthy_and_nobody_serves() {
    let other =
        node("redis", "redis1", vec![because(StateName::Standby, "redis@redis1", "waits for the lease")]);
    assert_data_eq!(
        told(&web_and_redis(refused("redis@redis1"), other), "web@web2"),
        str![[r#"
web@web2 is waiting for 41s
  needs redis (any master, 0 of 1) for 40s
    redis@redis1: from web2 for 12s: connection refused
      on redis1: standby for 41s: waits for the lease

Root cause
  web@web2: needs redis (any master, 0 of 1), and no candidate serves: they stand by

"#]]
    );
}

#[test]
fn a_ready_instance_with_a_lost_need_tells_both() {
    let mq = InstanceView {
        needs: vec![need("mysql", "any writable", 1, vec![refused("mysql@mysql1")])],
        ..ready("activemq@mq1")
    };
    let status = status(vec![
        node("mq", "mq1", vec![mq]),
        node("mysql", "mysql1", vec![because(StateName::Backoff, "mysql@mysql1", "exit code 1")]),
    ]);
    assert_data_eq!(
        told(&status, "activemq@mq1"),
        str![[r#"
activemq@mq1 is ready for 3m 05s
  its need mysql is lost for 40s: it was kept running
  needs mysql (any writable, 0 of 1) for 40s
    mysql@mysql1: from mq1 for 12s: connection refused
      on mysql1: backoff for 41s: exit code 1

Root cause
  mysql@mysql1: backoff for 41s: exit code 1
hint: clusterctl events mysql@mysql1

"#]]
    );
}

#[test]
fn a_circle_ends_and_names_its_root() {
    let status = status(vec![
        node("a", "a", vec![waiting("x@a", vec![need("y", "any", 1, vec![refused("y@b")])])]),
        node("b", "b", vec![waiting("y@b", vec![need("x", "any", 1, vec![refused("x@a"), refused("z@c")])])]),
        node("c", "c", vec![because(StateName::Failed, "z@c", "gave up")]),
    ]);
    assert_data_eq!(
        told(&status, "x@a"),
        str![[r#"
x@a is waiting for 41s
  needs y (any, 0 of 1) for 40s
    y@b: from a for 12s: connection refused
      on b: waiting for 41s
      needs x (any, 0 of 1) for 40s
        x@a: from b for 12s: connection refused
          on a: waiting for 41s
          its needs are told above
        z@c: from b for 12s: connection refused
          on c: failed for 41s: gave up

Root cause
  z@c: failed for 41s: gave up
hint: clusterctl events z@c; once mended: clusterctl start z@c

"#]]
    );
}

#[test]
fn two_needs_with_one_root_name_it_once() {
    let needs = vec![
        need("redis", "any", 1, vec![timed_out("redis@d")]),
        need("mysql", "any", 1, vec![timed_out("mysql@d")]),
    ];
    let status = status(vec![
        node("web", "web1", vec![waiting("web@web1", needs)]),
        silent("data", "d", vec![("redis@d", None), ("mysql@d", None)]),
    ]);
    let explanation = why(&status, "web@web1", &look(100)).unwrap();
    assert_eq!(explanation.roots.len(), 1, "{explanation:#?}");
    assert_eq!(explanation.roots[0].at, "d");
}

#[test]
fn an_instance_of_a_file_that_the_asked_agent_does_not_know() {
    assert_data_eq!(
        told(&web_and_redis(refused("redis@gone"), redis_ready()), "web@web2"),
        str![[r#"
web@web2 is waiting for 41s
  needs redis (any master, 0 of 1) for 40s
    redis@gone: from web2 for 12s: connection refused
      redis@gone is not in the cluster file of the agent that was asked

Root cause
  redis@gone: redis@gone is not in the cluster file of the agent that was asked
hint: clusterctl status shows which nodes run which file

"#]]
    );
}

#[test]
fn a_silent_node_itself() {
    let status = status(vec![
        node("web", "web1", vec![]),
        silent("web", "web2", vec![("web@web2", Some(StateName::Ready))]),
    ]);
    assert_data_eq!(
        told(&status, "web@web2"),
        str![[r#"
web@web2 is unknown, last heard 32s ago: ready
  web2's agent does not answer: no connection within 1 s

Root cause
  web2: its agent does not answer: no connection within 1 s
hint: is web2 powered on? there: systemctl status clusterd

"#]]
    );
}

#[test]
fn a_service_is_explained_by_its_first_instance_that_is_not_up() {
    let status = status(vec![
        node("web", "web1", vec![ready("web@web1")]),
        node("web", "web2", vec![because(StateName::Failed, "web@web2", "gave up")]),
    ]);
    assert_eq!(why(&status, "web", &look(80)).unwrap().instance, "web@web2");
    assert!(why(&status, "wbe", &look(80)).unwrap_err().meant.is_some());
}

#[test]
fn a_circle_without_an_end_is_said_to_be_one() {
    let status = status(vec![
        node("a", "a", vec![waiting("x@a", vec![need("y", "any", 1, vec![refused("y@b")])])]),
        node("b", "b", vec![waiting("y@b", vec![need("x", "any", 1, vec![refused("x@a")])])]),
    ]);
    let explanation = why(&status, "x@a", &look(100)).unwrap();
    assert_eq!(explanation.roots.len(), 1);
    assert!(explanation.roots[0].text.contains("wait for each other"), "{explanation:#?}");
}

#[test]
fn a_chain_of_ten_thousand_ends_at_its_root_and_in_a_short_tree() {
    let name = |i: usize| format!("s{i}@n");
    let mut views: Vec<InstanceView> = (0..10_000)
        .map(|i| waiting(&name(i), vec![need("next", "any", 1, vec![refused(&name(i + 1))])]))
        .collect();
    views.push(because(StateName::Failed, &name(10_000), "gave up"));
    let status = status(vec![node("g", "n", views)]);
    let explanation = why(&status, "s0@n", &look(80)).unwrap();
    assert_eq!(explanation.roots.len(), 1);
    assert_eq!(explanation.roots[0].at, "s10000@n");
    assert!(render(&explanation, &look(80)).lines().count() < 10 * MAX_DEPTH);
}

#[test]
fn causes_are_merged_and_sorted_by_how_much_they_hold_up() {
    let web = |n: &str| waiting(&format!("web@{n}"), vec![need("redis", "any", 1, vec![refused("redis@r")])]);
    let status = status(vec![
        node("a", "a", vec![because(StateName::Failed, "lone@a", "gave up")]),
        node("w", "w1", vec![web("w1")]),
        node("w", "w2", vec![web("w2")]),
        node("r", "r", vec![because(StateName::Blocked, "redis@r", "in doubt")]),
    ]);
    let causes = causes(&status, &look(80));
    let told: Vec<_> = causes.iter().map(|c| (c.root.at.as_str(), c.holds_up.join(" "))).collect();
    assert_eq!(told, [("redis@r", "web@w1 web@w2".to_owned()), ("lone@a", String::new())]);
    assert!(picture::find(&status, "redis@r").is_some());
}

#[test]
fn the_agents_own_sentence_is_left_out_where_more_is_told_beside_it() {
    let unmet = || vec![need("redis", "any", 1, vec![refused("redis@r")])];
    let own = |verdict| InstanceView { own: Some(verdict), ..ready("a@n") };
    let cases = [
        (InstanceView { reason: "waits for redis".into(), ..waiting("a@n", unmet()) }, ""),
        (
            InstanceView { reason: "the agent looks for what runs".into(), ..waiting("a@n", vec![]) },
            "the agent looks for what runs",
        ),
        (InstanceView { reason: "held by alice".into(), ..held("a@n", "") }, ""),
        (InstanceView { reason: "ready (PONG)".into(), ..own(Verdict::ready("PONG")) }, "PONG"),
        (
            InstanceView {
                state: StateName::Unready,
                ..own(Verdict::not_ready(Trouble::Silent, "no answer"))
            },
            "no answer",
        ),
        (
            InstanceView {
                withdrawn: Some("alice stops it".into()),
                ..instance("a@n", StateName::Stopping, 1)
            },
            "alice stops it",
        ),
        (
            InstanceView {
                next_ms: Some(4000),
                failures: 1,
                ..because(StateName::Backoff, "a@n", "exit code 1")
            },
            "exit code 1, next start in 4s",
        ),
    ];
    for (view, said) in cases {
        assert_eq!(detail(&view), said, "{view:?}");
    }
}
