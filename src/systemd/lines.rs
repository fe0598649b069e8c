//! What a run printed last, from systemd's journal.

use crate::process;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

const LINES: &str = "3";
/// The most that is read, in bytes.
const MOST: u64 = 4096;
/// How long it is waited for: an end is told without them rather than late.
const WITHIN: Duration = Duration::from_secs(2);

/// The last lines that the processes of an invocation printed, ` | ` between them; empty where there are none, or none
/// in time.
pub async fn last_lines(invocation: &str) -> String {
    if invocation.is_empty() {
        return String::new();
    }
    tokio::time::timeout(WITHIN, read(invocation)).await.ok().flatten().unwrap_or_default()
}

async fn read(invocation: &str) -> Option<String> {
    let mut command = Command::new("journalctl");
    command
        .args(["--quiet", "--no-pager", "--output=cat", "--boot", "--lines", LINES])
        .arg(format!("_SYSTEMD_INVOCATION_ID={invocation}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = process::unheld(|| command.spawn()).ok()?;
    let mut bytes = Vec::new();
    child.stdout.take()?.take(MOST).read_to_end(&mut bytes).await.ok()?;
    Some(joined(&String::from_utf8_lossy(&bytes)))
}

fn joined(text: &str) -> String {
    let printable = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>();
    let lines: Vec<String> = text.lines().map(|line| printable(line.trim())).collect();
    lines.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn lines_are_one_without_what_a_terminal_would_obey() {
        assert_eq!(super::joined("one\n\n  \x1b[31mtwo \nthree"), "one | [31mtwo | three");
    }
}
