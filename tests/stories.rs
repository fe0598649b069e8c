//! Stories of the engine: what happens, then `----`, then everything the engine does about it.
//!
//! A story file under `tests/stories/` holds prose (lines that begin with `#`), the cluster file and its units
//! between `cluster` / `unit NAME` and `end`, then blocks of lines. Each block is a few things that happen, a line
//! `----`, and the full trace that must follow. Its diff *is* the change of behaviour: run with `STORIES=write` to
//! rewrite the traces, and read the diff.
//!
//! | line | what happens |
//! |---|---|
//! | `on NODE` | whose engine this is (first line after the units) |
//! | `after 1s` | time passes; timers that fall due on the way are let through |
//! | `searched X nothing`, `searched X running PID [ready] [stopping] [launcher] [failures N]`, `searched X ended [left | seen | completed | gave-up]` | (`searched all nothing` for all) |
//! | `answer X ready [ROLE…]`, `answer X refused`, `answer X loading 40`, `answer X loading [for 60s]` | the question to instance X is answered now |
//! | `late answer X ready …`, `slow 5ms answer X ready …` | answered by a probe that had begun 2 s, or 5 ms, ago |
//! | `own X ready`, … | the same for X's own question |
//! | `cleaned X clear`, `cleaned X doubt WORDS`, `cleaned X alive PID` | |
//! | `spawned X PID`, `spawn-failed X WORDS`, `no-room X WORDS` (a shortage), `adopted X PID`, `main X PID`, `no-main X`, `daemonless X` | |
//! | `says X READY=1 STATUS=a~line …` | X notified its agent; `~` is a space |
//! | `earlier …` | the same of the incarnation before the present one |
//! | `exited X code N`, `exited X signal N`, with `saying WORDS` or `alone`; `exited X unknown`, `exited X out-of-memory`; `swept X [killed N]` | |
//! | `peer X STATE [veto EPOCH [nowait]] [released Y]… [released-before Y]…` | X's agent says so; `released` speaks of Y's present withdrawal, `released-before` of an earlier one |
//! | `NODE claims X STATE` | an agent that is not X's says so |
//! | `lost NODE` | its stream ends |
//! | `answer nobody …`, `NODE claims nobody STATE` | about a question or an instance that there is not |
//! | `start X…`, `stop X…`, `restart X…` with `force`, `without NODE`, `within 60s`, `because WORDS` | an operator orders it |
//! | `shutdown` | the machine goes down |
//! | `reload` | the cluster and units as written above this line, in place of those in force, come into force |
//! | `show X`, `view X` | nothing happens; the view of X is printed, in short or whole |
//! | `memory X` | nothing happens; what the next agent would know of X is printed |
//! | `journal X` | nothing happens; what was last told to be journalled of X is printed |
//! | `heard X` | nothing happens; what was last heard of X is printed |
//! | `command X` | nothing happens; the command that X is run by, or would be, is printed |
//! | `neighbours` | nothing happens; the nodes whose agents' word matters are printed |
//! | `wake` | nothing happens; when the engine wants to be woken next is printed |
//! | `data` | nothing happens; what the latest event says to programs is printed |

use clusterd::engine::view::{StateName, Wish};
use clusterd::engine::{
    Action, Engine, Found, Input, Memory, Order, OrderVerb, QuestionIx, Veto, WAITING_PACE, Word,
};
use clusterd::facts::{
    Answer, Cleaned, Exit, Finding, Judgement, Moment, Notice, Ready, Role, Trouble, Verdict,
};
use clusterd::graph::Graph;
use clusterd::model::{self, Cluster, InstanceIx, Probe, Source, Sources};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often an engine may want to be woken while a story lets time pass.
const MOST_WAKES: usize = 10_000;

