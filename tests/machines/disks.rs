//! The disks that machines begin with, made once and kept in `target/tmp/machines`: each is named by a hash of what made
//! it.

use super::machine::{self, Machine, Network};
use nix::fcntl::{Flock, FlockArg};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The repository.
const TOP: &str = env!("CARGO_MANIFEST_DIR");
const CLUSTERD: &str = env!("CARGO_BIN_EXE_clusterd");
pub const CLUSTERCTL: &str = env!("CARGO_BIN_EXE_clusterctl");

/// What is made once.
pub struct Disks {
    /// A Debian with systemd and the daemons, and nothing of ours.
    pub base: PathBuf,
    /// What differs from it once our package is installed.
    installed: PathBuf,
    pub package: PathBuf,
}

/// The disks; makes what is missing.
pub fn disks() -> &'static Disks {
    static DISKS: OnceLock<Disks> = OnceLock::new();
    DISKS.get_or_init(make)
}

impl Disks {
    /// A machine with our package, that is off.
    pub fn machine(&self, network: &Network, name: &str, number: u8) -> Machine {
        Machine::new(network, name, number, &self.base, Some(&self.installed))
    }
}

fn make() -> Disks {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("machines");
    fs::create_dir_all(&folder).expect("the folder of the disks");
    // Another run may be making them.
    let lock = File::create(folder.join("lock")).expect("a lock");
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| e).expect("a lock");

    let of = Path::new(TOP).join("tests/machines");
    let script = of.join("image");
    let release = fs::read_to_string("/etc/os-release").expect("a release");
    // The kernel's modules are on it.
    let kernels = fs::read_dir("/usr/lib/uml/modules").expect("a kernel; run tests/install");
    let kernels: String =
        kernels.map(|k| k.expect("an entry").file_name().into_string().expect("a name")).collect();
    let base_hash = hash_of(&[script.clone(), of.join("tree"), of.join("guest")], &(release + &kernels));
    let base = cached(&folder, "base", &base_hash, |to| {
        run(Command::new(&script).arg(to));
    });

    let package = match std::env::var_os("CLUSTERD_PACKAGE") {
        Some(package) => PathBuf::from(package),
        None => {
            let made_of = ["packaging", "units", "README.md", "Cargo.toml"].map(|p| Path::new(TOP).join(p));
            let hash = hash_of(&made_of, &[CLUSTERD, CLUSTERCTL].map(stamp).concat());
            cached(&folder, "package", &hash, |to| {
                let binaries = Path::new(CLUSTERD).parent().expect("a folder");
                let script = Path::new(TOP).join("packaging/deb");
                run(Command::new(script).arg("--binaries").arg(binaries).arg(to));
            })
        }
    };

    let hash = hash_of(&[], &(base_hash + &stamp(&package)));
    let installed = cached(&folder, "installed", &hash, |to| {
        let network = Network::new();
        let mut machine = Machine::new(&network, "fresh", 1, &base, None);
        fs::copy(&package, machine.host().join("clusterd.deb")).expect("a copy");
        machine.boot();
        install(&mut machine);
        machine.power_off();
        machine.copy_disk(to);
    });
    Disks { base, installed, package }
}

/// What anybody does with the package on a machine that has never seen it.
fn install(machine: &mut Machine) {
    let said = machine.ok("dpkg -i /host/clusterd.deb");
    assert!(said.contains("systemctl enable --now clusterd"), "it says what to do next: {said}");
    assert_eq!(machine.run("systemctl is-active clusterd").text, "inactive", "there is no cluster file yet");
    assert_eq!(machine.run("systemctl is-enabled clusterd").text, "disabled");
    machine.ok("test -s /usr/share/man/man8/clusterd.8.gz -a -s /usr/share/man/man1/clusterctl-status.1.gz");
    machine.ok("bash -n /usr/share/bash-completion/completions/clusterctl");
    // The sample as it is has only comments, and is refused with a word of what is missing.
    assert_eq!(machine.run("clusterctl check").status, 4);
}

/// The file of that name and hash, which `make` makes if it is not there. Those of other hashes are removed.
fn cached(folder: &Path, name: &str, hash: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let path = folder.join(format!("{name}-{hash}"));
    if path.exists() {
        return path;
    }
    for old in fs::read_dir(folder).expect("the folder of the disks").flatten() {
        if old.file_name().to_string_lossy().starts_with(&format!("{name}-")) {
            let _ = fs::remove_file(old.path());
        }
    }
    let aside = folder.join(format!("{name}.new"));
    let _ = fs::remove_file(&aside);
    make(&aside);
    // On the disk before it has its name: a half made one would be taken for good.
    File::open(&aside).and_then(|file| file.sync_all()).expect("a sync");
    fs::rename(&aside, &path).expect("a rename");
    path
}

/// A hash of files, folders of files and a text.
fn hash_of(paths: &[PathBuf], text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let mut paths = paths.to_vec();
    while let Some(path) = paths.pop() {
        path.file_name().map(OsStr::as_encoded_bytes).hash(&mut hasher);
        if path.is_dir() {
            let mut inside: Vec<_> =
                fs::read_dir(&path).expect("a folder").map(|e| e.expect("an entry").path()).collect();
            inside.sort();
            paths.extend(inside);
        } else {
            fs::read(&path).expect("a file").hash(&mut hasher);
        }
    }
    format!("{:016x}", hasher.finish())
}

/// Tells one build of a large file from another.
fn stamp(path: impl AsRef<Path>) -> String {
    let file = fs::metadata(path.as_ref()).expect("it is built");
    format!("{} {}.{} ", file.len(), file.mtime(), file.mtime_nsec())
}

/// Runs a tool that has to succeed.
pub fn run(command: &mut Command) {
    let done = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&done.stdout));
}

/// Makes another version of the package, which differs in nothing else.
pub fn later_version(package: &Path, to: &Path) {
    let folder = tempfile::tempdir().expect("a folder");
    let tree = folder.path().join("tree");
    run(Command::new("dpkg-deb").arg("-R").args([package, &tree]));
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control).expect("a control file");
    let later: String = text
        .lines()
        .map(|line| match line.strip_prefix("Version: ") {
            Some(version) => format!("Version: {version}+later\n"),
            None => format!("{line}\n"),
        })
        .collect();
    fs::write(&control, later).expect("a control file");
    run(Command::new("dpkg-deb").args(["--root-owner-group", "-Znone", "-b"]).args([&tree, to]));
}

/// Copies a file to where a machine sees it as `/host/NAME`.
pub fn give(machine: &Machine, from: &Path, name: &str) {
    machine::copy(from, &machine.host().join(name));
}
