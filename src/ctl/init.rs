//! `init`: a first cluster file, by flags, by asking, and by looking at what this machine runs already.

use super::order::confirmed;
use super::text::listed;
use super::{Exit, Global, Misuse, hint};
use crate::doctor::{Running, running};
use crate::model::{self, Source, Sources, units_folder};
use anyhow::Context;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{IsTerminal, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

// `clusterctl init`
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// The file to write [default: the cluster file, see --config]
    pub file: Option<PathBuf>,
    /// The folder of the units [default: `units` beside the file]
    #[arg(long, value_name = "DIR")]
    pub units: Option<PathBuf>,
    /// The cluster's name
    #[arg(long)]
    pub name: Option<String>,
    /// A machine: web1=192.168.1.21, or with its group web:web1=192.168.1.21 [default: this one]
    #[arg(long, value_name = "[GROUP:]NODE=ADDRESS", value_parser = parse_node)]
    pub node: Vec<Node>,
    /// A service on a group or node: redis=web1, or by another unit web:nginx=web1 (besides what runs here)
    #[arg(long, value_name = "NAME[:UNIT]=PLACE", value_parser = parse_service)]
    pub service: Vec<Service>,
    /// Do not look at what runs here
    #[arg(long)]
    pub blank: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    group: String,
    name: String,
    address: IpAddr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    name: String,
    unit: String,
    on: String,
    /// What stands beside it: where it was seen.
    seen: Option<String>,
    /// The port, where it is not the unit's.
    port: Option<u16>,
}

fn parse_node(text: &str) -> Result<Node, String> {
    let (who, address) = text.split_once('=').ok_or("write NODE=ADDRESS, as in web1=192.168.1.21")?;
    let (group, name) = who.split_once(':').unwrap_or(("all", who));
    let address =
        address.parse().map_err(|_| format!("{address} is no address: write a literal one, no name"))?;
    Ok(Node { group: group.to_owned(), name: name.to_owned(), address })
}

fn parse_service(text: &str) -> Result<Service, String> {
    let (what, on) = text.split_once('=').ok_or("write NAME=PLACE, as in redis=web1")?;
    let (name, unit) = what.split_once(':').unwrap_or((what, what));
    Ok(Service { name: name.into(), unit: unit.into(), on: on.into(), seen: None, port: None })
}

pub fn run(args: InitArgs, global: &Global) -> anyhow::Result<Exit> {
    let file = args.file.clone().unwrap_or_else(|| global.config());
    if !is_blank(&file) {
        let shown = file.display();
        let text = format!("{shown} is there already, and is not overwritten");
        return Err(Misuse {
            text,
            hint: format!("clusterctl check --config {shown}, or name another file"),
        }
        .into());
    }
    let asks = !args.yes && std::io::stdin().is_terminal();
    let name = match args.name {
        Some(name) => name,
        None => ask(asks, "The cluster's name", "cluster")?,
    };
    let host = hostname();
    let nodes = match args.node.is_empty() {
        false => args.node,
        true => all_nodes(asks, &host)?,
    };
    // Which of them this machine is: by its name, or the first that was asked for.
    let here = nodes.iter().find(|n| n.name == host).or(nodes.first().filter(|_| asks || nodes.len() == 1));
    let folder = units_folder(&file, args.units.as_deref());
    let units = read_units(&folder)?;
    let mut services = args.service;
    if let Some(here) = here.filter(|_| !args.blank) {
        for seen in look(&units, &running(Path::new("/proc")), &here.name) {
            if !services.iter().any(|s| s.unit == seen.unit) {
                services.push(seen);
            }
        }
    }
    more_services(asks, &units, &mut services)?;
    if services.is_empty() {
        let text = "nothing that a unit knows runs here, and a cluster file needs a service".to_owned();
        return Err(Misuse { text, hint: "clusterctl init --service redis=NODE".to_owned() }.into());
    }
    let text = write(&name, &nodes, &services, &file);
    let cluster = Source { path: file.display().to_string(), text: text.clone() };
    let unread = BTreeMap::new();
    let sources = Sources { cluster, folder: folder.display().to_string(), units, unread };
    model::parse(&sources)?;
    if asks {
        super::print(&text)?;
        if !confirmed(&format!("write it to {}?", file.display()))? {
            return Ok(Exit::Incomplete);
        }
    }
    let cannot = || format!("cannot write {}", file.display());
    if let Some(folder) = file.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(cannot)?;
    }
    put(&file, &text).with_context(cannot)?;
    let names: Vec<&str> = services.iter().map(|s| s.name.as_str()).collect();
    let what = if names.is_empty() { "no services yet".to_owned() } else { listed(&names, 20) };
    super::print(&format!("{} is written: {what}\n", file.display()))?;
    hint(&format!("clusterctl check --config {}", file.display()));
    Ok(Exit::Done)
}