#[test]
fn stories() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no stories in {}", folder.display());
    let write = std::env::var("STORIES").is_ok_and(|v| v == "write");
    let mut wrong = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let told = tell(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        if told == text {
            continue;
        }
        if write {
            std::fs::write(&file, told).unwrap();
            continue;
        }
        wrong += 1;
        eprintln!("\n{} goes another way (run with STORIES=write to take it):", file.display());
        for line in diff(&text, &told) {
            eprintln!("{line}");
        }
    }
    assert_eq!(wrong, 0, "{wrong} stories go another way than they are written");
}

/// Each line of either text that the other does not have at its place, by the longest common run of lines.
fn diff(was: &str, is: &str) -> Vec<String> {
    let (a, b): (Vec<_>, Vec<_>) = (was.lines().collect(), is.lines().collect());
    let mut common = vec![vec![0u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] =
                if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]) {
            out.push(format!("  line {:3}  - {}", i + 1, a[i]));
            i += 1;
        } else {
            out.push(format!("  line {:3}  + {}", i + 1, b[j]));
            j += 1;
        }
    }
    out
}

/// Tells the story again: the same text with the traces as they come out now.
fn tell(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut lines = text.lines().enumerate().peekable();
    let mut cluster_text = String::new();
    let mut units: BTreeMap<String, Source> = BTreeMap::new();
    let mut stage: Option<Stage> = None;
    while let Some((number, line)) = lines.next() {
        writeln!(out, "{line}").unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] | ["#", ..] => {}
            ["cluster"] | ["unit", _] => {
                let mut body = String::new();
                for (_, line) in lines.by_ref() {
                    writeln!(out, "{line}").unwrap();
                    if line == "end" {
                        break;
                    }
                    writeln!(body, "{line}").unwrap();
                }
                match words.get(1) {
                    None => cluster_text = body,
                    Some(name) => {
                        let path = format!("units/{name}.toml");
                        units.insert((*name).to_owned(), Source { path, text: body });
                    }
                }
            }
            [word @ ("on" | "reload"), ..] => {
                let sources = Sources {
                    cluster: Source { path: "cluster.toml".to_owned(), text: cluster_text.clone() },
                    folder: "units".to_owned(),
                    units: units.clone(),
                    unread: BTreeMap::new(),
                };
                let cluster = model::parse(&sources).map_err(|e| e.to_string())?;
                match (*word, &mut stage) {
                    ("on", _) => stage = Some(Stage::new(cluster, words.get(1).ok_or("on which node?")?)?),
                    (_, Some(stage)) => stage.reload(cluster)?,
                    (_, None) => return Err("the story has no line `on NODE`".to_owned()),
                }
            }
            ["----"] => {
                let stage = stage.as_mut().ok_or("the story has no line `on NODE`")?;
                while lines.peek().is_some_and(|(_, line)| !line.trim().is_empty()) {
                    lines.next();
                }
                out.push_str(&std::mem::take(&mut stage.trace));
            }
            _ if line.starts_with('#') => {}
            _ => {
                let stage = stage.as_mut().ok_or("the story has no line `on NODE`")?;
                stage.happen(&words).map_err(|e| format!("line {}: {line}: {e}", number + 1))?;
            }
        }
    }
    Ok(out)
}

struct Stage {
    cluster: Arc<Cluster>,
    engine: Engine,
    now: Moment,
    /// The latest incarnation of each own instance, as the actions told it.
    incarnations: HashMap<InstanceIx, u64>,
    trace: String,
    /// By question: what it is called in a story.
    names: HashMap<QuestionIx, String>,
    /// What the latest event says to programs.
    data: serde_json::Value,
    /// How many incarnations ago the process was of which the present line speaks.
    earlier: u64,
    /// What the journal has of each own instance.
    journal: HashMap<InstanceIx, Memory>,
}

