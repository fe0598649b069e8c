use super::*;
use crate::ctl::fixture::*;
use crate::facts::{Role, Trouble, Verdict};
use snapbox::{assert_data_eq, str};

/// What `clusterctl status` prints, hints included.
fn shown(status: &ClusterStatus, names: &[&str], width: Option<usize>) -> String {
    let look = look(width);
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let chosen = picture::select(status, &names).unwrap();
    let causes = why::causes(status, &look);
    let mut text = anstream::adapter::strip_str(&render(status, &chosen, &causes, &look)).to_string();
    for hint in hints(status, &chosen, &causes) {
        text.push_str(&format!("hint: {hint}\n"));
    }
    if let Some(width) = width {
        // A path or a name longer than the terminal may stick out; these texts have none.
        let hint = |l: &&str| !l.starts_with("hint");
        assert!(text.lines().filter(hint).all(|l| crate::ctl::text::width(l) <= width), "{text}");
    }
    text
}

fn all_well() -> ClusterStatus {
    status(vec![
        node("lvs", "lvs1", vec![ready("keepalived@lvs1")]),
        node("web", "web1", vec![ready("web@web1")]),
        node("web", "web2", vec![InstanceView { starts: 3, ..ready("web@web2") }]),
        node("mq", "mq1", vec![ready("activemq@mq1")]),
        node("mq", "mq2", vec![because(StateName::Standby, "activemq@mq2", "waits for the lease")]),
        node("spare", "spare1", vec![]),
    ])
}

/// Everything that can be wrong at once.
fn all_wrong() -> ClusterStatus {
    let web = |name: &str| {
        let redis = word(timed_out("redis@redis1"), StateName::Ready, true, None);
        waiting(
            name,
            vec![
                need("redis", "any master", 1, vec![redis, in_role("redis@redis2", vec![Role::Replica])]),
                need("activemq", "any", 1, vec![refused("activemq@mq1")]),
            ],
        )
    };
    let mysql = need("mysql", "any writable", 1, vec![refused("mysql@mysql1"), timed_out("mysql@mysql2")]);
    let loading = InstanceView {
        percent: Some(43),
        ..because(StateName::Starting, "redis@redis2", "loading its data set")
    };
    let dying = InstanceView {
        next_ms: Some(4000),
        failures: 3,
        ..because(StateName::Backoff, "office@office1", "killed by SIGSEGV")
    };
    let unready = InstanceView {
        pid: Some(812),
        own: Some(Verdict::not_ready(Trouble::Silent, "no answer within 1 s")),
        ..instance("storage@fdfs1", StateName::Unready, 9)
    };
    let lost = InstanceView {
        needs: vec![need("tracker", "any", 1, vec![refused("tracker@fdfs2")])],
        ..ready("storage@fdfs2")
    };
    let mut odd = node("fdfs", "fdfs2", vec![held("tracker@fdfs2", "new disks"), lost]);
    if let Some(status) = &mut odd.status {
        status.config = "77aa00ff".into();
        status.problems = vec!["cluster.toml is refused, the last good one is in force".into()];
    }
    status(vec![
        node("web", "web1", vec![web("web@web1")]),
        node("web", "web2", vec![web("web@web2")]),
        node("mq", "mq1", vec![waiting("activemq@mq1", vec![mysql])]),
        node("redis", "redis1", vec![ready("redis@redis1")]),
        node("redis", "redis2", vec![loading]),
        node(
            "mysql",
            "mysql1",
            vec![because(
                StateName::Blocked,
                "mysql@mysql1",
                "/run/mysqld/mysqld.pid names pid 417, which may be ours",
            )],
        ),
        silent("mysql", "mysql2", vec![("mysql@mysql2", Some(StateName::Ready))]),
        node("fdfs", "fdfs1", vec![unready]),
        odd,
        node("office", "office1", vec![dying]),
    ])
}

