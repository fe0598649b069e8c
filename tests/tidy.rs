//! The house rules that the compiler does not know: which layer may import which, where `unsafe` may stand, how
//! large a file may grow.

#[path = "tidy/advisories.rs"]
mod advisories;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What each layer may import, besides itself. ARCHITECTURE.md tells why.
const LAYERS: &[(&str, &[&str])] = &[
    ("facts", &[]),
    ("clock", &["facts"]),
    ("crash", &[]),
    ("model", &["facts", "graph"]), // it asks the graph whether the file can boot at all
    ("graph", &["model"]),
    ("engine", &["facts", "model", "graph"]),
    ("probe", &["facts", "clock", "crash", "model", "process", "systemd"]), // the kernel's door
    ("process", &["facts", "clock", "crash", "model"]),
    ("address", &["process"]),
    ("director", &["facts", "address", "model", "process"]),
    ("broker", &["director"]), // what a finding is
    ("store", &["crash"]),
    ("trail", &["store"]),
    ("logs", &["crash", "model", "store"]),
    ("leftover", &["facts", "address", "crash", "model", "process"]),
    ("systemd", &["facts", "process"]),
    ("journal", &["facts", "model", "engine", "process", "store", "systemd"]),
    ("standin", &["clock", "probe"]), // the protocols' bytes
    ("rig", &[]),
    ("pki", &["facts", "clock", "crash", "store"]),
    ("generation", &["model", "graph", "pki"]),
    ("doctor", &["model", "leftover", "process"]),
    ("api", &["facts", "crash", "engine", "director", "pki", "trail", "generation", "doctor"]), // the engine's views are what goes over the wire
    (
        "agent",
        &[
            "facts",
            "clock",
            "crash",
            "model",
            "graph",
            "engine",
            "probe",
            "process",
            "address",
            "director",
            "leftover",
            "store",
            "systemd",
            "journal",
            "logs",
            "pki",
            "trail",
            "generation",
            "doctor",
            "api",
        ],
    ),
    (
        "hostile",
        &[
            "agent", "api", "broker", "director", "engine", "journal", "model", "pki", "probe", "store",
            "trail",
        ],
    ),
    ("sim", &["facts", "model", "graph", "engine", "process", "leftover", "store", "journal"]),
    (
        "ctl",
        &[
            "sim",
            "facts",
            "clock",
            "model",
            "graph",
            "engine",
            "director",
            "broker",
            "pki",
            "trail",
            "generation",
            "doctor",
            "api",
            "process",
            "probe",
            "standin",
            "rig",
        ],
    ),
];

/// Lines of code that a file may have, its tests not counted. Two duties usually show before that.
const LONGEST_FILE: usize = 700;

fn sources() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![src.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let inside = path.strip_prefix(&src).unwrap();
                let layer = inside.components().next().unwrap().as_os_str().to_string_lossy();
                let layer = layer.trim_end_matches(".rs").to_owned();
                let text = fs::read_to_string(&path).unwrap();
                found.push((layer, path, text));
            }
        }
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}

