//! Virtual addresses: which of them this machine's interfaces hold (never `lo`, where a real server behind a director
//! rightly has them), as the kernel tells by netlink; and what keepalived says of itself beside it.

use super::course::Course;
use super::keepalived::{self, State, Vrrp};
use super::net;
use crate::facts::{Ready, Role, Stage, Trouble, Verdict};
use crate::model::VipAsk;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// How often keepalived is asked while nothing changes: each time it writes a file, and a line into its log.
const ASKED: Duration = Duration::from_secs(30);
/// And how often while it is not what it should be.
const ASKED_ANEW: Duration = Duration::from_secs(1);

/// Keeps what keepalived said last.
#[derive(Default)]
pub(super) struct Client {
    dump: keepalived::Client,
    last: Option<Last>,
}

struct Last {
    at: Instant,
    held: Vec<Held>,
    good: bool,
    said: Result<Vec<Vrrp>, Verdict>,
}

/// A virtual address on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    address: IpAddr,
    interface: String,
}

impl Client {
    pub async fn ask(&mut self, vip: &VipAsk, course: Course<'_>) -> Verdict {
        course.enter(Stage::Reply);
        let held = match held(&vip.addresses) {
            Ok(held) => held,
            Err(error) => {
                let why = format!("cannot read the addresses of this machine: {}", net::plain(&error.into()));
                return Verdict::not_ready(Trouble::Unaskable, why);
            }
        };
        let Some(pidfile) = &vip.keepalived else { return judge(vip, &held, &[]) };
        let fresh = self.last.as_ref().is_some_and(|last| {
            last.held == held && last.at.elapsed() < if last.good { ASKED } else { ASKED_ANEW }
        });
        if !fresh {
            let said = self.dump.ask(pidfile, course).await;
            self.last = Some(Last { at: Instant::now(), held: held.clone(), good: false, said });
        }
        let Some(last) = &mut self.last else { return judge(vip, &held, &[]) };
        let verdict = match &last.said {
            Ok(instances) => judge(vip, &held, instances),
            Err(verdict) => verdict.clone(),
        };
        last.good = verdict.is_ready();
        verdict
    }
}

fn held(addresses: &[IpAddr]) -> nix::Result<Vec<Held>> {
    let all = getifaddrs()?.filter(|a| !a.flags.contains(InterfaceFlags::IFF_LOOPBACK));
    let all = all.filter_map(|a| {
        let socket = a.address?;
        let v4 = socket.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        let v6 = || socket.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip()));
        Some(Held { address: v4.or_else(v6)?, interface: a.interface_name })
    });
    Ok(all.filter(|held| addresses.contains(&held.address)).collect())
}

fn judge(vip: &VipAsk, held: &[Held], instances: &[Vrrp]) -> Verdict {
    let declined = |why| Verdict::not_ready(Trouble::Declined, why);
    for vrrp in instances {
        let name = net::shown(vrrp.name.as_bytes());
        // Those of its addresses that are asked about.
        let mut own = vrrp.addresses.iter().filter(|a| vip.addresses.contains(a));
        let on = |address: &IpAddr| held.iter().find(|held| held.address == *address);
        match vrrp.state {
            State::Init => {
                let reason = format!("keepalived says that {name} is in INIT: it has just begun");
                return Verdict::Progress { reason, percent: None, left: None };
            }
            State::Fault => {
                return declined(format!(
                    "keepalived says that {name} is in FAULT: its interface is down, or what it tracks fails"
                ));
            }
            State::Master => {
                if let Some(missing) = own.find(|a| on(a).is_none()) {
                    return declined(format!(
                        "keepalived says that {name} is MASTER, and {missing} is on no interface here"
                    ));
                }
            }
            State::Backup => {
                if let Some(held) = own.find_map(on) {
                    return declined(format!(
                        "keepalived says that {name} is BACKUP, and {} is on {} all the same",
                        held.address, held.interface
                    ));
                }
            }
        }
    }
    if let Some(missing) = vip.addresses.iter().find(|a| vip.held && !held.iter().any(|h| h.address == **a)) {
        return declined(format!("{missing} is on no interface of this machine"));
    }
    let states =
        instances.iter().map(|v| format!("{} is {}", net::shown(v.name.as_bytes()), v.state.as_str()));
    let holds = match held {
        [] => "holds no virtual address".to_owned(),
        held => {
            let held: Vec<_> = held.iter().map(|h| format!("{} on {}", h.address, h.interface)).collect();
            format!("holds {}", held.join(" and "))
        }
    };
    let detail = states.chain([holds]).collect::<Vec<_>>().join(", ");
    let roles = if held.is_empty() { vec![] } else { vec![Role::Master] };
    Verdict::Ready(Ready { detail, roles, identity: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Ask;
    use crate::probe::testing::{ask, not_ready};

    const VIP: [u8; 4] = [192, 0, 2, 100];

    fn asked() -> VipAsk {
        VipAsk { addresses: vec![VIP.into()], held: false, keepalived: None }
    }

    fn on_eth0() -> Vec<Held> {
        vec![Held { address: VIP.into(), interface: "eth0".into() }]
    }

    fn www(state: State) -> Vec<Vrrp> {
        vec![Vrrp { name: "www".into(), vrid: 51, priority: 150, state, addresses: vec![VIP.into()] }]
    }

    #[test]
    fn who_holds_it_and_what_keepalived_says_belong_together() {
        let master = judge(&asked(), &on_eth0(), &www(State::Master));
        assert_eq!(master.to_string(), "ready (www is MASTER, holds 192.0.2.100 on eth0)");
        let backup = judge(&asked(), &[], &www(State::Backup));
        assert_eq!(backup, Verdict::ready("www is BACKUP, holds no virtual address"));

        let reason = "keepalived says that www is MASTER, and 192.0.2.100 is on no interface here";
        not_ready(judge(&asked(), &[], &www(State::Master)), Trouble::Declined, reason);
        let reason = "keepalived says that www is BACKUP, and 192.0.2.100 is on eth0 all the same";
        not_ready(judge(&asked(), &on_eth0(), &www(State::Backup)), Trouble::Declined, reason);
        let reason = "keepalived says that www is in FAULT: its interface is down, or what it tracks fails";
        not_ready(judge(&asked(), &[], &www(State::Fault)), Trouble::Declined, reason);
        let Verdict::Progress { reason, .. } = judge(&asked(), &[], &www(State::Init)) else { panic!() };
        assert_eq!(reason, "keepalived says that www is in INIT: it has just begun");
    }

    #[test]
    fn one_that_should_hold_it_and_does_not_is_not_ready() {
        let held = VipAsk { held: true, ..asked() };
        let reason = "192.0.2.100 is on no interface of this machine";
        not_ready(judge(&held, &[], &[]), Trouble::Declined, reason);
        assert!(judge(&held, &on_eth0(), &[]).is_ready());
    }

    #[tokio::test]
    async fn what_stands_on_lo_is_not_held() {
        let here = VipAsk { addresses: vec![[127, 0, 0, 1].into()], ..asked() };
        assert_eq!(ask(Ask::Vip(here)).await, Verdict::ready("holds no virtual address"));
    }
}
