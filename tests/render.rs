//! What is rendered for ten cluster files, as pinned texts; keepalived, nft and iptables take every one of them.
//!
//! `tests/render/NAME.toml` is a cluster file, `NAME.txt` what its nodes get. With `OVERWRITE=1` in the environment the
//! texts are written anew; their diff is then what is to be read.

use clusterd::director::render::{Known, Mac, Rendered, TABLE, render};
use clusterd::model::{Cluster, NodeIx, Source, Sources, parse};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/render")
}

/// The cluster files, in order.
fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    assert!(files.len() >= 10, "only {} cluster files", files.len());
    files
}

/// With the shipped units and those in `tests/render/units`.
fn cluster(file: &Path) -> Cluster {
    let mut sources = Sources::read(file, Some(&folder().join("units"))).unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("units");
    for entry in std::fs::read_dir(shipped).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let source = Source { path: name.clone(), text: std::fs::read_to_string(&path).unwrap() };
            sources.units.entry(name).or_insert(source);
        }
    }
    parse(&sources).unwrap_or_else(|errors| panic!("{errors}"))
}

fn nodes(cluster: &Cluster) -> impl Iterator<Item = NodeIx> {
    (0..cluster.nodes.len() as u32).map(NodeIx)
}

/// Every node's interface is `eth0`, and its MAC ends in its number.
fn known(cluster: &Cluster) -> Known {
    Known {
        interfaces: nodes(cluster).map(|n| (n, "eth0".to_owned())).collect(),
        macs: nodes(cluster).map(|n| (n, vec![Mac([0x52, 0x54, 0, 0, 0, n.0 as u8 + 1])])).collect(),
    }
}

fn rendered(cluster: &Cluster) -> Vec<Rendered> {
    let known = known(cluster);
    nodes(cluster).map(|n| render(cluster, n, &known)).filter(|r| !r.is_empty()).collect()
}

fn shown(all: &[Rendered]) -> String {
    let mut out = String::new();
    for one in all {
        assert_eq!(one.problems, [] as [&str; 0]);
        for file in &one.files {
            let _ = writeln!(out, "==> {}: {} {:o}\n{}", one.node, file.path.display(), file.mode, file.text);
        }
        if let Some(marks) = &one.marks {
            let _ = writeln!(out, "==> {}: nft\n{}", one.node, marks.nft);
            for (tool, text) in [("iptables", &marks.iptables), ("ip6tables", &marks.ip6tables)] {
                if let Some(text) = text {
                    let _ = writeln!(out, "==> {}: {tool}\n{text}", one.node);
                }
            }
            let _ = writeln!(out, "{}\n", marks.iptables_commands().join("\n"));
        }
        if let Some(real) = &one.real_server {
            let _ = writeln!(out, "==> {}: real server\n{}\n", one.node, real.commands().join("\n"));
        }
    }
    out
}

#[test]
fn rendered_as_pinned() {
    let overwrite = std::env::var_os("OVERWRITE").is_some();
    for file in files() {
        let text = shown(&rendered(&cluster(&file)));
        let pinned = file.with_extension("txt");
        if overwrite {
            std::fs::write(&pinned, &text).unwrap();
        } else {
            let expected = std::fs::read_to_string(&pinned).unwrap_or_default();
            snapbox::assert_data_eq!(text, snapbox::Data::text(expected).raw());
        }
    }
}

#[test]
fn keepalived_takes_every_file() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("keepalived.conf");
    let mut tried = 0;
    for file in files() {
        let cluster = cluster(&file);
        for one in rendered(&cluster) {
            for conf in &one.files {
                std::fs::write(&path, &conf.text).unwrap();
                // The interfaces that are named exist there; without them keepalived complains of nothing else.
                let script = "ip link add eth0 type veth peer name eth1 && ip link add ens3 type veth peer name bond0.7 && \
                              exec keepalived --config-test --use-file \"$0\"";
                let out = in_namespace(script, &path.display().to_string(), "");
                let said = format!("{}{}", text(&out.stdout), text(&out.stderr));
                assert!(
                    out.status.success() && said.trim().is_empty(),
                    "{file:?} {}: {said}\n{}",
                    one.node,
                    conf.text
                );
                tried += 1;
            }
        }
    }
    assert!(tried >= 19, "only {tried} files");
}

/// Loaded twice, listed, and the same as was rendered: so `--diff` can compare.
#[test]
fn nft_and_iptables_take_every_rule_and_list_it_as_written() {
    let mut tried = 0;
    for file in files() {
        let cluster = cluster(&file);
        for one in rendered(&cluster) {
            let Some(marks) = &one.marks else { continue };
            let script = format!(
                "cat > \"$0\" && nft --check -f \"$0\" && nft -f \"$0\" && nft -f \"$0\" && nft -s list table inet {TABLE}"
            );
            let work = tempfile::NamedTempFile::new().unwrap();
            let out = in_namespace(&script, &work.path().display().to_string(), &marks.nft);
            assert!(out.status.success(), "{file:?}: {}", text(&out.stderr));
            assert_eq!(text(&out.stdout), marks.nft_listed(), "{file:?}");
            for (tool, rules) in [("iptables", &marks.iptables), ("ip6tables", &marks.ip6tables)] {
                let Some(rules) = rules else { continue };
                let call: Vec<String> = marks
                    .iptables_commands()
                    .into_iter()
                    .filter(|c| c.starts_with(&format!("{tool} ")))
                    .collect();
                let script = format!(
                    "cat > \"$0\" && {tool}-restore --noflush \"$0\" && {tool}-restore --noflush \"$0\" && \
                     ({0}) 2>/dev/null && ({0}) && {tool} -t mangle -S",
                    call[0]
                );
                let out = in_namespace(&script, &work.path().display().to_string(), rules);
                assert!(out.status.success(), "{file:?}: {}\n{rules}", text(&out.stderr));
                let listed = text(&out.stdout);
                let of = |text: &str| {
                    let rules = text.lines().filter(|l| l.starts_with("-A CLUSTERD"));
                    rules.map(str::to_owned).collect::<Vec<_>>()
                };
                assert_eq!(of(&listed), of(rules), "{file:?}");
                assert_eq!(listed.matches("-A PREROUTING").count(), 1, "{listed}");
            }
            tried += 1;
        }
    }
    assert!(tried >= 8, "only {tried} nodes with marks");
}

