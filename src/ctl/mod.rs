//! `clusterctl`: the operator's commands. A client of the API like any other; one file a verb.
//!
//! Data goes to standard output, everything else to standard error. Nothing needs colour to be understood. Every
//! verb ends in an [`Exit`], the list of which `--help` prints.

mod asked;
mod exit;
mod picture;
mod text;

mod apply;
mod audit;
mod check;
mod completions;
mod context;
mod demo;
mod doctor;
mod events;
mod graph;
mod import;
mod init;
mod leftovers;
mod logs;
mod order;
mod pki;
mod plan;
mod probe;
mod reload;
mod render;
mod simulate;
mod stand_in;
mod status;
mod vip;
mod why;

#[cfg(test)]
mod fixture;

pub use exit::Exit;

use crate::api::client::{Client, ClientError, DEFAULT_SOCKET, Target};
use crate::api::tls::Security;
use crate::model;
use crate::pki::{Bundle, Tls};
use anyhow::Context;
use asked::Asked;
use clap::{Parser, Subcommand, ValueEnum};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// See and steer a cluster of machines: what runs, what waits, and for what.
#[derive(Debug, Parser)]
#[command(name = "clusterctl", version, after_help = exit::HELP, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Flags that every verb takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    json: bool,
    /// Colour the text
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto, value_name = "WHEN")]
    color: Colour,
    /// Ask the agent behind this unix socket
    #[arg(long, global = true, value_name = "PATH", conflicts_with_all = ["agent", "direct"])]
    socket: Option<PathBuf>,
    /// Ask the agent at this address
    #[arg(long, global = true, value_name = "HOST:PORT", conflicts_with = "direct")]
    agent: Option<String>,
    /// Ask every agent of the cluster file, side by side
    #[arg(long, global = true)]
    direct: bool,
    /// Ask over TCP as the holder of this file, from `pki operator` [default: $CLUSTERCTL_IDENTITY,
    /// else ~/.config/clusterd/identity.pem]
    #[arg(long, global = true, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Ask this cluster of those that `context add` remembers [default: $CLUSTERCTL_CONTEXT, else the
    /// current one]
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// What that context says
    #[arg(skip)]
    chosen: Option<context::Context>,
    /// The cluster file [default: /etc/clusterd/cluster.toml, else ./cluster.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// When to colour.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Colour {
    Auto,
    Always,
    Never,
}

// The flags of a verb are made when it is the one: making all of them takes longer than most verbs do. What is written about
// a verb stands here alone: a doc comment on its arguments would take its place.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Verb {
    /// Show all nodes side by side: what runs, what waits and for what
    Status(status::StatusArgs),
    /// Explain an instance down to the root cause, seen from both ends
    Why(why::WhyArgs),
    /// Let everything start (releases what is held), and follow until it is up
    Up(order::UpArgs),
    /// Stop everything, dependents first, and hold it until `up`
    Down(order::DownArgs),
    /// Start instances; they wait for what they need
    Start(order::StartArgs),
    /// Stop instances, dependents first, and hold them
    Stop(order::StopArgs),
    /// Stop instances, dependents first, and start them again
    Restart(order::RestartArgs),
    /// Judge what an unclean stop left behind; removes nothing
    Leftovers(leftovers::LeftoversArgs),
    /// Show who did what on all nodes, and whether that record is whole
    Audit(audit::AuditArgs),
    /// Show who holds the virtual addresses, and what is wrong where not exactly one does
    Vip(vip::VipArgs),
    /// Show what happened
    Events(events::EventsArgs),
    /// Show what instances printed, from any node
    Logs(logs::LogsArgs),
    /// Ask a question by hand, and say what the answer means
    Probe(probe::ProbeArgs),
    /// Let the agents read the cluster file again
    Reload(reload::ReloadArgs),
    /// Put a cluster file and its units in force on all nodes
    Apply(apply::ApplyArgs),
    /// Look for what is wrong on and between the machines, and say what to type
    Doctor(doctor::DoctorArgs),
    /// Write a first cluster file, by flags and by what this machine runs already
    Init(init::InitArgs),
    /// Show the order of a boot from the cluster file, offline
    Plan(plan::PlanArgs),
    /// Check the cluster file and its units, offline
    Check(check::CheckArgs),
    /// Show what directors and real servers are told, from the cluster file, offline
    Render(render::RenderArgs),
    /// Read keepalived.conf files of directors, judge them, and tell them as `[vips]`, offline
    Import(import::ImportArgs),
    /// Draw what needs what from the cluster file, offline
    Graph(graph::GraphArgs),
    /// Predict a boot from the cluster file, offline: when what comes up, and what if
    Simulate(simulate::SimulateArgs),
    /// The cluster's own certificates: who is a node of it, and who may steer it
    Pki(pki::PkiArgs),
    /// Several clusters from one machine: which there are, and which is asked
    Context(context::ContextArgs),
    /// Run the sample cluster of fourteen nodes on this machine, to see and to try things
    Demo(demo::DemoArgs),
    /// Print shell completions
    Completions(completions::CompletionsArgs),
    /// Write the manual pages into a folder, for the package
    #[command(hide = true)]
    Man(completions::ManArgs),
    /// Stand in for a daemon, for the demo
    #[command(hide = true)]
    StandIn(crate::standin::Args),
}