/// Whether there is no such file, or one in which nothing is said yet, as the package brings it.
fn is_blank(file: &Path) -> bool {
    match std::fs::read_to_string(file) {
        Ok(text) => text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')),
        Err(e) => e.kind() == std::io::ErrorKind::NotFound && file.symlink_metadata().is_err(),
    }
}

/// Writes the file as a whole, or not at all.
fn put(file: &Path, text: &str) -> std::io::Result<()> {
    let mut aside = file.as_os_str().to_owned();
    aside.push(".new");
    let mut out = OpenOptions::new().write(true).create_new(true).open(&aside)?;
    let written = out.write_all(text.as_bytes()).and_then(|()| out.sync_all());
    written.and_then(|()| std::fs::rename(&aside, file)).inspect_err(|_| drop(std::fs::remove_file(&aside)))
}

/// An answer, or what an empty one means; that at once where nobody is asked.
fn ask(asks: bool, what: &str, default: &str) -> anyhow::Result<String> {
    if !asks {
        return Ok(default.to_owned());
    }
    eprint!("{what} [{default}]: ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(match answer.trim() {
        "" => default.to_owned(),
        answer => answer.to_owned(),
    })
}

/// The machine's own name, without its domain.
fn hostname() -> String {
    let name = nix::unistd::gethostname().map(|h| h.to_string_lossy().to_lowercase()).unwrap_or_default();
    name.split('.').next().unwrap_or_default().to_owned()
}

/// This machine, and the others of whom we are told.
fn all_nodes(asks: bool, host: &str) -> anyhow::Result<Vec<Node>> {
    let mut nodes = vec![this_node(asks, host)?];
    if !asks {
        return Ok(nodes);
    }
    loop {
        let text = ask(asks, "Another machine, as web2=192.168.1.22 or web:web2=192.168.1.22", "no more")?;
        if text == "no more" {
            return Ok(nodes);
        }
        match parse_node(&text) {
            Ok(node) => nodes.push(node),
            Err(why) => eprintln!("{why}"),
        }
    }
}

/// Services of which we are told, besides those that were seen.
fn more_services(
    asks: bool,
    units: &BTreeMap<String, Source>,
    services: &mut Vec<Service>,
) -> anyhow::Result<()> {
    if !asks {
        return Ok(());
    }
    let known: Vec<&str> = units.keys().map(String::as_str).collect();
    eprintln!("units: {}", listed(&known, 40));
    for service in &*services {
        eprintln!("{} on {}: {}", service.name, service.on, service.seen.as_deref().unwrap_or("as said"));
    }
    loop {
        let text = ask(asks, "Another service, as redis=web1 or web:nginx=GROUP", "no more")?;
        if text == "no more" {
            return Ok(());
        }
        match parse_service(&text) {
            Ok(service) if !units.contains_key(&service.unit) => {
                eprintln!("there is no unit {}", service.unit)
            }
            Ok(service) => services.push(service),
            Err(why) => eprintln!("{why}"),
        }
    }
}

