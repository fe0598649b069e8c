//! What agents tell each other of virtual addresses: plain data.

use super::firewall::Firewall;
use super::render::Mac;
use super::settings::Settings;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What a director's agent tells of one virtual address. Times are ages at the moment of telling.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipWord {
    /// Its name in the file.
    pub vip: String,
    /// Where it stands on that node, `lo` left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// The nodes that hold it, as that agent sees it, in order of preference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sees: Vec<String>,
    /// It is giving the address up for another holder, or has.
    #[serde(default)]
    pub yields: bool,
    /// How what holds it there fares.
    #[serde(default)]
    pub keeper: Keeping,
    /// From which MACs its packets come: what it has balanced is known by them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub macs: Vec<Mac>,
    /// What it found out, while something is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
}

impl VipWord {
    /// All that another agent may have written into it for people to read.
    pub fn texts(&mut self) -> Vec<&mut String> {
        let mut texts: Vec<&mut String> = self.sees.iter_mut().collect();
        texts.extend(self.held.as_mut().map(|h| &mut h.interface));
        let Some(facts) = &mut self.facts else { return texts };
        match &mut facts.settings {
            Ok(settings) => {
                texts.push(&mut settings.interface);
                texts.extend(&mut settings.addresses);
            }
            Err(why) => texts.push(why),
        }
        texts.extend(facts.heard.as_mut().err());
        match &mut facts.firewall {
            Firewall::Clear => {}
            Firewall::Blocks(rules) => texts.extend(rules),
            Firewall::Unseen(why) => texts.push(why),
        }
        texts
    }
}

/// How the instance that holds addresses fares, as far as it matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keeping {
    #[default]
    Unknown,
    /// It is not to run: held by an operator, or it yielded.
    Held,
    /// It does not run yet, or not any more.
    Down,
    Ready,
}

/// An address on an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub interface: String,
    pub for_ms: u64,
}

/// What a director's agent finds out where none or several hold an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// keepalived's own settings for the address; or why they cannot be told.
    pub settings: Result<Settings, String>,
    /// Who was heard announcing itself (VRRP, protocol 112) within [`Facts::listened_ms`]; or why nobody could listen.
    pub heard: Result<Vec<IpAddr>, String>,
    pub listened_ms: u64,
    pub firewall: Firewall,
    /// A process of keepalived's that is stopped (state T): it cannot hear nor let go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<i32>,
}

/// A virtual address as one agent sees it, for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipView {
    pub vip: String,
    /// With the length of its network's prefix.
    pub address: String,
    /// Its directors, the preferred one first.
    pub directors: Vec<String>,
    /// Where it stands on the node of that agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// What holds it there, and how that fares, where the node is a director.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeper: Option<KeeperView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<AlarmView>,
    /// What the kernel passes on from there (`/proc/net/ip_vs`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<RealServer>,
}

/// The instance that holds virtual addresses on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeeperView {
    pub instance: String,
    pub state: String,
    /// It gave its addresses up for another holder.
    pub yields: bool,
    /// keepalived's own word of this address, when it was asked last: `MASTER`, `BACKUP`, `FAULT`, `INIT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vrrp: Option<String>,
}

/// None or several hold an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmView {
    pub text: String,
    pub for_ms: u64,
    /// What was found out about it, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnosis: Vec<String>,
}

/// A destination of a virtual server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealServer {
    /// Address and port of the virtual server, or its mark: `192.168.1.100:80`, `fwmark 3`.
    pub service: String,
    pub server: String,
    /// `Route` is direct routing, `Masq` is NAT.
    pub forward: String,
    /// 0 takes no new connections.
    pub weight: u32,
    pub active: u32,
}
