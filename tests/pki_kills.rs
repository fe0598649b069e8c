//! `clusterctl pki` and `clusterd join` are killed after each file that they write, move or remove: what is there can be
//! read, and the same command does the rest. The points are those that the program itself passes.

#![cfg(debug_assertions)] // it can be told where to die in such a build only

mod agents;
mod secured;

use agents::{Told, told, wait};
use clusterd::crash::Done;
use clusterd::pki::{Bundle, Ca, Passphrase, Role, Validity, Who};
use secured::{Secured, clusterctl};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const DAYS: Validity = Validity { from: 1_700_000_000, until: 1_800_000_000 };

/// A cluster file, its CA, and a folder for what is handed out.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let text = "[cluster]\nname = \"shop\"\n[nodes]\nn = { n1 = \"127.0.0.1\", n2 = \"127.0.0.2\" }\n[services]\nx = { on = \"n\" }\n";
        fs::write(dir.path().join("cluster.toml"), text).unwrap();
        fs::create_dir(dir.path().join("units")).unwrap();
        let unit = "[run]\ncommand = [\"/bin/true\"]\n[ready]\nprobe = { kind = \"running\" }\n";
        fs::write(dir.path().join("units/x.toml"), unit).unwrap();
        fs::create_dir(dir.path().join("out")).unwrap();
        Place { dir }
    }

    fn with_ca() -> Place {
        let place = Place::new();
        Ca::init(&place.at("ca"), "shop", DAYS, None).unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ca(&self) -> Ca {
        Ca::open(&self.at("ca")).unwrap()
    }

    fn secret(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        fs::write(self.at(name), text).unwrap();
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// `clusterctl`, in this folder.
    fn pki(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clusterctl"));
        command.env_clear().current_dir(self.dir.path()).arg("pki");
        command.args(args).args(["--config", "cluster.toml", "--ca", "ca"]);
        command
    }

    /// What is handed out, as its owner reads it, and nothing beside it.
    fn handed_out(&self) -> Vec<Bundle> {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(self.at("out")).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        assert!(paths.iter().all(|p| p.extension().is_some_and(|e| e == "pem")), "{paths:?}");
        paths.iter().map(|path| Bundle::read(path).unwrap()).collect()
    }

    /// On record is what was handed out, once each.
    fn each_is_on_record(&self, whom: &[&str]) {
        let mut names: Vec<String> = self.handed_out().iter().map(|b| b.own.name.who.to_string()).collect();
        names.sort();
        assert_eq!(names, whom);
        let keys: BTreeSet<_> = self.handed_out().iter().map(|b| b.own.key).collect();
        let issued: BTreeSet<_> = self.ca().issued_anew().unwrap().iter().map(|c| c.key).collect();
        assert_eq!(keys, issued);
    }
}

/// Kills a command at each of its points, each time in a new place, has it done again, and looks at what came of it.
/// Says how often it died.
fn dies_everywhere(
    prepare: impl Fn() -> Place,
    command: impl Fn(&Place) -> Command,
    again: impl Fn(&Place) -> Command,
    check: impl Fn(&Place, &Told),
) -> usize {
    let mut died = 0;
    for point in Done::KEYS {
        for n in 1.. {
            let place = prepare();
            let mut dies = command(&place);
            let status = dies.env("CLUSTERD_DIE_AT", format!("{point}:{n}")).output().unwrap();
            if status.status.signal() != Some(9) {
                assert!(n < 100, "{point}");
                break;
            }
            died += 1;
            println!("{point}:{n} of {:?}", dies.get_args().nth(1));
            let shown = told(place.pki(&["show"]));
            let nothing_yet = shown.err.contains("there is no CA in");
            assert!(shown.code == 0 || nothing_yet, "{point}:{n} {shown:?}");
            let done = told(again(&place));
            check(&place, &done);
            let shown = told(place.pki(&["show"]));
            assert_eq!(shown.code, 0, "{point}:{n} {shown:?}");
        }
    }
    died
}

fn out(place: &Place, args: &[&str]) -> Command {
    let mut command = place.pki(args);
    command.args(["--out", "out"]);
    command
}

#[test]
fn init() {
    let init = |place: &Place| place.pki(&["init"]);
    let died = dies_everywhere(Place::new, init, init, |place, told| {
        assert!(told.code == 0 || told.err.contains("there is a CA"), "{told:?}");
        place.ca().issue(Who::Node("n1".into()), DAYS).unwrap();
    });
    assert_eq!(died, 5, "three folders, a file, its place");
}

#[test]
fn bundle_issue_and_operator() {
    let bundle = |place: &Place| out(place, &["bundle"]);
    let died = dies_everywhere(Place::with_ca, bundle, bundle, |place, told| {
        assert_eq!(told.code, 0, "{told:?}");
        place.each_is_on_record(&["node n1", "node n2"]);
    });
    assert_eq!(died, 8, "for each node two files and their places");
    let issue = |place: &Place| out(place, &["issue", "n2"]);
    dies_everywhere(Place::with_ca, issue, issue, |place, told| {
        // Killed when all was done, the second one finds it there.
        assert!(told.code == 0 || told.err.contains("there is a file out/n2.pem already"), "{told:?}");
        place.each_is_on_record(&["node n2"]);
    });
    let operator = |place: &Place| out(place, &["operator", "alice", "--role", "read"]);
    dies_everywhere(Place::with_ca, operator, operator, |place, told| {
        assert!(told.code == 0 || told.err.contains("there is a file out/alice.pem already"), "{told:?}");
        place.each_is_on_record(&["operator alice (read)"]);
    });
}

#[test]
fn revoke() {
    let prepare = || {
        let place = Place::with_ca();
        (0..2).for_each(|_| drop(place.ca().issue(Who::Node("n1".into()), DAYS).unwrap()));
        place
    };
    let revoke = |place: &Place| place.pki(&["revoke", "n1"]);
    let died = dies_everywhere(prepare, revoke, revoke, |place, told| {
        let (ca, lines) = (place.ca(), told.out.matches("# node n1").count());
        assert_eq!((told.code, lines, ca.issued().unwrap().len()), (0, 2, 0), "{told:?}");
        assert_eq!(ca.revoked().unwrap().len(), 2);
    });
    assert_eq!(died, 2);
}

#[test]
fn rotate() {
    let prepare = || {
        let place = Place::with_ca();
        place.ca().hand_out(Who::Node("n1".into()), DAYS, place.dir.path()).unwrap();
        let alice = Who::Operator { name: "alice".into(), role: Role::Admin };
        place.ca().hand_out(alice, DAYS, place.dir.path()).unwrap();
        place
    };
    let begin = |place: &Place| out(place, &["rotate", "--begin"]);
    let again = |place: &Place| {
        let under_way = place.ca().before().is_some();
        if under_way { out(place, &["rotate"]) } else { begin(place) }
    };
    let died = dies_everywhere(prepare, begin, again, |place, told| {
        // Killed when all was done, it asks the nodes whether they have taken theirs in; there are none.
        assert!(told.code == 0 || told.err.contains("no agent"), "{told:?}");
        place.each_is_on_record(&["node n1", "node n2", "operator alice (admin)"]);
        let ca = place.ca();
        let before = Bundle::read(&place.at("n1.pem")).unwrap();
        assert_eq!(ca.before().unwrap().key, before.ca.key);
        for new in place.handed_out() {
            assert!(before.believes(&new) && new.believes(&before));
        }
        let text = fs::read_to_string(place.at("ca/before.pem")).unwrap();
        assert!(!text.contains("KEY"), "the old key is gone");
        ca.issue(Who::Node("n2".into()), DAYS).unwrap();
    });
    assert_eq!(died, 18, "three files of the CA, and two for each of three, and their places");
}

#[test]
fn the_end_of_a_rotation() {
    let prepare = || {
        let place = Place::with_ca();
        place.ca().rotate(DAYS).unwrap();
        place
    };
    // What the command does once all nodes have answered: this program once more.
    let end = |place: &Place| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "a_rotation_is_ended", "--ignored", "--nocapture"]);
        command.env("END_IN", place.at("ca"));
        command
    };
    let died = dies_everywhere(prepare, end, end, |place, told| {
        assert_eq!(told.code, 0, "{told:?}");
        let ca = place.ca();
        assert!(ca.before().is_none() && ca.revoked().unwrap().len() == 1);
        ca.rotate(DAYS).unwrap();
    });
    assert_eq!(died, 4, "a file, its place, and two are removed");
}