fn this_node(asks: bool, host: &str) -> anyhow::Result<Node> {
    let name = ask(asks, "This machine's name", host)?;
    let address = own_address().map(|a| a.to_string()).unwrap_or_else(|| "127.0.0.1".to_owned());
    let address = ask(asks, "Its address, as the other machines reach it", &address)?;
    parse_node(&format!("{name}={address}"))
        .map_err(|text| Misuse { text, hint: "clusterctl init --node web1=192.168.1.21".to_owned() }.into())
}

/// The first address that is on an interface other than `lo`.
fn own_address() -> Option<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().ok()?;
    let mut addresses = interfaces
        .filter(|i| !i.flags.contains(nix::net::if_::InterfaceFlags::IFF_LOOPBACK))
        .filter_map(|i| Some(IpAddr::V4(i.address?.as_sockaddr_in()?.ip())));
    addresses.next()
}

fn read_units(folder: &Path) -> anyhow::Result<BTreeMap<String, Source>> {
    let mut units = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        if path.extension().is_some_and(|e| e == "toml") && !name.starts_with('.') {
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            units.insert(name, Source { path: path.display().to_string(), text });
        }
    }
    if units.is_empty() {
        eprintln!("there are no units in {}: what runs here is not recognised", folder.display());
    }
    Ok(units)
}

/// What of the units runs here.
fn look(units: &BTreeMap<String, Source>, running: &[Running], here: &str) -> Vec<Service> {
    let mut found = Vec::new();
    for (unit, source) in units {
        let Ok(table) = source.text.parse::<toml::Table>() else { continue };
        let names = programs(&table);
        let of_unit = |process: &&Running| {
            process.names.iter().any(|name| names.contains(name))
                // A virtual machine runs many things; its arguments say which.
                || (process.names.iter().any(|n| n == "java") && process.line.contains(unit.as_str()))
        };
        let Some(process) = running.iter().filter(of_unit).min_by_key(|p| (p.ports.is_empty(), p.pid)) else {
            continue;
        };
        let usual = table.get("set").and_then(|set| set.get("port")).and_then(toml::Value::as_integer);
        let port = match usual {
            Some(usual) if !process.ports.iter().any(|p| i64::from(*p) == usual) => {
                process.ports.first().copied()
            }
            _ => None,
        };
        let at: Vec<String> = process.ports.iter().map(u16::to_string).collect();
        let seen = match at.is_empty() {
            true => format!("runs here (pid {})", process.pid),
            false => format!("runs here (pid {}, port {})", process.pid, listed(&at, 4)),
        };
        let (unit, on) = (unit.clone(), here.to_owned());
        found.push(Service { name: unit.clone(), unit, on, seen: Some(seen), port });
    }
    found
}

/// The names that a unit's process may show.
fn programs(unit: &toml::Table) -> Vec<String> {
    let run = unit.get("run");
    let list = |key: &str| run.and_then(|run| run.get(key)).and_then(toml::Value::as_array);
    let program = list("command").and_then(|command| command.first());
    let all = program.into_iter().chain(list("executables").into_iter().flatten());
    let base = |value: &toml::Value| Some(value.as_str()?.rsplit('/').next()?.to_owned());
    let common = |name: &String| ["sh", "bash", "env", "java", "python3", "perl"].contains(&name.as_str());
    all.filter_map(base).filter(|name| !common(name) && !name.contains('{')).collect()
}

