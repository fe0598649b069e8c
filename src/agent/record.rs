//! Records what the engine is given and what it says, when `--record` asks for it.
//!
//! Each line is one write, so that a killed agent leaves at most a torn last line. Nothing secret is in it: passwords
//! are read from files by the probes, and no password gets into an answer. But the configuration is, so only the
//! agent's user may read it.

use super::Wishes;
use crate::engine::trace::Line;
use crate::engine::{Action, Engine, Input, Jitter};
use crate::facts::Moment;
use crate::model::{Cluster, InstanceIx, NodeIx, Sources};
use anyhow::Context;
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// How large the file may grow, in bytes, over all runs that are recorded in it.
const MOST: u64 = 64 << 20;

/// Stands between the shell and its engine, and writes down what passes. One that is off writes nothing.
pub struct Recorder {
    to: Option<Tape>,
}

struct Tape {
    file: File,
    left: u64,
}

impl Recorder {
    pub fn off() -> Recorder {
        Recorder { to: None }
    }

    /// Records to the end of this file, after the runs that are in it already.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn to(path: &Path) -> anyhow::Result<Recorder> {
        let tape = Tape::open(path).with_context(|| format!("cannot record to {}", path.display()))?;
        Ok(Recorder { to: Some(tape) })
    }

    /// An engine was made of these.
    pub fn begun(&mut self, engine: &Engine, now: Moment, wishes: &Wishes, sources: &Sources) {
        let node = &engine.cluster().node(engine.node()).name;
        self.write(|| Line::Begun {
            node: node.into(),
            now,
            wishes: Cow::Borrowed(wishes),
            sources: Cow::Borrowed(sources),
        });
    }

    /// As [`Engine::handle`].
    pub fn handle(&mut self, engine: &mut Engine, now: Moment, jitter: Jitter, input: Input) -> Vec<Action> {
        if self.to.is_none() {
            return engine.handle(now, jitter, input);
        }
        let actions = engine.handle(now, jitter, input.clone());
        let (given, said) = (Cow::Owned(input), Cow::Borrowed(&actions[..]));
        self.write(|| Line::Fed { now, jitter, input: given, actions: said });
        actions
    }

    /// As [`Engine::reconfigure`]; `cluster` is what the sources say.
    pub fn reconfigure(
        &mut self,
        engine: &mut Engine,
        now: Moment,
        (sources, cluster): (&Sources, Arc<Cluster>),
        me: NodeIx,
        ranks: &[u32],
    ) -> (Vec<InstanceIx>, Vec<Arc<str>>) {
        let (added, orphans) = engine.reconfigure(now, cluster.clone(), me, ranks);
        self.write(|| Line::Reconfigured {
            now,
            node: cluster.node(me).name.as_str().into(),
            sources: Cow::Borrowed(sources),
            added: added.clone(),
            orphans: orphans.clone(),
        });
        (added, orphans)
    }

    /// A recording that cannot be written on ends; the agent goes on.
    fn write<'a>(&mut self, line: impl FnOnce() -> Line<'a>) {
        let Some(tape) = &mut self.to else { return };
        match tape.write(&line()) {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!("the recording has grown to {} MiB and ends", MOST >> 20);
                self.to = None;
            }
            Err(e) => {
                tracing::error!("cannot record any more: {e}");
                self.to = None;
            }
        }
    }
}

impl Tape {
    fn open(path: &Path) -> io::Result<Tape> {
        let mut file = File::options().read(true).append(true).create(true).mode(0o600).open(path)?;
        let length = file.metadata()?.len();
        // An agent that was killed may have left half a line: the next one begins on a line of its own.
        if length > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        Ok(Tape { file, left: MOST.saturating_sub(length) })
    }

    /// Whether there was room for it. Where there was not, that is the last line.
    fn write(&mut self, line: &Line<'_>) -> io::Result<bool> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let Some(left) = self.left.checked_sub(text.len() as u64) else {
            let mut last = serde_json::to_vec(&Line::Full)?;
            last.push(b'\n');
            self.file.write_all(&last)?;
            return Ok(false);
        };
        self.file.write_all(&text)?;
        self.left = left;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn fed() -> Line<'static> {
        let (input, actions) = (Cow::Owned(Input::TimeCame), Cow::Owned(Vec::new()));
        Line::Fed { now: Moment(1), jitter: 0, input, actions }
    }

    #[test]
    fn only_the_owner_may_read_it_and_a_torn_line_stays_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.jsonl");
        let mut tape = Tape::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(tape.write(&fed()).unwrap());
        tape.file.write_all(b"{\"line\":\"fe").unwrap(); // killed here
        assert!(Tape::open(&path).unwrap().write(&fed()).unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[1]), (3, "{\"line\":\"fe"));
        assert_eq!(lines[0], lines[2]);
    }

    #[test]
    fn at_its_limit_it_ends_with_a_line_that_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.jsonl");
        let mut tape = Tape::open(&path).unwrap();
        let one = serde_json::to_vec(&fed()).unwrap().len() as u64 + 1;
        tape.left = 2 * one;
        let mut recorder = Recorder { to: Some(tape) };
        for _ in 0..5 {
            recorder.write(fed);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(text.ends_with("{\"line\":\"full\"}\n"), "{text}");
    }
}
