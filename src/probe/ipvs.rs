//! IPVS: the virtual services of this machine's kernel, from `/proc/net/ip_vs`, and for a mark the rule that gives it.

use super::course::Course;
use super::net;
use crate::facts::{Stage, Trouble, Verdict};
use crate::model::{IpvsName, VirtualService};
use crate::process;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Stdio;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

/// The kernel's table.
const TABLE: &str = "/proc/thread-self/net/ip_vs";
/// The most bytes of it that are read: some 60,000 real servers.
const MOST: u64 = 4 << 20;
/// The most bytes of rules that are read.
const MOST_RULES: u64 = 4 << 20;
/// The most characters of a rule that are told.
const MOST_TOLD: usize = 300;
/// Who prints the rules that mark, in the order in which they are asked; the first has those of both kinds where it
/// is nft's. Without counters: an answer is news only when something changed.
const RULES: [&[&str]; 3] = [
    &["/usr/sbin/iptables-save", "-t", "mangle"],
    &["/usr/sbin/iptables-legacy-save", "-t", "mangle"],
    &["/usr/sbin/nft", "-s", "list", "ruleset"],
];

pub(super) async fn ask(wanted: &VirtualService, course: Course<'_>) -> Verdict {
    course.enter(Stage::Reply);
    let table = match table() {
        Ok(table) => table,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let why = "this kernel has no IPVS: its module ip_vs is not loaded";
            return Verdict::not_ready(Trouble::Refused, why);
        }
        Err(error) => {
            let why = format!("cannot read {TABLE}: {}", net::plain(&error));
            return Verdict::not_ready(Trouble::Unaskable, why);
        }
    };
    let (detail, mark) = match (judge(wanted, &table), wanted.service) {
        (Verdict::Ready(ready), IpvsName::Fwmark(mark)) => (ready.detail, mark),
        (verdict, _) => return verdict,
    };
    match course.limit(rule_of(mark)).await {
        Some(Ok(Some(rule))) => Verdict::ready(format!("{detail}, marked by: {rule}")),
        Some(Ok(None)) => Verdict::not_ready(
            Trouble::Declined,
            format!("no rule of the mangle table gives the mark {mark}: nothing reaches the virtual service"),
        ),
        Some(Err(why)) => Verdict::not_ready(Trouble::Unaskable, why),
        None => {
            let why = format!("the firewall's rules were not listed within {course}");
            Verdict::not_ready(Trouble::Silent, why)
        }
    }
}

fn table() -> io::Result<String> {
    let mut text = String::new();
    File::open(TABLE)?.take(MOST).read_to_string(&mut text)?;
    Ok(text)
}

/// A virtual service of the kernel's, with its real servers.
pub struct Balanced {
    pub service: IpvsName,
    pub reals: Vec<Real>,
}

/// A real server.
#[derive(Debug, PartialEq, Eq)]
pub struct Real {
    pub address: SocketAddr,
    /// `Route` is direct routing, `Masq` is NAT.
    pub forward: String,
    /// 0 takes no new connections.
    pub weight: u32,
    /// Connections.
    pub active: u32,
}

/// All that this machine's kernel balances; nothing where it does not know how.
pub fn balanced() -> Vec<Balanced> {
    table().map(|text| services(&text)).unwrap_or_default()
}

/// Three lines say what the columns are; then a line for each virtual service, and below it one for each real server:
/// `  -> ADDRESS:PORT FORWARD WEIGHT ACTIVE INACTIVE`.
fn services(table: &str) -> Vec<Balanced> {
    let mut all: Vec<Balanced> = Vec::new();
    // Whether the service above was understood.
    let mut inside = false;
    for line in table.lines().skip(3) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["->", server, forward, weight, active, ..] if inside => {
                let (Some(address), Ok(weight), Some(of)) =
                    (hex_address(server), weight.parse(), all.last_mut())
                else {
                    continue;
                };
                let (forward, active) = ((*forward).to_owned(), active.parse().unwrap_or_default());
                of.reals.push(Real { address, forward, weight, active });
            }
            ["->", ..] | [] | [_] => {}
            [kind, which, ..] => {
                let service = named(kind, which);
                inside = service.is_some();
                all.extend(service.map(|service| Balanced { service, reals: Vec::new() }));
            }
        }
    }
    all
}

fn named(kind: &str, which: &str) -> Option<IpvsName> {
    Some(match kind {
        "TCP" => IpvsName::Tcp(hex_address(which)?),
        "UDP" => IpvsName::Udp(hex_address(which)?),
        "SCTP" => IpvsName::Sctp(hex_address(which)?),
        "FWM" => IpvsName::Fwmark(u32::from_str_radix(which, 16).ok()?),
        _ => return None,
    })
}

