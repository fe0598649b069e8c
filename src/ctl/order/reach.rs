//! How far an order reaches: what is held among the needs, and which dependents go down with a stop.

use crate::api::wire::ClusterStatus;
use crate::ctl::picture::{self, Known};
use crate::engine::view::{StateName, Wish};
use std::collections::HashSet;

/// The held instances that `chosen` cannot do without, directly or through others, in the order found.
pub fn held_needs<'a>(status: &'a ClusterStatus, chosen: &[Known<'a>]) -> Vec<Known<'a>> {
    let mut seen: HashSet<&str> = chosen.iter().map(|k| k.name()).collect();
    let mut queue: Vec<Known> = chosen.to_vec();
    let mut held = Vec::new();
    while let Some(known) = queue.pop() {
        for need in known.view().into_iter().flat_map(|v| &v.needs).filter(|n| !n.ok) {
            for edge in need.edges.iter().filter(|e| !e.met) {
                let Some(candidate) = picture::find(status, &edge.to).filter(|c| seen.insert(c.name()))
                else {
                    continue;
                };
                if candidate.view().is_some_and(|v| matches!(v.wish, Wish::Held { .. })) {
                    held.push(candidate);
                }
                queue.push(candidate);
            }
        }
    }
    held
}

/// The running instances that must let go first: those with a need that is met now and would not be without
/// `chosen`, and so on upwards.
pub fn dependents_that_stop<'a>(status: &'a ClusterStatus, chosen: &[Known<'a>]) -> Vec<&'a str> {
    let mut going: HashSet<&str> = chosen.iter().map(|k| k.name()).collect();
    let mut stops = Vec::new();
    loop {
        let before = stops.len();
        for known in picture::instances(status).filter(|k| runs(*k)) {
            let falls = |need: &crate::engine::view::NeedView| {
                let lost = need.edges.iter().filter(|e| e.met && going.contains(e.to.as_str())).count();
                lost > 0 && need.ok && !need.waived && need.met.saturating_sub(lost) < need.wanted
            };
            let needs = known.view().map(|v| v.needs.as_slice()).unwrap_or_default();
            if !going.contains(known.name()) && needs.iter().any(falls) {
                going.insert(known.name());
                stops.push(known.name());
            }
        }
        if stops.len() == before {
            return stops;
        }
    }
}

fn runs(known: Known) -> bool {
    use StateName::*;
    matches!(known.state(), Starting | Ready | Unready | Standby | Stopping)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::fixture::*;
    use crate::engine::view::InstanceView;

    fn needing(name: &str, needs: Vec<crate::engine::view::NeedView>) -> InstanceView {
        InstanceView { needs, ..ready(name) }
    }

    fn chosen<'a>(status: &'a ClusterStatus, name: &str) -> Vec<Known<'a>> {
        vec![picture::find(status, name).unwrap()]
    }

    #[test]
    fn held_needs_are_found_through_others_and_only_where_needs_are_unmet() {
        let status = status(vec![
            node("web", "w", vec![waiting("web@w", vec![need("mq", "any", 1, vec![refused("mq@m")])])]),
            node("mq", "m", vec![waiting("mq@m", vec![need("db", "any", 1, vec![refused("db@d")])])]),
            node("db", "d", vec![held("db@d", ""), held("other@d", "")]),
        ]);
        let found = held_needs(&status, &chosen(&status, "web@w"));
        assert_eq!(found.iter().map(|k| k.name()).collect::<Vec<_>>(), ["db@d"]);
    }

    #[test]
    fn a_met_need_releases_nothing() {
        let edges = vec![met("db@d1"), refused("db@d2")];
        let status = status(vec![
            node("web", "w", vec![waiting("web@w", vec![need("db", "any", 1, edges)])]),
            node("db", "d2", vec![held("db@d2", "")]),
        ]);
        assert!(held_needs(&status, &chosen(&status, "web@w")).is_empty());
    }

    #[test]
    fn dependents_stop_only_when_too_few_are_left() {
        let of = |count, wanted| {
            status(vec![
                node("db", "d", vec![ready("db@d"), ready("db@e")]),
                node(
                    "mq",
                    "m",
                    vec![needing("mq@m", vec![need("db", count, wanted, vec![met("db@d"), met("db@e")])])],
                ),
                node("web", "w", vec![needing("web@w", vec![need("mq", "any", 1, vec![met("mq@m")])])]),
            ])
        };
        let any = of("any", 1);
        assert!(dependents_that_stop(&any, &chosen(&any, "db@d")).is_empty());
        let all = of("all", 2);
        assert_eq!(dependents_that_stop(&all, &chosen(&all, "db@d")), ["mq@m", "web@w"]);
    }
}
