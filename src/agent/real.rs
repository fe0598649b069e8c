//! A real server behind direct routing: it holds the virtual address on `lo` for as long as the service behind it runs.
//!
//! What is to be changed is decided by [`manage::changes`]; it is quick, and done before the service starts.

use super::shell::Shell;
use crate::address;
use crate::director::manage::{self, Change, Kept};
use crate::director::render::render_real_server;
use crate::engine::view::StateName;
use crate::model::{Forward, InstanceIx};
use crate::store::Slot;
use std::cell::{Cell, RefCell};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// What the shell keeps for it.
pub struct Real {
    slot: Slot<Kept>,
    kept: RefCell<Kept>,
    /// The addresses that were asked for last; `None` before the first time.
    asked: RefCell<Option<Vec<IpAddr>>>,
    /// It is known what runs here.
    began: Cell<bool>,
}

impl Real {
    pub fn of(run: &Path) -> Real {
        let slot = Slot::volatile(run.join("real-server"));
        let kept = slot.read().ok().flatten().map(|stored| stored.value).unwrap_or_default();
        Real { slot, kept: RefCell::new(kept), asked: RefCell::default(), began: Cell::new(false) }
    }

    /// All that runs has been searched for.
    pub fn began(&self) {
        self.began.set(true);
    }
}

impl Shell {
    /// Sets up or takes back what the services that run here need, when that has changed.
    pub fn look_at_real_server(&self) {
        if !self.real.began.get() {
            return;
        }
        let wanted = self.addresses_to_hold(None);
        if self.real.asked.borrow().as_ref() == Some(&wanted) {
            return;
        }
        let done = self.be_real_server(&wanted);
        if let Err(e) = &done {
            tracing::error!("{e}");
        }
    }

    /// The same before an instance is started.
    ///
    /// # Errors
    /// What cannot be set up; the instance would answer for the director.
    pub(super) fn be_real_server_for(&self, instance: InstanceIx) -> Result<(), String> {
        let wanted = self.addresses_to_hold(Some(instance));
        if self.real.asked.borrow().as_ref() == Some(&wanted) { Ok(()) } else { self.be_real_server(&wanted) }
    }

    /// The virtual addresses behind which something of this node's has a process, or gets one now.
    fn addresses_to_hold(&self, starting: Option<InstanceIx>) -> Vec<IpAddr> {
        use StateName::{Ready, Standby, Starting, Stopping, Unready};
        let engine = self.engine.borrow();
        let (cluster, me) = (engine.cluster(), engine.node());
        let runs = |ix: &InstanceIx| {
            let has_process =
                matches!(engine.state(*ix), Some(Starting | Ready | Unready | Standby | Stopping));
            has_process || starting == Some(*ix)
        };
        let direct = cluster.vips.iter().filter(|v| v.manage && v.forward == Forward::Direct);
        let served = direct.filter(|vip| {
            let own = cluster.service(vip.to).instances.iter().filter(|i| cluster.instance(**i).node == me);
            own.into_iter().any(runs)
        });
        served.map(|vip| vip.address).collect()
    }

    fn be_real_server(&self, wanted: &[IpAddr]) -> Result<(), String> {
        let done = self.change_real_server(wanted);
        self.real.asked.replace(done.is_ok().then(|| wanted.to_vec()));
        let problem = done.as_ref().err().map(|e| format!("as a real server: {e}"));
        self.say("real-server", problem);
        done
    }

    fn change_real_server(&self, wanted: &[IpAddr]) -> Result<(), String> {
        let kept = self.real.kept.borrow().clone();
        if wanted.is_empty() && kept == Kept::default() {
            return Ok(());
        }
        let settings = render_real_server(wanted).map(|real| real.sysctls).unwrap_or_default();
        let here = address::assigned().map_err(|e| format!("cannot read this machine's addresses: {e}"))?;
        let on_loopback: Vec<IpAddr> =
            here.iter().filter(|a| a.is_on_loopback()).map(|a| a.address).collect();
        let (new, todo) = manage::changes(wanted, &settings, &kept, &on_loopback, |name| {
            fs::read_to_string(path_of(name)).ok().map(|text| text.trim().to_owned())
        });
        // Written down first: what is not known to be ours is never taken back.
        if new != kept {
            let both = Kept {
                addresses: new.addresses.iter().chain(&kept.addresses).copied().collect(),
                settings: new
                    .settings
                    .iter()
                    .chain(&kept.settings)
                    .map(|(n, v)| (n.clone(), v.clone()))
                    .collect(),
            };
            self.real.slot.write(&both).map_err(|e| e.to_string())?;
        }
        for change in &todo {
            let (done, what) = match change {
                Change::Set { name, value } => {
                    (fs::write(path_of(name), value), format!("set {name} to {value}"))
                }
                Change::Hold(ip) => (address::hold_on_loopback(*ip), format!("put {ip} on lo")),
                Change::LetGo(ip) => {
                    let held = here.iter().filter(|a| a.is_on_loopback() && a.address == *ip);
                    (held.into_iter().try_for_each(address::remove), format!("take {ip} off lo"))
                }
            };
            done.map_err(|e| format!("cannot {what}: {e}"))?;
            self.events.borrow_mut().record("", "real-server", &what, serde_json::Value::Null);
        }
        if new != kept {
            self.real.slot.write(&new).map_err(|e| e.to_string())?;
            self.real.kept.replace(new);
        }
        Ok(())
    }
}

fn path_of(setting: &str) -> PathBuf {
    PathBuf::from(format!("/proc/sys/{}", setting.replace('.', "/")))
}
