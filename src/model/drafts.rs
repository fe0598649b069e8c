//! The cluster while it is put together: services placed on nodes, units filled in, needs tied to services.

use super::cluster_file::{ClusterFile, ServiceEntry};
use super::diag::{Log, Problem, Span};
use super::needs::NeedEntry;
use super::shelf::{Shelf, UnitText, scope};
use super::words::{list, nearest};
use super::{
    Ask, Count, DefaultUsed, Instance, InstanceIx, Need, NodeIx, OnLoss, Probe, Question, Service, ServiceIx,
    Unit,
};
use crate::facts::Role;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The most instances of a cluster.
const MAX_INSTANCES: usize = 100_000;
/// The most edges between instances: what a need of a thousand instances on a thousand others makes.
const MAX_EDGES: usize = 1_000_000;

pub(super) struct Drafts<'a> {
    file: &'a ClusterFile<'a>,
    log: &'a Log,
    pub instances: Vec<Draft>,
    pub services: Vec<Service>,
    pub names: HashMap<&'a str, ServiceIx>,
    /// The places of the needs, as in `services`.
    pub need_spans: Vec<Vec<Span>>,
    pub defaults: Vec<DefaultUsed>,
    /// The nodes' addresses as text.
    addresses: Vec<String>,
    /// Units whose defaults are noted already.
    noted: HashSet<String>,
    edges: usize,
}

/// An instance on its way.
pub(super) struct Draft {
    pub service: ServiceIx,
    pub node: NodeIx,
    pub name: Arc<str>,
    /// `None` after a complaint.
    pub unit: Option<Arc<Unit>>,
    pub pidfile_at: Option<Span>,
    pub probe_at: Option<Span>,
}

impl Draft {
    pub fn finish(self) -> Option<Instance> {
        Some(Instance { service: self.service, node: self.node, name: self.name, unit: self.unit? })
    }
}