/// The whole program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; clap says which and prints to the right stream.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    match cli.global.color {
        Colour::Auto => {}
        Colour::Always => anstream::ColorChoice::AlwaysAnsi.write_global(),
        Colour::Never => anstream::ColorChoice::Never.write_global(),
    }
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(error) => told(&error).into(),
    }
}

fn run(Cli { mut global, verb }: Cli) -> anyhow::Result<Exit> {
    // What has to do with no cluster, or mends the contexts, is not to fail for them.
    let apart = matches!(verb, Verb::Context(_) | Verb::Completions(_) | Verb::Man(_) | Verb::StandIn(_));
    if !apart {
        global.chosen = context::in_force(global.context.as_deref())?;
    }
    let global = &global;
    match verb {
        Verb::Context(args) => context::run(args, global),
        Verb::Completions(args) => completions::run(args),
        Verb::StandIn(args) => stand_in::run(&args),
        Verb::Plan(args) => plan::run(args, global),
        Verb::Check(args) => check::run(args, global),
        Verb::Render(args) => render::run(args, global),
        Verb::Import(args) => import::run(args, global),
        Verb::Graph(args) => graph::run(args, global),
        Verb::Simulate(args) => simulate::run(&args, global),
        Verb::Pki(args) => pki::run(args, global),
        Verb::Man(args) => completions::man(&args),

        Verb::Status(args) => online(status::run(args, global)),
        Verb::Why(args) => online(why::run(args, global)),
        Verb::Up(args) => online(order::up(args, global)),
        Verb::Down(args) => online(order::down(args, global)),
        Verb::Start(args) => online(order::start(args, global)),
        Verb::Stop(args) => online(order::stop(args, global)),
        Verb::Restart(args) => online(order::restart(args, global)),
        Verb::Leftovers(args) => online(leftovers::run(args, global)),
        Verb::Audit(args) => online(audit::run(args, global)),
        Verb::Vip(args) => online(vip::run(args, global)),
        Verb::Events(args) => online(events::run(args, global)),
        Verb::Logs(args) => online(logs::run(args, global)),
        Verb::Probe(args) => online(probe::run(args, global)),
        Verb::Reload(args) => online(reload::run(args, global)),
        Verb::Init(args) => init::run(args, global),
        Verb::Doctor(args) => online(doctor::run(args, global)),
        Verb::Apply(args) => online(apply::run(args, global)),
        Verb::Demo(args) => online(demo::run(args, global)),
    }
}

/// Runs a verb that asks agents.
fn online<T>(verb: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start")?.block_on(verb)
}

/// Prints an error and its hint, and picks the exit code.
fn told(error: &anyhow::Error) -> Exit {
    if let Some(io) = error.downcast_ref::<std::io::Error>()
        && io.kind() == std::io::ErrorKind::BrokenPipe
    {
        // The reader (head, less) has seen enough.
        return Exit::Done;
    }
    if let Some(refused) = error.downcast_ref::<model::Diagnostics>() {
        eprint!("{}", refused.to_string().trim_end());
        eprintln!();
        return Exit::Configuration;
    }
    anstream::eprintln!("{} {error:#}", text::paint(ERROR, "error:"));
    if let Some(unknown) = error.downcast_ref::<picture::UnknownName>() {
        hint(&unknown.hint());
        return Exit::Usage;
    }
    if let Some(misuse) = error.downcast_ref::<Misuse>() {
        hint(&misuse.hint);
        return Exit::Usage;
    }
    if let Some(text) = error.downcast_ref::<ClientError>().and_then(ClientError::hint) {
        hint(&text);
    }
    Exit::Error
}

/// Wrong use that shows only once the cluster file is known.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Misuse {
    text: String,
    /// What to type instead.
    hint: String,
}

const ERROR: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();

/// One thing to do next, to standard error.
fn hint(text: &str) {
    anstream::eprintln!("{} {text}", text::paint(text::DIM, "hint:"));
}

/// Text to standard output; the codes are stripped where nobody sees colours.
fn print(text: &str) -> std::io::Result<()> {
    // In one piece: a write for each line would wake the reader of a pipe for each line.
    let plain = matches!(anstream::stdout().current_choice(), anstream::ColorChoice::Never);
    let stripped = plain.then(|| anstream::adapter::strip_str(text).to_string());
    let mut out = std::io::stdout().lock();
    out.write_all(stripped.as_deref().unwrap_or(text).as_bytes())?;
    out.flush()
}

