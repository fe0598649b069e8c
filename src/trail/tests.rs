use super::file::*;
use super::*;
use std::fs;
use std::path::{Path, PathBuf};

struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Node {
        let node = Node { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(node.state()).unwrap();
        fs::create_dir(node.run()).unwrap();
        node
    }
    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }
    fn run(&self) -> PathBuf {
        self.dir.path().join("run")
    }
    fn file(&self) -> PathBuf {
        self.state().join("trail.jsonl")
    }
    fn open(&self, boot: &str) -> (Trail, Begun) {
        Trail::with_limit(&self.state(), &self.run(), boot, 2000).unwrap()
    }
    /// A trail of so many entries, written in boot `a`.
    fn with(entries: u64) -> Node {
        let node = Node::new();
        let mut trail = node.open("a").0;
        (0..entries).for_each(|n| trail.append([deed(n)]).unwrap());
        node
    }
    fn lines(&self) -> Vec<String> {
        fs::read_to_string(self.file()).unwrap().lines().map(str::to_owned).collect()
    }
    fn rewrite(&self, lines: &[String]) {
        fs::write(self.file(), lines.iter().map(|l| format!("{l}\n")).collect::<String>()).unwrap();
    }
}

fn deed(n: u64) -> Deed {
    Deed {
        at: 1_700_000_000_000 + n,
        who: "operator alice (operate)".into(),
        from: "10.0.0.9:4711".into(),
        what: format!("stop web{n}"),
        why: "a \"reason\",\"hash\":\"with the seam in it".into(),
        outcome: Outcome::Done,
        text: String::new(),
        boot: None,
        cut: None,
    }
}

/// Reads all of it in pages of this size.
fn checked(trail: &Trail, most: usize) -> (Check, Vec<u64>) {
    let (mut check, mut seqs, mut after) = (Check::default(), Vec::new(), 0);
    loop {
        let page = trail.page(after, most).unwrap();
        for line in &page.lines {
            seqs.extend(check.line(line).map(|e| e.seq));
        }
        if !page.more {
            check.end(page.head);
            return (check, seqs);
        }
        after = check.head().seq;
    }
}

fn verdict(trail: &Trail) -> Verdict {
    checked(trail, usize::MAX).0.verdict()
}

#[test]
fn the_chain_goes_on_over_agents_boots_and_pieces_and_drops_its_beginning() {
    let node = Node::new();
    for (boot, first) in [("a", true), ("a", false), ("b", true)] {
        let (mut trail, begun) = node.open(boot);
        assert_eq!(begun, Begun { first_of_boot: first, cut: None, missing: None });
        (0..20).for_each(|n| trail.append([deed(n), deed(n)]).unwrap());
    }
    let (trail, _) = node.open("b");
    for most in [1, 1000, usize::MAX] {
        let (check, seqs) = checked(&trail, most);
        assert_eq!((check.verdict(), check.head().seq), (Verdict::Intact, 120));
        assert!(check.first().unwrap() > 1, "the oldest is dropped");
        assert_eq!(seqs, (check.first().unwrap()..=120).collect::<Vec<_>>());
    }
    let pieces: Vec<u64> =
        fs::read_dir(node.state()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect();
    assert!(pieces.len() == 4 && pieces.iter().all(|size| *size <= 2000), "{pieces:?}");
}

#[test]
fn a_change_at_any_byte_is_told_with_the_entry() {
    let node = Node::with(3);
    let whole = fs::read(node.file()).unwrap();
    let ends: Vec<usize> = whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at).collect();
    let (trail, _) = node.open("a");
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] = if changed[at] == b'7' { b'8' } else { b'7' };
        fs::write(node.file(), changed).unwrap();
        let wanted = ends.iter().position(|end| at <= *end).unwrap() as u64 + 1;
        let Verdict::Tampered { at: told, .. } = verdict(&trail) else { panic!("byte {at} is not told") };
        assert_eq!(told, wanted, "byte {at}");
    }
}

#[test]
fn what_is_taken_out_put_in_or_moved_is_told() {
    let node = Node::with(4);
    let lines = node.lines();
    let (trail, _) = node.open("a");
    let other = Node::with(5).lines();
    let cases: &[(&str, Vec<String>, u64)] = &[
        ("the second taken out", [&lines[..1], &lines[2..]].concat(), 2),
        ("the last taken out", lines[..3].to_vec(), 4),
        ("all taken out", vec![], 1),
        ("the second twice", [&lines[..2], &lines[1..]].concat(), 2),
        (
            "two changed places",
            vec![lines[0].clone(), lines[2].clone(), lines[1].clone(), lines[3].clone()],
            2,
        ),
        ("one put after the last", [&lines[..], &other[4..]].concat(), 0),
    ];
    for (what, changed, at) in cases {
        node.rewrite(changed);
        match verdict(&trail) {
            Verdict::Tampered { at: told, .. } => assert_eq!(told, *at, "{what}"),
            // The very same entry of the very same chain, written before the agent came to it.
            other => assert_eq!((*at, other), (0, Verdict::Intact), "{what}"),
        }
    }
}