impl Stage {
    fn new(cluster: Cluster, node: &str) -> Result<Stage, String> {
        let cluster = Arc::new(cluster);
        let me = cluster.node_named(node).ok_or("no such node")?;
        let graph = Graph::new(&cluster).map_err(|_| "a cycle")?;
        let ranks: Vec<u32> = cluster.instance_ixs().map(|i| graph.rank(i)).collect();
        // A machine has been up for a while when its agent starts.
        let now = Moment(1_000_000_000_000);
        let engine = Engine::new(cluster.clone(), me, &ranks, &HashMap::new(), now - Duration::from_secs(10));
        let mut stage = Stage {
            cluster,
            engine,
            now,
            incarnations: HashMap::new(),
            trace: String::new(),
            names: HashMap::new(),
            data: serde_json::Value::Null,
            earlier: 0,
            journal: HashMap::new(),
        };
        stage.name_questions();
        Ok(stage)
    }

    fn reload(&mut self, cluster: Cluster) -> Result<(), String> {
        self.now = self.now + Duration::from_millis(1);
        let node = self.cluster.node(self.engine.node()).name.clone();
        self.cluster = Arc::new(cluster);
        let me = self.cluster.node_named(&node).ok_or("the node is gone")?;
        let graph = Graph::new(&self.cluster).map_err(|_| "a cycle")?;
        let ranks: Vec<u32> = self.cluster.instance_ixs().map(|i| graph.rank(i)).collect();
        let by_name: HashMap<_, _> = self
            .incarnations
            .iter()
            .map(|(ix, n)| (self.engine.cluster().instance(*ix).name.clone(), *n))
            .collect();
        let (new, orphans) = self.engine.reconfigure(self.now, self.cluster.clone(), me, &ranks);
        assert_eq!(self.engine.in_force_since(), self.now);
        let known = by_name.iter().filter_map(|(name, n)| Some((self.cluster.instance_named(name)?, *n)));
        self.incarnations = known.collect();
        self.names.clear();
        self.name_questions();
        let new: Vec<_> = new.iter().map(|ix| self.cluster.instance(*ix).name.to_string()).collect();
        writeln!(self.trace, "reloaded: new {new:?}, orphans {orphans:?}").unwrap();
        Ok(())
    }

    fn name_questions(&mut self) {
        for ix in self.cluster.instance_ixs() {
            let instance = self.cluster.instance(ix);
            let questions = [
                (instance.unit.ready.remote.as_ref(), instance.name.to_string()),
                match &instance.unit.ready.local {
                    Probe::Ask(question) => (Some(question), format!("own {}", instance.name)),
                    _ => (None, String::new()),
                },
            ];
            for (question, name) in questions {
                let Some(q) = question.and_then(|q| self.engine.questions().find(|(_, known)| *known == q))
                else {
                    continue;
                };
                self.names.entry(q.0).or_insert(name);
            }
        }
    }

    fn instance(&self, name: &str) -> Result<InstanceIx, String> {
        self.cluster.instance_named(name).ok_or_else(|| format!("no instance {name}"))
    }

    fn incarnation(&self, ix: InstanceIx) -> u64 {
        self.incarnations.get(&ix).copied().unwrap_or(0) - self.earlier
    }

    fn question(&self, name: &str, own: bool) -> Result<QuestionIx, String> {
        let instance = self.cluster.instance(self.instance(name)?);
        let question = match (&instance.unit.ready.local, own) {
            (Probe::Ask(question), true) => Some(question),
            _ => instance.unit.ready.remote.as_ref(),
        };
        let found = question.and_then(|q| self.engine.questions().find(|(_, known)| *known == q));
        found.map(|(ix, _)| ix).ok_or_else(|| format!("nobody here asks {name}"))
    }

    fn feed(&mut self, input: Input) {
        for action in self.engine.handle(self.now, 0, input) {
            self.write(&action);
        }
    }

