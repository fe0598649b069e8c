//! Probes of what has no component of its own: programs, datagrams, names, gRPC health, sockets, files, mounts, the
//! clock.

use super::fields::{Fields, Value};
use super::probe_table::{address, read_host};
use super::unit_file::read_command;
use super::{Ask, GrpcHealth, Record};
use std::net::IpAddr;

/// The most bytes of a datagram that is sent: one that no network cuts into pieces.
const DATAGRAM: usize = 1200;

pub(super) fn exec(fields: &mut Fields<'_>) -> Option<Ask> {
    let hint = "write the program that exits 0 when it is ready: command = [\"/path/to/check\"]";
    let command = fields.need("command", hint).and_then(read_command);
    let contains = fields.take("contains").map_or(Some(None), |v| text(&v).map(Some));
    Some(Ask::Exec { command: command?, contains: contains? })
}

pub(super) fn udp(fields: &mut Fields<'_>, node: IpAddr) -> Option<Ask> {
    let address = address(fields, node, None);
    let send = bytes(fields, "send", "send_hex");
    let expect = bytes(fields, "expect", "expect_hex");
    let send = send.and_then(|sent| match sent {
        Some((_, bytes)) if bytes.len() <= DATAGRAM => Some(bytes),
        Some((value, bytes)) => {
            let hint =
                "ask something shorter: a larger datagram is cut into pieces on the way, and is easily lost";
            value.error(format!("{} bytes are more than the {DATAGRAM} of one datagram", bytes.len()), hint);
            None
        }
        None => {
            fields.need("send", "write what makes it answer: send = \"ping\", or send_hex = \"00 01 ff\"");
            None
        }
    });
    let expect = expect.map(|expect| expect.map_or(Vec::new(), |(_, bytes)| bytes));
    Some(Ask::Udp { address: address?, send: send?, expect: expect? })
}

/// Bytes as text under one key, or in hex under another. `Some(None)` is a sound absence.
fn bytes<'a>(
    fields: &mut Fields<'a>,
    plain: &'static str,
    hex: &'static str,
) -> Option<Option<(Value<'a>, Vec<u8>)>> {
    match (fields.take(plain), fields.take(hex)) {
        (Some(_), Some(value)) => {
            value.error(format!("`{hex}` beside `{plain}` says one thing twice"), "keep one of them");
            None
        }
        (Some(value), None) => value.words().map(|text| Some((value, text.as_bytes().to_vec()))),
        (None, Some(value)) => {
            let text = value.words()?;
            let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
            let pairs = digits.chunks(2).map(|two| {
                let two = std::str::from_utf8(two).ok().filter(|two| two.len() == 2)?;
                two.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u8::from_str_radix(two, 16).ok())?
            });
            let Some(bytes) = pairs.collect::<Option<Vec<u8>>>() else {
                let hint = format!("write each byte as two digits: {hex} = \"00 01 ff\"");
                value.error(format!("`{hex}` is \"{text}\", which is no bytes in hex"), hint);
                return None;
            };
            Some(Some((value, bytes)))
        }
        (None, None) => Some(None),
    }
}

pub(super) fn dns(fields: &mut Fields<'_>, node: IpAddr) -> Option<Ask> {
    let address = address(fields, node, Some(53));
    let name = fields
        .need("name", "write the name that it must answer for: name = \"shop.example\"")
        .and_then(|value| {
            let name = value.words()?.trim_end_matches('.').to_owned();
            let sound = name.len() <= 253 && name.split('.').all(|label| (1..=63).contains(&label.len()));
            if !sound || !name.bytes().all(|b| b.is_ascii_graphic()) {
                let hint = "write it in full, in ASCII (xn--… for others): \"shop.example\"";
                value.error(format!("`name` is \"{name}\", which is no name of the DNS"), hint);
                return None;
            }
            Some(name)
        });
    let record = fields.take("record").map_or(Some(Record::A), |v| v.choice(&Record::ALL));
    let expect = match (fields.take("expect"), record) {
        (None, _) => Some(None),
        (Some(value), Some(record)) => {
            let fits = |ip: &IpAddr| {
                (record, ip.is_ipv4()) == (Record::A, true) || (record, ip.is_ipv6()) == (Record::Aaaa, true)
            };
            let ip = value.ip();
            if ip.is_some_and(|ip| !fits(&ip)) {
                let hint = "an IPv4 address stands in an A record (the default), an IPv6 address in record = \"AAAA\"";
                value.error(format!("no {} record holds the address of `expect`", record.as_str()), hint);
            }
            ip.filter(fits).map(Some)
        }
        (Some(_), None) => None,
    };
    Some(Ask::Dns { address: address?, name: name?, record: record?, expect: expect? })
}