/// `C0A80164:0050`, or `[2001:0db8:0000:0000:0000:0000:0000:0064]:0050`.
fn hex_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let ip: IpAddr = match ip.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?.into(),
        None if ip.len() == 8 => Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?).into(),
        None => return None,
    };
    Some(SocketAddr::new(ip, port))
}

pub(super) fn judge(wanted: &VirtualService, table: &str) -> Verdict {
    let name = told(wanted.service);
    let declined = |why| Verdict::not_ready(Trouble::Declined, why);
    let found = services(table).into_iter().find(|one| one.service == wanted.service);
    let Some(Balanced { reals, .. }) = found else {
        return declined(format!("IPVS has no virtual service {name}"));
    };
    let works = |server: &SocketAddr| reals.iter().any(|r| r.address == *server && r.weight > 0);
    let missing = wanted.servers.iter().filter(|server| !works(server)).map(|server| {
        let listed = reals.iter().any(|r| r.address == *server);
        format!("{} {}", server_told(*server), if listed { "has weight 0" } else { "is missing" })
    });
    let missing: Vec<_> = missing.collect();
    let missing = if missing.is_empty() { String::new() } else { format!(", {}", missing.join(", ")) };
    let count = reals.iter().filter(|r| r.weight > 0).count();
    let servers = match count {
        0 => "no real server".to_owned(),
        1 => "1 real server".to_owned(),
        n => format!("{n} real servers"),
    };
    if (count as u64) < u64::from(wanted.least) {
        return declined(format!("{name} has {servers} with a weight, not {}{missing}", wanted.least));
    }
    Verdict::ready(format!("{name} has {servers}{missing}"))
}

/// A real server as it is said: those of a mark get a packet at whatever port it was sent to.
pub fn server_told(server: SocketAddr) -> String {
    if server.port() == 0 { server.ip().to_string() } else { server.to_string() }
}

/// A virtual service as it is said: `TCP 192.168.1.100:80`, `fwmark 3`.
pub(super) fn told(name: IpvsName) -> String {
    match name {
        IpvsName::Tcp(address) => format!("TCP {address}"),
        IpvsName::Udp(address) => format!("UDP {address}"),
        IpvsName::Sctp(address) => format!("SCTP {address}"),
        IpvsName::Fwmark(mark) => format!("fwmark {mark}"),
    }
}

/// The firewall's rule that gives the mark, if there is one; or why nobody could tell.
async fn rule_of(mark: u32) -> Result<Option<String>, String> {
    let mut why = "neither iptables-save nor nft is there to list the rules that mark".to_owned();
    let mut listed = false;
    for command in RULES {
        match rules(command).await {
            Ok(text) => match giving(mark, &text) {
                Some(rule) => return Ok(Some(rule)),
                None => listed = true,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => why = format!("cannot list the rules that mark: {}", net::plain(&error)),
        }
    }
    if listed { Ok(None) } else { Err(why) }
}

async fn rules(command: &[&str]) -> io::Result<String> {
    let [program, arguments @ ..] = command else { return Err(io::ErrorKind::NotFound.into()) };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir("/")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = process::unheld(|| command.spawn())?;
    let mut text = Vec::new();
    if let Some(out) = child.stdout.take() {
        out.take(MOST_RULES).read_to_end(&mut text).await?;
    }
    let status = child.wait().await?;
    match status.success() {
        true => Ok(String::from_utf8_lossy(&text).into_owned()),
        false => Err(io::Error::other(format!("{program} ends with {status}"))),
    }
}

/// The first of these rules that gives the mark: `-j MARK --set-xmark 0x3/0xffffffff` of iptables, `meta mark set
/// 0x00000003` of nft.
pub(super) fn giving(mark: u32, rules: &str) -> Option<String> {
    let is_mark = |word: &str| {
        let word = word.split('/').next().unwrap_or(word);
        match word.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16) == Ok(mark),
            None => word.parse() == Ok(mark),
        }
    };
    let gives = |line: &&str| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let after = |before: &[&str]| {
            words.windows(before.len() + 1).any(|w| w.starts_with(before) && is_mark(w[before.len()]))
        };
        let iptables = || after(&["MARK", "--set-xmark"]) || after(&["MARK", "--set-mark"]);
        iptables() || after(&["mark", "set"])
    };
    let rule = rules.lines().map(str::trim).find(gives)?;
    Some(rule.chars().filter(|c| !c.is_control()).take(MOST_TOLD).collect())
}