impl<'a> Drafts<'a> {
    pub fn new(file: &'a ClusterFile<'a>, log: &'a Log) -> Drafts<'a> {
        Drafts {
            file,
            log,
            instances: Vec::new(),
            services: Vec::with_capacity(file.services.len()),
            names: file.services.iter().zip(0..).map(|(s, i)| (s.name, ServiceIx(i))).collect(),
            need_spans: Vec::with_capacity(file.services.len()),
            defaults: Vec::new(),
            addresses: file.nodes.iter().map(|n| n.address.to_string()).collect(),
            noted: HashSet::new(),
            edges: 0,
        }
    }

    /// Makes the instances of every service.
    pub fn place_all(&mut self, shelf: &Shelf<'_>) {
        for (entry, ix) in self.file.services.iter().zip(0..) {
            if self.instances.len() + entry.nodes.len() > MAX_INSTANCES {
                let problem =
                    Problem::new(entry.span, format!("here are more than {MAX_INSTANCES} instances"));
                self.log.error(problem.hint("split the cluster into several files"));
                return;
            }
            self.place(ServiceIx(ix), entry, shelf);
        }
    }

    fn place(&mut self, service: ServiceIx, entry: &ServiceEntry<'_>, shelf: &Shelf<'_>) {
        let unit_at = entry.unit.as_ref().map_or(entry.span, |(_, span)| *span);
        if entry.unit.is_none() {
            self.default(format!("service {}", entry.name), "unit", entry.name.to_string());
        }
        let unit = shelf.find(entry.unit_name(), unit_at, self.log);
        let first = self.instances.len();
        for node in &entry.nodes {
            let name = format!("{}@{}", entry.name, self.file.nodes[node.0 as usize].name);
            let draft = Draft {
                service,
                node: *node,
                name: name.into(),
                unit: None,
                pidfile_at: None,
                probe_at: None,
            };
            self.instances.push(draft);
        }
        if let Some(unit) = unit {
            self.fill(entry, unit, first);
        }
        self.services.push(Service {
            name: entry.name.to_string(),
            unit: entry.unit_name().to_string(),
            exclusive: self.instances.get(first).and_then(|d| d.unit.as_ref()).is_some_and(|u| u.exclusive),
            instances: (first as u32..self.instances.len() as u32).map(InstanceIx).collect(),
            needs: Vec::new(),
        });
    }

    /// Fills in the unit for the instances from `first` on.
    fn fill(&mut self, entry: &ServiceEntry<'_>, unit: &UnitText<'_>, first: usize) {
        let log = self.log;
        let parameters = unit.parameters(log);
        for value in entry.set.iter().chain(entry.set_at.values().flatten()) {
            if !parameters.iter().any(|p| p.key == value.key) {
                let problem = Problem::new(
                    value.key_span,
                    format!("unit `{}` has no parameter `{}`", unit.name, value.key),
                );
                let known = || parameters.iter().map(|p| p.key);
                log.error(problem.hint(match nearest(value.key, known()) {
                    Some(near) => format!("did you mean `set.{near}`?"),
                    None if parameters.is_empty() => {
                        format!("its file declares none: add `[set]` with `{} = …`", value.key)
                    }
                    None => format!("its `[set]` declares {}", list(known())),
                }));
            }
        }
        let mut notes = Vec::new();
        let fresh = self.noted.insert(unit.name.to_string());
        for draft in &mut self.instances[first..] {
            let node = &self.file.nodes[draft.node.0 as usize];
            let address = &self.addresses[draft.node.0 as usize];
            let builtin = [address.as_str(), &node.name, entry.name, &draft.name, &self.file.name];
            let own = entry.set_at.get(&draft.node).map_or(&[][..], Vec::as_slice);
            let scope = scope(builtin, &parameters, &[own, &entry.set]);
            let notes = (fresh && notes.is_empty()).then_some(&mut notes);
            // One broken instance is enough: the others of the service would say the same again.
            let Some(filled) = unit.fill(log, &scope, node.address, notes) else { break };
            draft.unit = Some(Arc::new(filled.unit));
            draft.pidfile_at = filled.pidfile_at;
            draft.probe_at = filled.probe_at;
        }
        for (key, value) in notes {
            self.default(format!("unit {}", unit.name), key, value);
        }
    }

    fn default(&mut self, place: String, key: &str, value: String) {
        self.defaults.push(DefaultUsed { place, key: key.to_string(), value });
    }

    /// Whether instances of a service put virtual addresses on interfaces.
    pub fn holds_vips(&self, service: ServiceIx) -> bool {
        let first = self.services.get(service.0 as usize).and_then(|s| s.instances.first());
        let unit = first.and_then(|i| self.instances[i.0 as usize].unit.as_ref());
        unit.is_some_and(|u| u.leftovers.vips)
    }

    /// Ties every need to its services, and checks that it can be met; `derived` has those that follow from virtual
    /// addresses, a list for each service.
    pub fn tie_needs(&mut self, derived: &[Vec<NeedEntry<'_>>]) {
        let (mut keeps, mut waits) = (0, 0);
        for (entry, ix) in self.file.services.iter().zip(0..self.services.len() as u32) {
            let (mut needs, mut spans) =
                (Vec::with_capacity(entry.needs.len()), Vec::with_capacity(entry.needs.len()));
            let derived = derived.get(ix as usize).map_or(&[][..], Vec::as_slice);
            for (typed, is_derived) in
                entry.needs.iter().map(|n| (n, false)).chain(derived.iter().map(|n| (n, true)))
            {
                let Some(need) = self.tie(ServiceIx(ix), entry, typed) else { continue };
                if is_derived {
                    let place = format!("service {}, need {}", entry.name, need.name);
                    self.default(place, "count", format!("{} (from `[vips]`)", need.count));
                } else if typed.count.is_none() {
                    self.default(
                        format!("service {}, need {}", entry.name, need.name),
                        "count",
                        "all".to_string(),
                    );
                }
                keeps += usize::from(typed.on_loss.is_none());
                waits += usize::from(typed.wait.is_none());
                needs.push(need);
                spans.push(typed.span);
            }
            self.services[ix as usize].needs = needs;
            self.need_spans.push(spans);
        }
        let plural = |n: usize| if n == 1 { "1 need".to_string() } else { format!("{n} needs") };
        if waits > 0 {
            self.default(plural(waits), "wait", "for ever".to_string());
        }
        if keeps > 0 {
            self.default(plural(keeps), "on-loss", "keep".to_string());
        }
    }

    fn tie(&mut self, dependent: ServiceIx, entry: &ServiceEntry<'_>, typed: &NeedEntry<'_>) -> Option<Need> {
        let mut targets = Vec::with_capacity(typed.targets.len());
        for (name, span) in &typed.targets {
            match self.names.get(&**name).filter(|ix| (ix.0 as usize) < self.services.len()) {
                Some(ix) => targets.push(*ix),
                None => self.unknown_target(name, *span),
            }
        }
        if targets.len() < typed.targets.len() || targets.is_empty() {
            return None;
        }
        let need = Need {
            dependent,
            nodes: typed.nodes.clone(),
            name: typed.name.to_string(),
            targets,
            count: typed.count.unwrap_or(Count::All),
            role: typed.role.map(|(role, _)| role),
            same: typed.same.as_ref().map(|(label, _)| label.to_string()),
            wait: typed.wait,
            on_loss: typed.on_loss.unwrap_or(OnLoss::Keep),
            by_agent: typed.by_agent,
        };
        let dependents = need.nodes.as_deref().unwrap_or(&entry.nodes);
        self.check_edges(&need, dependents, typed)?;
        if let Some((label, span)) = &typed.same {
            self.check_label(label, *span, &need, dependents)?;
        }
        self.check_count(&need, dependents, typed);
        self.check_proof(&need, dependents, typed);
        Some(need)
    }

    fn unknown_target(&self, name: &str, span: Span) {
        let on_group: Vec<&str> = match self.file.places.get(name) {
            Some(nodes) => {
                let here = |s: &&ServiceEntry<'_>| s.nodes.iter().any(|n| nodes.contains(n));
                self.file.services.iter().filter(here).map(|s| s.name).take(6).collect()
            }
            None => Vec::new(),
        };
        let hint = match nearest(name, self.names.keys().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if !on_group.is_empty() => {
                format!("that is a place in `[nodes]`; the services there are {}", list(on_group))
            }
            None => {
                "a need names an entry of `[services]`; for a need with a name of its own, say which with \
                     of = [\"…\"]"
                    .to_string()
            }
        };
        self.log.error(Problem::new(span, format!("there is no service called `{name}`")).hint(hint));
    }

    fn check_edges(&mut self, need: &Need, dependents: &[NodeIx], typed: &NeedEntry<'_>) -> Option<()> {
        self.edges += match need.count {
            Count::SameNode => dependents.len() * need.targets.len(),
            _ => dependents.len() * self.candidates(need),
        };
        if self.edges > MAX_EDGES {
            let problem = Problem::new(
                typed.span,
                format!("with this need there are more than {MAX_EDGES} edges between instances"),
            );
            self.log.error(
                problem
                    .hint("every dependent asks every candidate: need a smaller service, or \"same-node\""),
            );
            return None;
        }
        Some(())
    }

    /// How many instances can count for one dependent, which never counts for itself.
    fn candidates(&self, need: &Need) -> usize {
        let placed: usize = need.targets.iter().map(|t| self.placed(*t)).sum();
        placed - usize::from(need.targets.contains(&need.dependent) && placed > 0)
    }

    /// How many candidates the dependent has that has the fewest, and where that is as far as labels go.
    fn fewest(&self, need: &Need, dependents: &[NodeIx]) -> (usize, String) {
        let Some(label) = &need.same else { return (self.candidates(need), String::new()) };
        let value = |node: &NodeIx| self.file.nodes[node.0 as usize].labels.get(label);
        let placed = || need.targets.iter().flat_map(|t| &self.file.services[t.0 as usize].nodes);
        let near = |here: &NodeIx| {
            let itself = usize::from(need.targets.contains(&need.dependent));
            placed().filter(|there| value(there) == value(here)).count() - itself
        };
        let fewest = dependents.iter().map(|node| (near(node), node)).min();
        let (count, node) = fewest.unwrap_or((0, &NodeIx(0)));
        (count, format!(" with the {label} of {}", self.file.nodes[node.0 as usize].name))
    }

    /// A need by label goes by the dependent's own node, which has to have it.
    fn check_label(&self, label: &str, at: Span, need: &Need, dependents: &[NodeIx]) -> Option<()> {
        let nodes = &self.file.nodes;
        let labels = nodes.iter().flat_map(|n| n.labels.keys()).map(String::as_str);
        let without = dependents.iter().map(|n| &nodes[n.0 as usize]).find(|n| !n.labels.contains_key(label));
        let (message, hint) = if need.count == Count::SameNode {
            ("\"same-node\" is nearer than any label".to_owned(), "take `same` out".to_owned())
        } else if let Some(node) = without {
            let hint = match nearest(label, labels) {
                Some(near) if near != label => format!("did you mean \"{near}\"?"),
                _ => {
                    let (name, address) = (&node.name, node.address);
                    format!("write {name} = {{ address = \"{address}\", labels = {{ {label} = \"…\" }} }}")
                }
            };
            (format!("node `{}`, where this need is from, has no label `{label}`", node.name), hint)
        } else {
            return Some(());
        };
        self.log.error(Problem::new(at, message).hint(hint));
        None
    }

    fn placed(&self, service: ServiceIx) -> usize {
        self.services[service.0 as usize].instances.len()
    }

    /// A count must be possible when every machine is up.
    fn check_count(&self, need: &Need, dependents: &[NodeIx], typed: &NeedEntry<'_>) {
        let complain = |message: String, hint: String| {
            self.log.error(Problem::new(typed.count_at, message).hint(hint));
        };
        if need.targets.iter().any(|t| self.placed(*t) == 0) {
            // Its `on` was refused already; any count would look wrong.
            return;
        }
        if need.count == Count::SameNode {
            self.check_same_node(need, dependents, typed);
            return;
        }
        let names = list(need.targets.iter().map(|t| self.services[t.0 as usize].name.as_str()));
        let (candidates, near) = self.fewest(need, dependents);
        if candidates == 0 {
            complain(
                format!("{names} has no other instance{near} that could meet this need"),
                match need.same {
                    None => {
                        "nobody counts for itself: place the service on a second node, or take the need out"
                    }
                    Some(_) => "place one there, or take `same` out",
                }
                .into(),
            );
            return;
        }
        let wanted = need.count.wanted(candidates);
        if wanted > candidates {
            complain(
                format!("{wanted} instances of {names} are needed, and there are {candidates}{near}"),
                if candidates == 1 {
                    "write \"any\" or \"all\"".into()
                } else {
                    format!("write a number up to {candidates}, or \"all\"")
                },
            );
            return;
        }
        let capacity: usize = need
            .targets
            .iter()
            .map(|t| if self.services[t.0 as usize].exclusive { 1 } else { self.placed(*t) })
            .sum();
        if wanted > capacity {
            let count = match (typed.count, need.count) {
                (None, _) => "`all` (the default)".to_string(),
                (_, count) => format!("`{count}`"),
            };
            complain(
                format!(
                    "{count} of {names} can never be ready at once: one instance serves, the others stand by"
                ),
                "the unit is `exclusive`: write \"any\"".into(),
            );
        }
    }

    fn check_same_node(&self, need: &Need, dependents: &[NodeIx], typed: &NeedEntry<'_>) {
        for target in &need.targets {
            let service = &self.services[target.0 as usize];
            let placed: HashSet<NodeIx> =
                self.file.services[target.0 as usize].nodes.iter().copied().collect();
            let problem = if *target == need.dependent {
                Problem::new(typed.count_at, "an instance cannot need itself")
                    .hint("name another service of its node")
            } else if service.exclusive && placed.len() > 1 {
                Problem::new(
                    typed.count_at,
                    format!(
                        "`{}` is exclusive: where it stands by, \"same-node\" is never met",
                        service.name
                    ),
                )
                .hint("write \"any\"")
            } else if let Some(without) = dependents.iter().find(|n| !placed.contains(n)) {
                let node = &self.file.nodes[without.0 as usize].name;
                Problem::new(
                    typed.count_at,
                    format!(
                        "`{}` has no instance on `{node}`, where this need would look for it",
                        service.name
                    ),
                )
                .hint(format!("place `{}` there too, or write \"any\"", service.name))
            } else {
                continue;
            };
            self.log.error(problem);
        }
    }

    /// What is asked must be able to tell, and to be asked from there.
    fn check_proof(&self, need: &Need, dependents: &[NodeIx], typed: &NeedEntry<'_>) {
        for target in &need.targets {
            let service = &self.services[target.0 as usize];
            let unit = service.instances.first().and_then(|i| self.instances[i.0 as usize].unit.as_deref());
            let Some(unit) = unit else { continue };
            let nodes = &self.file.services[target.0 as usize].nodes;
            let here =
                need.count == Count::SameNode || (dependents.len() == 1 && dependents == nodes.as_slice());
            if unit.ready.remote.is_none() && !need.by_agent && !here {
                let problem = Problem::new(
                    typed.span,
                    format!("whether `{}` is ready can be proven only on its own machine", service.name),
                );
                self.log.error(problem.hint(format!(
                    "give unit `{}` a probe that goes over the network, or trust its agent's word: \
                     {{ count = \"{}\", proof = \"agent\" }}",
                    unit.name, need.count
                )));
            }
            if let Some((role, span)) = typed.role {
                let asked = match (&unit.ready.local, need.by_agent || here) {
                    (Probe::Ask(question), true) => Some(question),
                    _ => unit.ready.remote.as_ref(),
                };
                if let Err(hint) = can_tell(asked, role) {
                    let message =
                        format!("the probe of `{}` cannot tell the role \"{}\"", service.name, role.as_str());
                    self.log.error(Problem::new(span, message).hint(hint));
                }
            }
        }
    }
}

/// Whether an answer to `question` names the role, or what would.
fn can_tell(question: Option<&Question>, role: Role) -> Result<(), &'static str> {
    match (question.map(|q| &q.ask), role) {
        (Some(Ask::Redis { .. }), _)
        | (Some(Ask::Postgres { .. }), Role::Writable | Role::Replica)
        | (Some(Ask::Mysql { login: Some(_), .. }), Role::Writable | Role::Replica) => Ok(()),
        (Some(Ask::Mysql { login: None, .. }), Role::Writable | Role::Replica) => Err(
            "give the unit's mysql probe a `user`, and if it has one its `password_file`: only a login sees read_only",
        ),
        (Some(Ask::Mysql { .. } | Ask::Postgres { .. }), _) => {
            Err("it knows the roles \"writable\" and \"replica\"")
        }
        _ => Err(
            "roles are told by the probes redis (writable, master, replica), mysql and postgres (writable, replica)",
        ),
    }
}
