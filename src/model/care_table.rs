//! The keys of `[run]` that become a [`Care`].

use super::care::{
    Bounds, CallGroup, Capability, Care, CgroupLimits, EnvironmentFile, ProtectHome, ProtectSystem, Resource,
    Sight,
};
use super::diag::Problem;
use super::fields::{Fields, Value};
use super::words::{either, list, nearest, parse_size};
use std::collections::BTreeMap;
use std::path::{Component, PathBuf};
use toml::de::DeValue;

const SIZE_HINT: &str = "write a number of bytes, or one with its unit in quotes: \"64K\", \"512M\", \"2G\"";

/// Takes all keys of care; after a complaint about one of them, what it would have said is left out.
pub(super) fn read_care(fields: &mut Fields<'_>) -> Care {
    let mut number = |key, range| fields.take(key).and_then(|v| v.number(range));
    let nice = number("nice", -20..=19).map(|n| n as i32);
    let oom_score_adjust = number("oom_score_adjust", -1000..=1000).map(|n| n as i32);
    let cpu_weight = number("cpu_weight", 1..=10_000).map(|n| n as u32);
    let tasks_max = number("tasks_max", 1..=i64::from(u32::MAX)).map(|n| n as u32);
    let system_call_filter = fields.take("system_call_filter").map(read_filter).unwrap_or_default();
    let no_new_privileges = fields.take("no_new_privileges").and_then(|v| v.flag()).unwrap_or(false);
    Care {
        groups: fields.take("groups").map(read_groups),
        environment_files: fields.take("environment_files").map(read_environment_files).unwrap_or_default(),
        limits: fields.take("limits").map(read_limits).unwrap_or_default(),
        nice,
        oom_score_adjust,
        capabilities: fields.take("capabilities").map(read_capabilities),
        // A program that is more than its caller must not be denied what it relies on.
        no_new_privileges: no_new_privileges || !system_call_filter.is_empty(),
        system_call_filter,
        cgroup: CgroupLimits {
            memory_max: fields.take("memory_max").and_then(read_size),
            cpu_weight,
            cpu_quota: fields.take("cpu_quota").and_then(read_percent),
            tasks_max,
        },
        sight: Sight {
            protect_system: fields.take("protect_system").and_then(read_system).unwrap_or_default(),
            protect_home: fields.take("protect_home").and_then(read_home).unwrap_or_default(),
            private_tmp: fields.take("private_tmp").and_then(|v| v.flag()).unwrap_or(false),
            read_only_paths: fields.take("read_only_paths").map(|v| v.paths()).unwrap_or_default(),
            read_write_paths: fields.take("read_write_paths").map(|v| v.paths()).unwrap_or_default(),
        },
    }
}

fn read_system(value: Value<'_>) -> Option<ProtectSystem> {
    match value.raw() {
        DeValue::String(_) => {
            value.choice(&[("full", ProtectSystem::Full), ("strict", ProtectSystem::Strict)])
        }
        _ => Some(if value.flag()? { ProtectSystem::Programs } else { ProtectSystem::No }),
    }
}

fn read_home(value: Value<'_>) -> Option<ProtectHome> {
    match value.raw() {
        DeValue::String(_) => value.choice(&[("read-only", ProtectHome::ReadOnly)]),
        _ => Some(if value.flag()? { ProtectHome::Empty } else { ProtectHome::No }),
    }
}

fn read_groups(value: Value<'_>) -> Vec<String> {
    value.items().iter().filter_map(|v| v.words()).map(String::from).collect()
}

fn read_environment_files(value: Value<'_>) -> Vec<EnvironmentFile> {
    let file = |item: &Value<'_>| {
        let text = item.words()?;
        let (path, optional) = match text.strip_prefix('-') {
            Some(rest) => (PathBuf::from(rest), true),
            None => (PathBuf::from(&*text), false),
        };
        if !path.is_absolute() || path.components().any(|c| c == Component::ParentDir) {
            item.error(
                format!("the environment file \"{text}\" is not an absolute path without `..`"),
                "write it from the root, such as \"/etc/default/redis\"; \"-/etc/default/redis\" may be missing",
            );
            return None;
        }
        Some(EnvironmentFile { path, optional })
    };
    value.items().iter().filter_map(file).collect()
}

