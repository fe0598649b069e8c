//! exec: a program that exits 0, if wanted with a text in its output. Its first output line is the detail, or the
//! reason.

use super::course::Course;
use super::net;
use crate::facts::{Stage, Trouble, Verdict};
use crate::process;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::future::{Future, poll_fn};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// The most characters of the first output line that are kept.
const LINE: usize = 200;
/// The most bytes of output that are kept; the rest is read and thrown away, so that the program can end.
const MOST: usize = 4096;

pub(super) async fn ask(command: &[String], contains: Option<&str>, course: Course<'_>) -> Verdict {
    course.enter(Stage::Reply);
    let Some((program, arguments)) = command.split_first() else {
        return Verdict::not_ready(Trouble::Unaskable, "the probe's command is empty");
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir("/")
        // The same for every agent, however it was started; and none of its variables leak.
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that what it starts in turn can be ended with it.
        .process_group(0);
    let mut group = match process::unheld(|| command.spawn()) {
        Ok(child) => Group { child },
        Err(error) => {
            return Verdict::not_ready(
                Trouble::Unaskable,
                format!("cannot run {program}: {}", net::plain(&error)),
            );
        }
    };
    course.commit();
    match course.limit(group.run()).await {
        Some(Ok((status, said))) => judge(program, contains, status, said),
        Some(Err(error)) => {
            Verdict::not_ready(Trouble::Unaskable, format!("cannot watch {program}: {}", net::plain(&error)))
        }
        None => {
            Verdict::not_ready(Trouble::Silent, format!("{program} has not ended within {course}: killed"))
        }
    }
}

fn judge(program: &str, contains: Option<&str>, status: ExitStatus, said: Said) -> Verdict {
    let line = said.line();
    if status.success() {
        if let Some(text) = contains.filter(|text| !said.holds(text)) {
            let but = if line.is_empty() { "says nothing".to_owned() } else { format!("says: {line}") };
            let why = format!("{program} exits 0, but \"{text}\" is not in its output; it {but}");
            return Verdict::not_ready(Trouble::Declined, why);
        }
        return Verdict::ready(if line.is_empty() { format!("{program} exits 0") } else { line });
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exits {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(name) => format!("was killed by {name}"),
            Err(_) => format!("was killed by signal {signal}"),
        },
        (None, None) => "ended in an unknown way".into(),
    };
    let said = if line.is_empty() { String::new() } else { format!(": {line}") };
    Verdict::not_ready(Trouble::Declined, format!("{program} {how}{said}"))
}

/// What it printed: the beginnings of both its outputs.
#[derive(Default)]
struct Said {
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Said {
    /// Whether its output holds this text; its errors do not count.
    fn holds(&self, text: &str) -> bool {
        self.out.windows(text.len().max(1)).any(|some| some == text.as_bytes())
    }

    /// The first line of its output, or of its errors where there is no output.
    fn line(&self) -> String {
        let first = |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let line = text.trim_start().lines().next().unwrap_or_default().trim_end();
            line.chars().take(LINE).map(|c| if c.is_control() { ' ' } else { c }).collect::<String>()
        };
        let line = first(&self.out);
        if line.is_empty() { first(&self.err) } else { line }
    }
}

/// The program with all that it starts. Dropping it kills them all.
struct Group {
    child: Child,
}

impl Group {
    /// Runs to the end.
    async fn run(&mut self) -> std::io::Result<(ExitStatus, Said)> {
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        // What a grandchild writes after the program's end is none of its answer; `wait` ends the reading.
        let mut said = Said::default();
        let status = {
            let reading = async { tokio::join!(read(out, &mut said.out), read(err, &mut said.err)) };
            tokio::pin!(reading);
            tokio::select! {
                _ = &mut reading => self.child.wait().await?,
                status = self.child.wait() => {
                    // What it wrote before it ended is in the pipes already: one look takes it.
                    poll_fn(|context| Poll::Ready(reading.as_mut().poll(context).is_ready())).await;
                    status?
                }
            }
        };
        Ok((status, said))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // `id` is `None` once the program has been reaped. Its number names its group for as long as it is not: a
        // zombie keeps it.
        if let Some(id) = self.child.id() {
            let _ = killpg(Pid::from_raw(id as i32), Signal::SIGKILL);
        }
    }
}

/// Reads `from` to its end; keeps the beginning.
async fn read(from: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut some = [0; 1024];
    while let Ok(n @ 1..) = from.read(&mut some).await {
        kept.extend_from_slice(&some[..n.min(MOST - kept.len())]);
    }
}

#[cfg(test)]
mod tests {
    use crate::facts::{Trouble, Verdict};
    use crate::model::Ask;
    use crate::probe::testing::{ask, ask_in_vain, not_ready};
    use std::time::{Duration, Instant};

    fn shell(script: &str) -> Ask {
        Ask::Exec { command: vec!["/bin/sh".into(), "-c".into(), script.into()], contains: None }
    }

    #[tokio::test]
    async fn exit_0_is_ready_with_the_first_line() {
        assert_eq!(ask(shell("echo; echo '  all good'; echo more")).await, Verdict::ready("all good"));
        assert_eq!(ask(shell(":")).await, Verdict::ready("/bin/sh exits 0"));
    }

    #[tokio::test]
    async fn long_output_is_cut_and_does_not_stop_the_program() {
        let verdict = ask(shell("head -c 1000000 /dev/zero | tr '\\0' x")).await;
        assert_eq!(verdict, Verdict::ready("x".repeat(200)));
    }

    #[tokio::test]
    async fn other_ends_are_said() {
        let verdict = ask(shell("echo 'no space' >&2; exit 3")).await;
        not_ready(verdict, Trouble::Declined, "/bin/sh exits 3: no space");
        not_ready(ask(shell("kill -9 $$")).await, Trouble::Declined, "/bin/sh was killed by SIGKILL");
        let verdict = ask(Ask::Exec { command: vec!["/no/such".into()], contains: None }).await;
        not_ready(verdict, Trouble::Unaskable, "cannot run /no/such: no such file or directory");
    }

    #[tokio::test]
    async fn its_output_must_hold_the_text() {
        let asking = |script: &str| {
            let Ask::Exec { command, .. } = shell(script) else { unreachable!() };
            ask(Ask::Exec { command, contains: Some("replicated".into()) })
        };
        assert_eq!(asking("echo state; echo replicated").await, Verdict::ready("state"));
        let why = "/bin/sh exits 0, but \"replicated\" is not in its output; it says: alone";
        not_ready(asking("echo alone; echo replicated >&2").await, Trouble::Declined, why);
        not_ready(asking("echo replicated; exit 3").await, Trouble::Declined, "/bin/sh exits 3: replicated");
    }

    #[tokio::test]
    async fn what_it_leaves_running_is_not_waited_for() {
        let begun = Instant::now();
        assert_eq!(ask(shell("echo up; sleep 4 &")).await, Verdict::ready("up"));
        assert!(begun.elapsed() < Duration::from_secs(3));
    }

    #[tokio::test]
    async fn too_late_kills_the_whole_group() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let verdict = ask_in_vain(shell(&format!("sleep 1000 & echo $! > {}; wait", file.display()))).await;
        not_ready(verdict, Trouble::Silent, "/bin/sh has not ended within 200 ms: killed");
        let pid: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        // Killed is soon gone, or a zombie that waits for its reaper.
        let gone = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat.contains(") Z "),
            Err(_) => true,
        };
        let end = Instant::now() + Duration::from_secs(5);
        while !gone() {
            assert!(Instant::now() < end, "the grandchild lives on");
            tokio::task::yield_now().await;
        }
    }
}
