//! One reader of [`clusterd::hostile`], fed by libFuzzer: what reaches code that nothing reached before is kept and changed
//! further. `tests/fuzz/run` builds and runs it.
//!
//! `READER` names the reader. With `BEGIN=FOLDER` the seeds, the corpus and the dictionary are written there, and no more.

#![no_main]

use clusterd::hostile::{beginnings, readers};
use clusterd::probe::hostile::Reader;
use std::path::Path;
use std::sync::OnceLock;

static READER: OnceLock<&Reader> = OnceLock::new();

fn begin() {
    let name = std::env::var("READER").unwrap_or_default();
    let Some(reader) = readers().find(|r| r.name == name) else {
        // Not the one whose crate crashes over some bytes (mysql_common 0.37 subtracts below zero): the agent contains that as
        // any crash of a task, which the test of `src/hostile.rs` shows; here a crash ends the run.
        readers().filter(|r| r.name != "mysql").for_each(|r| println!("{}", r.name));
        std::process::exit(0);
    };
    if let Some(folder) = std::env::var_os("BEGIN") {
        let folder = Path::new(&folder);
        for (n, bytes) in beginnings(reader).iter().enumerate() {
            std::fs::write(folder.join(n.to_string()), bytes).expect("the folder takes it");
        }
        // A word a line, in quotes, each byte by its number.
        let word = |word: &&[u8]| word.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
        let words: String = reader.words.iter().map(|w| format!("\"{}\"\n", word(w))).collect();
        std::fs::write(folder.with_extension("words"), words).expect("the folder takes it");
        std::process::exit(0);
    }
    READER.get_or_init(|| reader);
}

libfuzzer_sys::fuzz_target!(init: begin(), |bytes: &[u8]| {
    (READER.get().expect("it has begun").read)(bytes);
});
