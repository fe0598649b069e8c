//! What the kernel balances: `/proc/net/ip_vs`, which the module `ip_vs` makes.

use super::word::RealServer;
use std::fs;
use std::net::Ipv4Addr;

const TABLE: &str = "/proc/net/ip_vs";
/// The most destinations that are told.
const MOST: usize = 1000;

/// The destinations of all virtual servers; none where the kernel balances nothing.
pub fn read() -> Vec<RealServer> {
    fs::read_to_string(TABLE).map(|text| parse(&text)).unwrap_or_default()
}

/// Three lines of head; then a line for each virtual server, and below it `  -> ADDRESS:PORT FORWARD WEIGHT ACTIVE INACTIVE`
/// for each destination. Addresses and ports are in hexadecimal, of IPv6 the address in words in brackets.
fn parse(text: &str) -> Vec<RealServer> {
    let mut service = String::new();
    let mut all = Vec::new();
    for line in text.lines().skip(3) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["->", server, forward, weight, active, ..] => all.push(RealServer {
                service: service.clone(),
                server: address(server),
                forward: (*forward).to_owned(),
                weight: weight.parse().unwrap_or_default(),
                active: active.parse().unwrap_or_default(),
            }),
            ["FWM", mark, ..] => {
                let mark = u32::from_str_radix(mark, 16).unwrap_or_default();
                service = format!("fwmark {mark}");
            }
            [_, at, ..] => service = address(at),
            _ => {}
        }
    }
    all.truncate(MOST);
    all
}

fn address(text: &str) -> String {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, "0"));
    let port = u16::from_str_radix(port, 16).unwrap_or_default();
    match u32::from_str_radix(host, 16) {
        Ok(v4) => format!("{}:{port}", Ipv4Addr::from(v4)),
        Err(_) => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_virtual_servers_are_read() {
        let text = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n\
            TCP  C0A80164:0050 rr \n  -> C0A80116:0050      Route   1      2          0         \n\
            FWM  00000003 wlc \n  -> C0A80115:0000      Route   0      0          0         \n";
        let told: Vec<_> = parse(text)
            .iter()
            .map(|s| format!("{} {} {} {}", s.service, s.server, s.forward, s.weight))
            .collect();
        assert_eq!(told, ["192.168.1.100:80 192.168.1.22:80 Route 1", "fwmark 3 192.168.1.21:0 Route 0"]);
    }
}
