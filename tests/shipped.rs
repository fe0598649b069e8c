//! What the documentation promises of what is shipped: of the boot-time unit, and (in a release build) of the programs.

use std::fs;
use std::path::Path;
use std::process::Command;

/// A file of the repository.
fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// As `systemd-analyze` of this machine's Debian judges it, with ARCHITECTURE.md's words around the figure.
#[test]
fn the_units_exposure_is_the_one_that_is_quoted() {
    let told = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(file("units/clusterd.service"))
        .output()
        .expect("systemd-analyze runs; tests/install installs it");
    let said = String::from_utf8_lossy(&told.stdout);
    let overall = said.lines().find_map(|l| l.split_once("Overall exposure level for clusterd.service: "));
    let (_, overall) = overall.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&told.stderr)));
    let mut words = overall.split_whitespace();
    let (figure, level) = (words.next().expect("a figure"), words.next().expect("a level"));

    let page = fs::read_to_string(file("ARCHITECTURE.md")).expect("a page");
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    let quoted = format!("`systemd-analyze security` says {figure}, {level}:");
    assert!(page.contains(&quoted), "ARCHITECTURE.md is to say: {quoted}");
}

/// They are stripped as they are built. `packaging/deb` holds the static ones to the same figure.
#[cfg(not(debug_assertions))]
#[test]
fn the_shipped_programs_are_no_larger_than_promised() {
    const LARGEST: u64 = 15_000_000;
    for program in [env!("CARGO_BIN_EXE_clusterd"), env!("CARGO_BIN_EXE_clusterctl")] {
        let bytes = fs::metadata(program).expect("it is built").len();
        println!("{program}: {:.1} MB", bytes as f64 / 1e6);
        assert!(bytes <= LARGEST, "{program} has {bytes} bytes");
    }
}