fn read_limits(value: Value<'_>) -> BTreeMap<Resource, Bounds> {
    let Some(fields) = value.table("`limits`") else { return BTreeMap::new() };
    let words = || Resource::ALL.iter().map(|r| r.as_str());
    let mut limits = BTreeMap::new();
    for limit in fields.rest() {
        match Resource::ALL.iter().find(|r| r.as_str() == limit.key) {
            Some(resource) => limits.extend(read_bounds(limit).map(|bounds| (*resource, bounds))),
            None => {
                let hint = match nearest(limit.key, words()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("setrlimit(2) knows {}", list(words())),
                };
                let problem = Problem::new(limit.key_span, format!("`limits` knows no `{}`", limit.key));
                limit.reader.log.error(problem.hint(hint));
            }
        }
    }
    limits
}

/// `65536`, `"8M"`, `"unlimited"`, or soft and hard: `"1024:65536"`.
fn read_bounds(value: Value<'_>) -> Option<Bounds> {
    if matches!(value.raw(), DeValue::Integer(_)) {
        let both = value.number(0..=i64::MAX)? as u64;
        return Some(Bounds { soft: both, hard: both });
    }
    let text = value.text()?;
    let one = |text: &str| match text {
        "unlimited" => Some(Bounds::UNLIMITED),
        number => parse_size(number),
    };
    let bounds = match text.split_once(':') {
        Some((soft, hard)) => one(soft).zip(one(hard)),
        None => one(&text).map(|both| (both, both)),
    };
    match bounds {
        Some((soft, hard)) if soft <= hard => Some(Bounds { soft, hard }),
        Some(_) => {
            value.error(
                format!("the soft limit of `{}` is above its hard one", value.key),
                "write the lower one first: \"1024:65536\"",
            );
            None
        }
        None => {
            value.error(
                format!("`{}` is \"{text}\", which is not a limit", value.key),
                "write a number, \"unlimited\", or soft and hard: \"1024:65536\"",
            );
            None
        }
    }
}

/// `["~@mount", "~@swap"]`: what is denied, as systemd has it.
fn read_filter(value: Value<'_>) -> Vec<CallGroup> {
    let group = |item: &Value<'_>| {
        let text = item.words()?;
        let named =
            text.strip_prefix('~').and_then(|name| CallGroup::ALL.iter().find(|g| g.as_str() == name));
        if named.is_none() {
            let names = || CallGroup::ALL.iter().map(|g| g.as_str());
            let bare = text.trim_start_matches(['~', '@']);
            let near = nearest(&format!("@{bare}"), names());
            let hint = match near {
                Some(near) => format!("write \"~{near}\": only groups can be denied, and nothing else"),
                None => format!("groups of systemd's can be denied: a `~`, then one of {}", list(names())),
            };
            item.error(format!("the filter of system calls knows no \"{text}\""), hint);
        }
        named.copied()
    };
    value.items().iter().filter_map(group).collect()
}

fn read_capabilities(value: Value<'_>) -> Vec<Capability> {
    let capability = |item: &Value<'_>| {
        let text = item.words()?;
        let found = Capability::from_name(&text);
        if found.is_none() {
            let upper = text.to_ascii_uppercase();
            let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
            // `nearest` compares in small letters.
            let small: Vec<String> = Capability::NAMES.iter().map(|n| n.to_ascii_lowercase()).collect();
            let near = nearest(&full, small.iter().map(String::as_str)).map(str::to_ascii_uppercase);
            let hint = match near {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!(
                    "capabilities(7) has the names, such as {}",
                    either(["CAP_NET_BIND_SERVICE", "CAP_SYS_NICE"])
                ),
            };
            item.error(format!("there is no capability \"{text}\""), hint);
        }
        found
    };
    value.items().iter().filter_map(capability).collect()
}

pub(super) fn read_size(value: Value<'_>) -> Option<u64> {
    if matches!(value.raw(), DeValue::Integer(_)) {
        return value.number(1..=i64::MAX).map(|bytes| bytes as u64);
    }
    let text = value.text()?;
    let size = parse_size(&text).filter(|bytes| *bytes > 0);
    if size.is_none() {
        value.error(format!("`{}` is \"{text}\", which is not a size", value.key), SIZE_HINT);
    }
    size
}

fn read_percent(value: Value<'_>) -> Option<u32> {
    let text = value.text()?;
    let percent = text.strip_suffix('%').and_then(|n| n.parse().ok()).filter(|n| (1..=1_000_000).contains(n));
    if percent.is_none() {
        value.error(
            format!("`{}` is \"{text}\", which is not a share of CPU time", value.key),
            "write percent of one CPU: \"50%\" is half of one, \"200%\" two",
        );
    }
    percent
}