fn write(name: &str, nodes: &[Node], services: &[Service], file: &Path) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut out = format!(
        "# The same file on every node. After each change: clusterctl check --config {}\n\n[cluster]\nname = {}\n\n\
         # group = {{ node = address }}. Literal addresses: after a power cut DNS is one more thing that may not be up.\n\
         [nodes]\n",
        file.display(),
        quoted(name)
    );
    let mut groups: Vec<&str> = Vec::new();
    for node in nodes {
        if !groups.contains(&node.group.as_str()) {
            groups.push(&node.group);
        }
    }
    for group in groups {
        let of_group = nodes.iter().filter(|n| n.group == group);
        let list: Vec<String> =
            of_group.map(|n| format!("{} = {}", n.name, quoted(&n.address.to_string()))).collect();
        let _ = writeln!(out, "{group} = {{ {} }}", list.join(", "));
    }
    out.push_str(
        "\n# on = a group or nodes; the unit is units/NAME.toml unless said.\n\
         # What needs what: web = { on = \"web1\", needs.redis = \"any master\" }\n[services]\n",
    );
    for service in services {
        if let Some(seen) = &service.seen {
            let _ = writeln!(out, "# {seen}");
        }
        let unit = if service.unit == service.name {
            String::new()
        } else {
            format!(", unit = {}", quoted(&service.unit))
        };
        let port = service.port.map(|port| format!(", set.port = {port}")).unwrap_or_default();
        let _ = writeln!(out, "{} = {{ on = {}{unit}{port} }}", service.name, quoted(&service.on));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(text: &str) -> Source {
        Source { path: String::new(), text: text.into() }
    }

    fn process(pid: u32, name: &str, line: &str, ports: &[u16]) -> Running {
        Running { pid, names: vec![name.into()], line: line.into(), ports: ports.to_vec() }
    }

    #[test]
    fn what_runs_is_recognised_by_its_program_and_its_port() {
        let units = [
            ("nginx", "[set]\nport = 80\n[run]\ncommand = [\"/usr/sbin/nginx\", \"-g\"]\n"),
            (
                "redis",
                "[set]\nport = 6379\n[run]\ncommand = [\"/usr/bin/redis-server\"]\nexecutables = [\"redis-check-rdb\"]\n",
            ),
            ("activemq", "[set]\nport = 61616\n[run]\ncommand = [\"/usr/bin/java\"]\n"),
            ("keepalived", "[run]\ncommand = [\"/usr/sbin/keepalived\"]\n"),
            ("mysql", "[set]\nport = 3306\n[run]\ncommand = [\"/usr/sbin/mariadbd\"]\n"),
        ];
        let units = units.map(|(name, text)| (name.to_owned(), unit(text))).into();
        let running = [
            process(9, "nginx", "nginx: worker", &[]),
            process(8, "nginx", "nginx: master", &[8080]),
            process(3, "redis-check-rdb", "redis-server *:6379", &[6379]),
            process(4, "java", "java -jar /usr/share/activemq/bin/activemq.jar", &[61616, 8161]),
            process(5, "java", "java -jar other.jar", &[9000]),
            process(6, "keepalived", "keepalived", &[]),
        ];
        let found = look(&units, &running, "web1");
        let text = write("shop", &[parse_node("web1=10.0.0.1").unwrap()], &found, Path::new("c.toml"));
        let services = text.split_once("[services]\n").unwrap().1;
        assert_eq!(
            services,
            "# runs here (pid 4, port 61616, 8161)\nactivemq = { on = \"web1\" }\n\
             # runs here (pid 6)\nkeepalived = { on = \"web1\" }\n\
             # runs here (pid 8, port 8080)\nnginx = { on = \"web1\", set.port = 8080 }\n\
             # runs here (pid 3, port 6379)\nredis = { on = \"web1\" }\n"
        );
    }

    #[test]
    fn flags_are_read_or_say_what_to_write() {
        let node = Node { group: "web".into(), name: "w1".into(), address: "10.0.0.1".parse().unwrap() };
        assert_eq!(parse_node("web:w1=10.0.0.1"), Ok(node));
        assert!(parse_node("w1=example.com").unwrap_err().contains("literal"));
        assert!(parse_node("w1").unwrap_err().contains("NODE=ADDRESS"));
        assert_eq!(parse_service("web:nginx=w1").unwrap().unit, "nginx");
    }
}
