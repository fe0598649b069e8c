//! Texts → a valid [`Cluster`], or everything that is wrong with them.
//!
//! The steps: read `cluster.toml` as typed ([`super::cluster_file`]); fill in a unit for every instance
//! ([`super::shelf`], [`super::unit_file`]); tie the needs to services ([`super::drafts`]); check what only shows
//! in the whole ([`super::checks`]). Each step goes as far as it can, so that one run shows every error.

use super::checks;
use super::cluster_file::{self, DEFAULT_PORT};
use super::diag::{Diagnostic, Diagnostics, Log, Place};
use super::drafts::Drafts;
use super::fields::{Fields, Reader};
use super::shelf::{Shelf, parse_toml};
use super::source::Sources;
use super::vips::{derived_needs, give_vips, read_vips};
use super::{Cluster, DefaultUsed, InstanceIx};
use std::path::Path;

/// Reads `cluster.toml` and its units (by default the folder `units` beside it).
pub fn load(cluster_toml: &Path, units: Option<&Path>) -> Result<Cluster, Diagnostics> {
    parse(&Sources::read(cluster_toml, units)?)
}

/// The same, from texts in memory: no I/O, no clock.
pub fn parse(sources: &Sources) -> Result<Cluster, Diagnostics> {
    let log = Log::default();
    let cluster = build(sources, &log);
    let warnings = log.finish(&sources.files())?;
    match cluster {
        Some(cluster) => Ok(Cluster { warnings, ..cluster }),
        None => Err(Diagnostics {
            list: vec![Diagnostic {
                message: "the configuration is refused for no reason, which is a fault of this program"
                    .into(),
                place: Place::file(&sources.cluster.path),
                notes: Vec::new(),
                hint: Some("please report it, with the file".into()),
            }],
            more: 0,
        }),
    }
}

/// `None` only after a complaint.
fn build(sources: &Sources, log: &Log) -> Option<Cluster> {
    let reader = Reader { log, file: 0, text: &sources.cluster.text, scope: None };
    let Some(root) = parse_toml(reader.text, reader.file, log) else {
        // Which units are used is not known; what is no TOML at all is worth showing in the same run.
        Shelf::open(sources, |_| true, log);
        return None;
    };
    let file = cluster_file::read(Fields::new(reader, &root, reader.span(0..0), "the file"));
    let shelf = Shelf::open(sources, |name| file.services.iter().any(|s| s.unit_name() == name), log);
    let mut drafts = Drafts::new(&file, log);
    drafts.place_all(&shelf);
    let vips = read_vips(&file, &drafts, log);
    drafts.tie_needs(&derived_needs(&vips, &file.services, |service| drafts.holds_vips(service)));
    checks::conflicts(&drafts.instances, &file, log);
    checks::idle_nodes(&file, log);
    shelf.judge_unused(log);
    if log.count() > 0 {
        return None;
    }
    let Drafts { instances, services, need_spans, mut defaults, .. } = drafts;
    if file.port.is_none() {
        let port = DEFAULT_PORT.to_string();
        defaults.insert(0, DefaultUsed { place: "cluster".into(), key: "port".into(), value: port });
    }
    let mut instances: Vec<_> = instances.into_iter().map(|d| d.finish()).collect::<Option<_>>()?;
    let vips: Vec<_> = vips.into_iter().map(|entry| entry.vip).collect();
    give_vips(&vips, &mut instances);
    let mut nodes = file.nodes;
    for (ix, instance) in (0..).map(InstanceIx).zip(&instances) {
        nodes[instance.node.0 as usize].instances.push(ix);
    }
    let cluster = Cluster {
        name: file.name,
        port: file.port.unwrap_or(DEFAULT_PORT),
        insecure: file.insecure,
        group: file.group,
        revoked: file.revoked,
        hash: sources.hash(),
        nodes,
        services,
        instances,
        vips,
        defaults,
        warnings: Vec::new(),
    };
    checks::order(&cluster, &file.places, &need_spans, log).then_some(cluster)
}
