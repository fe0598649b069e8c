use super::bars::Signs;
use super::causes::Causes;
use super::figures::Source;
use super::*;
use crate::ctl::fixture::look;
use crate::engine::view::StateName;
use crate::model::parse;
use crate::sim::scenario::Fault;
use clap::Parser;
use std::io::Write as _;

/// The arguments alone, as typed.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: SimulateArgs,
}

fn args(typed: &[&str]) -> SimulateArgs {
    Line::try_parse_from([&["simulate"], typed].concat()).unwrap_or_else(|e| panic!("{e}")).args
}

fn global(typed: &[&str]) -> Global {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        global: Global,
    }
    Line::try_parse_from([&["clusterctl"], typed].concat()).unwrap_or_else(|e| panic!("{e}")).global
}

fn sample() -> Arc<Cluster> {
    Arc::new(parse(&crate::sim::sample::sample()).unwrap())
}

fn ran(typed: &[&str]) -> Ran {
    let (cluster, args) = (sample(), args(typed));
    let what_if = WhatIf::new(&cluster, &args).unwrap();
    let figures = Figures::new(&cluster, &args.recorded, &what_if.slow).unwrap();
    simulate(what_if.scenario(&cluster, &figures, args.seed), args.seed).unwrap()
}

fn refused(typed: &[&str]) -> (String, String) {
    let misuse = WhatIf::new(&sample(), &args(typed)).unwrap_err();
    (misuse.text, misuse.hint)
}

fn at(ran: &Ran, instance: &str) -> Option<Duration> {
    ran.timeline.lane(ran.timeline.cluster().instance_named(instance).unwrap()).up_since()
}

#[test]
fn the_sample_boots_in_the_order_of_its_needs() {
    let ran = ran(&[]);
    assert!(ran.timeline.stayed_down().is_empty());
    let chain = ["mysql@mysql1", "activemq@mq1", "web@web1", "keepalived@lvs1"].map(|i| at(&ran, i).unwrap());
    assert!(chain.is_sorted(), "{chain:?}");
    let path = ran.timeline.critical_path();
    let starts: Vec<&str> = path
        .iter()
        .filter_map(|leg| match leg.what {
            sim::What::Starts { instance } => Some(name(ran.timeline.cluster(), instance)),
            _ => None,
        })
        .map(|i| i.split('@').next().unwrap())
        .collect();
    assert_eq!(starts, ["mysql", "activemq", "web", "keepalived"]);
}

#[test]
fn without_its_databases_the_site_stays_down_and_the_reason_is_told() {
    let ran = ran(&["--without", "mysql"]);
    let cluster = ran.timeline.cluster();
    let down: Vec<&str> = ran.timeline.stayed_down().iter().map(|ix| name(cluster, *ix)).collect();
    assert!(down.contains(&"web@web3") && !down.contains(&"redis@redis1"), "{down:?}");
    let causes = Causes::new(&ran);
    let mut roots: Vec<&str> = causes.of("keepalived@lvs2").map(|c| c.root.at.as_str()).collect();
    roots.sort_unstable();
    assert_eq!(roots, ["mysql1", "mysql2"]);
    assert!(causes.all.iter().all(|c| c.root.text == "the machine has no power"));
}

#[test]
fn a_cut_is_told_from_both_ends() {
    let ran = ran(&["--cut", "web2/redis"]);
    let down = ran.timeline.stayed_down();
    assert_eq!(down, [ran.timeline.cluster().instance_named("web@web2").unwrap()]);
    let causes = Causes::new(&ran);
    let ways: Vec<&str> = causes.all.iter().map(|c| c.root.at.as_str()).collect();
    assert_eq!(ways, ["web2 -> redis1", "web2 -> redis2"]);
}

#[test]
fn what_cannot_be_started_is_its_own_cause() {
    let ran = ran(&["--without", "office@office1"]);
    let causes = Causes::new(&ran);
    let [cause] = &causes.all[..] else { panic!("{:?}", causes.all) };
    assert_eq!(cause.root.at, "office@office1");
    // The site waits two minutes for its previews, then goes without.
    let web = at(&ran, "web@web1").unwrap();
    assert!(web > Duration::from_secs(140) && web < Duration::from_secs(150), "{web:?}");
}

