//! The shipped `cluster.toml`, as far as a rig must know it, and its text with other addresses.
//!
//! The file is rewritten as text, so that its order and its comments stay for a person to read.

use super::{Options, RigError};
use std::net::IpAddr;
use toml::{Table, Value};

/// The nodes and services of the sample.
pub struct Sample {
    text: String,
    pub nodes: Vec<Node>,
    pub services: Vec<Service>,
    /// The virtual addresses, with their prefixes, as typed.
    vips: Vec<String>,
}

pub struct Node {
    pub name: String,
    pub address: IpAddr,
}

pub struct Service {
    pub name: String,
    pub unit: String,
    /// Names of nodes.
    pub on: Vec<String>,
}

impl Sample {
    pub fn read(text: &str) -> Result<Sample, RigError> {
        let wrong = |what: String| RigError::Sample(what);
        let file: Table = text.parse().map_err(|e: toml::de::Error| wrong(e.to_string()))?;
        let groups = table(file.get("nodes")).ok_or_else(|| wrong("no [nodes]".into()))?;

        let mut nodes = Vec::new();
        for (name, address) in groups.values().filter_map(|group| table(Some(group))).flatten() {
            let address = address.as_str().and_then(|a| a.parse().ok());
            let address = address.ok_or_else(|| wrong(format!("node {name} has no literal address")))?;
            nodes.push(Node { name: name.clone(), address });
        }

        let members = |word: &str| match groups.get(word).and_then(Value::as_table) {
            Some(group) => group.keys().cloned().collect(),
            None => vec![word.to_owned()],
        };
        let mut services = Vec::new();
        for (name, service) in table(file.get("services")).into_iter().flatten() {
            let on: Vec<&str> = match service.get("on") {
                Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
                Some(Value::String(word)) => vec![word],
                _ => return Err(wrong(format!("service {name} is on no node"))),
            };
            let unit = service.get("unit").and_then(Value::as_str).unwrap_or(name);
            services.push(Service {
                name: name.clone(),
                unit: unit.to_owned(),
                on: on.into_iter().flat_map(members).collect(),
            });
        }

        let vips = table(file.get("vips")).into_iter().flatten();
        let vips = vips.filter_map(|(_, vip)| vip.get("address")?.as_str().map(str::to_owned)).collect();
        // The parser sorts by name; the file's own order is that of the text.
        nodes.sort_by_key(|n| position(text, &format!("\"{}\"", n.address)));
        services.sort_by_key(|s| service_position(text, &s.name));
        Ok(Sample { text: text.to_owned(), nodes, services, vips })
    }

    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|s| s.name == name)
    }

    /// The first virtual address, with its prefix.
    pub fn vip(&self) -> Option<&str> {
        self.vips.first().map(String::as_str)
    }

    /// The file's text for other addresses and options.
    pub fn rewritten(&self, nodes: &[(String, IpAddr)], options: &Options) -> String {
        let mut text = self.text.clone();
        for (node, (_, address)) in self.nodes.iter().zip(nodes) {
            text = text.replace(&format!("\"{}\"", node.address), &format!("\"{address}\""));
            text = text.replace(&format!("{}:", node.address), &format!("{address}:"));
        }
        if let (Some(shipped), Some(vip)) = (self.vip(), &options.vip) {
            text = text.replace(&format!("\"{shipped}\""), &format!("\"{vip}\""));
        }
        if let Some(port) = options.agent_port {
            text = set_in_cluster(&text, "port", &port.to_string());
        }
        // What is laid out here is to be looked at, on one machine: no certificates.
        text = set_in_cluster(&text, "insecure", "true");
        if let Some(more) = &options.second_redis {
            text.push_str(&format!(
                "\n[services.{}]\non = \"{}\"\nunit = \"redis\"\nset.port = {}\n",
                more.service, more.node, more.port
            ));
        }
        text
    }
}

fn table(value: Option<&Value>) -> Option<&Table> {
    value.and_then(Value::as_table)
}

fn position(text: &str, what: &str) -> usize {
    text.find(what).unwrap_or(usize::MAX)
}

/// Where a service is defined: `name = {…}` at the start of a line, or a table of its own.
fn service_position(text: &str, name: &str) -> usize {
    let table = format!("[services.{name}]");
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let key = line.split('=').next().unwrap_or("").trim();
        if line.trim_end() == table || (key == name && line.contains("on =")) {
            return at;
        }
        at += line.len();
    }
    usize::MAX
}

/// Puts `key = value` first into `[cluster]`; a line there that sets it already goes.
fn set_in_cluster(text: &str, key: &str, value: &str) -> String {
    let (mut out, mut inside) = (String::with_capacity(text.len() + 32), false);
    for line in text.split_inclusive('\n') {
        if line.starts_with('[') {
            inside = line.starts_with("[cluster]");
            out.push_str(line);
            if inside {
                out.push_str(&format!("{key} = {value}\n"));
            }
        } else if !(inside && line.split('=').next().is_some_and(|k| k.trim() == key)) {
            out.push_str(line);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::SAMPLE;
    use super::*;
    use std::path::PathBuf;

    fn options() -> Options {
        Options {
            clusterctl: PathBuf::from("/bin/clusterctl"),
            as_users: false,
            agent_port: Some(7099),
            http_port: 8080,
            vip: Some("10.77.0.100/16".into()),
            directors: super::super::Directors::OwnNamespaces,
            second_redis: None,
        }
    }

    #[test]
    fn reads_the_fourteen_nodes_in_their_order() {
        let sample = Sample::read(SAMPLE).unwrap();
        let names: Vec<&str> = sample.nodes.iter().map(|n| n.name.as_str()).collect();
        assert_eq!(names.len(), 14);
        assert_eq!(names[0], "lvs1");
        assert_eq!(names[13], "office1");
        assert_eq!(sample.service("activemq").unwrap().on, ["mq1", "mq2"]);
        assert_eq!(sample.service("web").unwrap().unit, "nginx");
    }

    #[test]
    fn rewrites_addresses_and_nothing_else() {
        let sample = Sample::read(SAMPLE).unwrap();
        let moved: Vec<(String, IpAddr)> = sample
            .nodes
            .iter()
            .enumerate()
            .map(|(i, n)| (n.name.clone(), IpAddr::from([10, 77, 0, i as u8 + 1])))
            .collect();
        let text = sample.rewritten(&moved, &options());
        let mut file: Table = text.parse().unwrap();
        assert_eq!(file["cluster"]["port"].as_integer(), Some(7099));
        assert_eq!(file["cluster"]["insecure"].as_bool(), Some(true));
        assert_eq!(file["nodes"]["office"]["office1"].as_str(), Some("10.77.0.14"));
        assert!(text.contains("\"10.77.0.100/16\""));
        assert!(!text.contains("\"192.168."), "{text}");
        let mut shipped: Table = SAMPLE.parse().unwrap();
        let trackers = |of: &mut Table| of["services"]["storage"].as_table_mut().unwrap().remove("set");
        let told = trackers(&mut file).unwrap();
        assert_eq!(told["trackers"].as_str(), Some("10.77.0.12:22122, 10.77.0.13:22122"));
        trackers(&mut shipped);
        assert_eq!(file["services"], shipped["services"]);
    }

    #[test]
    fn a_key_that_is_set_already_is_replaced() {
        let text = set_in_cluster("[cluster]\nname = \"a\"\nport = 1\n[other]\nport = 2\n", "port", "9");
        assert_eq!(text, "[cluster]\nport = 9\nname = \"a\"\n[other]\nport = 2\n");
    }
}
