//! The sample that ships: `cluster.toml` and `units/` load, and mean what the README says.

use clusterd::graph::Graph;
use clusterd::model::{Cluster, Probe, load};
use std::path::Path;

fn sample() -> Cluster {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster.toml");
    load(&file, None).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn fourteen_nodes_load_without_a_word() {
    let cluster = sample();
    assert_eq!(cluster.nodes.len(), 14);
    assert_eq!(cluster.services.len(), 8);
    assert_eq!(cluster.instances.len(), 16);
    assert_eq!(cluster.vips.len(), 1);
    assert!(cluster.warnings.is_empty(), "{:#?}", cluster.warnings);
}

/// Those that the sample does not use, too.
#[test]
fn each_unit_that_ships_loads_without_a_word() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("units");
    let names = std::fs::read_dir(&units).unwrap().map(|entry| entry.unwrap().path());
    let names: Vec<_> = names.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    let services: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(n, path)| {
            let name = path.file_stem().unwrap().to_str().unwrap();
            format!("s{n} = {{ on = \"a\", unit = \"{name}\" }}\n")
        })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cluster.toml");
    let head = "[cluster]\nname = \"all\"\n[nodes]\nall = { a = \"10.0.0.1\" }\n";
    let vip = "[vips]\nwww = { address = \"10.0.0.100/24\", on = \"a\", to = \"s0\", port = 80 }\n";
    std::fs::write(&file, format!("{head}{vip}[services]\n{}", services.concat())).unwrap();
    let cluster = load(&file, Some(&units)).unwrap_or_else(|e| panic!("{e}"));
    assert!(cluster.services.len() == names.len() && names.len() > 8);
    assert_eq!(cluster.warnings, [""; 0]);
}

#[test]
fn placeholders_are_filled_in_for_each_instance() {
    let cluster = sample();
    let unit = |name| cluster.instance(cluster.instance_named(name).unwrap()).unit.clone();
    let Probe::Ask(office) = &unit("office@office1").ready.local else { panic!("office has a question") };
    assert_eq!(office.address().unwrap().to_string(), "192.168.1.71:2002");
    let remote = unit("redis@redis2").ready.remote.clone().unwrap();
    assert_eq!(remote.address().unwrap().to_string(), "192.168.1.42:6379");
    assert!(unit("keepalived@lvs1").ready.remote.is_none());
    assert!(unit("activemq@mq1").exclusive);
}

#[test]
fn it_boots_in_four_waves() {
    let cluster = sample();
    let graph = Graph::new(&cluster).unwrap();
    let wave = |n: usize| {
        let mut names: Vec<&str> = graph.waves()[n]
            .iter()
            .map(|i| cluster.service(cluster.instance(*i).service).name.as_str())
            .collect();
        names.dedup();
        names.join(" ")
    };
    assert_eq!(graph.waves().len(), 4);
    assert_eq!(wave(0), "mysql redis tracker office");
    assert_eq!(wave(1), "storage activemq");
    assert_eq!(wave(2), "web");
    assert_eq!(wave(3), "keepalived");
    let chain: Vec<&str> =
        graph.longest_chain(&cluster).iter().map(|i| &*cluster.instance(*i).name).collect();
    assert_eq!(chain, ["mysql@mysql1", "activemq@mq1", "web@web1", "keepalived@lvs1"]);
}

/// The README's own offline commands do what it says, from where it says.
#[test]
fn the_readmes_commands_work() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let mut ran = 0;
    for line in readme.lines().filter(|l| l.starts_with("clusterctl ") && l.contains("--config")) {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let command = std::process::Command::new(env!("CARGO_BIN_EXE_clusterctl"))
            .args(&words)
            .current_dir(root)
            .output();
        let output = command.unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!output.stdout.is_empty(), "{line} says nothing");
        ran += 1;
    }
    assert_eq!(ran, 4, "check, plan, graph and simulate are in the README");
    for script in ["tests/all", "tests/install"] {
        assert!(root.join(script).exists());
    }
}