#[test]
fn late_and_slow_move_what_depends_on_them() {
    let ran = ran(&["--late", "redis=5m", "--slow", "redis=1m", "--slow", "storage=2s"]);
    let web = at(&ran, "web@web1").unwrap();
    assert!(web > Duration::from_secs(380) && web < Duration::from_secs(385), "{web:?}");
    assert!(at(&ran, "storage@fdfs1").unwrap() > Duration::from_secs(22));
}

#[test]
fn after_a_power_cut_all_boot_again() {
    let ran = ran(&["--power-cut", "30s", "--without", "lvs2"]);
    let cuts = ran.scenario.faults.iter().filter(|t| matches!(t.fault, Fault::PowerCut { .. })).count();
    assert_eq!(cuts, 13);
    assert!(at(&ran, "mysql@mysql1").unwrap() > Duration::from_secs(60));
    let spans = &ran.timeline.lane(ran.timeline.cluster().instance_named("redis@redis1").unwrap()).spans;
    assert_eq!(spans.iter().filter(|s| s.state == StateName::Ready).count(), 2);
}

#[test]
fn the_same_seed_is_the_same_boot() {
    let told = |seed: &str| {
        let ran = ran(&["--seed", seed]);
        ran.timeline.came_up()
    };
    assert_eq!(told("7"), told("7"));
    assert_ne!(told("7"), told("8"));
}

#[test]
fn faults_by_chance_leave_alone_what_was_asked_for() {
    let cluster = sample();
    let args = args(&["--seed", "5", "--faults", "300", "--without", "mysql1", "--cut", "web2/redis1"]);
    let what_if = WhatIf::new(&cluster, &args).unwrap();
    let figures = Figures::new(&cluster, &[], &what_if.slow).unwrap();
    let faults = what_if.scenario(&cluster, &figures, Some(5)).faults;
    let mysql1 = cluster.node_named("mysql1").unwrap();
    assert!(faults.len() > 300);
    assert!(!faults.iter().any(|t| t.fault == Fault::PowerOn { node: mysql1 }));
    let (web2, redis1) = (cluster.node_named("web2").unwrap(), cluster.node_named("redis1").unwrap());
    for (from, to) in [(web2, redis1), (redis1, web2)] {
        assert!(!faults.iter().any(|t| t.fault == Fault::Joined { from, to }));
    }
}

#[test]
fn the_command_that_shows_one_boot_of_many_asks_for_the_same() {
    let typed = [
        "--without",
        "mysql1",
        "--late",
        "web=90s",
        "--slow",
        "redis@redis1=3m",
        "--cut",
        "web2/redis1",
        "--power-cut",
        "30s",
        "--faults",
        "4",
        "--recorded",
        "a",
        "--boot",
        "1m",
        "--seed",
        "9",
    ];
    let again = args(&typed).with_seed(9, &global(&[]));
    assert_eq!(again, format!("clusterctl simulate {}", typed.join(" ")));
    assert_eq!(
        args(&["--runs", "5"]).with_seed(3, &global(&["--config", "a.toml"])),
        "clusterctl simulate --config a.toml --seed 3"
    );
}

#[test]
fn what_faults_by_chance_took_down_comes_back() {
    for seed in 1..=30 {
        let ran = ran(&["--seed", &seed.to_string(), "--faults", "10"]);
        let cluster = ran.timeline.cluster();
        let dark: Vec<&str> = (0..cluster.nodes.len() as u32)
            .map(NodeIx)
            .filter(|node| !ran.timeline.is_alive(*node))
            .map(|node| node_name(cluster, node))
            .collect();
        assert_eq!(dark, [""; 0], "seed {seed}");
    }
}