    fn happen(&mut self, words: &[&str]) -> Result<(), String> {
        // Two things never happen at one instant.
        self.now = self.now + Duration::from_millis(1);
        match words {
            ["after", how_long] => self.pass(duration(how_long)?)?,
            ["searched", "all", "nothing"] => {
                for instance in self.engine.own_instances().collect::<Vec<_>>() {
                    self.feed(Input::Searched { instance, found: Found::Nothing });
                }
            }
            ["searched", name, rest @ ..] => {
                let instance = self.instance(name)?;
                let memory = Memory { incarnation: 1, main: true, starts: 1, ..Memory::default() };
                let found = match rest {
                    ["nothing"] => Found::Nothing,
                    ["ended"] | ["ended", "left"] => Found::Ended {
                        memory: Memory { spawned: self.now - Duration::from_secs(60), ..memory },
                        left: rest.len() > 1,
                    },
                    ["ended", "gave-up"] => {
                        let gave_up = "gave up after 5 failures: exit code 1".to_owned();
                        Found::Ended { memory: Memory { gave_up, ..memory }, left: false }
                    }
                    ["ended", "seen"] => {
                        Found::Ended { memory: Memory { failures: 2, ..memory }, left: false }
                    }
                    ["ended", "completed"] => {
                        Found::Ended { memory: Memory { completed: true, ..memory }, left: false }
                    }
                    ["running", pid, rest @ ..] => Found::Running {
                        pid: number(pid)?,
                        memory: Memory {
                            was_ready: rest.contains(&"ready"),
                            stopping: rest.contains(&"stopping"),
                            main: !rest.contains(&"launcher"),
                            failures: match rest.iter().position(|word| *word == "failures") {
                                Some(at) => number(rest.get(at + 1).ok_or("how many?")?)?,
                                None => 0,
                            },
                            spawned: self.now - Duration::from_secs(60),
                            ..memory
                        },
                        unit: None,
                    },
                    _ => return Err("what was found?".to_owned()),
                };
                self.incarnations.insert(instance, 1);
                self.feed(Input::Searched { instance, found });
            }
            ["late", "answer", name, rest @ ..] => {
                self.answer(name, false, rest, Duration::from_secs(2))?;
            }
            ["slow", took, "answer", name, rest @ ..] => {
                self.answer(name, false, rest, duration(took)?)?;
            }
            ["earlier", rest @ ..] => {
                self.earlier = 1;
                let happened = self.happen(rest);
                self.earlier = 0;
                happened?;
            }
            ["answer", name, rest @ ..] => self.answer(name, false, rest, Duration::ZERO)?,
            ["own", name, rest @ ..] => self.answer(name, true, rest, Duration::ZERO)?,
            ["cleaned", name, rest @ ..] => {
                let instance = self.instance(name)?;
                let finding = |judgement, words: &[&str]| Finding {
                    what: "the pid file".to_owned(),
                    judgement,
                    evidence: words.join(" "),
                    kept: None,
                };
                let cleaned = match rest {
                    ["clear"] => Cleaned::Clear { findings: Vec::new() },
                    ["stale", words @ ..] => {
                        Cleaned::Clear { findings: vec![finding(Judgement::Stale, words)] }
                    }
                    ["doubt", words @ ..] => {
                        Cleaned::Doubt { findings: vec![finding(Judgement::Doubt, words)] }
                    }
                    ["alive", pid] => Cleaned::Alive { pid: number(pid)?, findings: Vec::new() },
                    _ => return Err("how was it judged?".to_owned()),
                };
                self.feed(Input::Cleaned { instance, cleaned });
            }
            ["spawned", name, pid] => {
                let instance = self.instance(name)?;
                let incarnation = self.incarnation(instance);
                self.feed(Input::Spawned { instance, incarnation, pid: number(pid)? });
            }
            [how @ ("spawn-failed" | "no-room"), name, reason @ ..] => {
                let instance = self.instance(name)?;
                let incarnation = self.incarnation(instance);
                let (reason, shortage) = (reason.join(" "), *how == "no-room");
                self.feed(Input::SpawnFailed { instance, incarnation, reason, shortage });
            }
            ["main", name, pid] => {
                let instance = self.instance(name)?;
                let incarnation = self.incarnation(instance);
                self.feed(Input::MainFound { instance, incarnation, pid: number(pid)? });
            }
            [word @ ("no-main" | "daemonless"), name] => {
                let instance = self.instance(name)?;
                let (incarnation, empty) = (self.incarnation(instance), *word == "daemonless");
                let reason = "no daemon".to_owned();
                self.feed(Input::MainMissing { instance, incarnation, reason, empty });
            }
            ["adopted", name, pid] => {
                let instance = self.instance(name)?;
                let incarnation = self.incarnation(instance);
                self.feed(Input::Adopted { instance, incarnation, pid: number(pid)? });
            }
            ["exited", name, how @ ("unknown" | "out-of-memory")] => {
                let instance = self.instance(name)?;
                let exit = if *how == "unknown" { Exit::Unknown } else { Exit::OutOfMemory };
                let incarnation = self.incarnation(instance);
                let last_words = String::new();
                self.feed(Input::Exited { instance, incarnation, exit, last_words, alone: false });
            }
            ["exited", name, how, n, rest @ ..] => {
                let instance = self.instance(name)?;
                let exit = match *how {
                    "code" => Exit::Code(number(n)?),
                    "signal" => Exit::Signal(number(n)?),
                    _ => return Err("exited how?".to_owned()),
                };
                let incarnation = self.incarnation(instance);
                let last_words = rest.iter().skip(1).copied().collect::<Vec<_>>().join(" ");
                let alone = rest.first() == Some(&"alone");
                self.feed(Input::Exited { instance, incarnation, exit, last_words, alone });
            }
            ["says", name, assignments @ ..] => {
                let instance = self.instance(name)?;
                let incarnation = self.incarnation(instance);
                let notice = notice(assignments)?;
                self.feed(Input::Notified { instance, incarnation, notice });
            }
            ["swept", name, rest @ ..] => {
                let instance = self.instance(name)?;
                let incarnation = self.incarnation(instance);
                let killed = rest.get(1).map_or(Ok(0), |n| number(n))?;
                self.feed(Input::Swept { instance, incarnation, killed });
            }
            ["peer", name, state, rest @ ..] => self.peer(name, state, rest)?,
            ["lost", node] => {
                let node = self.cluster.node_named(node).ok_or("no such node")?;
                self.feed(Input::PeerLost { node });
            }
            [verb @ ("start" | "stop" | "restart"), rest @ ..] => self.order(verb, rest)?,
            [liar, "claims", name, state] => {
                let node = self.cluster.node_named(liar);
                let instance = match *name {
                    "nobody" => InstanceIx(self.cluster.instances.len() as u32),
                    name => self.instance(name)?,
                };
                let state = state_named(state)?;
                let word = Word { state, reason: String::new(), veto: None, released: Vec::new() };
                let node = node.ok_or("no such node")?;
                self.feed(Input::PeerSaid { node, words: vec![(instance, word)] });
            }
            ["shutdown"] => self.feed(Input::ShutdownBegan),
            ["show", name] => self.show(name)?,
            ["view", name] => self.view(name)?,
            ["memory", name] => {
                let memory =
                    self.engine.memory(self.instance(name)?).ok_or("not an instance of this node")?;
                writeln!(self.trace, "{}", serde_json::to_string(&memory).unwrap()).unwrap();
            }
            ["journal", name] => {
                let memory = self.journal.get(&self.instance(name)?).ok_or("nothing is journalled of it")?;
                writeln!(self.trace, "{}", serde_json::to_string(memory).unwrap()).unwrap();
            }
            ["heard", name] => {
                let heard = self.engine.last_heard(self.instance(name)?, self.now);
                let text = match heard {
                    Some((state, ms)) => format!("{state}, {ms} ms ago"),
                    None => "nothing".to_owned(),
                };
                writeln!(self.trace, "of {name} was heard: {text}").unwrap();
            }
            ["command", name] => {
                let unit = self.engine.unit(self.instance(name)?).ok_or("not an instance of this node")?;
                writeln!(self.trace, "{name} is run by {:?}", unit.run.command).unwrap();
            }
            ["neighbours"] => {
                let all = self.engine.neighbours();
                let names: Vec<_> = all.into_iter().map(|n| self.cluster.node(n).name.to_string()).collect();
                writeln!(self.trace, "listens to {names:?}").unwrap();
            }
            ["wake"] => match self.engine.next_wake() {
                Some(at) => writeln!(self.trace, "wakes in {:?}", at.since(self.now)).unwrap(),
                None => writeln!(self.trace, "wakes no more").unwrap(),
            },
            ["data"] => writeln!(self.trace, "data: {}", self.data).unwrap(),
            _ => return Err("what is that?".to_owned()),
        }
        Ok(())
    }