/// What is not known is said where it stands and is no reason to say nothing; what it would break is not hidden.
#[test]
fn what_is_not_known_is_a_problem() {
    let cluster = cluster(&folder().join("07-three-directors.toml"));
    let node = cluster.node_named("lvs1").unwrap();
    let mut known = Known::default();
    known.macs.insert(cluster.node_named("lvs2").unwrap(), vec!["52:54:00:00:00:02".parse().unwrap()]);
    let one = render(&cluster, node, &known);
    assert_eq!(one.problems.len(), 3, "{:?}", one.problems);
    assert!(
        one.problems[0].starts_with("the interface of lvs1 for `one` is not known"),
        "{:?}",
        one.problems
    );
    assert!(one.problems[2].starts_with("the MAC of lvs3 is not known"), "{:?}", one.problems);
    assert!(
        one.files[0].text.contains("    # interface: the one with 192.168.1.11"),
        "{}",
        one.files[0].text
    );
    let marks = one.marks.unwrap();
    assert!(marks.nft.starts_with("# The MAC of lvs3 is not known"), "{}", marks.nft);
    assert!(marks.nft.contains("ether saddr != 52:54:00:00:00:02 counter"), "{}", marks.nft);
}

/// Runs a script in a network namespace of its own; `$0` is `argument`.
fn in_namespace(script: &str, argument: &str, input: &str) -> Output {
    let mut child = Command::new("unshare")
        .args(["--net", "sh", "-c", script, argument])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `--diff` on a machine that has nothing of it, and on one that has all of it.
#[test]
fn a_machine_is_compared_with_what_it_should_have() {
    let work = tempfile::tempdir().unwrap();
    let conf = work.path().join("keepalived.conf");
    let unit = |name: &str, text: String| {
        std::fs::create_dir_all(work.path().join("units")).unwrap();
        std::fs::write(work.path().join(format!("units/{name}.toml")), text).unwrap();
    };
    let shipped = |name: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("units/{name}.toml")))
            .unwrap()
    };
    unit("nginx", shipped("nginx"));
    unit(
        "keepalived",
        shipped("keepalived").replace("/etc/keepalived/keepalived.conf", &conf.display().to_string()),
    );
    let file = work.path().join("cluster.toml");
    std::fs::copy(folder().join("03-directors-that-serve.toml"), &file).unwrap();
    let cluster = parse(&Sources::read(&file, None).unwrap()).unwrap();
    let one = render(&cluster, cluster.node_named("n1").unwrap(), &known(&cluster));
    std::fs::write(work.path().join("wanted.conf"), &one.files[0].text).unwrap();
    std::fs::write(work.path().join("marks.nft"), &one.marks.as_ref().unwrap().nft).unwrap();
    std::fs::write(work.path().join("real.sh"), one.real_server.unwrap().commands().join("\n")).unwrap();

    let diff = format!(
        "{} render --config \"$0/cluster.toml\" --mac n2=52:54:00:00:00:02 --diff",
        env!("CARGO_BIN_EXE_clusterctl")
    );
    let script = format!(
        "set -e; ip link set lo up; ip link add eth0 type veth peer name other; ip addr add 192.168.1.11/24 dev eth0; \
         ip link set eth0 up; ip link set other up; {diff} && exit 9; \
         cp \"$0/wanted.conf\" \"$0/keepalived.conf\"; nft -f \"$0/marks.nft\"; sh -e \"$0/real.sh\" >&2; \
         echo ----; {diff}; echo ----; sed -i 's/priority 150/priority 200/' \"$0/keepalived.conf\"; \
         nft flush table inet {TABLE}; {diff} || echo $?"
    );
    let out = in_namespace(&script, &work.path().display().to_string(), "");
    let said = text(&out.stdout);
    assert!(out.status.success(), "{said}{}", text(&out.stderr));
    let [nothing, all, some] = &said.split("----\n").collect::<Vec<_>>()[..] else { panic!("{said}") };
    assert!(
        nothing.contains("+vrrp_instance www {") && nothing.contains("+192.168.1.100 on lo"),
        "{nothing}"
    );
    assert_eq!(*all, "no difference\n");
    assert!(
        some.contains("-    priority 200\n+    priority 150\n") && some.contains("+\t\tip daddr"),
        "{some}"
    );
    assert!(!some.contains("real server") && some.ends_with("3\n"), "{some}");
}
