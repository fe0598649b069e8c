//! The differential oracle: which instances may be started now, by a slow and plain count over what was told.

use super::ByNode;
use super::told::Told;
use crate::engine::Action;
use crate::engine::view::StateName;
use crate::sim::{Step, Watcher};

/// The engine's answer is this one at every step, for each instance that the step touches.
#[derive(Default)]
pub struct May {
    told: ByNode<Told>,
}

impl Watcher for May {
    fn step(&mut self, step: &Step<'_>) -> Result<(), String> {
        self.check(step).map_err(|why| format!("may: {why}"))
    }
}

impl May {
    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        let told = Told::follow(self.told.of(step.node), step)?;
        for action in step.actions {
            if let Action::Spawn { instance, .. } = action
                && let Some(own) = told.own(*instance)
                && (own.held || told.shutting_down)
            {
                let why = if own.held { "it is held" } else { "its machine goes down" };
                return Err(format!("{} is started although {why}", told.cluster.instance(*instance).name));
            }
        }
        // A timer is due and was not let through yet: a veto that is over may still be counted.
        if step.engine.next_wake().is_some_and(|at| at <= step.now) {
            return Ok(());
        }
        for own in told.touched.iter().map(|o| &told.own[*o]) {
            let name = &told.cluster.instance(own.ix).name;
            let mut may = own.searched && !own.held && !told.shutting_down;
            for (need, theirs) in own.needs.iter().zip(step.engine.counts(own.ix)) {
                let rule = told.rule(own, need);
                let (ours, is_met) = told.met(rule, need);
                may &= is_met || need.waived;
                if ours != theirs {
                    return Err(format!(
                        "{name} has {ours} of {} for its need {}, and its engine counts {theirs}",
                        need.wanted, rule.name
                    ));
                }
            }
            if may && step.engine.state(own.ix) == Some(StateName::Waiting) {
                return Err(format!("{name} may be started, and waits"));
            }
        }
        Ok(())
    }
}
