//! Needs, counts, ranks and circles, as tables: a few lines of configuration and what comes of them.

use clusterd::graph::{Graph, dot, mermaid, terminal};
use clusterd::model::{AfterWait, Cluster, Count, OnLoss, Source, Sources, parse};
use std::collections::BTreeMap;
use std::time::Duration;

/// `services` on three web nodes and two db nodes; every service has the unit `plain` and a port of its own.
fn cluster(services: &str) -> Cluster {
    let mut text = String::from(
        "[cluster]\nname = \"shop\"\n[nodes]\nweb = { web1 = \"10.0.0.1\", web2 = \"10.0.0.2\", web3 = \"10.0.0.3\" }\n\
         db = { db1 = \"10.0.0.4\", db2 = \"10.0.0.5\" }\n[services]\n",
    );
    for (port, line) in services.lines().map(str::trim).filter(|l| !l.is_empty()).enumerate() {
        let (head, tail) = line.split_once('{').unwrap();
        text.push_str(&format!("{head}{{ unit = \"plain\", set.port = {}, {tail}\n", port + 1000));
    }
    parse(&sources(text)).unwrap_or_else(|e| panic!("{e}"))
}

fn sources(cluster: String) -> Sources {
    let plain = "[set]\nport = 1\n[run]\ncommand = [\"/bin/plain\", \"{port}\"]\n\
                 [ready]\nprobe = { kind = \"redis\", port = \"{port}\" }\n";
    Sources {
        cluster: Source { path: "cluster.toml".into(), text: cluster },
        folder: "units".into(),
        units: BTreeMap::from([(
            "plain".into(),
            Source { path: "units/plain.toml".into(), text: plain.into() },
        )]),
        unread: BTreeMap::new(),
    }
}

/// `a@web1 a@web2 | b@db1`: the waves.
fn waves(services: &str) -> String {
    let cluster = cluster(services);
    let graph = Graph::new(&cluster).unwrap();
    let wave = |w: &Vec<_>| w.iter().map(|i| &*cluster.instance(*i).name).collect::<Vec<_>>().join(" ");
    graph.waves().iter().map(wave).collect::<Vec<_>>().join(" | ")
}

