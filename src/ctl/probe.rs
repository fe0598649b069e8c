//! `probe`: one question, asked now, with the time of each stage and what the answer means.
//!
//! An instance is asked what the cluster file says, by the agent of its own node or of another. What is typed as KIND
//! and URL is asked from here: no agent asks just anything for who happens to reach its port.

use super::picture::{self, UnknownName, silence};
use super::text::{DIM, Look, paint, put, told};
use super::{Asked, Exit, Global, Misuse};
use crate::api::wire::ClusterStatus;
use crate::facts::{Report, Verdict};
use crate::model::Secret;
use crate::probe::by_hand::{NoQuestion, Typed};
use anstyle::{AnsiColor, Style};
use std::path::PathBuf;
use std::time::Duration;

// `clusterctl probe`
#[derive(Debug, clap::Args)]
pub struct ProbeArgs {
    /// An instance; or a kind (tcp, udp, http, grpc, dns, mysql, postgres, redis, activemq, fastdfs) and a URL; or unix,
    /// file or mount and a path; or clock
    #[arg(required = true, num_args = 1..=2, value_names = ["INSTANCE|KIND", "URL"])]
    pub what: Vec<String>,
    /// Ask from this node, as a dependent there does [default: the instance's own]
    #[arg(long, value_name = "NODE")]
    pub from: Option<String>,
    /// Show how long each stage took
    #[arg(long)]
    pub timing: bool,
    /// KIND URL: the password of the user in the URL, in a file that only you can read
    #[arg(long, value_name = "PATH", group = "password")]
    pub password_file: Option<PathBuf>,
    /// KIND URL: the same, in a variable of this command's environment, which only you and root can see
    #[arg(long, value_name = "VARIABLE", group = "password")]
    pub password_env: Option<String>,
    /// KIND URL: the same, in a credential of systemd's (`systemd-run --pty -p LoadCredential=NAME:/path clusterctl …`)
    #[arg(long, value_name = "NAME", group = "password")]
    pub password_credential: Option<String>,
    /// KIND URL: the deadline for all of it
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = super::text::parse_duration)]
    pub timeout: Duration,
}

impl ProbeArgs {
    fn password(&self) -> Option<Secret> {
        let file = self.password_file.clone().map(Secret::File);
        let variable = || self.password_env.clone().map(Secret::Env);
        file.or_else(variable).or_else(|| self.password_credential.clone().map(Secret::Credential))
    }
}

/// A report, and who asked whom.
#[derive(Debug, serde::Serialize)]
struct Heard {
    /// The instance, or what was typed.
    of: String,
    /// The node that asked.
    from: String,
    #[serde(flatten)]
    report: Report,
}

pub async fn run(args: ProbeArgs, global: &Global) -> anyhow::Result<Exit> {
    let heard = match &args.what[..] {
        [kind, url] => typed(kind, url, &args).await?,
        [kind] if kind == "clock" => typed(kind, "", &args).await?,
        [instance, ..] => configured(instance, args.from.as_deref(), global).await?,
        [] => anyhow::bail!("nothing is asked"),
    };
    let ready = heard.report.verdict.is_ready();
    if global.json {
        super::print_json(&heard)?;
    } else {
        super::print(&render(&heard, args.timing, &Look::here()))?;
    }
    Ok(if ready { Exit::Done } else { Exit::Incomplete })
}

async fn typed(kind: &str, url: &str, args: &ProbeArgs) -> anyhow::Result<Heard> {
    if args.from.is_some() {
        let text = "--from asks an instance: an agent asks nothing that is not in its cluster file".into();
        let hint = "run this on that machine, without --from".into();
        return Err(Misuse { text, hint }.into());
    }
    let misuse = |no: NoQuestion| Misuse { text: no.to_string(), hint: no.hint };
    let typed = Typed::read(kind, url, args.password()).map_err(misuse)?;
    let report = typed.ask(args.timeout).await;
    Ok(Heard { of: format!("{kind} {}", report.asked), from: "this machine".into(), report })
}

