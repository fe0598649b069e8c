//! Known vulnerabilities of what is linked in, looked up in a copy of RustSec's database that `advisories.toml` was made of.
//!
//! The copy has what is known of the crates of Cargo.lock on its day, and no more: it says which crates were looked up, so
//! that a new one is not taken for a sound one. With a checkout of <https://github.com/RustSec/advisory-db> it is made anew:
//! `ADVISORIES=/path/to/it cargo test --test tidy -- --ignored take_advisories`.

use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What hits us and is lived with, each with its reason.
const ACCEPTED: &[(&str, &str)] = &[];

/// What was known of our crates on some day.
#[derive(Serialize, Deserialize)]
struct Copy {
    /// The day and the commit of the database.
    date: String,
    commit: String,
    /// The crates that were looked up.
    crates: BTreeSet<String>,
    advisory: Vec<Advisory>,
}

/// One of its entries, as far as it decides; its words are where the id leads.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Advisory {
    id: String,
    package: String,
    /// `unmaintained`, `unsound`, `notice`; a vulnerability otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    informational: Option<String>,
    patched: Vec<String>,
    unaffected: Vec<String>,
}

impl Advisory {
    fn is_about(&self, name: &str, version: &Version) -> bool {
        let fine = |rule: &String| VersionReq::parse(rule).unwrap().matches(version);
        self.package == name && !self.patched.iter().chain(&self.unaffected).any(fine)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn copy_file() -> PathBuf {
    root().join("tests/advisories.toml")
}

/// Each crate of Cargo.lock but our own.
fn locked() -> Vec<(String, Version)> {
    let lock: toml::Table = fs::read_to_string(root().join("Cargo.lock")).unwrap().parse().unwrap();
    let packages = lock["package"].as_array().unwrap().iter().filter(|p| p.get("source").is_some());
    let text = |p: &toml::Value, key: &str| p[key].as_str().unwrap().to_owned();
    packages.map(|p| (text(p, "name"), text(p, "version").parse().unwrap())).collect()
}

#[test]
fn no_crate_has_a_known_vulnerability() {
    let copy: Copy = toml::from_str(&fs::read_to_string(copy_file()).unwrap()).unwrap();
    let locked = locked();
    let new: BTreeSet<&String> =
        locked.iter().map(|(name, _)| name).filter(|n| !copy.crates.contains(*n)).collect();
    assert!(new.is_empty(), "not looked up for advisories yet (tests/tidy/advisories.rs says how): {new:?}");
    let hits: Vec<String> = (locked.iter())
        .flat_map(|(name, version)| {
            copy.advisory.iter().filter(|a| a.is_about(name, version)).map(move |a| (a, version))
        })
        .filter(|(a, _)| !ACCEPTED.iter().any(|(id, _)| *id == a.id))
        .map(|(a, version)| format!("{} {version}: https://rustsec.org/advisories/{}", a.package, a.id))
        .collect();
    assert!(hits.is_empty(), "{hits:#?}");
    println!("{} crates, {} advisories of {}", locked.len(), copy.advisory.len(), copy.date);
}

/// The rule above finds one: the first version of each crate that ever had a patch is hit.
#[test]
fn an_old_version_is_found() {
    let copy: Copy = toml::from_str(&fs::read_to_string(copy_file()).unwrap()).unwrap();
    let rustls = |version: &str| {
        let version = version.parse().unwrap();
        copy.advisory.iter().filter(|a| a.is_about("rustls", &version)).count()
    };
    assert!(rustls("0.23.4") >= 1 && rustls("0.23.18") == 0);
}

#[test]
#[ignore = "takes a checkout of the database, in ADVISORIES"]
fn take_advisories() {
    let from = PathBuf::from(std::env::var("ADVISORIES").expect("ADVISORIES=/path/to/advisory-db"));
    let git = |args: &[&str]| {
        let told = Command::new("git").arg("-C").arg(&from).args(args).output().unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        String::from_utf8(told.stdout).unwrap().trim().to_owned()
    };
    let crates: BTreeSet<String> = locked().into_iter().map(|(name, _)| name).collect();
    let mut advisory = Vec::new();
    for path in git(&["ls-tree", "-r", "--name-only", "HEAD", "crates"]).lines() {
        if path.split('/').nth(1).is_some_and(|name| crates.contains(name)) {
            advisory.extend(read(&git(&["show", &format!("HEAD:{path}")])));
        }
    }
    advisory.sort_by(|a: &Advisory, b| (&a.package, &a.id).cmp(&(&b.package, &b.id)));
    let copy = Copy {
        date: git(&["log", "-1", "--format=%cs"]),
        commit: git(&["rev-parse", "HEAD"]),
        crates,
        advisory,
    };
    let head = "# Made by tests/tidy/advisories.rs: which versions RustSec's database names.\n";
    fs::write(copy_file(), format!("{head}{}", toml::to_string(&copy).unwrap())).unwrap();
}

/// A file of the database: its facts as TOML, then prose. `None` where it was taken back.
fn read(text: &str) -> Option<Advisory> {
    let (_, rest) = text.split_once("```toml\n").expect("its facts");
    let (facts, _) = rest.split_once("```").expect("their end");
    let facts: toml::Table = facts.parse().unwrap();
    let about = &facts["advisory"];
    if about.get("withdrawn").is_some() {
        return None;
    }
    let text = |key: &str| about.get(key).map(|v| v.as_str().unwrap().to_owned());
    let versions = |key: &str| {
        let list = facts.get("versions").and_then(|v| v.get(key)).and_then(|v| v.as_array());
        list.into_iter().flatten().map(|v| v.as_str().unwrap().to_owned()).collect()
    };
    Some(Advisory {
        id: text("id")?,
        package: text("package")?,
        informational: text("informational"),
        patched: versions("patched"),
        unaffected: versions("unaffected"),
    })
}