#[test]
fn wrong_names_and_wishes_that_exclude_each_other_are_refused() {
    let said = |typed: &[&str]| {
        let (text, hint) = refused(typed);
        format!("{text}; {hint}")
    };
    assert_eq!(
        said(&["--without", "mysql9"]),
        "no machine and no group is called 'mysql9'; did you mean 'mysql1'?"
    );
    assert_eq!(
        said(&["--late", "redis@redis1=5m"]),
        "'redis@redis1' is an instance, and this is about machines; name the machine: redis1"
    );
    assert_eq!(
        said(&["--slow", "mysq=5m"]),
        "no instance, service, machine or group with instances is called 'mysq'; did you mean 'mysql'?"
    );
    let mut sources = crate::sim::sample::sample();
    let unit = &mut sources.units.get_mut("keepalived").unwrap().text;
    *unit =
        unit.replace(r#"{ kind = "vip", keepalived = "/run/keepalived.pid" }"#, r#"{ kind = "running" }"#);
    let misuse = WhatIf::new(&parse(&sources).unwrap(), &args(&["--slow", "keepalived=1m"])).unwrap_err();
    assert_eq!(
        format!("{}; {}", misuse.text, misuse.hint),
        "keepalived counts as ready once it has run for a while: it cannot be slow; \
         give its unit a probe, or leave it out of --slow"
    );
    let both = "what never comes is neither late nor slow: leave one of the two out";
    assert_eq!(
        said(&["--without", "mysql1", "--late", "mysql1=1m"]),
        format!("mysql1 is under --late and under --without; {both}")
    );
    assert_eq!(
        said(&["--without", "mysql", "--slow", "mysql@mysql2=1m"]),
        format!("mysql@mysql2 is under --slow and under --without; {both}")
    );
    let wide = args(&["--without", "mysql1", "--slow", "mysql=1m", "--late", "mysql=1m"]);
    assert_eq!(WhatIf::new(&sample(), &wide).unwrap().slow.len(), 1);
    let slow = ["--slow", "mysql=1m", "--slow", "mysql1=2m"];
    assert_eq!(said(&slow), "--slow gives mysql@mysql1 two times that differ; name it once");
    assert!(said(&["--cut", "web1/web1"]).starts_with("--cut web1/web1 names one machine"));
    assert!(said(&["--faults", "3"]).ends_with("add --seed 1 for one boot, or --runs 100 for many"));
    let all: Vec<&str> = ["lvs", "web", "mq", "redis", "mysql", "fdfs", "office"]
        .iter()
        .flat_map(|group| ["--without", group])
        .collect();
    assert!(said(&all).starts_with("without all of its machines"));
}

#[test]
fn a_figure_comes_from_the_first_source_that_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut old = std::fs::File::create(folder.path().join("events.1.jsonl")).unwrap();
    let mut new = std::fs::File::create(folder.path().join("events.jsonl")).unwrap();
    let event = |instance: &str, what: &str, ms: u64| {
        format!(
            "{{\"seq\":1,\"clock_ms\":0,\"at\":0,\"instance\":\"{instance}\",\"what\":\"{what}\",\"text\":\"\",\
             \"data\":{{\"after_ms\":{ms}}}}}"
        )
    };
    writeln!(old, "{}", event("mysql@mysql1", "ready", 9000)).unwrap();
    writeln!(old, "{}\n{}", event("mysql@mysql1", "ready", 7000), event("mysql@mysql1", "started", 1))
        .unwrap();
    write!(new, "{}\n{{\"seq\":", event("mysql@mysql2", "ready", 8000)).unwrap();
    let (cluster, slow) = (sample(), args(&["--slow", "redis1=40s"]));
    let what_if = WhatIf::new(&cluster, &slow).unwrap();
    let figures = Figures::new(&cluster, &[folder.path().to_owned()], &what_if.slow).unwrap();
    let of = |instance: &str| {
        let figure = figures.of(cluster.instance_named(instance).unwrap());
        (figure.time.as_millis(), figure.from)
    };
    assert_eq!(of("mysql@mysql1"), (8000, Source::Recorded(3)));
    assert_eq!(of("redis@redis1"), (40_000, Source::Asked));
    assert_eq!(of("redis@redis2"), (100, Source::Unit));
    assert_eq!(of("keepalived@lvs1"), (1000, Source::Unit));
    let told = figures.told(&cluster);
    assert!(told.contains(&"redis@redis1 40.0s (by --slow)".to_owned()), "{told:?}");
    assert!(told.contains(&"mysql 8.0s (median of 3 recorded starts)".to_owned()), "{told:?}");
}

#[test]
fn a_record_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.jsonl");
    std::fs::write(&file, "what is this\n").unwrap();
    let error = Figures::new(&sample(), &[file], &Default::default()).unwrap_err();
    assert!(error.to_string().ends_with("holds no start of this cluster's services"), "{error}");
    let error = Figures::new(&sample(), &["/nonexistent".into()], &Default::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot read /nonexistent");
}

