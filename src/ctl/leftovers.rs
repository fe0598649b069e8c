//! `leftovers`: what an unclean stop left behind, judged now. Removes nothing.

use super::picture::{self, silence};
use super::text::{Look, Row, paint};
use super::{Asked, Exit, Global, hint};
use crate::api::wire::LeftoverView;
use crate::facts::Judgement;
use anstyle::{AnsiColor, Style};
use futures_util::future::join_all;
use std::collections::BTreeMap;

// `clusterctl leftovers`
#[derive(Debug, clap::Args)]
pub struct LeftoversArgs {
    /// Only these nodes, groups, services or instances
    pub names: Vec<String>,
}

pub async fn run(args: LeftoversArgs, global: &Global) -> anyhow::Result<Exit> {
    let mut asked = Asked::open(global)?;
    let status = asked.cluster().await?;
    let chosen = picture::select(&status, &args.names)?;
    let nodes: Vec<_> =
        status.nodes.iter().filter(|n| chosen.iter().any(|k| k.node().node == n.node)).collect();
    let asked = &asked;
    let answers = join_all(nodes.into_iter().map(async |node| {
        if node.status.is_none() {
            return (&node.node, Err(silence(node)));
        }
        let views: Result<Vec<LeftoverView>, _> = asked.get_at(&node.node, "/v1/leftovers").await;
        (&node.node, views.map_err(|e| e.to_string()))
    }))
    .await;
    let mut exit = Exit::Done;
    let mut found: BTreeMap<String, Vec<LeftoverView>> = BTreeMap::new();
    for (node, answer) in answers {
        match answer {
            Ok(mut views) => {
                views.retain(|v| chosen.iter().any(|k| k.name() == v.instance));
                found.insert(node.clone(), views);
            }
            Err(error) => {
                eprintln!("{node}: not looked at: {error}");
                exit = Exit::Incomplete;
            }
        }
    }
    let views: Vec<&LeftoverView> = found.values().flatten().collect();
    let doubt = views
        .iter()
        .flat_map(|v| &v.findings)
        .any(|f| matches!(f.judgement, Judgement::Doubt | Judgement::Refused));
    if doubt {
        exit = Exit::Incomplete;
    }
    if global.json {
        super::print_json(&found)?;
    } else {
        super::print(&render(&views, &Look::here()))?;
        if doubt {
            hint(
                "what is in doubt is judged again when the file changes or its process exits; move the file away yourself once you are sure",
            );
        }
    }
    Ok(exit)
}

/// A table of verdicts with the proof below each.
pub fn render(views: &[&LeftoverView], look: &Look) -> String {
    let mut rows = Vec::new();
    for view in views {
        for finding in &view.findings {
            let (word, style) = match finding.judgement {
                Judgement::Stale => ("stale", Style::new()),
                Judgement::Alive => ("alive", AnsiColor::Green.on_default()),
                Judgement::Doubt => ("in doubt", AnsiColor::Red.on_default()),
                Judgement::Refused => ("not touched", AnsiColor::Red.on_default()),
            };
            let kept = finding.kept.as_ref().map(|k| format!(" (copy kept: {k})")).unwrap_or_default();
            rows.push(Row {
                cells: vec![
                    (view.instance.clone(), Style::new()),
                    (word.into(), style),
                    (finding.what.clone(), Style::new()),
                ],
                tail: vec![format!("{}{kept}", finding.evidence)],
            });
        }
    }
    if rows.is_empty() {
        return "no leftovers\n".into();
    }
    let mut out = super::text::table(look, &["INSTANCE", "VERDICT", "WHAT", "PROOF"], &rows, 0);
    out.push_str(&format!(
        "\n{}\n",
        paint(super::text::DIM, "Nothing was removed. A start removes what is stale.")
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::super::fixture::look;
    use super::*;
    use crate::facts::Finding;
    use snapbox::str;

    #[test]
    fn verdicts_come_with_their_proof() {
        let finding = |what: &str, judgement, evidence: &str| Finding {
            what: what.into(),
            judgement,
            evidence: evidence.into(),
            kept: None,
        };
        let view = LeftoverView {
            instance: "redis@redis1".into(),
            findings: vec![
                finding("/run/redis/redis.pid", Judgement::Doubt, "pid 417 is redis-server without any tie"),
                finding("/run/redis/redis.sock", Judgement::Stale, "connecting is refused"),
            ],
        };
        let text = anstream::adapter::strip_str(&render(&[&view], &look(None))).to_string();
        snapbox::assert_data_eq!(
            text,
            str![[r#"
INSTANCE      VERDICT   WHAT                   PROOF
redis@redis1  in doubt  /run/redis/redis.pid   pid 417 is redis-server without any tie
redis@redis1  stale     /run/redis/redis.sock  connecting is refused

Nothing was removed. A start removes what is stale.

"#]]
        );
        assert_eq!(render(&[], &look(None)), "no leftovers\n");
    }
}
