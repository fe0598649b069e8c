//! `cluster.toml`, read table by table: what is typed, with the places where it stands. Names are resolved to
//! nodes here; services, units and needs are tied together by [`super::load`].

use super::diag::{Problem, Span};
use super::fields::{Fields, Value};
use super::needs::{NeedEntry, read_needs};
use super::words::{MAX_NAME, is_name, list, nearest};
use super::{Node, NodeIx};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// The port of the agents unless the file says another.
pub(super) const DEFAULT_PORT: u16 = 7117;
/// The most nodes: far above the thousand that the simulator is made for, and still a bound.
const MAX_NODES: usize = 10_000;

/// The file as typed.
pub(super) struct ClusterFile<'a> {
    pub name: String,
    pub port: Option<u16>,
    pub insecure: bool,
    pub group: Option<String>,
    pub revoked: Vec<String>,
    pub vips: Vec<Value<'a>>,
    pub nodes: Vec<Node>,
    pub places: Places<'a>,
    pub services: Vec<ServiceEntry<'a>>,
}

/// One entry of `[services]`.
pub(super) struct ServiceEntry<'a> {
    pub name: &'a str,
    pub span: Span,
    pub nodes: Vec<NodeIx>,
    /// The unit's name, where the file says it.
    pub unit: Option<(String, Span)>,
    pub needs: Vec<NeedEntry<'a>>,
    /// `set.X`, then `at.NODE.set.X`, which goes first.
    pub set: Vec<Value<'a>>,
    pub set_at: HashMap<NodeIx, Vec<Value<'a>>>,
}

impl ServiceEntry<'_> {
    /// The unit: its own name unless the file says another.
    pub fn unit_name(&self) -> &str {
        self.unit.as_ref().map_or(self.name, |(name, _)| name)
    }
}

/// What `on` may name: nodes and groups.
#[derive(Default)]
pub(super) struct Places<'a> {
    nodes: HashMap<&'a str, (NodeIx, Span)>,
    groups: HashMap<&'a str, (Vec<NodeIx>, Span)>,
}

impl<'a> Places<'a> {
    /// The nodes that a name stands for.
    pub fn get(&self, name: &str) -> Option<&[NodeIx]> {
        let node = self.nodes.get(name).map(|(n, _)| std::slice::from_ref(n));
        node.or_else(|| self.groups.get(name).map(|(g, _)| g.as_slice()))
    }
    pub fn node(&self, name: &str) -> Option<NodeIx> {
        self.nodes.get(name).map(|(n, _)| *n)
    }
    /// Where the node is defined.
    pub fn span(&self, node: &str) -> Option<Span> {
        self.nodes.get(node).map(|(_, span)| *span)
    }
    fn nearest(&self, name: &str) -> Option<&'a str> {
        nearest(name, self.groups.keys().chain(self.nodes.keys()).copied())
    }
    fn hint(&self, name: &str) -> String {
        match self.nearest(name) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => {
                let mut groups: Vec<&str> = self.groups.keys().copied().collect();
                groups.sort_unstable();
                groups.truncate(12);
                format!("name a group or a node of `[nodes]`; the groups are {}", list(groups))
            }
        }
    }
}

/// Reads the whole file; every complaint is in the log.
pub(super) fn read<'a>(mut root: Fields<'a>) -> ClusterFile<'a> {
    let mut file = ClusterFile {
        name: String::new(),
        port: None,
        insecure: false,
        group: None,
        revoked: Vec::new(),
        vips: Vec::new(),
        nodes: Vec::new(),
        places: Places::default(),
        services: Vec::new(),
    };
    if let Some(mut fields) =
        root.need("cluster", "add `[cluster]` with `name = \"shop\"`").and_then(|v| v.table("`[cluster]`"))
    {
        read_cluster(&mut fields, &mut file);
        fields.finish();
    }
    if let Some(fields) = root
        .need("nodes", "add `[nodes]` with a line for each group: web = { web1 = \"192.168.1.21\" }")
        .and_then(|v| v.table("`[nodes]`"))
    {
        read_nodes(&fields, &mut file);
    }
    if let Some(fields) = root
        .need("services", "add `[services]` with a line for each service: web = { on = \"web\" }")
        .and_then(|v| v.table("`[services]`"))
    {
        let entries = fields.rest();
        if entries.is_empty() {
            let problem = Problem::new(fields.span, "`[services]` is empty")
                .hint("place a unit on nodes: web = { on = \"web\", unit = \"nginx\" }");
            fields.reader.log.error(problem);
        }
        for value in entries {
            if checked_name(&value, "service")
                && let Some(service) = read_service(value, &file.places)
            {
                file.services.push(service);
            }
        }
    }
    if let Some(fields) = root.take("vips").and_then(|v| v.table("`[vips]`")) {
        file.vips = fields.rest();
    }
    root.finish();
    file
}