    /// Time passes; what falls due on the way is let through at its own moment.
    fn pass(&mut self, how_long: Duration) -> Result<(), String> {
        let end = self.now + how_long;
        let mut wakes = 0;
        while let Some(due) = self.engine.next_wake().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            let before = self.trace.len();
            self.feed(Input::TimeCame);
            wakes += 1;
            if wakes > MOST_WAKES {
                return Err("the engine wants to be woken without end".to_owned());
            }
            if self.trace.len() > before {
                let passed = how_long.saturating_sub(end.since(self.now));
                self.trace.insert_str(before, &format!("[{passed:?} later]\n"));
            }
        }
        self.now = end;
        Ok(())
    }

    fn answer(&mut self, name: &str, own: bool, words: &[&str], age: Duration) -> Result<(), String> {
        let verdict = match words {
            ["ready", roles @ ..] => {
                let mut ready = Ready { detail: "fine".to_owned(), ..Ready::default() };
                for role in roles {
                    match *role {
                        "writable" => ready.roles.push(Role::Writable),
                        "master" => ready.roles.push(Role::Master),
                        "replica" => ready.roles.push(Role::Replica),
                        identity => ready.identity = Some(identity.to_owned()),
                    }
                }
                Verdict::Ready(ready)
            }
            ["refused"] => Verdict::not_ready(Trouble::Refused, "connection refused"),
            ["silent"] => Verdict::not_ready(Trouble::Silent, "no answer within 2 s"),
            ["declined"] => Verdict::not_ready(Trouble::Declined, "it says no"),
            ["loading"] => Verdict::Progress { reason: "loading".to_owned(), percent: None, left: None },
            ["loading", "for", left] => {
                Verdict::Progress { reason: "loading".to_owned(), percent: None, left: Some(duration(left)?) }
            }
            ["loading", percent] => Verdict::Progress {
                reason: format!("loading, {percent} %"),
                percent: Some(number(percent)?),
                left: None,
            },
            _ => return Err("what was answered?".to_owned()),
        };
        let question = match name {
            "nobody" => QuestionIx(self.engine.questions().count() as u32),
            _ => self.question(name, own)?,
        };
        let answer = Answer { verdict, begun: self.now - age, ended: self.now };
        self.feed(Input::Answered { question, answer });
        Ok(())
    }

    fn peer(&mut self, name: &str, state: &str, mut rest: &[&str]) -> Result<(), String> {
        let instance = self.instance(name)?;
        let state = state_named(state)?;
        let mut word = Word { state, reason: String::new(), veto: None, released: Vec::new() };
        loop {
            rest = match rest {
                [] => break,
                ["veto", epoch, rest @ ..] => {
                    let why = "held by alice".to_owned();
                    let waits = rest.first() != Some(&"nowait");
                    word.veto = Some(Veto { epoch: number(epoch)?, why, waits, lost: false });
                    if waits { rest } else { &rest[1..] }
                }
                [how @ ("released" | "released-before"), whose, rest @ ..] => {
                    let veto = self.engine.word(self.instance(whose)?).and_then(|w| w.veto);
                    let epoch = veto.ok_or_else(|| format!("{whose} is not withdrawn"))?.epoch;
                    let epoch = epoch - u64::from(*how == "released-before");
                    word.released.push(((*whose).into(), epoch));
                    rest
                }
                _ => return Err("what does its agent say?".to_owned()),
            };
        }
        let node = self.cluster.instance(instance).node;
        self.feed(Input::PeerSaid { node, words: vec![(instance, word)] });
        Ok(())
    }

    fn order(&mut self, verb: &str, words: &[&str]) -> Result<(), String> {
        let mut order = Order {
            id: 1,
            verb: match verb {
                "start" => OrderVerb::Start,
                "stop" => OrderVerb::Stop,
                _ => OrderVerb::Restart,
            },
            instances: Vec::new(),
            force: false,
            timeout: Duration::from_secs(60),
            without: Vec::new(),
            by: "alice".to_owned(),
            reason: String::new(),
            clock: 0,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "force" => order.force = true,
                "because" => order.reason = words.by_ref().copied().collect::<Vec<_>>().join(" "),
                "within" => order.timeout = duration(words.next().ok_or("how long?")?)?,
                "without" => {
                    let name = words.next().ok_or("without whom?")?;
                    order.without.push(self.cluster.node_named(name).ok_or("no such node")?);
                }
                name => order.instances.push(self.instance(name)?),
            }
        }
        self.feed(Input::Ordered(order));
        Ok(())
    }

    fn show(&mut self, name: &str) -> Result<(), String> {
        let instance = self.instance(name)?;
        let view = self.engine.view(instance, self.now).ok_or("not an instance of this node")?;
        // What the simulator asks all the time is the same in short.
        let counts: Vec<_> = self.engine.counts(instance).collect();
        assert_eq!(self.engine.state(instance), Some(view.state));
        assert_eq!(counts, view.needs.iter().map(|need| need.met).collect::<Vec<_>>());
        let held = if matches!(view.wish, Wish::Up) { "" } else { " (held)" };
        let reason = if view.reason.is_empty() { String::new() } else { format!(": {}", view.reason) };
        writeln!(self.trace, "{name} is {}{held}{reason}", view.state).unwrap();
        for need in &view.needs {
            let ok = if need.ok { "met" } else { "unmet" };
            writeln!(
                self.trace,
                "  needs {} {}: {ok}, {} of {}",
                need.name, need.count, need.met, need.wanted
            )
            .unwrap();
        }
        Ok(())
    }

    /// Everything that a view says, a line for each need and each edge.
    fn view(&mut self, name: &str) -> Result<(), String> {
        let view = self.engine.view(self.instance(name)?, self.now).ok_or("not an instance of this node")?;
        let mut whole = serde_json::to_value(view).map_err(|e| e.to_string())?;
        let needs = remove(&mut whole, "needs");
        writeln!(self.trace, "{whole}").unwrap();
        for mut need in needs.as_array().into_iter().flatten().cloned() {
            let edges = remove(&mut need, "edges");
            writeln!(self.trace, "  {need}").unwrap();
            for edge in edges.as_array().into_iter().flatten() {
                writeln!(self.trace, "    {edge}").unwrap();
            }
        }
        Ok(())
    }

    fn write(&mut self, action: &Action) {
        if let Action::Spawn { instance, memory, .. }
        | Action::Adopt { instance, memory, .. }
        | Action::FindMain { instance, memory }
        | Action::Remember { instance, memory } = action
        {
            self.journal.insert(*instance, memory.clone());
        }
        let name = |ix: &InstanceIx| self.cluster.instance(*ix).name.clone();
        let asked =
            |q: &QuestionIx| self.names.get(q).cloned().unwrap_or_else(|| format!("question {}", q.0));
        let line = match action {
            Action::Pace { question, every: None } => format!("ask {} no more", asked(question)),
            Action::Pace { question, every: Some(every) } if *every == WAITING_PACE => {
                format!("ask {} fast", asked(question))
            }
            Action::Pace { question, every: Some(every) } => {
                format!("ask {} every {every:?}", asked(question))
            }
            Action::Verify { question } => format!("verify {}", asked(question)),
            Action::Clean { instance } => format!("clean {}", name(instance)),
            Action::Spawn { instance, memory, .. } => {
                self.incarnations.insert(*instance, memory.incarnation);
                format!("spawn {} (start {})", name(instance), memory.starts)
            }
            Action::Adopt { instance, pid, memory, .. } => {
                self.incarnations.insert(*instance, memory.incarnation);
                format!("adopt {} (pid {pid})", name(instance))
            }
            Action::FindMain { instance, .. } => format!("find the main process of {}", name(instance)),
            // What is remembered is the journal's matter, and in every trace it would be noise.
            Action::Remember { .. } => return,
            Action::Signal { instance, signal, .. } => format!("signal {} to {}", signal, name(instance)),
            Action::Sweep { instance, .. } => format!("sweep {}", name(instance)),
            Action::Release { instance } => format!("release the addresses of {}", name(instance)),
            Action::SaveWish { instance, wish: Wish::Up } => format!("save: {} is to be up", name(instance)),
            Action::SaveWish { instance, wish: Wish::Held { by, .. } } => {
                format!("save: {} is held by {by}", name(instance))
            }
            Action::Publish { instance } => {
                let word = self.engine.word(*instance).expect("an own instance");
                let veto = match &word.veto {
                    Some(veto) if veto.waits => ", vetoed",
                    Some(_) => ", vetoed and waits for nobody",
                    None => "",
                };
                let released: String =
                    word.released.iter().map(|(n, _)| format!(", has released {n}")).collect();
                format!("tell: {} is {}{veto}{released}", name(instance), word.state)
            }
            Action::Record(event) => {
                self.data = event.data.clone();
                let colon = if event.text.is_empty() { "" } else { ": " };
                format!("event: {} {}{colon}{}", name(&event.instance), event.what, event.text)
            }
            Action::Reply { taken, .. } => {
                let all: Vec<_> = taken.iter().map(|(ix, text)| format!("{} {text}", name(ix))).collect();
                format!("reply: {}", all.join("; "))
            }
            Action::Finished => "finished".to_owned(),
        };
        writeln!(self.trace, "{line}").unwrap();
    }
}

