//! Order: nothing is started before what it needs is proven, from its own node and at that moment.

use super::ByNode;
use super::told::{Told, distinct};
use crate::engine::{Action, Event, Evidence, FRESH};
use crate::facts::Moment;
use crate::model::InstanceIx;
use crate::sim::{Step, Watcher};
use std::collections::HashMap;

/// The first promise, worked out at each start from what the engine was told.
#[derive(Default)]
pub struct Order {
    told: ByNode<Told>,
    /// What proved the latest start of an instance, until the event tells it, too; and whether that is all of it.
    proofs: HashMap<InstanceIx, (Vec<Vec<Proof>>, bool)>,
}

/// Need, who counted, and when it was asked and had answered.
type Proof = (String, String, Moment, Moment);

impl Watcher for Order {
    fn step(&mut self, step: &Step<'_>) -> Result<(), String> {
        self.check(step).map_err(|why| format!("order: {why}"))
    }
}

impl Order {
    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        let told = Told::follow(self.told.of(step.node), step)?;
        for action in step.actions {
            match action {
                Action::Spawn { instance, .. } => {
                    let proofs = judge(told, *instance, step.actions)?;
                    // A veto that is over holds until the timer is let through: the engine may have counted fewer.
                    let exact = step.engine.next_wake().is_none_or(|at| at > step.now);
                    self.proofs.insert(*instance, (proofs, exact));
                }
                Action::Record(event) if event.what == "started" => {
                    if let Some((proofs, exact)) = self.proofs.remove(&event.instance) {
                        compare(told, event, &proofs, exact)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What proves a start now: everything, or one of two things.
fn judge(told: &mut Told, instance: InstanceIx, actions: &[Action]) -> Result<Vec<Vec<Proof>>, String> {
    let name = told.cluster.instance(instance).name.clone();
    let now = told.now;
    let Some(own) = told.own_mut(instance) else {
        return Err(format!("{name} is started by another node's agent"));
    };
    let forced = std::mem::take(&mut own.forced) && is_forced(instance, actions);
    let Some(cleaned) = own.cleaned.take() else {
        return Err(format!("{name} is started without a look at its leftovers"));
    };
    own.idle_since = now;
    if forced {
        return Ok(vec![Vec::new()]);
    }
    // An instance of the same node may have changed within this very step, before the start or after it.
    match (prove(told, instance, cleaned, false), prove(told, instance, cleaned, true)) {
        (Ok(one), Ok(other)) => Ok(vec![one, other]),
        (Ok(only), Err(_)) | (Err(_), Ok(only)) => Ok(vec![only]),
        (Err(why), Err(_)) => Err(why),
    }
}

/// The order counts only for the start that says so.
fn is_forced(instance: InstanceIx, actions: &[Action]) -> bool {
    let says = |event: &Event| event.instance == instance && event.what == "forced";
    actions.iter().any(|action| matches!(action, Action::Record(event) if says(event)))
}

fn prove(told: &Told, instance: InstanceIx, cleaned: Moment, before: bool) -> Result<Vec<Proof>, String> {
    let name = |ix| told.cluster.instance(ix).name.to_string();
    let Some(own) = told.own(instance) else { return Ok(Vec::new()) };
    let mut proofs = Vec::new();
    for need in own.needs.iter().filter(|need| !need.waived) {
        let rule = told.rule(own, need);
        let all = told.counted(rule.role, need, before);
        let good = all.len();
        let is_proof = |begun: Moment, ended: Moment| begun >= cleaned && told.now.since(ended) <= FRESH;
        let proven: Vec<_> = all.into_iter().filter(|c| is_proof(c.begun, c.ended)).collect();
        let count = distinct(&proven);
        if count < need.wanted {
            return Err(format!(
                "{} is started, and of its need {} only {count} of {} are proven ({good} last answers are good)",
                name(instance),
                rule.name,
                need.wanted
            ));
        }
        if !told.met(rule, need).1 {
            return Err(format!("{} is started, and its need {} is not met", name(instance), rule.name));
        }
        proofs.extend(proven.iter().map(|c| (rule.name.clone(), name(c.to), c.begun, c.ended)));
    }
    Ok(proofs)
}

/// The evidence that is told is the one that was there.
fn compare(told: &Told, event: &Event, proofs: &[Vec<Proof>], exact: bool) -> Result<(), String> {
    let name = &told.cluster.instance(event.instance).name;
    let evidence = event.data.get("evidence").cloned().unwrap_or_default();
    let evidence: Vec<Evidence> = serde_json::from_value(evidence)
        .map_err(|e| format!("the evidence of {name} cannot be read: {e}"))?;
    let recorded: Vec<Proof> = evidence.into_iter().map(|e| (e.need, e.to, e.begun, e.ended)).collect();
    // Both are in the order of the file.
    let fits = |all: &Vec<Proof>| recorded == *all || (!exact && recorded.iter().all(|p| all.contains(p)));
    if proofs.iter().any(fits) {
        Ok(())
    } else {
        Err(format!("{name} was started by {proofs:?}, and its event tells {recorded:?}"))
    }
}