#[test]
fn all_is_well() {
    assert_data_eq!(
        shown(&all_well(), &[], Some(80)),
        str![[r#"
shop: all 5 up (1 standing by)

GROUP  INSTANCE         STATE    FOR     PID
lvs    keepalived@lvs1  ready    3m 05s  4711
web    web@web1         ready    3m 05s  4711
       web@web2         ready    3m 05s  4711  started 3 times
mq     activemq@mq1     ready    3m 05s  4711
       activemq@mq2     standby  41s           waits for the lease
spare  @spare1          -                      nothing is placed here

"#]]
    );
    assert!(all_up(&all_well(), &picture::select(&all_well(), &[]).unwrap(), true));
}

#[test]
fn everything_is_wrong_at_80_columns() {
    assert_data_eq!(
        shown(&all_wrong(), &[], Some(80)),
        str![[r#"
shop: 2 of 11 up; 3 waiting, 1 starting, 1 unready, 1 stopped, 1 backoff,
  1 blocked, 1 unknown
1 node does not answer: mysql2 (no connection within 1 s)
2 cluster files are in force: 3f2a91bc on web1, web2, mq1, redis1 and 4
  more; 77aa00ff on fdfs2
fdfs2's agent: cluster.toml is refused, the last good one is in force

Root causes
  mysql2: the machine is down or cut off (mq1 gets no answer from mysql);
    holds up 3: web@web1, web@web2, activemq@mq1
  mysql@mysql1: blocked for 41s: /run/mysqld/mysqld.pid names pid 417, which
    may be ours; holds up 3: web@web1, web@web2, activemq@mq1
  web1 -> redis1: its agent says ready, but from web1 there is no way to
    192.168.1.41:6379 (the connection times out): look for a firewall between
    web1 and redis1
  web2 -> redis1: its agent says ready, but from web2 there is no way to
    192.168.1.41:6379 (the connection times out): look for a firewall between
    web2 and redis1
  redis@redis2: starting for 41s: loading its data set, 43 %; holds up 2:
    web@web1, web@web2

GROUP   INSTANCE        STATE     FOR     PID
web     web@web1        waiting   41s
          waits for redis (any master, 0 of 1): redis1 the connection times
            out for 12s; redis2: it answers, but is not master
          waits for activemq (any, 0 of 1): mq1 connection refused for 12s
        web@web2        waiting   41s
          waits for redis (any master, 0 of 1): redis1 the connection times
            out for 12s; redis2: it answers, but is not master
          waits for activemq (any, 0 of 1): mq1 connection refused for 12s
mq      activemq@mq1    waiting   41s
          waits for mysql (any writable, 0 of 1): mysql1 connection refused
            for 12s; mysql2 the connection times out for 12s
redis   redis@redis1    ready     3m 05s  4711
        redis@redis2    starting  41s           loading its data set, 43 %
mysql   mysql@mysql1    blocked   41s
          /run/mysqld/mysqld.pid names pid 417, which may be ours
        mysql@mysql2    unknown
          mysql2 does not answer
          last heard 32s ago: ready
fdfs    storage@fdfs1   unready   9s      812   no answer within 1 s
        tracker@fdfs2   stopped   1h 54m
          held by alice since 03:12 (new disks)
        storage@fdfs2   ready     3m 05s  4711
          need tracker lost for 40s, kept running
office  office@office1  backoff   41s
          killed by SIGSEGV, next start in 4s, failed 3 times in a row
hint: clusterctl why web@web1
hint: clusterctl leftovers mysql1
hint: clusterctl events storage@fdfs1

"#]]
    );
}

#[test]
fn everything_is_wrong_at_120_columns() {
    assert_data_eq!(
        shown(&all_wrong(), &[], Some(120)),
        str![[r#"
shop: 2 of 11 up; 3 waiting, 1 starting, 1 unready, 1 stopped, 1 backoff, 1 blocked, 1 unknown
1 node does not answer: mysql2 (no connection within 1 s)
2 cluster files are in force: 3f2a91bc on web1, web2, mq1, redis1 and 4 more; 77aa00ff on fdfs2
fdfs2's agent: cluster.toml is refused, the last good one is in force

Root causes
  mysql2: the machine is down or cut off (mq1 gets no answer from mysql); holds up 3: web@web1, web@web2, activemq@mq1
  mysql@mysql1: blocked for 41s: /run/mysqld/mysqld.pid names pid 417, which may be ours; holds up 3: web@web1,
    web@web2, activemq@mq1
  web1 -> redis1: its agent says ready, but from web1 there is no way to 192.168.1.41:6379 (the connection times out):
    look for a firewall between web1 and redis1
  web2 -> redis1: its agent says ready, but from web2 there is no way to 192.168.1.41:6379 (the connection times out):
    look for a firewall between web2 and redis1
  redis@redis2: starting for 41s: loading its data set, 43 %; holds up 2: web@web1, web@web2

GROUP   INSTANCE        STATE     FOR     PID
web     web@web1        waiting   41s
          waits for redis (any master, 0 of 1): redis1 the connection times out for 12s; redis2: it answers, but is
            not master
          waits for activemq (any, 0 of 1): mq1 connection refused for 12s
        web@web2        waiting   41s
          waits for redis (any master, 0 of 1): redis1 the connection times out for 12s; redis2: it answers, but is
            not master
          waits for activemq (any, 0 of 1): mq1 connection refused for 12s
mq      activemq@mq1    waiting   41s
          waits for mysql (any writable, 0 of 1): mysql1 connection refused for 12s; mysql2 the connection times out
            for 12s
redis   redis@redis1    ready     3m 05s  4711
        redis@redis2    starting  41s           loading its data set, 43 %
mysql   mysql@mysql1    blocked   41s           /run/mysqld/mysqld.pid names pid 417, which may be ours
        mysql@mysql2    unknown                 mysql2 does not answer; last heard 32s ago: ready
fdfs    storage@fdfs1   unready   9s      812   no answer within 1 s
        tracker@fdfs2   stopped   1h 54m        held by alice since 03:12 (new disks)
        storage@fdfs2   ready     3m 05s  4711  need tracker lost for 40s, kept running
office  office@office1  backoff   41s           killed by SIGSEGV, next start in 4s, failed 3 times in a row
hint: clusterctl why web@web1
hint: clusterctl leftovers mysql1
hint: clusterctl events storage@fdfs1

"#]]
    );
}

#[test]
fn a_pipe_gets_one_line_an_instance() {
    assert_data_eq!(
        shown(&all_wrong(), &["web"], None),
        str![[r#"
shop: 0 of 2 up; 2 waiting
1 node does not answer: mysql2 (no connection within 1 s)
2 cluster files are in force: 3f2a91bc on web1, web2, mq1, redis1 and 4 more; 77aa00ff on fdfs2
fdfs2's agent: cluster.toml is refused, the last good one is in force

Root causes
  mysql2: the machine is down or cut off (mq1 gets no answer from mysql); holds up 3: web@web1, web@web2, activemq@mq1
  mysql@mysql1: blocked for 41s: /run/mysqld/mysqld.pid names pid 417, which may be ours; holds up 3: web@web1, web@web2, activemq@mq1
  web1 -> redis1: its agent says ready, but from web1 there is no way to 192.168.1.41:6379 (the connection times out): look for a firewall between web1 and redis1
  web2 -> redis1: its agent says ready, but from web2 there is no way to 192.168.1.41:6379 (the connection times out): look for a firewall between web2 and redis1
  redis@redis2: starting for 41s: loading its data set, 43 %; holds up 2: web@web1, web@web2

GROUP  INSTANCE  STATE    FOR  PID
web    web@web1  waiting  41s       waits for redis (any master, 0 of 1): redis1 the connection times out for 12s; redis2: it answers, but is not master; waits for activemq (any, 0 of 1): mq1 connection refused for 12s
       web@web2  waiting  41s       waits for redis (any master, 0 of 1): redis1 the connection times out for 12s; redis2: it answers, but is not master; waits for activemq (any, 0 of 1): mq1 connection refused for 12s
hint: clusterctl why web@web1
hint: clusterctl leftovers mysql1
hint: clusterctl events storage@fdfs1

"#]]
    );
}

#[test]
fn all_is_held() {
    let status = status(vec![
        node("web", "web1", vec![held("web@web1", "moving house")]),
        node("web", "web2", vec![held("web@web2", "moving house")]),
    ]);
    assert_data_eq!(
        shown(&status, &[], Some(80)),
        str![[r#"
shop: 0 of 2 up; 2 stopped
ALL IS HELD: nothing starts until clusterctl up

GROUP  INSTANCE  STATE    FOR     PID
web    web@web1  stopped  1h 54m       held by alice since 03:12 (moving house)
       web@web2  stopped  1h 54m       held by alice since 03:12 (moving house)
hint: clusterctl up

"#]]
    );
}

#[test]
fn a_silent_node_without_instances_still_counts() {
    let status = status(vec![node("web", "web1", vec![ready("web@web1")]), silent("spare", "s1", vec![])]);
    assert_data_eq!(
        shown(&status, &[], Some(80)),
        str![[r#"
shop: all 1 up
1 node does not answer: s1 (no connection within 1 s)

GROUP  INSTANCE  STATE    FOR     PID
web    web@web1  ready    3m 05s  4711
spare  @s1       unknown                no connection within 1 s

"#]]
    );
    assert!(!all_up(&status, &picture::select(&status, &[]).unwrap(), true));
    assert!(all_up(&status, &picture::select(&status, &["web".into()]).unwrap(), false));
}

#[test]
fn json_is_cut_down_to_what_was_named() {
    let status = all_wrong();
    let names = ["mysql".to_owned()];
    let cut = only(&status, &names, &picture::select(&status, &names).unwrap());
    assert_eq!(cut.nodes.iter().map(|n| n.node.as_str()).collect::<Vec<_>>(), ["mysql1", "mysql2"]);
    assert_eq!(only(&status, &[], &[]).nodes.len(), status.nodes.len());
}
