//! Virtual addresses that a killed keepalived leaves on their interface: a leftover that is no file.
//!
//! While such an address stays, this machine answers for it beside the one that took it over.

use crate::address::Assigned;
use crate::facts::Judgement;
use std::net::IpAddr;

/// Judges one virtual address of the cluster by where it stands, nobody living who could have put it there: each
/// interface that holds it, with the proof. On `lo` it is no leftover.
pub(super) fn judge<'a>(
    vip: IpAddr,
    all: &'a [Assigned],
    program: &str,
) -> Vec<(&'a Assigned, Judgement, String)> {
    let left = all.iter().filter(|a| a.address == vip && !a.is_on_loopback());
    let judged = left.map(|held| {
        let on = &held.interface;
        match all.iter().find(|other| held.carries(other)) {
            Some(other) => {
                let why = format!(
                    "{vip} is still on {on}, and the kernel would take {} along with it: remove it by hand",
                    other.address
                );
                (held, Judgement::Doubt, why)
            }
            None => {
                let why = format!("{vip} is still on {on}, and no {program} lives here that could hold it");
                (held, Judgement::Stale, why)
            }
        }
    });
    judged.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(interface: &str, index: u32, address: &str, secondary: bool) -> Assigned {
        let (address, prefix) = address.split_once('/').unwrap();
        let (address, prefix) = (address.parse().unwrap(), prefix.parse().unwrap());
        Assigned { address, prefix, interface: interface.into(), index, secondary }
    }

    #[track_caller]
    fn check(all: &[Assigned], wanted: &[(Judgement, &str)]) {
        let judged = judge("10.0.0.100".parse().unwrap(), all, "keepalived");
        let told: Vec<_> = judged.iter().map(|(_, j, why)| (*j, why.as_str())).collect();
        assert_eq!(told, wanted);
    }

    #[test]
    fn a_virtual_address_is_left_over_where_it_stands_and_never_on_the_loopback() {
        let (own, other) = (on("eth0", 2, "10.0.0.1/24", false), on("eth0", 2, "10.0.0.101/24", true));
        check(&[own.clone(), other.clone()], &[]);
        check(&[own.clone(), on("lo", 1, "10.0.0.100/32", false)], &[]);
        let stale = "10.0.0.100 is still on eth0, and no keepalived lives here that could hold it";
        check(&[own.clone(), on("eth0", 2, "10.0.0.100/24", true), other], &[(Judgement::Stale, stale)]);
        check(&[own, on("eth0", 2, "10.0.0.100/32", false)], &[(Judgement::Stale, stale)]);
    }

    #[test]
    fn what_would_take_another_address_along_is_doubt() {
        let vip = on("eth0", 2, "10.0.0.100/24", false);
        let why = "10.0.0.100 is still on eth0, and the kernel would take 10.0.0.1 along with it: remove it by hand";
        check(&[vip.clone(), on("eth0", 2, "10.0.0.1/24", true)], &[(Judgement::Doubt, why)]);
        for apart in [
            on("eth1", 3, "10.0.0.1/24", true),
            on("eth0", 2, "10.0.1.1/24", true),
            on("eth0", 2, "10.0.0.1/16", true),
        ] {
            assert_eq!(judge(vip.address, &[vip.clone(), apart], "keepalived")[0].1, Judgement::Stale);
        }
        let all = [on("eth0", 2, "10.0.0.100/0", false), on("eth0", 2, "10.0.0.1/0", true)];
        assert_eq!(judge(vip.address, &all, "keepalived")[0].1, Judgement::Doubt);
    }
}