#[test]
fn bars_fit_the_terminal_and_say_the_same_without_colour_and_blocks() {
    let ran = ran(&["--late", "web3=10s"]);
    for columns in [60, 100, 300] {
        let drawn = bars::bars(&ran.timeline, columns, Signs::Ascii);
        let plain = anstream::adapter::strip_str(&drawn).to_string();
        let rows: Vec<&str> = plain.lines().take_while(|l| !l.is_empty()).collect();
        assert_eq!(rows.len(), 17);
        assert!(rows.iter().all(|r| r.len() <= columns), "{plain}");
        let web3 = rows.iter().find(|r| r.contains("web3")).unwrap();
        let web2 = rows.iter().find(|r| r.contains("web2")).unwrap();
        let begin = |row: &str| row.find(['.', '-', '#']).unwrap();
        assert!(begin(web3) > begin(web2), "{plain}");
    }
}

#[test]
fn a_large_service_is_told_by_its_ends_and_by_what_is_down() {
    let units = crate::sim::sample::sample().units;
    let nodes: Vec<String> = (1..=40).map(|n| format!("n{n} = \"10.0.0.{n}\"")).collect();
    let mut sources = crate::sim::sample::sample();
    sources.cluster.text = format!(
        "[cluster]\nname = \"wide\"\n[nodes]\nn = {{ {} }}\n[services]\nredis = {{ on = \"n\" }}\n",
        nodes.join(", ")
    );
    sources.units = units.into_iter().filter(|(name, _)| name == "redis").collect();
    let cluster = Arc::new(parse(&sources).unwrap());
    let args = args(&["--without", "n7", "--late", "n9=1m"]);
    let what_if = WhatIf::new(&cluster, &args).unwrap();
    let figures = Figures::new(&cluster, &[], &what_if.slow).unwrap();
    let ran = simulate(what_if.scenario(&cluster, &figures, None), None).unwrap();
    let drawn = bars::bars(&ran.timeline, 100, Signs::Ascii);
    let shown: Vec<&str> = ["n7 ", "n9 ", "and 37 more"].into_iter().filter(|w| drawn.contains(w)).collect();
    assert_eq!(shown, ["n7 ", "n9 ", "and 37 more"], "{drawn}");
}

#[test]
fn the_page_ends_with_what_stayed_down_and_why() {
    let ran = ran(&["--without", "mysql"]);
    let figures = Figures::new(ran.timeline.cluster(), &[], &Default::default()).unwrap();
    let causes = Causes::new(&ran);
    let page = page::page(&ran, &figures, &causes, &look(100), Signs::Blocks);
    let plain = anstream::adapter::strip_str(&page).to_string();
    let (_, end) = plain.split_once("Stayed down: 9 of 16\n").unwrap();
    assert!(end.contains("  mysql@mysql1: the machine has no power\n"), "{end}");
    assert!(end.contains("  activemq@mq2: waiting: waits for mysql (any writable, 0 of 1)\n"), "{end}");
    assert!(end.contains("Root causes\n  mysql1: the machine has no power; holds up 7: "), "{end}");
}

#[test]
fn the_drawing_is_well_formed_whatever_the_names_and_reasons() {
    for typed in [&[][..], &["--without", "office@office1"], &["--power-cut", "23s", "--cut", "web1/redis"]] {
        let ran = ran(typed);
        let drawing = svg::draw(&ran.timeline);
        well_formed(&drawing);
        for instance in &ran.timeline.cluster().instances {
            assert!(drawing.contains(&format!(">{}</text>", instance.name)));
        }
        assert_eq!(drawing.matches("<polyline class=\"path\"").count(), 2, "the path, and its legend");
    }
    assert_eq!(svg::escaped("a<b> & \"c\"\n\u{1}\u{1b}[0m"), "a&lt;b&gt; &amp; &quot;c&quot; [0m");
}

/// Tags that close in order, quoted attributes, no stray `&` or `<`.
fn well_formed(xml: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = xml;
    while let Some(start) = rest.find('<') {
        text_is_sound(&rest[..start]);
        let end = start + rest[start..].find('>').expect("a tag that ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        let (name, attributes) = tag.trim_end_matches('/').split_once(' ').unwrap_or((tag, ""));
        let mut parts = attributes.split('"');
        while let Some(key) = parts.next().filter(|k| !k.trim().is_empty()) {
            assert!(key.trim().ends_with('='), "{tag}");
            text_is_sound(parts.next().unwrap_or_else(|| panic!("an open quote: {tag}")));
        }
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
    assert_eq!(rest.trim(), "");
}

fn text_is_sound(text: &str) {
    for (at, _) in text.match_indices('&') {
        let known = ["&amp;", "&lt;", "&gt;", "&quot;"];
        assert!(known.iter().any(|e| text[at..].starts_with(e)), "{text}");
    }
}
