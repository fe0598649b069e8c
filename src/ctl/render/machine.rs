//! What is in force on this machine, looked at and not touched.

use super::diff;
use crate::director::machine::Machine;
use crate::director::render::{CHAIN, RealServer, TABLE};
use anyhow::Context;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The largest file that is compared, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// A file's text; `None` where there is none.
pub fn file(path: &Path) -> anyhow::Result<Option<String>> {
    let cannot = || format!("cannot read {}", path.display());
    match fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(cannot),
        // Looked at first: opening a FIFO would wait for ever.
        Ok(meta) if !meta.is_file() || meta.len() > MAX_FILE => {
            anyhow::bail!("{} is no file of at most 1 MiB", path.display())
        }
        Ok(_) => {}
    }
    let bytes = fs::read(path).with_context(cannot)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The table of marks as nft lists it, empty where there is none; `None` where there is no nft and none is wanted.
pub fn nft(wanted: bool) -> anyhow::Result<Option<String>> {
    let asked = Command::new("nft").args(["-s", "list", "table", "inet", TABLE]).output();
    match asked {
        Err(_) if !wanted => Ok(None),
        Err(e) => Err(e).context("cannot ask nft for the marks (with iptables: --iptables)"),
        Ok(out) if out.status.success() => Ok(Some(String::from_utf8_lossy(&out.stdout).into_owned())),
        Ok(out) => {
            let why = String::from_utf8_lossy(&out.stderr).into_owned();
            if why.contains("No such file or directory") || !wanted {
                return Ok(Some(String::new()));
            }
            anyhow::bail!("nft does not tell the marks: {}", why.lines().next().unwrap_or(""))
        }
    }
}

/// The rules of the chain of marks, as iptables lists them; empty where there is none.
pub fn iptables(tool: &str) -> anyhow::Result<String> {
    let asked = Command::new(tool).args(["-w", "-t", "mangle", "-S"]).output();
    let out = asked.with_context(|| format!("cannot ask {tool} for the marks"))?;
    if !out.status.success() {
        let why = String::from_utf8_lossy(&out.stderr).into_owned();
        anyhow::bail!("{tool} does not tell the marks: {}", why.lines().next().unwrap_or(""));
    }
    let prefix = format!("-A {CHAIN} ");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    Ok(text.lines().filter(|l| l.starts_with(&prefix)).map(|l| format!("{l}\n")).collect())
}

/// How `lo` and the settings differ from what a real server needs.
pub fn real_server(wanted: Option<&RealServer>) -> String {
    let Some(wanted) = wanted else { return String::new() };
    let machine = Machine::read();
    let (mut here, mut there) = (String::new(), String::new());
    for (name, value) in &wanted.sysctls {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let is = fs::read_to_string(path).unwrap_or_default();
        here.push_str(&format!("{name}={}\n", is.trim()));
        there.push_str(&format!("{name}={value}\n"));
    }
    for address in &wanted.addresses {
        let line = format!("{address} on lo\n");
        if machine.on_loopback.contains(address) {
            here.push_str(&line);
        }
        there.push_str(&line);
    }
    diff::lines(&here, &there)
}