fn read_cluster<'a>(fields: &mut Fields<'a>, file: &mut ClusterFile<'a>) {
    if let Some(value) =
        fields.need("name", "write `name = \"shop\"`: agents of another cluster are not listened to")
        && let Some(name) = value.text()
    {
        if is_name(&name) {
            file.name = name.into_owned();
        } else {
            value.error(format!("\"{name}\" cannot be a cluster's name"), name_rule(&name));
        }
    }
    file.port = fields.take("port").and_then(|v| v.number(1..=65535)).and_then(|p| u16::try_from(p).ok());
    file.insecure = fields.take("insecure").and_then(|v| v.flag()).unwrap_or(false);
    file.group = fields.take("group").and_then(|v| v.words().map(std::borrow::Cow::into_owned));
    file.revoked = fields.take("revoked").map(read_revoked).unwrap_or_default();
    if let Some(vips) = fields.take("vips") {
        let problem = Problem::new(vips.key_span, "virtual addresses have a table of their own");
        fields.reader.log.error(problem.hint("move it out of `[cluster]`: a table `[vips.NAME]` for each"));
    }
}

/// Keys that are not trusted any more. A typing error here would leave a thief his key, so each is looked at.
fn read_revoked(list: Value<'_>) -> Vec<String> {
    let mut keys = Vec::new();
    for item in list.items() {
        let Some(key) = item.text() else { continue };
        if key.len() == 64 && key.bytes().all(|b| b.is_ascii_hexdigit()) {
            keys.push(key.to_ascii_lowercase());
        } else {
            item.error(
                format!("\"{key}\" is not the 64 hex digits of a key"),
                "`clusterctl pki revoke NAME` prints the line to write here",
            );
        }
    }
    keys
}

/// Refuses keys that cannot be names.
pub(super) fn checked_name(value: &Value<'_>, what: &str) -> bool {
    let good = is_name(value.key);
    if !good {
        let problem =
            Problem::new(value.key_span, format!("\"{}\" cannot be the name of a {what}", value.key))
                .hint(name_rule(value.key));
        value.reader.log.error(problem);
    }
    good
}

fn name_rule(name: &str) -> String {
    let suggestion: String = name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(MAX_NAME)
        .collect();
    let suggestion = suggestion.trim_matches('-');
    let rule = "names are made of a-z, 0-9 and inner `-`, at most 63 of them";
    if is_name(suggestion) { format!("write `{suggestion}`: {rule}") } else { rule.to_string() }
}

fn read_nodes<'a>(fields: &Fields<'a>, file: &mut ClusterFile<'a>) {
    let mut addresses: HashMap<IpAddr, (Span, &str)> = HashMap::new();
    let log = fields.reader.log;
    for group in fields.rest() {
        if !checked_name(&group, "group") {
            continue;
        }
        if let Some(address) = group.raw().as_str() {
            let name = group.key.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
            group.error(
                format!("node `{}` stands outside any group", group.key),
                format!(
                    "put it into one: {} = {{ {} = \"{address}\" }}",
                    if name.is_empty() { "all" } else { name },
                    group.key
                ),
            );
            // Known from now on, so that `on` does not complain as well.
            file.places.groups.insert(group.key, (Vec::new(), group.key_span));
            continue;
        }
        let Some(members) = group.table(format!("group `{}`", group.key)) else { continue };
        let members = members.rest();
        if members.is_empty() {
            group.error(
                format!("group `{}` has no nodes", group.key),
                format!("write {0} = {{ {0}1 = \"192.168.1.21\" }}, or take the group out", group.key),
            );
        }
        let mut ixs = Vec::with_capacity(members.len());
        for member in members {
            if !checked_name(&member, "node") {
                continue;
            }
            let (address_at, address, labels) = read_node(&member);
            if let Some(ip) = address
                && let Some((first, name)) = addresses.insert(ip, (address_at, member.key))
            {
                log.error(
                    Problem::new(address_at, format!("nodes `{name}` and `{}` have one address", member.key))
                        .note(first, "first given here")
                        .hint("give each node its own address"),
                );
            }
            let ix = NodeIx(file.nodes.len() as u32);
            if let Some((_, first)) = file.places.nodes.get(member.key) {
                log.error(
                    Problem::new(member.key_span, format!("there are two nodes called `{}`", member.key))
                        .note(*first, "the first is here")
                        .hint("node names are unique in the cluster, not in their group: rename one"),
                );
                continue;
            }
            file.places.nodes.insert(member.key, (ix, member.key_span));
            ixs.push(ix);
            // A node without a sound address keeps its place, so that `on` still finds it; the stand-in is one that
            // documentation has for itself.
            let address = address.unwrap_or(IpAddr::from([192, 0, 2, 1]));
            file.nodes.push(Node {
                name: member.key.to_string(),
                group: group.key.to_string(),
                address,
                labels,
                instances: Vec::new(), // until services are placed
            });
        }
        file.places.groups.insert(group.key, (ixs, group.key_span));
    }
    for (name, (_, node)) in &file.places.nodes {
        if let Some((_, group)) = file.places.groups.get(name) {
            log.error(
                Problem::new(
                    *node,
                    format!("`{name}` is both a node and a group, so `on = \"{name}\"` could mean either"),
                )
                .note(*group, "the group")
                .hint(format!("rename the node, for example to `{name}1`")),
            );
        }
    }
    if file.nodes.is_empty() && log.count() == 0 {
        log.error(
            Problem::new(fields.span, "there are no nodes")
                .hint("add a line such as web = { web1 = \"192.168.1.21\" }"),
        );
    }
    if file.nodes.len() > MAX_NODES {
        let problem =
            Problem::new(fields.span, format!("{} nodes are more than {MAX_NODES}", file.nodes.len()));
        log.error(problem.hint("split the cluster into several files"));
    }
}

