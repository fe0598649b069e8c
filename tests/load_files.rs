//! Reading from disk: what is not there, not readable, or not text.

use clusterd::model::{MAX_UNIT_FILE, load};
use std::fs;
use std::path::{Path, PathBuf};

const CLUSTER: &str = "[cluster]\nname = \"shop\"\n[nodes]\nweb = { web1 = \"10.0.0.1\" }\n[services]\nplain = { on = \"web\" }\n";
const UNIT: &str = "[run]\ncommand = [\"/bin/plain\"]\n[ready]\nprobe = { kind = \"tcp\", port = 80 }\n";

/// A folder with a sound configuration, and its cluster file.
fn sound() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("units")).unwrap();
    fs::write(folder.path().join("units/plain.toml"), UNIT).unwrap();
    let file = folder.path().join("cluster.toml");
    fs::write(&file, CLUSTER).unwrap();
    (folder, file)
}

/// The first error, without the folder's own name.
fn refusal(file: &Path, folder: &Path) -> String {
    let errors = load(file, None).unwrap_err();
    assert_eq!(errors.list.len(), 1, "{errors}");
    errors.to_string().replace(&format!("{}/", folder.display()), "")
}

#[test]
fn a_sound_folder_loads_and_other_files_do_not_matter() {
    let (folder, file) = sound();
    fs::write(folder.path().join("units/clusterd.service"), "[Unit]\n").unwrap();
    fs::write(folder.path().join("units/.plain.toml"), "an editor's copy").unwrap();
    fs::create_dir(folder.path().join("units/old.toml")).unwrap();
    let cluster = load(&file, None).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(cluster.instances.len(), 1);
    assert!(cluster.warnings.is_empty(), "{:?}", cluster.warnings);
}

#[test]
fn a_missing_file_or_folder_is_named() {
    let (folder, file) = sound();
    let missing = folder.path().join("other.toml");
    assert_eq!(
        refusal(&missing, folder.path()),
        "error: cannot read the cluster file: No such file or directory (os error 2)\n  --> other.toml\n  \
         hint: name the file with `--config FILE`\n"
    );
    fs::remove_dir_all(folder.path().join("units")).unwrap();
    assert_eq!(
        refusal(&file, folder.path()),
        "error: cannot read the folder of the units: No such file or directory (os error 2)\n  --> units\n  \
         hint: the units stand in the folder `units` beside cluster.toml\n"
    );
}

#[test]
fn a_used_unit_must_be_a_text_file_of_a_sane_size() {
    let table: [(&str, Vec<u8>); 2] = [
        ("line 2 is not UTF-8", b"[run]\ncommand = [\"\xff\"]\n".to_vec()),
        ("it is larger than 1 MiB", vec![b'#'; MAX_UNIT_FILE as usize + 1]),
    ];
    for (why, bytes) in table {
        let (folder, file) = sound();
        fs::write(folder.path().join("units/plain.toml"), bytes).unwrap();
        let error = refusal(&file, folder.path());
        assert!(
            error.starts_with(&format!("error: cannot read the unit file units/plain.toml: {why}\n")),
            "{error}"
        );
        assert!(error.contains("  --> cluster.toml:6:1\n"), "{error}");
    }
}

#[test]
fn a_fifo_does_not_hold_the_reader() {
    let (folder, file) = sound();
    let path = folder.path().join("units/plain.toml");
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = refusal(&file, folder.path());
    assert!(error.contains("it is not a regular file"), "{error}");
}

#[test]
fn torn_files_are_refused_and_never_panic() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = clusterd::model::Sources::read(&root.join("cluster.toml"), None).unwrap();
    let whole = sources.cluster.text.clone();
    let services = whole.find("[services]").unwrap();
    for cut in (0..whole.len()).step_by(7).filter(|i| whole.is_char_boundary(*i)) {
        sources.cluster.text = whole[..cut].to_string();
        match clusterd::model::parse(&sources) {
            // Cut between two services it is a smaller cluster, and a sound one.
            Ok(_) => assert!(cut > services, "taken when cut at {cut}"),
            Err(errors) => assert!(errors.to_string().contains("  hint: "), "{errors}"),
        }
    }
    // One odd byte anywhere.
    for at in (0..whole.len()).step_by(11) {
        for odd in ["{", "\"", "\u{0}", "é", "]"] {
            if whole.is_char_boundary(at) {
                sources.cluster.text = format!("{}{odd}{}", &whole[..at], &whole[at..]);
                if let Err(errors) = clusterd::model::parse(&sources) {
                    assert!(!errors.to_string().is_empty());
                }
            }
        }
    }
}
