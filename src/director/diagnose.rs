//! Why none or several hold a virtual address: pure, from what the directors' agents found out.

use super::firewall::Firewall;
use super::settings::Settings;
use super::word::Facts;
use std::net::IpAddr;

/// Adverts come every second unless the settings say otherwise; after so long that nothing was heard says something.
pub(super) const HEARD_BY: u64 = 1050;

/// One director.
pub struct Side<'a> {
    pub name: &'a str,
    pub address: IpAddr,
    pub holds: bool,
    /// `None` where its agent is not heard, or has not looked yet.
    pub facts: Option<&'a Facts>,
}

impl Side<'_> {
    fn settings(&self) -> Option<&Settings> {
        self.facts?.settings.as_ref().ok()
    }

    /// Where its adverts come from.
    fn source(&self) -> IpAddr {
        self.settings().and_then(|s| s.unicast_source).unwrap_or(self.address)
    }
}

/// What can be said of the cause, the most telling first. Without figures that change all the time.
pub fn diagnose(sides: &[Side<'_>], several: bool) -> Vec<String> {
    let mut told = Vec::new();
    for side in sides {
        if let Some(pid) = side.facts.and_then(|f| f.frozen) {
            told.push(format!(
                "keepalived on {} is frozen (process {pid}, state T): it neither hears the others nor lets go",
                side.name
            ));
        }
    }
    told.extend(settings(sides));
    for side in sides {
        match side.facts.map(|f| &f.firewall) {
            Some(Firewall::Blocks(rules)) => told.extend(
                rules.iter().map(|rule| format!("a rule on {} drops VRRP (protocol 112): {rule}", side.name)),
            ),
            Some(Firewall::Unseen(why)) => {
                told.push(format!(
                    "whether a firewall on {} is in the way could not be seen: {why}",
                    side.name
                ));
            }
            Some(Firewall::Clear) | None => {}
        }
    }
    if several {
        told.extend(hearing(sides));
    }
    told
}

/// What the settings themselves explain.
fn settings(sides: &[Side<'_>]) -> Vec<String> {
    let mut told = Vec::new();
    for side in sides {
        if let Some(Err(why)) = side.facts.map(|f| &f.settings) {
            told.push(format!("the settings of keepalived on {} cannot be told: {why}", side.name));
        }
    }
    let known: Vec<(&Side<'_>, &Settings)> = sides.iter().filter_map(|s| Some((s, s.settings()?))).collect();
    let multicast: Vec<_> = known.iter().filter(|(_, s)| s.peers.is_empty()).map(|(d, _)| d.name).collect();
    if !multicast.is_empty() {
        let verb = if multicast.len() == 1 { "announces itself" } else { "announce themselves" };
        told.push(format!(
            "{} {verb} by multicast (no unicast_peer), which cloud networks do not carry",
            multicast.join(" and ")
        ));
    }
    for (side, own) in known.iter().filter(|(_, s)| !s.peers.is_empty()) {
        for other in sides.iter().filter(|o| o.name != side.name && !own.peers.contains(&o.source())) {
            let (name, at) = (other.name, other.source());
            told.push(format!("unicast_peer on {} lacks {name} ({at})", side.name));
        }
    }
    let mut differs = |what: &str, of: fn(&Settings) -> String| {
        let all: Vec<(&str, String)> = known.iter().map(|(d, s)| (d.name, of(s))).collect();
        if all.iter().any(|(_, value)| *value != all[0].1) {
            let all: Vec<_> = all.iter().map(|(name, value)| format!("{value} on {name}")).collect();
            told.push(format!("{what} differs: {}", all.join(", ")));
        }
    };
    differs("virtual_router_id", |s| s.vrid.to_string());
    differs("virtual_ipaddress", |s| s.addresses.join(" "));
    for (i, (side, own)) in known.iter().enumerate() {
        let twin = known[..i].iter().find(|(_, other)| other.priority == own.priority);
        if let Some((twin, _)) = twin {
            told.push(format!("{} and {} have the same priority, {}", twin.name, side.name, own.priority));
        }
    }
    told
}

/// Whose adverts reach whom.
fn hearing(sides: &[Side<'_>]) -> Vec<String> {
    let mut told = Vec::new();
    let (mut asked, mut all_heard) = (0, true);
    for side in sides {
        let Some(facts) = side.facts else { continue };
        let heard = match &facts.heard {
            Ok(heard) => heard,
            Err(why) => {
                told.push(format!("whether adverts reach {} could not be heard: {why}", side.name));
                continue;
            }
        };
        for other in sides.iter().filter(|o| o.name != side.name && o.holds) {
            asked += 1;
            if !heard.contains(&other.source()) {
                all_heard = false;
                if facts.listened_ms >= HEARD_BY {
                    told.push(format!("no advert of {} reaches {}", other.name, side.name));
                }
            }
        }
    }
    if asked > 0 && all_heard {
        told.push("their adverts reach each other".to_owned());
    }
    told
}

#[cfg(test)]
mod tests;
