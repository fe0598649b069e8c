//! LibreOffice: answering, converting, busy, frozen, gone.

use super::*;
use clusterd::model::Conversion;
use std::os::unix::fs::MetadataExt;

struct Office {
    dir: TempDir,
    address: SocketAddr,
}

impl Office {
    fn new() -> Office {
        Office { dir: tempfile::tempdir().unwrap(), address: free_address() }
    }

    fn start(&self) -> Daemon {
        let (profile, port) = (self.dir.path().display(), self.address.port());
        Daemon::start(
            Command::new("/usr/lib/libreoffice/program/soffice.bin")
                .args(["--headless", "--norestore", "--nolockcheck"])
                .arg(format!("-env:UserInstallation=file://{profile}"))
                .arg(format!(
                    "--accept=socket,host=127.0.0.1,port={port},tcpNoDelay=1;urp;StarOffice.ComponentContext"
                ))
                .env("HOME", self.dir.path()),
        )
    }

    fn question(&self, within: u64) -> Ask {
        // Each question converts.
        let every = Duration::from_millis(1);
        Ask::Uno {
            address: self.address,
            convert: Some(Conversion { every, within: Duration::from_secs(within) }),
        }
    }
}

#[tokio::test]
async fn an_office_answers_converts_and_is_found_frozen() {
    let office = Office::new();
    let address = office.address;
    let plain = || Ask::Uno { address, convert: None };
    not_ready(ask(plain()).await, Trouble::Refused, format!("connection refused by {address}"));

    // The first start on a profile may only make the profile, and end.
    let mut daemon = office.start();
    let up = loop {
        let verdict = ask(plain()).await;
        if verdict.is_ready() {
            break verdict;
        }
        if daemon.child.try_wait().unwrap().is_some() {
            daemon = office.start();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(up, Verdict::ready("its UNO socket answers"));

    let converts = Verdict::ready("its UNO socket answers, a tiny document is converted");
    assert_eq!(until(office.question(60), Verdict::is_ready).await, converts);
    let mut kept = hasty(office.question(60));
    for _ in 0..5 {
        assert_eq!(kept.ask().await.verdict, converts);
    }

    daemon.freeze();
    let frozen = format!("{address} accepts the connection and says nothing within 3 s");
    not_ready(kept.ask().await.verdict, Trouble::Silent, &frozen);
    not_ready(ask_in_vain(plain()).await, Trouble::Silent, &frozen);
    daemon.thaw();
    assert_eq!(until(office.question(60), Verdict::is_ready).await, converts);
    // None of the documents is still open there: they would be, were it hung up on while it works.
    assert_eq!(kept.ask().await.verdict, converts);
    let open = std::fs::read_dir(office.dir.path()).unwrap().filter_map(Result::ok);
    assert!(open.filter_map(|e| e.metadata().ok()).all(|m| m.uid() == 0), "its folder is its own");
    daemon.cut();
    not_ready(ask(plain()).await, Trouble::Refused, format!("connection refused by {address}"));
}

/// The office's main lock is what a conversion holds; a thread that is stopped while it has it is an office that
/// answers and does not work. Its process is told apart by its threads: all but those of the connections stand still.
#[tokio::test]
async fn an_office_that_works_on_something_long_is_busy_and_then_hung() {
    let office = Office::new();
    let mut daemon = office.start();
    while !ask(Ask::Uno { address: office.address, convert: None }).await.is_ready() {
        if daemon.child.try_wait().unwrap().is_some() {
            daemon = office.start();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until(office.question(60), Verdict::is_ready).await;
    // A long document: text of some megabytes takes an office many seconds.
    let long = office.dir.path().join("long.txt");
    std::fs::write(&long, "The quick brown fox jumps over the lazy dog. ".repeat(200_000)).unwrap();
    let mut kept = Asker::new(Question { ask: office.question(2), timeout: Duration::from_millis(500) });
    while !kept.ask().await.verdict.is_ready() {}
    // The office that runs on this profile is told to convert it: a second start passes on what it is told, and ends.
    let _told = Daemon::start(
        Command::new("/usr/lib/libreoffice/program/soffice.bin")
            .args(["--headless", "--nolockcheck", "--convert-to", "pdf", "--outdir"])
            .arg(office.dir.path())
            .arg(&long)
            .arg(format!("-env:UserInstallation=file://{}", office.dir.path().display()))
            .env("HOME", office.dir.path()),
    );
    let busy = Verdict::ready("its UNO socket answers, busy: a tiny document has to wait");
    let hung = format!(
        "{} answers, but has not converted a tiny document within 2 s: it is hung, or busy with something long",
        office.address
    );
    let begun = Instant::now();
    let (mut was_busy, mut was_hung) = (false, false);
    while !(was_busy && was_hung) {
        match kept.ask().await.verdict {
            verdict if verdict == busy => was_busy = true,
            Verdict::NotReady { reason, kind: Trouble::Silent } if reason == hung => was_hung = true,
            // Where the machine is loaded, its socket itself may take that long.
            Verdict::NotReady { reason, kind: Trouble::Silent } if reason.ends_with("within 500 ms") => {}
            verdict => assert!(verdict.is_ready(), "{verdict:?}"),
        }
        assert!(begun.elapsed() < PATIENCE, "busy {was_busy}, hung {was_hung}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