fn remove(object: &mut serde_json::Value, key: &str) -> serde_json::Value {
    object.as_object_mut().and_then(|map| map.remove(key)).unwrap_or_default()
}

fn state_named(text: &str) -> Result<StateName, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|e| e.to_string())
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).ok_or("a duration has a unit")?;
    let n: u64 = number(&text[..split])?;
    match &text[split..] {
        "ms" => Ok(Duration::from_millis(n)),
        "s" => Ok(Duration::from_secs(n)),
        "m" => Ok(Duration::from_secs(60 * n)),
        unit => Err(format!("{unit} is no unit of time")),
    }
}

/// What a service says of itself, in the words of sd_notify(3).
fn notice(assignments: &[&str]) -> Result<Notice, String> {
    let mut notice = Notice::default();
    for assignment in assignments {
        match assignment.split_once('=').ok_or("what does it say?")? {
            ("READY", _) => notice.ready = true,
            ("RELOADING", _) => notice.reloading = true,
            ("STOPPING", _) => notice.stopping = true,
            ("WATCHDOG", "1") => notice.alive = true,
            ("WATCHDOG", _) => notice.failed = true,
            ("STATUS", text) => notice.status = Some(text.replace('~', " ")),
            ("EXTEND_TIMEOUT_USEC", n) => notice.extend = Some(Duration::from_micros(number(n)?)),
            _ => return Err(format!("nobody says {assignment}")),
        }
    }
    Ok(notice)
}