pub(super) fn grpc(fields: &mut Fields<'_>, node: IpAddr) -> Option<Ask> {
    let address = address(fields, node, None);
    let service = fields.take("service").map_or(Some(String::new()), |v| v.words().map(String::from));
    let tls = fields.take("tls").map_or(Some(false), |v| v.flag());
    let (name_at, ca_at) = (fields.take("name"), fields.take("ca"));
    if tls == Some(false)
        && let Some(value) = name_at.or(ca_at)
    {
        let problem = format!("`{}` means nothing without TLS", value.key);
        value.error(problem, "write `tls = true` beside it, or take it out");
        return None;
    }
    let name = name_at.map_or(Some(None), |v| read_host(&v).map(Some));
    let ca = ca_at.map_or(Some(None), |v| v.path().map(Some));
    let (service, tls, name, ca) = (service?, tls?, name?, ca?);
    Some(Ask::Grpc(GrpcHealth { address: address?, service, tls, name, ca }))
}

pub(super) fn file(fields: &mut Fields<'_>) -> Option<Ask> {
    let path = fields.need("path", "write `path = \"/…\"`").and_then(|v| v.path());
    let contains = fields.take("contains").map_or(Some(None), |v| text(&v).map(Some));
    let max_age = fields.take("max_age").map_or(Some(None), |v| v.span_of_time().map(Some));
    Some(Ask::File { path: path?, contains: contains?, max_age: max_age? })
}

pub(super) fn systemd(fields: &mut Fields<'_>) -> Option<Ask> {
    let value =
        fields.need("unit", "write the unit that systemd is to have active: unit = \"nginx.service\"")?;
    let unit = value.words()?.into_owned();
    if !is_systemd_unit(&unit) {
        let hint = "write it as `systemctl list-units` shows it: \"nginx.service\", \"srv-data.mount\"";
        value.error(format!("\"{unit}\" is no unit of systemd's"), hint);
        return None;
    }
    Some(Ask::Systemd { unit })
}

/// The longest name of a unit (systemd.unit(5)).
const MAX_UNIT_NAME: usize = 255;

/// Whether it may be the name of a unit, of any kind (systemd.unit(5)).
pub fn is_systemd_unit(name: &str) -> bool {
    const KINDS: [&str; 8] = ["service", "socket", "mount", "automount", "timer", "path", "swap", "target"];
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let kind = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, kind)| kind);
    name.len() <= MAX_UNIT_NAME
        && name.chars().all(is_plain)
        && kind.is_some_and(|kind| KINDS.contains(&kind))
}

pub(super) fn mount(fields: &mut Fields<'_>) -> Option<Ask> {
    let path = fields.need("path", "write where it is mounted: path = \"/srv/data\"").and_then(|v| v.path());
    let fs = fields.take("fs").map_or(Some(None), |v| text(&v).map(Some));
    Some(Ask::Mount { path: path?, fs: fs? })
}

pub(super) fn clock(fields: &mut Fields<'_>) -> Option<Ask> {
    let max_error = fields.take("max_error").map_or(Some(None), |v| v.span_of_time().map(Some));
    Some(Ask::Clock { max_error: max_error? })
}

fn text(value: &Value<'_>) -> Option<String> {
    value.words().map(String::from)
}