#[test]
fn every_form_of_a_need() {
    let forms = [
        (r#""any""#, Count::AtLeast(1), None),
        (r#""all""#, Count::All, None),
        (r#""quorum""#, Count::Quorum, None),
        ("2", Count::AtLeast(2), None),
        (r#""2 replica""#, Count::AtLeast(2), Some("replica")),
        (r#""any writable""#, Count::AtLeast(1), Some("writable")),
        (r#"{ count = "any", role = "master" }"#, Count::AtLeast(1), Some("master")),
        ("{}", Count::All, None),
    ];
    for (typed, count, role) in forms {
        let cluster =
            cluster(&format!("db = {{ on = \"db\" }}\nweb = {{ on = \"web1\", needs.db = {typed} }}"));
        let need = &cluster.service(cluster.service_named("web").unwrap()).needs[0];
        assert_eq!((need.count, need.role.map(|r| r.as_str())), (count, role), "{typed}");
    }
}

#[test]
fn the_table_says_everything() {
    let cluster = cluster(
        r#"db = { on = "db" }
           kv = { on = "db1" }
           web = { on = "web1", needs.store = { of = ["kv", "db"], count = "quorum", role = "writable", wait = "2m", then = "fail", on-loss = "restart", grace = "5s", proof = "agent" } }"#,
    );
    let web = cluster.instance_named("web@web1").unwrap();
    let need = cluster.needs_of(web).next().unwrap();
    assert_eq!(need.name, "store");
    assert_eq!(need.count, Count::Quorum);
    let wait = need.wait.unwrap();
    assert_eq!((wait.at_most, wait.then), (Duration::from_secs(120), AfterWait::Fail));
    assert_eq!(need.on_loss, OnLoss::Restart { grace: Duration::from_secs(5) });
    assert!(need.by_agent);
    let names: Vec<&str> = cluster
        .candidates(need, cluster.instance(web).node)
        .iter()
        .map(|i| &*cluster.instance(*i).name)
        .collect();
    assert_eq!(names, ["kv@db1", "db@db1", "db@db2"]);
    assert_eq!(need.count.wanted(names.len()), 2);
}

#[test]
fn a_need_in_the_same_zone_goes_by_the_dependents_own_node() {
    let text = r#"[cluster]
name = "shop"
[nodes]
all = { n1 = { address = "10.0.0.1", labels = { zone = "a" } }, n2 = { address = "10.0.0.2", labels = { zone = "b" } }, n3 = { address = "10.0.0.3", labels = { zone = "a" } }, n4 = "10.0.0.4" }
[services]
cache = { on = "all", unit = "plain" }
web = { on = ["n1", "n2"], unit = "plain", set.port = 81, needs.cache = { count = "any", same = "zone" } }
mesh = { on = ["n1", "n3"], unit = "plain", set.port = 82, needs.mesh = { count = "all", same = "zone", wait = "1m", then = "start" } }
"#;
    let cluster = parse(&sources(text.to_owned())).unwrap_or_else(|e| panic!("{e}"));
    let near = |name: &str| {
        let ix = cluster.instance_named(name).unwrap();
        let need = cluster.needs_of(ix).next().unwrap();
        let all = cluster.candidates(need, cluster.instance(ix).node);
        all.iter().map(|i| cluster.instance(*i).name.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(near("web@n1"), "cache@n1 cache@n3");
    assert_eq!(near("web@n2"), "cache@n2", "not n4, which has no zone");
    assert_eq!(near("mesh@n1"), "mesh@n3", "nobody counts for itself");
    assert_eq!(cluster.service(cluster.service_named("web").unwrap()).needs[0].to_string(), "any, same zone");
}

#[test]
fn defaults_are_told() {
    let cluster = cluster("db = { on = \"db\" }\nweb = { on = \"web\", needs = [\"db\"] }");
    let told = |place: &str, key: &str| {
        cluster.defaults.iter().find(|d| d.place == place && d.key == key).map(|d| d.value.as_str())
    };
    assert_eq!(told("service web, need db", "count"), Some("all"));
    assert_eq!(told("cluster", "port"), Some("7117"));
    assert_eq!(told("unit plain", "stop.timeout"), Some("30s"));
    assert_eq!(told("1 need", "wait"), Some("for ever"));
    assert_eq!(told("service web", "unit"), None, "it was said");
}

#[test]
fn ranks_follow_the_counts() {
    let table = [
        ("a = { on = \"web1\" }\nb = { on = \"web2\" }", "a@web1 b@web2"),
        ("b = { on = \"web1\", needs.a = \"any\" }\na = { on = \"web2\" }", "a@web2 | b@web1"),
        // A number is reached by those that are first; `all` by the last.
        (
            "a = { on = \"web1\" }\nb = { on = \"web1\", needs.a = \"any\" }\n\
             c = { on = \"db1\", needs.x = { of = [\"a\", \"b\"], count = \"any\" } }\n\
             d = { on = \"db1\", needs.x = { of = [\"a\", \"b\"] } }",
            "a@web1 | b@web1 c@db1 | d@db1",
        ),
        (
            "a = { on = \"web\" }\nb = { on = [\"web1\", \"web3\"], needs.a = \"same-node\" }",
            "a@web1 a@web2 a@web3 | b@web1 b@web3",
        ),
        // `any` of several is reached although one of them waits for the dependent itself.
        (
            "a = { on = \"web1\" }\nb = { on = \"web2\", needs.x = { of = [\"a\", \"c\"], count = \"any\" } }\n\
             c = { on = \"web3\", needs.b = \"all\" }",
            "a@web1 | b@web2 | c@web3",
        ),
    ];
    for (services, expected) in table {
        assert_eq!(waves(services), expected, "{services}");
    }
}

#[test]
fn a_replica_needs_its_primary_within_one_service() {
    let services = r#"db = { on = "db", at.db2.needs.db = "any master" }
                      web = { on = "web1", needs.db = 2 }"#;
    assert_eq!(waves(services), "db@db1 | db@db2 | web@web1");
    let cluster = cluster(services);
    let needs = |name: &str| cluster.needs_of(cluster.instance_named(name).unwrap()).count();
    assert_eq!((needs("db@db1"), needs("db@db2")), (0, 1));
    let replica = cluster.instance_named("db@db2").unwrap();
    let need = cluster.needs_of(replica).next().unwrap();
    let candidates = cluster.candidates(need, cluster.instance(replica).node);
    assert_eq!(candidates, [cluster.instance_named("db@db1").unwrap()], "nobody counts for itself");
}

#[test]
fn a_need_of_one_node_replaces_the_general_one() {
    let cluster = cluster(
        "db = { on = \"db\" }\nweb = { on = \"web\", needs.db = \"all\", at.web3.needs.db = \"any\" }",
    );
    let counts: Vec<String> = ["web@web1", "web@web2", "web@web3"]
        .iter()
        .map(|n| cluster.needs_of(cluster.instance_named(n).unwrap()).map(|n| n.count.to_string()).collect())
        .collect();
    assert_eq!(counts, ["all", "all", "any"]);
}

#[test]
fn a_circle_that_time_breaks_is_taken_with_a_warning() {
    let services = r#"a = { on = "web1", needs.b = { count = "any", wait = "1m", then = "start" } }
                      b = { on = "web2", needs.a = "any" }"#;
    assert_eq!(waves(services), "a@web1 | b@web2");
    let warnings = cluster(services).warnings;
    assert!(warnings.iter().any(|w| w.contains("`a` needs `b` in a circle")), "{warnings:?}");
}

#[test]
fn single_points_are_warned_of() {
    let warnings = cluster(
        r#"kv = { on = "db1" }
           two = { on = "db", needs.kv = "any" }
           web = { on = ["web1", "web2", "web3"], needs.two = "any" }"#,
    )
    .warnings;
    let points: Vec<&String> = warnings.iter().filter(|w| w.contains("can never start")).collect();
    assert_eq!(points.len(), 1, "{warnings:?}");
    assert!(
        points[0]
            .contains("without node `db1` these can never start: two@db2, web@web1, web@web2 and 1 more"),
        "{points:?}"
    );
    // With a second source nothing hangs on one node; `all` of two hangs on both.
    assert!(cluster("kv = { on = \"db\" }\nweb = { on = \"web\", needs.kv = \"any\" }").warnings.is_empty());
    assert_eq!(cluster("kv = { on = \"db\" }\nweb = { on = \"web\", needs.kv = \"all\" }").warnings.len(), 2);
}

#[test]
fn dependents_and_the_longest_chain() {
    let cluster = cluster(
        r#"a = { on = "db" }
           b = { on = "web1", needs.a = "any", needs.quick = "any" }
           quick = { on = "web2" }
           c = { on = "web2", needs.b = "all", needs.a = "any" }"#,
    );
    let graph = Graph::new(&cluster).unwrap();
    let names = |ixs: Vec<_>| ixs.iter().map(|i| cluster.instance(*i).name.to_string()).collect::<Vec<_>>();
    let at = |name: &str| cluster.instance_named(name).unwrap();
    assert_eq!(names(graph.dependents(at("a@db2"))), ["b@web1", "c@web2"]);
    assert_eq!(names(graph.dependents(at("c@web2"))), [""; 0]);
    assert_eq!(names(graph.longest_chain(&cluster)), ["a@db1", "b@web1", "c@web2"]);
    assert_eq!(graph.rank(at("c@web2")), 2);
}

#[test]
fn a_chain_of_twenty_thousand_is_ordered() {
    let lines: Vec<String> = (0..20_000)
        .map(|i| match i {
            0 => "s0 = { on = \"web1\" }".to_string(),
            i => format!("s{i} = {{ on = \"web1\", needs.s{} = 1 }}", i - 1),
        })
        .collect();
    let cluster = cluster(&lines.join("\n"));
    let graph = Graph::new(&cluster).unwrap();
    assert_eq!(graph.waves().len(), 20_000);
    assert_eq!(graph.longest_chain(&cluster).len(), 20_000);
}

#[test]
fn the_hash_follows_the_content_and_not_the_paths() {
    let text = "[cluster]\nname = \"shop\"\n";
    let one = sources(text.into());
    let mut moved = one.clone();
    moved.cluster.path = "/etc/clusterd/cluster.toml".into();
    moved.folder = "/etc/clusterd/units".into();
    assert_eq!(one.hash(), moved.hash());
    let mut changed = one.clone();
    changed.units.get_mut("plain").unwrap().text.push('\n');
    assert_ne!(one.hash(), changed.hash());
    assert_eq!(one.hash().len(), 32);
}

#[test]
fn broken_units_that_nobody_uses_are_a_warning() {
    let mut sources = sources(
        "[cluster]\nname = \"x\"\n[nodes]\ng = { n = \"10.0.0.1\" }\n[services]\nplain = { on = \"n\" }\n"
            .into(),
    );
    for (name, text) in [("torn", "[run"), ("odd", "[run]\ncommand = [\"odd\"]\n")] {
        let source = Source { path: format!("units/{name}.toml"), text: text.into() };
        sources.units.insert(name.into(), source);
    }
    let warnings = parse(&sources).unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].starts_with("units/odd.toml:1:1: unit `odd` is broken, and no service uses it"),
        "{warnings:?}"
    );
}

#[test]
fn the_drawings() {
    let cluster = cluster(
        r#"db = { on = "db" }
           kv = { on = "db1" }
           web = { on = "web", needs.db = "any writable", needs.kv = { count = "any", wait = "2m", then = "start" } }"#,
    );
    let graph = Graph::new(&cluster).unwrap();
    assert_eq!(
        terminal(&cluster, &graph),
        "wave 1\n  db   db1 db2\n  kv   db1\n  │\n  ▼\nwave 2\n  web  web1 web2 web3\n\
         \u{20}     └─ needs any writable of db\n      └─ needs any of kv, for 2m at most, then without it\n"
    );
    let dot = dot(&cluster);
    assert!(dot.contains("\"web\" -> \"db\" [label = \"any writable\"];"), "{dot}");
    assert!(dot.contains("\"web\" -> \"kv\" [label = \"any\", style = dashed];"), "{dot}");
    let mermaid = mermaid(&cluster);
    assert!(mermaid.contains("s2 -->|any writable| s0\n    s2 -.->|any| s1\n"), "{mermaid}");
}