#[test]
fn an_end_that_is_missing_within_a_boot_was_cut_off_by_somebody() {
    let node = Node::with(4);
    node.rewrite(&node.lines()[..2]);
    let (mut trail, begun) = node.open("a");
    assert_eq!(begun.missing.map(|head| head.seq), Some(4));
    trail.append([deed(9)]).unwrap();
    let told = verdict(&trail);
    assert_eq!(told, Verdict::Tampered { at: 3, why: "2 missing there".into() });
    // And it stays told, whatever comes.
    let mut trail = node.open("b").0;
    trail.append([deed(9)]).unwrap();
    assert_eq!(verdict(&trail), told);
}

#[test]
fn an_end_written_anew_within_a_boot_is_told() {
    let node = Node::with(4);
    let kept = node.lines()[..2].to_vec();
    // The forger has the program, and another run folder.
    let forger = Node::new();
    forger.rewrite(&kept);
    let mut forged = forger.open("x").0;
    (0..3).for_each(|n| forged.append([deed(100 + n)]).unwrap());
    node.rewrite(&forger.lines());
    let (mut trail, begun) = node.open("a");
    assert!(begun.missing.is_some());
    trail.append([deed(9)]).unwrap();
    assert!(matches!(verdict(&trail), Verdict::Tampered { at: 6, .. }), "{:?}", verdict(&trail));
}

#[test]
fn a_power_cut_leaves_an_unfinished_end_which_is_said_and_is_no_tampering() {
    let node = Node::with(3);
    let whole = fs::read(node.file()).unwrap();
    let two = whole.len() - node.lines()[2].len() - 1;
    for cut in two..=whole.len() {
        fs::write(node.file(), &whole[..cut]).unwrap();
        let (mut trail, begun) = node.open(&format!("boot-{cut}"));
        let left = (cut - two) as u64;
        let torn = cut > two && cut < whole.len();
        assert_eq!(begun.cut, torn.then_some(left), "cut at {cut}");
        assert_eq!(begun.missing, None);
        trail.append([Deed { boot: Some("another".into()), cut: begun.cut, ..deed(9) }]).unwrap();
        let told = verdict(&trail);
        let at = trail.head().seq;
        assert_eq!(
            told,
            if torn { Verdict::CutOff { at: vec![at] } } else { Verdict::Intact },
            "cut at {cut}"
        );
    }
    // Zeroes, as some file systems leave them.
    fs::write(node.file(), [&whole[..], &[0; 4000]].concat()).unwrap();
    let (trail, begun) = node.open("one-more");
    assert_eq!((begun.cut, trail.head().seq), (Some(4000), 3));
}

#[test]
fn a_file_that_was_moved_away_gets_no_more_and_the_gap_is_told() {
    let node = Node::with(1);
    let (mut trail, _) = node.open("a");
    trail.append([deed(1)]).unwrap();
    fs::rename(node.file(), node.dir.path().join("elsewhere")).unwrap();
    trail.append([deed(2)]).unwrap();
    let mut check = Check::default();
    node.lines().iter().for_each(|line| drop(check.line(line)));
    assert_eq!(check.head().seq, 3);
    assert!(!fs::read_to_string(node.dir.path().join("elsewhere")).unwrap().contains("\"seq\":3"));
}

#[test]
fn a_full_disk_spoils_nothing() {
    let node = Node::with(1);
    let (mut trail, _) = node.open("a");
    let aside = Path::new("/dev/full");
    fs::remove_file(node.file()).unwrap();
    std::os::unix::fs::symlink(aside, node.file()).unwrap();
    assert!(trail.append([deed(1)]).is_err());
    assert_eq!(trail.head().seq, 1, "it is not in the chain, and can be tried again");
}

#[test]
fn long_texts_are_cut() {
    let node = Node::new();
    let (mut trail, _) = Trail::open(&node.state(), &node.run(), "a").unwrap();
    trail.append([Deed { why: "ä".repeat(100_000), ..deed(1) }]).unwrap();
    assert!(fs::metadata(node.file()).unwrap().len() < 6000);
    assert_eq!(verdict(&trail), Verdict::Intact);
}