/// As the kernel writes it (`ip_vs_info_seq_show`).
#[cfg(any(test, feature = "fuzz"))]
pub(super) const TEXT: &str = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  C0A80164:0050 rr 
  -> C0A80116:0050      Route   1      0          0         
  -> C0A80115:0050      Route   0      0          2         
UDP  C0A80164:0035 wlc persistent 300 FFFFFFFF
TCP  [2001:0db8:0000:0000:0000:0000:0000:0064]:0050 wrr 
  -> [2001:0db8:0000:0000:0000:0000:0000:0021]:0050      Masq    10     1          0         
FWM  00000003 rr 
  -> C0A80117:0000      Route   1      5          7         
  -> C0A80118:0000      Tunnel  2      0          0         
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Ask;
    use crate::probe::testing::{ask, not_ready};

    fn asked(service: IpvsName, least: u32, servers: &[&str]) -> VirtualService {
        let servers = servers.iter().map(|s| s.parse().unwrap()).collect();
        VirtualService { service, servers, least }
    }

    fn www() -> IpvsName {
        IpvsName::Tcp("192.168.1.100:80".parse().unwrap())
    }

    #[test]
    fn rows_of_all_forms_are_read() {
        let says = |service, detail: &str| {
            assert_eq!(judge(&asked(service, 1, &[]), TEXT), Verdict::ready(detail));
        };
        says(www(), "TCP 192.168.1.100:80 has 1 real server");
        let v6 = "[2001:db8::64]:80".parse().unwrap();
        says(IpvsName::Tcp(v6), "TCP [2001:db8::64]:80 has 1 real server");
        says(IpvsName::Fwmark(3), "fwmark 3 has 2 real servers");
        let all = services(TEXT);
        assert_eq!(all.len(), 4);
        let address = "192.168.1.23:0".parse().unwrap();
        assert_eq!(all[3].reals[0], Real { address, forward: "Route".into(), weight: 1, active: 5 });
    }

    #[test]
    fn what_is_missing_is_said() {
        let declined = |wanted: VirtualService, reason: &str| {
            not_ready(judge(&wanted, TEXT), Trouble::Declined, reason);
        };
        let servers = ["192.168.1.21:80", "192.168.1.22:80", "192.168.1.23:80"];
        declined(
            asked(www(), 2, &servers),
            "TCP 192.168.1.100:80 has 1 real server with a weight, not 2, 192.168.1.21:80 has weight 0, \
             192.168.1.23:80 is missing",
        );
        let enough = judge(&asked(www(), 1, &servers[..2]), TEXT);
        assert_eq!(
            enough,
            Verdict::ready("TCP 192.168.1.100:80 has 1 real server, 192.168.1.21:80 has weight 0")
        );
        let marked = ["192.168.1.23:0", "192.168.1.25:0"];
        declined(
            asked(IpvsName::Fwmark(3), 3, &marked),
            "fwmark 3 has 2 real servers with a weight, not 3, 192.168.1.25 is missing",
        );
        let dns = IpvsName::Udp("192.168.1.100:53".parse().unwrap());
        declined(asked(dns, 1, &[]), "UDP 192.168.1.100:53 has no real server with a weight, not 1");
        declined(asked(IpvsName::Fwmark(4), 1, &[]), "IPVS has no virtual service fwmark 4");
    }

    #[test]
    fn the_rule_that_marks_is_found_in_both_tongues() {
        let iptables = "*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -d 192.168.1.100/32 -p tcp -m tcp --dport 80 \
            -m mac ! --mac-source 52:54:00:09:03:01 -j MARK --set-xmark 0x3/0xffffffff\nCOMMIT\n";
        let nft = "table ip mangle {\n\tchain pre {\n\t\tip daddr 192.168.1.100 tcp dport 80 meta mark set 0x00000003\n\t}\n}\n";
        for (rules, line) in [(iptables, 2), (nft, 2)] {
            assert_eq!(giving(3, rules).as_deref(), rules.lines().nth(line).map(str::trim));
            assert_eq!((giving(4, rules), giving(80, rules)), (None, None));
        }
        assert_eq!(giving(3, "-A PREROUTING -m mark --mark 0x3 -j ACCEPT\n"), None);
    }

    #[tokio::test]
    async fn a_kernel_without_it_is_said() {
        if std::path::Path::new(TABLE).exists() {
            return; // this one has it
        }
        let reason = "this kernel has no IPVS: its module ip_vs is not loaded";
        not_ready(ask(Ask::Ipvs(asked(www(), 1, &[]))).await, Trouble::Refused, reason);
    }
}