/// As [`print`], with the codes that move the cursor.
fn print_raw(text: &str) -> std::io::Result<()> {
    if !on_terminal() {
        return print(text);
    }
    let mut out = std::io::stdout().lock();
    let plain = matches!(anstream::stdout().current_choice(), anstream::ColorChoice::Never);
    let text = if plain { uncoloured(text) } else { text.into() };
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Without the colours (`ESC [ … m`), cursor movements kept.
fn uncoloured(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("\x1b[") {
        out.push_str(&rest[..start]);
        let code = &rest[start..];
        let end = code[2..].find(|c: char| c.is_ascii_alphabetic()).map_or(code.len(), |i| i + 3);
        if !code[..end].ends_with('m') {
            out.push_str(&code[..end]);
        }
        rest = &code[end..];
    }
    out.push_str(rest);
    out
}

fn print_json<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))?;
    Ok(())
}

fn on_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// A variable that is set to something.
fn environment(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

impl Global {
    /// The agent to ask: flags before the environment, the environment before the context, that before the default.
    fn target(&self) -> Target {
        if let Some(agent) = &self.agent {
            Target::Tcp(agent.clone())
        } else if let Some(socket) = &self.socket {
            Target::Unix(socket.clone())
        } else if let Some(agent) = environment("CLUSTERCTL_AGENT") {
            Target::Tcp(agent.to_string_lossy().into_owned())
        } else if let Some(socket) = environment("CLUSTERCTL_SOCKET") {
            Target::Unix(socket.into())
        } else if let Some(context) = &self.chosen {
            Target::Tcp(context.agent.clone())
        } else {
            Target::Unix(DEFAULT_SOCKET.into())
        }
    }

    /// Whether the agent that is asked is this machine's own.
    fn is_local(&self) -> bool {
        self.agent.is_none() && !self.direct
    }

    /// A client of the agent to ask.
    fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(self.target()).secured(self.security()?, None))
    }

    /// How to speak over TCP: as the holder of a certificate, if there is one; else plainly.
    fn security(&self) -> anyhow::Result<Security> {
        let Some((path, bundle)) = self.identity()? else { return Ok(Security::Plain) };
        let cannot = || format!("cannot use the identity in {}", path.display());
        Ok(Security::Tls(Arc::new(Tls::new(&bundle).with_context(cannot)?)))
    }

    /// Who asks, with the key: for what is to be signed.
    fn bundle(&self) -> anyhow::Result<Option<Bundle>> {
        Ok(self.identity()?.map(|(_, bundle)| bundle))
    }

    fn identity(&self) -> anyhow::Result<Option<(PathBuf, Bundle)>> {
        let named = self.identity.clone().or_else(|| environment("CLUSTERCTL_IDENTITY").map(PathBuf::from));
        let named = named.or_else(|| self.chosen.as_ref().map(|context| context.identity.clone()));
        let at_home = || environment("HOME").map(|h| Path::new(&h).join(".config/clusterd/identity.pem"));
        let Some(path) = named.or_else(|| at_home().filter(|path| path.exists())) else {
            return Ok(None);
        };
        let cannot = || format!("cannot use the identity in {}", path.display());
        let bundle = Bundle::read(&path).with_context(cannot)?;
        Ok(Some((path, bundle)))
    }

    /// The cluster file to read.
    fn config(&self) -> PathBuf {
        let system = Path::new("/etc/clusterd/cluster.toml");
        let of_context = || self.chosen.as_ref().and_then(|context| context.config.as_ref());
        match self.config.as_ref().or_else(of_context) {
            Some(path) => path.clone(),
            None if system.exists() => system.into(),
            None => "cluster.toml".into(),
        }
    }
}

/// Reads the cluster file with its units.
fn load(global: &Global) -> Result<model::Cluster, model::Diagnostics> {
    model::load(&global.config(), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_come_before_the_default_socket() {
        let target = |args: &[&str]| Cli::try_parse_from(args).unwrap().global.target();
        let agent = ["clusterctl", "status", "--agent", "mq1:7070"];
        assert_eq!(target(&agent), Target::Tcp("mq1:7070".into()));
        let socket = ["clusterctl", "--socket", "/tmp/s", "status"];
        assert_eq!(target(&socket), Target::Unix("/tmp/s".into()));
        assert!(Cli::try_parse_from(["clusterctl", "status", "--agent", "a:1", "--direct"]).is_err());
    }

    #[test]
    fn only_colours_are_taken_out() {
        assert_eq!(uncoloured("\x1b[H\x1b[31mred\x1b[0m\x1b[K\n\x1b[J"), "\x1b[Hred\x1b[K\n\x1b[J");
    }
}
