//! `[external.NAME]`: something outside the cluster that services need. It has a probe and nothing else: each dependent
//! asks it from its own node.
//!
//! In the model it is a service with one instance that is on no node. Nothing of its unit is ever run.

use super::cluster_file::checked_name;
use super::diag::Problem;
use super::fields::{Fields, Value};
use super::probe_table::local_probe;
use super::{Leftovers, Probe, Question, Readiness, Restart, Run, RunKind, Stop, Unit};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

/// How often it is asked when all is well, and how many bad answers are a loss.
const EVERY: Duration = Duration::from_secs(5);
const LOST_AFTER: i64 = 3;

/// One entry, as typed.
pub(super) struct External<'a> {
    /// Its name, with the place.
    pub value: Value<'a>,
    pub unit: Unit,
}

/// `[external]`: one entry for each.
pub(super) fn read_externals<'a>(value: Value<'a>) -> Vec<External<'a>> {
    let Some(fields) = value.table("`[external]`") else { return Vec::new() };
    let entries = fields.rest().into_iter().filter(|value| checked_name(value, "thing outside"));
    entries.filter_map(read_external).collect()
}

fn read_external<'a>(value: Value<'a>) -> Option<External<'a>> {
    let mut fields = value.table(format!("external `{}`", value.key))?;
    let address = fields.take("address").map_or(Some(None), |v| v.ip().map(Some));
    let question = fields
        .need("probe", "say how it is known to be there: probe = { kind = \"dns\", name = \"shop.example\" }")
        .and_then(|probe| read_question(&fields, probe, address?));
    let every = fields.take("every").map_or(Some(EVERY), |v| v.span_of_time());
    let lost_after = fields.take("lost_after").map_or(Some(LOST_AFTER), |v| v.number(1..=1000));
    fields.finish();
    let lost_after = u32::try_from(lost_after?).ok()?;
    Some(External { value, unit: unit(question?, every?, lost_after) })
}

fn read_question(fields: &Fields<'_>, probe: Value<'_>, address: Option<IpAddr>) -> Option<Question> {
    let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let Probe::Ask(question) = local_probe(probe, address.unwrap_or(nowhere))? else {
        probe.error(
            "nothing of it runs here that could tell",
            "write a probe that asks it: tcp, http, dns, grpc, …, or exec",
        );
        return None;
    };
    if question.address().is_some_and(|asked| asked.ip() == nowhere) {
        let problem = Problem::new(fields.span, "this probe does not say whom it asks")
            .hint("write where it is beside the probe: address = \"192.0.2.53\"");
        fields.reader.log.error(problem);
        return None;
    }
    Some(question)
}

fn unit(question: Question, every: Duration, lost_after: u32) -> Unit {
    Unit {
        name: "external".into(),
        exclusive: false,
        run: Run {
            kind: RunKind::Exec,
            command: Vec::new(),
            user: None,
            group: None,
            folder: PathBuf::new(),
            environment: Default::default(),
            umask: 0,
            pidfile: None,
            make_folders: Vec::new(),
            executables: Vec::new(),
            care: Default::default(),
            watchdog: None,
            ready_fd: None,
            unit: None,
        },
        ready: Readiness {
            local: Probe::Ask(question.clone()),
            remote: Some(question),
            within: Duration::ZERO,
            usually: None,
            every,
            lost_after,
        },
        stop: Stop { signal: 0, timeout: Duration::ZERO },
        restart: Restart {
            delay: Duration::ZERO,
            max: Duration::ZERO,
            limit: 0,
            within: Duration::ZERO,
            stable: Duration::ZERO,
            unready_for: None,
        },
        leftovers: Leftovers::default(),
        log: Default::default(),
    }
}
