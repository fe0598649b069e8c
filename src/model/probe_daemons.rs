//! The keys of probes that ask one daemon alone: ActiveMQ, LibreOffice, keepalived's addresses, IPVS.

use super::diag::Problem;
use super::fields::{Fields, Value};
use super::probe_table::{address, login, socket_address};
use super::{Ask, BrokerAsk, Conversion, IpvsName, Jolokia, StoreAsk, VipAsk, VirtualService};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long a tiny document may take: an office converts one at a time, so it may have to wait for a large one.
const CONVERTED_WITHIN: Duration = Duration::from_secs(30);

pub(super) fn activemq(fields: &mut Fields<'_>, node: IpAddr) -> Option<Ask> {
    let address = address(fields, node, Some(61616));
    let mut port = |key| fields.take(key).map_or(Some(None), |v| port(&v).map(Some));
    let (stomp, amqp, mqtt) = (port("stomp"), port("amqp"), port("mqtt"));
    let jolokia = match fields.take("jolokia") {
        Some(value) => Some(read_jolokia(&value)?),
        None => None,
    };
    let asks_store = fields.take("store").map_or(Some(false), |v| v.flag());
    let login = login(fields, None)?;
    let store = match (asks_store?, login) {
        (true, login) => Some(StoreAsk { login }),
        (false, None) => None,
        (false, Some(_)) => {
            let problem = Problem::new(fields.span, "OpenWire's greeting needs no `user`");
            fields
                .reader
                .log
                .error(problem.hint("the user is for asking the store: write `store = true`, too"));
            return None;
        }
    };
    let also = BrokerAsk { stomp: stomp?, amqp: amqp?, mqtt: mqtt?, jolokia, store };
    Some(Ask::Activemq { address: address?, also })
}

fn port(value: &Value<'_>) -> Option<u16> {
    value.number(1..=65535).and_then(|port| u16::try_from(port).ok())
}

/// `jolokia = { port = 8161, user = "…", password_file = "…" }`
fn read_jolokia(value: &Value<'_>) -> Option<Jolokia> {
    let mut fields = value.table("`jolokia`")?;
    let at = fields.take("port").map_or(Some(8161), |v| port(&v));
    let path = match fields.take("path") {
        Some(value) => {
            let path = value.words()?;
            if !path.starts_with('/') || path.contains(char::is_whitespace) {
                let hint = "write it from the root: \"/api/jolokia\"";
                value.error(format!("`path` is \"{path}\", which is not the path of a URL"), hint);
                return None;
            }
            path.into_owned()
        }
        None => "/api/jolokia".into(),
    };
    let login = login(&mut fields, None);
    fields.finish();
    Some(Jolokia { port: at?, path, login: login? })
}

pub(super) fn uno(fields: &mut Fields<'_>, node: IpAddr) -> Option<Ask> {
    let address = address(fields, node, Some(2002));
    let every = fields.take("convert_every").map_or(Some(None), |v| v.span_of_time().map(Some));
    let within = fields.take("convert_within");
    let convert = match (every?, within) {
        (Some(every), Some(within)) => Some(Conversion { every, within: within.span_of_time()? }),
        (Some(every), None) => Some(Conversion { every, within: CONVERTED_WITHIN }),
        (None, None) => None,
        (None, Some(value)) => {
            let hint = "write how often it is asked to, too: convert_every = \"1m\"";
            value.error("`convert_within` says how long a conversion may take, and none is asked for", hint);
            return None;
        }
    };
    Some(Ask::Uno { address: address?, convert })
}

pub(super) fn vip(fields: &mut Fields<'_>) -> Option<Ask> {
    let addresses = match fields.take("addresses") {
        Some(value) => value.items().iter().map(Value::ip).collect::<Option<Vec<_>>>(),
        // Those that the cluster may have on this node are filled in later.
        None => Some(Vec::new()),
    };
    let held = fields.take("held").map_or(Some(false), |v| v.flag());
    let keepalived = fields.take("keepalived").map_or(Some(None), |v| v.path().map(Some));
    Some(Ask::Vip(VipAsk { addresses: addresses?, held: held?, keepalived: keepalived? }))
}

/// What comes in by a mark keeps its port: a real server has none, which the kernel writes as 0.
fn server_of_a_mark(value: Value<'_>) -> Option<SocketAddr> {
    match value.words()?.parse() {
        Ok(ip) => Some(SocketAddr::new(ip, 0)),
        Err(_) => socket_address(value),
    }
}

pub(super) fn ipvs(fields: &mut Fields<'_>) -> Option<Ask> {
    type Named = fn(std::net::SocketAddr) -> IpvsName;
    let kinds: [(&str, Named); 3] =
        [("tcp", IpvsName::Tcp), ("udp", IpvsName::Udp), ("sctp", IpvsName::Sctp)];
    let mut named = Vec::new();
    for (key, name) in kinds {
        if let Some(value) = fields.take(key) {
            named.push((value, socket_address(value).map(name)));
        }
    }
    if let Some(value) = fields.take("fwmark") {
        let mark = value.number(1..=i64::from(u32::MAX)).and_then(|mark| u32::try_from(mark).ok());
        named.push((value, mark.map(IpvsName::Fwmark)));
    }
    let is_marked = matches!(named[..], [(_, Some(IpvsName::Fwmark(_)))]);
    let read = if is_marked { server_of_a_mark } else { socket_address };
    let servers = match fields.take("servers") {
        Some(value) => value.items().into_iter().map(read).collect::<Option<Vec<_>>>(),
        None => Some(Vec::new()),
    };
    let least = fields.take("least").map_or(Some(1), |v| v.number(0..=10_000));
    match &named[..] {
        [(_, service)] => {
            let (service, servers) = ((*service)?, servers?);
            Some(Ask::Ipvs(VirtualService { service, servers, least: u32::try_from(least?).ok()? }))
        }
        [] => {
            let problem = Problem::new(fields.span, "this probe names no virtual service");
            let hint = "write `tcp = \"192.168.1.100:80\"` (or `udp`, `sctp`), or `fwmark = 3`";
            fields.reader.log.error(problem.hint(hint));
            None
        }
        [_, (other, _), ..] => {
            other.error("this probe names two virtual services", "ask for each with a unit of its own");
            None
        }
    }
}