/// The code of a file without its tests and its comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    text[..end].lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn layers_import_only_what_they_may() {
    let allowed: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (layer, path, text) in sources() {
        if matches!(layer.as_str(), "lib" | "bin") {
            continue;
        }
        let may = allowed.get(layer.as_str()).unwrap_or_else(|| panic!("layer {layer} is not in the table"));
        for (number, line) in code(&text) {
            for (at, _) in line.match_indices("crate::") {
                let name: String =
                    line[at + 7..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let is_layer = allowed.contains_key(name.as_str());
                if is_layer && name != layer && !may.contains(&name.as_str()) {
                    wrong.push(format!("{}:{}: {layer} imports {name}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_engine_sees_no_clock_no_files_and_no_chance() {
    let banned = [
        "std::time::Instant",
        "SystemTime",
        "std::fs",
        "std::net::Tcp",
        "std::process",
        "tokio",
        "async fn",
        "rand",
    ];
    for (layer, path, text) in sources() {
        if layer != "engine" {
            continue;
        }
        for (number, line) in code(&text) {
            let found = banned.iter().find(|word| line.contains(**word));
            assert!(found.is_none(), "{}:{}: {line}", path.display(), number + 1);
        }
    }
}

#[test]
fn unsafe_stands_at_the_kernels_door_only() {
    for (_, path, text) in sources() {
        if path.ends_with("process/kernel.rs") || path.ends_with("lib.rs") {
            continue;
        }
        for (number, line) in code(&text) {
            assert!(!line.contains("unsafe "), "{}:{}: {line}", path.display(), number + 1);
        }
    }
}

#[test]
fn nothing_is_left_to_be_done() {
    for (_, path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            let marks = ["todo!(", "unimplemented!(", "TODO", "FIXME", "XXX", "dbg!("];
            let found = marks.iter().find(|mark| line.contains(**mark));
            assert!(found.is_none(), "{}:{}: {line}", path.display(), number + 1);
        }
    }
}

/// What `clusterctl pki` writes goes through one door, each step of which `tests/pki_kills.rs` dies at.
#[test]
fn keys_are_written_by_one_file_only() {
    let words = [
        "fs::write",
        "fs::rename",
        "fs::remove",
        "fs::create_dir",
        "OpenOptions",
        "File::create",
        "DirBuilder",
    ];
    for (_, path, text) in sources() {
        let shown = path.display().to_string();
        if !(shown.contains("src/pki/") || shown.contains("src/ctl/pki")) || shown.ends_with("pki/files.rs") {
            continue;
        }
        for (number, line) in code(&text) {
            let found = words.iter().find(|word| line.contains(**word));
            assert!(found.is_none(), "{shown}:{}: {line}", number + 1);
        }
    }
}

#[test]
fn no_file_grows_too_long() {
    for (_, path, text) in sources() {
        let lines = code(&text).count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines of code", path.display());
    }
}

/// The dependencies as `deny.toml` wants them, also where there is no `cargo deny`: licences, sources, and no crate twice
/// but for those that have their reason there.
#[test]
fn dependencies_are_as_deny_toml_wants_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let deny: toml::Table = fs::read_to_string(root.join("deny.toml")).unwrap().parse().unwrap();
    let list = |part: &str, key: &str| deny[part][key].as_array().unwrap().clone();
    let allowed: Vec<String> =
        list("licenses", "allow").iter().map(|l| l.as_str().unwrap().to_owned()).collect();
    let skipped: Vec<String> =
        list("bans", "skip").iter().map(|s| s["crate"].as_str().unwrap().to_owned()).collect();
    let told = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    let used: Vec<&str> =
        metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|n| n["id"].as_str().unwrap()).collect();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        if !used.contains(&package["id"].as_str().unwrap()) {
            continue;
        }
        let (name, version) = (package["name"].as_str().unwrap(), package["version"].as_str().unwrap());
        versions.entry(name).or_default().push(version);
        // One of several is enough, or all of them are needed: SPDX, as far as crates use it.
        let licence = package["license"].as_str().unwrap_or("none").replace('/', " OR ");
        let all = |one: &str| {
            one.split(" AND ").all(|l| allowed.iter().any(|a| a == l.trim_matches(['(', ')', ' '])))
        };
        let fine = match licence.split_once(") AND ").or_else(|| licence.split_once(" AND (")) {
            Some((a, b)) => a.split(" OR ").any(all) && b.split(" OR ").any(all),
            None => licence.split(" OR ").any(all),
        };
        if !fine {
            wrong.push(format!("{name} {version} has the licence {licence}"));
        }
        let from = package["source"].as_str();
        if name != "clusterd" && from != Some("registry+https://github.com/rust-lang/crates.io-index") {
            wrong.push(format!("{name} {version} comes from {from:?}"));
        }
    }
    for (name, mut versions) in versions {
        versions.retain(|v| !skipped.iter().any(|s| v_is(s, name, v)));
        if versions.len() > 1 {
            wrong.push(format!("{name} is there in versions {}", versions.join(", ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether `base64@0.22` is about version 0.22.1 of it.
fn v_is(skip: &str, name: &str, version: &str) -> bool {
    skip.split_once('@')
        .is_some_and(|(n, v)| n == name && (version == v || version.starts_with(&format!("{v}."))))
}
