//! Feeds an agent's recording through a new engine: it must say what it said then, word for word.

use super::{Step, Watcher};
use crate::engine::trace::Line;
use crate::engine::{Action, Engine, Found, Input, Order, OrderVerb};
use crate::facts::{Answer, Cleaned, Exit, Moment, Verdict};
use crate::graph::Graph;
use crate::model::{self, Cluster, NodeIx, Sources};
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::{self, BufRead};
use std::sync::Arc;

/// How much of an input or an action is shown, in characters.
const SHOWN: usize = 400;

/// What a recording held.
#[derive(Debug, Default)]
pub struct Replayed {
    pub runs: u32,
    pub inputs: u64,
    /// Which of [`KINDS`] were among the inputs.
    pub kinds: BTreeSet<&'static str>,
    /// How often another configuration was put in force.
    pub reconfigured: u64,
    /// Whether it ends early, at the recorder's limit.
    pub full: bool,
}

/// Why a recording did not replay.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("cannot read the recording: {0}")]
    Read(#[from] io::Error),
    #[error("cannot replay line {line}: {why}")]
    Unusable { line: usize, why: String },
    #[error("line {line} goes another way\n  input:    {input}\n  recorded: {recorded}\n  now:      {now}")]
    Differs { line: usize, input: String, recorded: String, now: String },
    #[error("line {line}: {why}\n  input:    {input}")]
    Refused { line: usize, input: String, why: String },
}

/// Replays each run of a recording; `watcher` looks on. A torn line at the end of a run is what a killed agent leaves,
/// and is passed over.
///
/// # Errors
/// At the first line that cannot be read, or goes another way, or that the watcher refuses.
pub fn replay(mut recording: impl BufRead, watcher: &mut dyn Watcher) -> Result<Replayed, ReplayError> {
    let mut replayed = Replayed::default();
    let mut run: Option<Run> = None;
    let mut torn: Option<ReplayError> = None;
    let mut text = Vec::new();
    for number in 1.. {
        text.clear();
        if recording.read_until(b'\n', &mut text)? == 0 {
            break;
        }
        if text == b"\n" {
            continue;
        }
        let line = match serde_json::from_slice(&text) {
            Ok(line) => line,
            Err(e) => {
                torn.get_or_insert(ReplayError::Unusable { line: number, why: e.to_string() });
                continue;
            }
        };
        let begins = matches!(line, Line::Begun { .. });
        if let Some(torn) = torn.take().filter(|_| !begins) {
            return Err(torn); // not the end of a run
        }
        let at = |why: String| ReplayError::Unusable { line: number, why };
        match (line, &mut run) {
            (Line::Begun { node, now, wishes, sources }, _) => {
                let (cluster, me) = configuration(&sources, &node).map_err(at)?;
                let held = wishes
                    .iter()
                    .filter_map(|(name, wish)| Some((cluster.instance_named(name)?, wish.clone())))
                    .collect();
                let engine = Engine::new(cluster.clone(), me, &Graph::ranks(&cluster), &held, now);
                replayed.runs += 1;
                watcher.agent(Default::default(), me, Some(&engine)).map_err(at)?;
                run = Some(Run { engine, node: me, begun: now, number: replayed.runs });
            }
            (Line::Full, _) => replayed.full = true,
            (Line::Fed { now, jitter, input, actions }, Some(run)) => {
                let said = run.engine.handle(now, jitter, Input::clone(&input));
                same(number, &input, &actions, &said)?;
                replayed.inputs += 1;
                replayed.kinds.insert(kind(&input));
                let step = run.step(now, &input, &said);
                let refused = |why| ReplayError::Refused { line: number, input: short(&input), why };
                watcher.step(&step).map_err(refused)?;
            }
            (Line::Reconfigured { now, node, sources, added, orphans }, Some(run)) => {
                let (cluster, me) = configuration(&sources, &node).map_err(at)?;
                let did = run.engine.reconfigure(now, cluster.clone(), me, &Graph::ranks(&cluster));
                if did != (added.clone(), orphans.clone()) {
                    return Err(ReplayError::Differs {
                        line: number,
                        input: format!("configuration {}", cluster.hash),
                        recorded: short(&(added, orphans)),
                        now: short(&did),
                    });
                }
                replayed.reconfigured += 1;
            }
            (Line::Fed { .. } | Line::Reconfigured { .. }, None) => {
                return Err(at("no agent has begun".to_owned()));
            }
        }
    }
    Ok(replayed)
}