async fn configured(name: &str, from: Option<&str>, global: &Global) -> anyhow::Result<Heard> {
    let mut asked = Asked::open(global)?;
    let status = asked.cluster().await?;
    let outside = picture::outside(&status)
        .get(name)
        .and_then(|edges| edges.first())
        .map(|(by, _)| picture::node_of(by));
    if let Some(asks) = outside {
        return from_node(name, from.unwrap_or(asks), &status, &mut asked).await;
    }
    let chosen = picture::select(&status, &[name.to_owned()])?;
    let known = chosen.first().ok_or_else(|| UnknownName { name: name.into(), meant: None })?;
    if let Some(other) = chosen.get(1) {
        let text = format!("'{name}' means several: {}, {}, …", known.name(), other.name());
        return Err(Misuse { text, hint: format!("clusterctl probe {}", known.name()) }.into());
    }
    from_node(known.name(), from.unwrap_or(&known.node().node), &status, &mut asked).await
}

async fn from_node(
    name: &str,
    from: &str,
    status: &ClusterStatus,
    asked: &mut Asked,
) -> anyhow::Result<Heard> {
    let Some(node) = status.nodes.iter().find(|n| n.node == from) else {
        let nodes: Vec<&str> = status.nodes.iter().map(|n| n.node.as_str()).collect();
        let hint = format!("the nodes are {}", super::text::listed(&nodes, 20));
        return Err(Misuse { text: format!("there is no node '{from}'"), hint }.into());
    };
    if node.status.is_none() {
        anyhow::bail!("{from} cannot ask: {}; --from asks from another node", silence(node));
    }
    let path = format!("/v1/probe?instance={name}");
    let report = asked.get_at(from, &path).await?;
    Ok(Heard { of: name.into(), from: from.into(), report })
}

fn render(heard: &Heard, timing: bool, look: &Look) -> String {
    let Report { asked, verdict, meaning, stages } = &heard.report;
    let colour = match verdict {
        Verdict::Ready(_) => AnsiColor::Green,
        Verdict::Progress { .. } => AnsiColor::Yellow,
        Verdict::NotReady { .. } => AnsiColor::Red,
    };
    let mut out = String::new();
    put(&mut out, look, 0, &paint(Style::new().fg_color(Some(colour.into())), &told(verdict)));
    put(&mut out, look, 2, &format!("it means: {meaning}"));
    put(&mut out, look, 2, &paint(DIM, &format!("asked: {asked}, from {}", heard.from)));
    if timing {
        let together = stages.iter().map(|took| took.us).sum();
        let lines = stages.iter().map(|took| (took.stage.as_str(), took.us));
        for (stage, us) in lines.chain([("together", together)]) {
            out.push_str(&format!("  {stage:<17} {:>10}\n", time(us)));
        }
    }
    out
}

/// `0.312 ms`, `41.0 ms`, `2.00 s`: three figures that mean something.
fn time(us: u64) -> String {
    let ms = us as f64 / 1000.0;
    match us {
        ..10_000 => format!("{ms:.3} ms"),
        10_000..1_000_000 => format!("{ms:.1} ms"),
        _ => format!("{:.2} s", ms / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::look;
    use super::*;
    use crate::facts::{Stage, Took};
    use snapbox::str;

    #[test]
    fn an_answer_comes_with_its_meaning_and_its_times() {
        let report = Report {
            asked: "redis at 10.0.0.4:6379".into(),
            verdict: Verdict::ready("PONG, master"),
            meaning: "its data set is loaded, and it takes writes".into(),
            stages: vec![Took { stage: Stage::Connect, us: 312 }, Took { stage: Stage::Reply, us: 41_000 }],
        };
        let heard = Heard { of: "redis@redis1".into(), from: "web1".into(), report };
        let text = anstream::adapter::strip_str(&render(&heard, true, &look(None))).to_string();
        snapbox::assert_data_eq!(
            text,
            str![[r#"
ready (PONG, master)
  it means: its data set is loaded, and it takes writes
  asked: redis at 10.0.0.4:6379, from web1
  connect             0.312 ms
  reply                41.0 ms
  together             41.3 ms

"#]]
        );
        assert_eq!(time(2_000_000), "2.00 s");
    }

    #[test]
    fn what_is_on_its_way_tells_the_time_that_is_left() {
        let reason = "10.0.0.4:6379 is loading its data set: 43 %".into();
        let report = Report {
            asked: "redis at 10.0.0.4:6379".into(),
            verdict: Verdict::Progress { reason, percent: Some(43), left: Some(Duration::from_secs(12)) },
            meaning: "it works towards being ready".into(),
            stages: vec![],
        };
        let heard = Heard { of: "redis@redis1".into(), from: "web1".into(), report };
        let text = anstream::adapter::strip_str(&render(&heard, false, &look(None))).to_string();
        assert!(text.starts_with("10.0.0.4:6379 is loading its data set: 43 %, 12s left\n"), "{text}");
    }
}
