//! keepalived's own word: on a signal it writes down the state of each VRRP instance, as JSON, into a file.
//!
//! Which signal that is, `keepalived --signum=JSON` prints. It would end any other process, so it goes only to one that
//! is held by a pidfd, runs a file called `keepalived`, and waits for this very signal. The file's name is the same for
//! every keepalived of a machine: where several run, the one that was written last is read.

use super::course::Course;
use super::net;
use super::password::small_file;
use crate::facts::{Trouble, Verdict};
use crate::process::{self, Handle, proc};
use serde::Deserialize;
use std::fs::Metadata;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::sleep;

/// Where it writes, unless it was built or set up otherwise.
const DUMP: &str = "/tmp/keepalived.json";
/// How often the file is looked at until it is there: it takes a millisecond or two.
const LOOK: Duration = Duration::from_millis(2);

/// One VRRP instance, by keepalived's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vrrp {
    pub name: String,
    pub vrid: u32,
    pub priority: u32,
    pub state: State,
    pub addresses: Vec<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Init,
    Backup,
    Master,
    Fault,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Init => "INIT",
            State::Backup => "BACKUP",
            State::Master => "MASTER",
            State::Fault => "FAULT",
        }
    }
}

/// Keeps which signal it is, for which program.
#[derive(Default)]
pub(super) struct Client {
    signal: Option<(PathBuf, i32)>,
}

impl Client {
    /// The instances of the keepalived whose pid file this is, or the verdict on what came instead.
    pub async fn ask(&mut self, pidfile: &Path, course: Course<'_>) -> Result<Vec<Vrrp>, Verdict> {
        let (process, program) = running(pidfile)?;
        let unaskable = |why: String| Verdict::not_ready(Trouble::Unaskable, why);
        let signal = match &self.signal {
            Some((of, signal)) if *of == program => *signal,
            _ => {
                let asked = course.limit(signal_of(&program)).await;
                let found = asked.and_then(Result::ok).flatten().ok_or_else(|| {
                    unaskable(format!("{} does not say which signal asks for its state", program.display()))
                })?;
                self.signal.insert((program, found)).1
            }
        };
        if !waits_for(process.pid(), signal) || !process.is_alive() {
            let reason = "keepalived has just begun".to_owned();
            return Err(Verdict::Progress { reason, percent: None, left: None });
        }
        let written = dump(&process, signal);
        let written = course.limit(written).await.ok_or_else(|| {
            let why = format!("keepalived runs and does not write its state into {DUMP} within {course}");
            Verdict::not_ready(Trouble::Silent, why)
        })?;
        written.map_err(|e| unaskable(format!("cannot ask keepalived for its state: {}", net::plain(&e))))
    }
}

/// The instances of a keepalived that is held; `None` where it cannot be asked: it has just begun, or was built without.
///
/// # Errors
/// It could be asked, and does not answer in time.
pub async fn states(process: &Handle, within: Duration) -> Result<Option<Vec<Vrrp>>, String> {
    let program = proc::exe(process.pid()).map(|exe| exe.path).unwrap_or_default();
    if program.file_name().is_none_or(|name| name != "keepalived") {
        return Ok(None);
    }
    let asked = async {
        let Some(signal) = signal_of(&program).await.ok().flatten() else { return Ok(None) };
        if !waits_for(process.pid(), signal) || !process.is_alive() {
            return Ok(None);
        }
        dump(process, signal).await.map(Some)
    };
    match tokio::time::timeout(within, asked).await {
        Ok(said) => said.map_err(|e| format!("it cannot be asked: {e}")),
        Err(_) => Err(format!("it does not tell its state within {} ms", within.as_millis())),
    }
}

/// Asks, and waits for what is written, without an end.
async fn dump(process: &Handle, signal: i32) -> io::Result<Vec<Vrrp>> {
    // It may have a /tmp of its own (systemd's PrivateTmp=, our `private_tmp`).
    let own = PathBuf::from(format!("/proc/{}/root{DUMP}", process.pid()));
    let path = if own.parent().is_some_and(Path::exists) { own } else { PathBuf::from(DUMP) };
    let before = std::fs::symlink_metadata(&path).ok().map(|m| stamp(&m));
    process.signal(signal)?;
    loop {
        let Ok(file) = std::fs::symlink_metadata(&path) else {
            sleep(LOOK).await;
            continue;
        };
        // Anybody may put a file there; keepalived runs as root, as we do where this is asked.
        let ours = file.is_file() && file.uid() == nix::unistd::geteuid().as_raw();
        let instances = small_file(&path).ok().and_then(|text| instances(&text));
        match instances.filter(|_| ours && before != Some(stamp(&file))) {
            Some(instances) => return Ok(instances),
            None => sleep(LOOK).await,
        }
    }
}

