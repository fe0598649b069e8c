//! Taking parts out of a cluster file. What comes out may be no valid cluster; whoever asks reads it and sees.

use crate::model::Sources;
use toml::{Table, Value};

/// The texts without a service, or something outside the cluster, and every need of it. `None` where nothing changes.
pub(super) fn without_service(sources: &Sources, name: &str) -> Option<Sources> {
    change(sources, |file| {
        let outside = file.get_mut("external").and_then(Value::as_table_mut);
        let outside = outside.and_then(|outside| outside.remove(name));
        let services = services(file)?;
        outside.or_else(|| services.remove(name))?;
        for service in services.iter_mut().filter_map(|(_, entry)| entry.as_table_mut()) {
            if let Some(needs) = service.get_mut("needs").and_then(Value::as_table_mut) {
                needs.retain(|key, need| key != name && without_target(need, name));
            }
        }
        Some(())
    })
}

/// The texts without one need of a service.
pub(super) fn without_need(sources: &Sources, service: &str, need: &str) -> Option<Sources> {
    change(sources, |file| {
        let needs = services(file)?.get_mut(service)?.get_mut("needs")?.as_table_mut()?;
        needs.remove(need).map(drop)
    })
}

/// The texts without a node. Services that are placed nowhere else go with it.
pub(super) fn without_node(sources: &Sources, name: &str) -> Option<Sources> {
    let mut idle = Vec::new();
    let smaller = change(sources, |file| {
        let groups = file.get_mut("nodes")?.as_table_mut()?;
        let home = groups.iter().find(|(_, group)| group.get(name).is_some())?.0.clone();
        let group = groups.get_mut(&home)?.as_table_mut()?;
        group.remove(name);
        let gone = group.is_empty().then_some(home.as_str());
        if gone.is_some() {
            groups.remove(&home);
        }
        for (service, entry) in services(file)?.iter_mut() {
            let is_there = |on: &Value| on.as_str().is_some_and(|on| on != name && Some(on) != gone);
            let stays = match entry.get_mut("on")? {
                Value::Array(all) => {
                    all.retain(is_there);
                    !all.is_empty()
                }
                on => is_there(on),
            };
            if !stays {
                idle.push(service.clone());
            }
        }
        Some(())
    })?;
    Some(idle.iter().fold(smaller, |sources, service| without_service(&sources, service).unwrap_or(sources)))
}

/// The texts without virtual addresses, which name services and nodes.
pub(super) fn without_vips(sources: &Sources) -> Option<Sources> {
    change(sources, |file| file.remove("vips").map(drop))
}

/// Takes a target out of a need; false when none is left.
fn without_target(need: &mut Value, name: &str) -> bool {
    match need.get_mut("of") {
        Some(Value::Array(of)) => {
            of.retain(|target| target.as_str() != Some(name));
            !of.is_empty()
        }
        Some(target) => target.as_str() != Some(name),
        None => true,
    }
}

fn services(file: &mut Table) -> Option<&mut Table> {
    file.get_mut("services")?.as_table_mut()
}

/// The cluster file changed, and the units that it still uses.
fn change(sources: &Sources, change: impl FnOnce(&mut Table) -> Option<()>) -> Option<Sources> {
    let mut file: Table = sources.cluster.text.parse().ok()?;
    change(&mut file)?;
    let mut smaller = sources.clone();
    smaller.cluster.text = toml::to_string(&file).ok()?;
    let services = services(&mut file)?;
    let unit = |(name, entry): (&String, &Value)| {
        entry.get("unit").and_then(Value::as_str).unwrap_or(name).to_owned()
    };
    let used: Vec<String> = services.iter().map(unit).collect();
    smaller.units.retain(|name, _| used.contains(name));
    Some(smaller)
}