#[test]
#[ignore = "run by `the_end_of_a_rotation`, which kills it"]
fn a_rotation_is_ended() {
    let ca = Ca::open(Path::new(&std::env::var("END_IN").expect("the CA's folder"))).unwrap();
    ca.revoke_before().unwrap();
    if ca.before().is_some() {
        ca.rotated().unwrap();
    }
}

#[test]
fn passphrase() {
    let old = "correct horse";
    let prepare = |locked: bool| {
        move || {
            let place = Place::new();
            place.secret("old", old);
            place.secret("new", "battery staple");
            let known = locked.then(|| Passphrase::read(&place.at("old"), false).unwrap());
            Ca::init(&place.at("ca"), "shop", DAYS, known).unwrap();
            place
        }
    };
    let opens = |place: &Place, with: &str| {
        place.ca().unlocked(Some(Passphrase::read(&place.at(with), false).unwrap())).is_ok()
    };
    let change = |place: &Place| {
        place.pki(&["passphrase", "--passphrase-file", "old", "--new-passphrase-file", "new"])
    };
    for locked in [false, true] {
        let died = dies_everywhere(prepare(locked), change, change, |place, told| {
            // Killed when all was done, the old one is wrong.
            assert!(told.code == 0 || told.err.contains("is not the one of the CA's key"), "{told:?}");
            assert!(opens(place, "new") && !opens(place, "old"));
        });
        assert_eq!(died, 2);
    }
    let remove = |place: &Place| place.pki(&["passphrase", "--remove", "--passphrase-file", "old"]);
    dies_everywhere(prepare(true), remove, remove, |place, told| {
        assert!(told.code == 0 && !place.ca().is_locked(), "{told:?}");
    });
}

