//! Hand-written files of a pair of directors (keepalived.conf) or brokers (activemq.xml), each case with the exact words
//! that it is judged with.
//!
//! A case in `tests/lint/*.txt`: `==== TITLE`, then each file after a line `-- NAME`, `----`, and the findings.
//! With `OVERWRITE=1` in the environment the findings are written anew; their diff is then what is to be read.

use clusterd::director::import::{Finding, propose, read};
use std::fmt::Write;
use std::path::Path;

#[test]
fn every_broken_pair_of_directors_is_judged_in_these_words() {
    assert!(judged_as_written("keepalived.txt", |files| read(files).findings) > 20);
}

#[test]
fn every_broken_pair_of_brokers_is_judged_in_these_words() {
    assert!(judged_as_written("activemq.txt", clusterd::broker::judge) > 10);
}

/// How many cases there are.
fn judged_as_written(table: &str, judge: impl Fn(&[(String, Vec<u8>)]) -> Vec<Finding>) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lint").join(table);
    let text = std::fs::read_to_string(&path).unwrap();
    let (mut written, mut count) = (String::new(), 0);
    for case in text.split("==== ").skip(1) {
        let (title, rest) = case.split_once('\n').unwrap();
        let (input, _) = rest.split_once("----\n").unwrap();
        let findings = judge(&files(input));
        let mut said = String::new();
        for one in &findings {
            let severity = format!("{:?}", one.severity).to_lowercase();
            let _ =
                writeln!(said, "{severity} {}:{}: {}\n  hint: {}", one.file, one.line, one.message, one.hint);
            assert!(!one.hint.is_empty() && one.line > 0, "{one:?}");
        }
        assert_eq!(findings.is_empty(), title.starts_with("nothing to say"), "{title}: {said}");
        let _ = write!(written, "==== {title}\n{input}----\n{said}\n");
        count += 1;
    }
    let written = written.trim_end().to_owned() + "\n";
    if std::env::var_os("OVERWRITE").is_some() {
        std::fs::write(&path, written).unwrap();
    } else {
        snapbox::assert_data_eq!(written, snapbox::Data::text(text).raw());
    }
    count
}

fn files(input: &str) -> Vec<(String, Vec<u8>)> {
    let parts = input.split("-- ").skip(1).map(|part| part.split_once('\n').unwrap());
    parts.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).collect()
}

/// What is proposed for sound files is a table of `cluster.toml`.
#[test]
fn what_is_proposed_is_taken() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lint/keepalived.txt"))
            .unwrap();
    let sound = text.split("==== ").nth(1).unwrap().split_once("----").unwrap().0;
    let import = read(&files(sound.split_once('\n').unwrap().1));
    let table = propose(&import, None);
    assert_eq!(
        table,
        "[vips.vi-1]\naddress = \"10.0.0.100/24\"\non = [\"lvs1\", \"lvs2\"]\ninterface = \"eth0\"\nvrid = 51\n\
         to = \"…\" # the service of `[services]` that runs on the real servers\nport = 80\nscheduler = \"rr\"\n\n"
    );
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("units");
    let unit = |name: &str| {
        let text = std::fs::read_to_string(units.join(format!("{name}.toml"))).unwrap();
        (name.to_owned(), clusterd::model::Source { path: name.to_owned(), text })
    };
    let parse = |table: &str| {
        clusterd::model::parse(&clusterd::model::Sources {
            cluster: clusterd::model::Source {
                path: "cluster.toml".into(),
                text: format!(
                    "[cluster]\nname = \"shop\"\n[nodes]\nlvs = {{ lvs1 = \"10.0.0.1\", lvs2 = \"10.0.0.2\" }}\n\
                     web = {{ web1 = \"10.0.0.21\" }}\n[services]\nkeepalived = {{ on = \"lvs\" }}\n\
                     web = {{ on = \"web\", unit = \"nginx\" }}\n{table}"
                ),
            },
            folder: "units".into(),
            units: [unit("keepalived"), unit("nginx")].into(),
            unread: Default::default(),
        })
        .unwrap_or_else(|e| panic!("{e}"))
    };
    // With a cluster file there is nothing left to be filled in.
    let whole = propose(&import, Some(&parse("")));
    assert!(whole.contains("to = \"web\"\n"), "{whole}");
    let cluster = parse(&whole);
    assert_eq!(cluster.vips[0].vrid, 51);
    // Rendered again, and read again, it has no fault.
    let known = clusterd::director::render::Known::default();
    let again: Vec<(String, Vec<u8>)> = ["lvs1", "lvs2"]
        .map(|name| {
            let node = cluster.node_named(name).unwrap();
            let rendered = clusterd::director::render::render(&cluster, node, &known);
            (name.to_owned(), rendered.files[0].text.clone().into_bytes())
        })
        .into();
    assert_eq!(read(&again).findings, []);
}