/// One run of one agent.
struct Run {
    engine: Engine,
    node: NodeIx,
    begun: Moment,
    number: u32,
}

impl Run {
    fn step<'a>(&'a self, now: Moment, input: &'a Input, actions: &'a [Action]) -> Step<'a> {
        Step {
            at: now.since(self.begun),
            node: self.node,
            boot: 1,
            run: self.number,
            now,
            input,
            actions,
            engine: &self.engine,
        }
    }
}

fn configuration(sources: &Sources, node: &str) -> Result<(Arc<Cluster>, NodeIx), String> {
    let cluster = model::parse(sources).map_err(|e| e.to_string())?;
    let me = cluster.node_named(node).ok_or_else(|| format!("the configuration has no node {node}"))?;
    Ok((Arc::new(cluster), me))
}

/// The first action that is another one is shown.
fn same(line: usize, input: &Input, recorded: &[Action], said: &[Action]) -> Result<(), ReplayError> {
    if recorded == said {
        return Ok(());
    }
    let first = recorded.iter().zip(said).take_while(|(one, other)| one == other).count();
    let show = |actions: &[Action]| {
        actions.get(first).map_or_else(
            || format!("nothing after {first} actions"),
            |action| format!("action {}: {}", first + 1, short(action)),
        )
    };
    Err(ReplayError::Differs { line, input: short(input), recorded: show(recorded), now: show(said) })
}

fn short(what: &impl Serialize) -> String {
    let mut text = serde_json::to_string(what).unwrap_or_default();
    if let Some((end, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Names what matches each pattern. The compiler demands that nothing is left out.
macro_rules! kinds {
    ($($name:literal: $pattern:pat,)*) => {
        /// Each kind of input that an agent can give its engine.
        pub const KINDS: &[&str] = &[$($name),*];

        /// Which of [`KINDS`] this input is.
        pub fn kind(input: &Input) -> &'static str {
            match input {
                $($pattern => $name,)*
            }
        }
    };
}

kinds! {
    "searched: nothing": Input::Searched { found: Found::Nothing, .. },
    "searched: running": Input::Searched { found: Found::Running { .. }, .. },
    "searched: ended": Input::Searched { found: Found::Ended { .. }, .. },
    "cleaned: clear": Input::Cleaned { cleaned: Cleaned::Clear { .. }, .. },
    "cleaned: alive": Input::Cleaned { cleaned: Cleaned::Alive { .. }, .. },
    "cleaned: in doubt": Input::Cleaned { cleaned: Cleaned::Doubt { .. }, .. },
    "spawned": Input::Spawned { .. },
    "spawn failed": Input::SpawnFailed { .. },
    "adopted": Input::Adopted { .. },
    "main found": Input::MainFound { .. },
    "main missing, something is left": Input::MainMissing { empty: false, .. },
    "main missing, nothing is left": Input::MainMissing { empty: true, .. },
    "exited: code": Input::Exited { exit: Exit::Code(_), .. },
    // No kernel without a memory controller tells the one from the other.
    "exited: signal": Input::Exited { exit: Exit::Signal(_) | Exit::OutOfMemory, .. },
    "exited: unknown": Input::Exited { exit: Exit::Unknown, .. },
    "notified": Input::Notified { .. },
    "swept": Input::Swept { .. },
    "answered: ready": Input::Answered { answer: Answer { verdict: Verdict::Ready(_), .. }, .. },
    "answered: not ready": Input::Answered { answer: Answer { verdict: Verdict::NotReady { .. }, .. }, .. },
    "answered: progress": Input::Answered { answer: Answer { verdict: Verdict::Progress { .. }, .. }, .. },
    "peer said": Input::PeerSaid { .. },
    "peer lost": Input::PeerLost { .. },
    "ordered: start": Input::Ordered(Order { verb: OrderVerb::Start, .. }),
    "ordered: stop": Input::Ordered(Order { verb: OrderVerb::Stop, .. }),
    "ordered: restart": Input::Ordered(Order { verb: OrderVerb::Restart, .. }),
    "shutdown began": Input::ShutdownBegan,
    "time came": Input::TimeCame,
}

#[cfg(test)]
mod tests;