/// A token is good once, also where whoever takes it dies of it: then it is worth nothing, and says so.
#[test]
fn join() {
    let mut cluster = Secured::new("kills", "");
    cluster.join_and_start("n1");
    wait("the agent to answer", || cluster.status("n1"));
    let (state, ca) = (cluster.state("n2"), cluster.ca());
    let join = |args: &[&str], token: &str, die: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clusterd"));
        command.arg("join").args(args).args(["--node", "n2", "--config"]).arg(cluster.file());
        command.arg("--state").arg(&state).envs(die.map(|at| ("CLUSTERD_DIE_AT", at)));
        agents::told_typing(command, token)
    };
    let invite = || {
        let (file, ca, socket) = (cluster.file(), cluster.file_named("ca"), cluster.socket("n1"));
        let args = ["pki", "invite", "n2", "--config", file.to_str().unwrap(), "--ca", ca.to_str().unwrap()];
        let told = clusterctl(&[&args[..], &["--socket", &socket]].concat());
        assert_eq!(told.code, 0, "{told:?}");
        told.out
    };
    let issued = ca.issue(Who::Node("n2".into()), DAYS).unwrap();
    cluster.hand_out("n2", &issued.bundle);
    let file = cluster.handed_out("n2");
    let file = [file.to_str().unwrap()];
    for at in ["KeyAside:1", "KeyPlaced:1"] {
        let _ = fs::remove_dir_all(&state);
        assert_eq!(join(&file, "", Some(at)).code, -1, "{at}");
        let there = cluster.identity("n2").exists();
        assert_eq!(there, at == "KeyPlaced:1");
        let told = join(&file, "", None);
        assert!(told.code == 0 && told.out.contains("already") == there, "{told:?}");

        fs::remove_dir_all(&state).unwrap();
        let token = invite();
        assert_eq!(join(&["--token"], &token, Some(at)).code, -1, "{at}");
        let told = join(&["--token"], &token, None);
        assert!(told.code != 0 && told.err.contains("was taken already, from 127."), "{told:?}");
        assert!(told.err.contains("clusterctl pki invite n2"), "{told:?}");
        if !there {
            let told = join(&["--token"], &invite(), None);
            assert_eq!(told.code, 0, "{told:?}");
        }
        assert_eq!(Bundle::read(&cluster.identity("n2")).unwrap().own.name.who, Who::Node("n2".into()));
    }
}