/// `"192.168.1.21"`, or `{ address = "192.168.1.21", labels = { zone = "a" } }`; the place is the address's.
fn read_node(member: &Value<'_>) -> (Span, Option<IpAddr>, BTreeMap<String, String>) {
    let mut labels = BTreeMap::new();
    if !member.raw().is_table() {
        return (member.span(), member.ip().filter(|ip| is_node_address(member, *ip)), labels);
    }
    let Some(mut fields) = member.table(format!("node `{}`", member.key)) else {
        return (member.span(), None, labels);
    };
    let address = fields.need("address", "write where the other nodes reach it: address = \"192.168.1.21\"");
    let at = address.as_ref().map_or(member.span(), Value::span);
    let address = address.and_then(|value| value.ip().filter(|ip| is_node_address(&value, *ip)));
    if let Some(table) = fields.take("labels").and_then(|v| v.table("`labels`")) {
        for value in table.rest() {
            if checked_name(&value, "label")
                && let Some(text) = value.text()
            {
                labels.insert(value.key.to_owned(), text.into_owned());
            }
        }
    }
    fields.finish();
    (at, address, labels)
}

fn is_node_address(value: &Value<'_>, ip: IpAddr) -> bool {
    let wrong = ip.is_unspecified() || ip.is_multicast();
    if wrong {
        value.error(
            format!("{ip} is not the address of one machine"),
            "write the address at which the other nodes reach it",
        );
    }
    !wrong
}

fn read_service<'a>(value: Value<'a>, places: &Places<'a>) -> Option<ServiceEntry<'a>> {
    let mut fields = value.table(format!("service `{}`", value.key))?;
    let nodes = fields
        .need("on", "say where it runs, a group or nodes: on = \"web\"")
        .map(|v| read_on(v, places))
        .unwrap_or_default();
    let unit = fields.take("unit").and_then(|v| v.words().map(|u| (u.into_owned(), v.span())));
    let mut needs = fields.take("needs").map(read_needs).unwrap_or_default();
    let set = fields.take("set").and_then(|v| v.table("`set`")).map(|t| t.rest()).unwrap_or_default();
    let mut set_at = HashMap::new();
    let at = fields.take("at").and_then(|v| v.table("`at`"));
    for entry in at.map(|t| t.rest()).unwrap_or_default() {
        let Some(node) = places.node(entry.key).filter(|n| nodes.contains(n)) else {
            let problem = Problem::new(
                entry.key_span,
                format!("service `{}` has no instance on a node `{}`", value.key, entry.key),
            );
            value.reader.log.error(problem.hint("`at.NODE` is for one of the nodes of `on`"));
            continue;
        };
        let Some(mut fields) = entry.table("`at.NODE`") else { continue };
        let set = fields.take("set").and_then(|v| v.table("`set`"));
        set_at.insert(node, set.map(|t| t.rest()).unwrap_or_default());
        let own = fields.take("needs").map(read_needs).unwrap_or_default();
        add_needs_at(&mut needs, own, node, &nodes);
        fields.finish();
    }
    fields.finish();
    Some(ServiceEntry { name: value.key, span: value.key_span, nodes, unit, needs, set, set_at })
}

/// A need of one node takes the place of the service's need of the same name there.
fn add_needs_at<'a>(needs: &mut Vec<NeedEntry<'a>>, own: Vec<NeedEntry<'a>>, node: NodeIx, all: &[NodeIx]) {
    for mut need in own {
        for general in needs.iter_mut().filter(|n| n.name == need.name) {
            general.nodes.get_or_insert_with(|| all.to_vec()).retain(|n| *n != node);
        }
        need.nodes = Some(vec![node]);
        needs.push(need);
    }
    needs.retain(|n| n.nodes.as_ref().is_none_or(|on| !on.is_empty()));
}

/// A group, a node, or a list of them → nodes, in the order typed, each once.
pub(super) fn read_on(value: Value<'_>, places: &Places<'_>) -> Vec<NodeIx> {
    let items = if value.raw().is_array() { value.items() } else { vec![value] };
    if items.is_empty() {
        value.error("`on` is an empty list", "name at least one group or node, or take the entry out");
    }
    let mut nodes = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for item in items {
        let Some(name) = item.words() else { continue };
        let Some(found) = places.get(&name) else {
            item.error(format!("there is no group or node called \"{name}\""), places.hint(&name));
            continue;
        };
        let fresh: Vec<NodeIx> = found.iter().copied().filter(|n| seen.insert(*n)).collect();
        if fresh.len() < found.len() {
            item.error(
                format!("\"{name}\" is placed twice"),
                "one instance a node: to run two of a kind there, write a second service with the same unit",
            );
        }
        nodes.extend(fresh);
    }
    nodes
}