/// The keepalived that a pid file names, held, and its program.
fn running(pidfile: &Path) -> Result<(Handle, PathBuf), Verdict> {
    let gone = |why: String| Verdict::not_ready(Trouble::Refused, format!("keepalived does not run: {why}"));
    let text = small_file(pidfile).map_err(|e| gone(format!("{}: {}", pidfile.display(), net::plain(&e))))?;
    let number = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
    let number: i32 = number.ok_or_else(|| gone(format!("{} holds no number", pidfile.display())))?;
    let process = Handle::open(number).map_err(|lost| gone(format!("by {}, {lost}", pidfile.display())))?;
    let program = proc::exe(number).map(|exe| exe.path).unwrap_or_default();
    // What was read is of the held process only if that lives still.
    if program.file_name().is_none_or(|name| name != "keepalived") || !process.is_alive() {
        return Err(gone(format!("process {number} of {} is another one", pidfile.display())));
    }
    Ok((process, program))
}

async fn signal_of(program: &Path) -> io::Result<Option<i32>> {
    let mut command = Command::new(program);
    command.arg("--signum=JSON").current_dir("/").env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let out = process::unheld(|| command.spawn())?.wait_with_output().await?;
    let number = String::from_utf8_lossy(&out.stdout).trim().parse().ok();
    Ok(number.filter(|n| out.status.success() && (1..=libc::SIGRTMAX()).contains(n)))
}

/// Whether the process catches this signal, or reads it from a signalfd: then it does not die of it.
pub fn waits_for(pid: i32, signal: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    ["SigBlk:", "SigCgt:"].iter().any(|set| {
        let mask = status.lines().find_map(|line| line.strip_prefix(set));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(|mask| mask & 1 << (signal - 1) != 0)
    })
}

/// What is another one once the file was written anew.
fn stamp(file: &Metadata) -> (u64, i64, i64) {
    (file.ino(), file.mtime(), file.mtime_nsec())
}

/// Reads the dump; `None` when it is not all there.
pub(super) fn instances(text: &[u8]) -> Option<Vec<Vrrp>> {
    #[derive(Deserialize)]
    struct Entry {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        iname: String,
        #[serde(default)]
        vrid: u32,
        #[serde(default)]
        base_priority: u32,
        state: u8,
        #[serde(default)]
        vips: Vec<String>,
        #[serde(default)]
        evips: Vec<String>,
    }
    // Newer ones have the list under a name, beside others.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Dump {
        List(Vec<Entry>),
        Named { vrrp: Vec<Entry> },
    }
    let (Dump::List(entries) | Dump::Named { vrrp: entries }) = serde_json::from_slice(text).ok()?;
    let instance = |Entry { data }: Entry| {
        let state = match data.state {
            0 => State::Init,
            1 => State::Backup,
            2 => State::Master,
            _ => State::Fault,
        };
        // `192.0.2.100/24 dev eth0 scope global set`
        let address = |text: &String| text.split(['/', ' ']).next()?.parse().ok();
        let addresses = data.vips.iter().chain(&data.evips).filter_map(address).collect();
        Vrrp { name: data.iname, vrid: data.vrid, priority: data.base_priority, state, addresses }
    };
    Some(entries.into_iter().map(instance).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_read() {
        // By keepalived 2.2.7, its other keys left out.
        let text =
            br#"[{"data":{"iname":"www","vrid":51,"base_priority":150,"vipset":true,"state":2,"wantstate":2,
            "vips":["192.0.2.100\/24 dev eth0 scope global set"],"auth_type":0},"stats":{"advert_sent":3}}]"#;
        let www = Vrrp {
            name: "www".into(),
            vrid: 51,
            priority: 150,
            state: State::Master,
            addresses: vec!["192.0.2.100".parse().unwrap()],
        };
        assert_eq!(instances(text), Some(vec![www.clone()]));
        let named = [&b"{\"vrrp\":"[..], text, b"}"].concat();
        assert_eq!(instances(&named), Some(vec![www]));
        for cut in 0..text.len() {
            assert_eq!(instances(&text[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn a_stranger_is_not_signalled() {
        let dir = tempfile::tempdir().unwrap();
        let pidfile = dir.path().join("pid");
        std::fs::write(&pidfile, std::process::id().to_string()).unwrap();
        let Err(Verdict::NotReady { kind: Trouble::Refused, reason }) = running(&pidfile) else { panic!() };
        let me = std::process::id();
        let wanted = format!("keepalived does not run: process {me} of {} is another one", pidfile.display());
        assert_eq!(reason, wanted);
        assert!(!waits_for(me as i32, 36));
    }
}
