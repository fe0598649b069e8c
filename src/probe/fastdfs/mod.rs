//! FastDFS: the active test, which tracker and storage answer alike; whether a tracker knows where to upload; and what
//! trackers say of a storage.
//!
//! A storage answers its active test while it still copies the files of its group: whether it serves, a tracker knows.

pub(super) mod wire;

pub(crate) use wire::{ACTIVE_TEST, REPLY};

use super::course::Course;
use super::net;
use crate::facts::{Stage, Trouble, Verdict};
use crate::model::FastdfsAsk;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use wire::{Group, State};

/// The status of "there is no such thing": of a group that is unknown, of a storage to upload to.
const NOT_FOUND: u8 = 2;
/// The status of "no space left".
const NO_SPACE: u8 = 28;

pub(super) async fn ask(address: SocketAddr, ask: &FastdfsAsk, course: Course<'_>) -> Verdict {
    let verdict = match ask {
        FastdfsAsk::Active => active(address, course).await.map(|()| Verdict::ready("active test passed")),
        FastdfsAsk::Upload { group } => upload(address, group.as_deref(), course).await,
        FastdfsAsk::Storage { group, trackers } => match active(address, course).await {
            Ok(()) => Ok(listed(address, group, trackers, course).await),
            Err(verdict) => Err(verdict),
        },
    };
    verdict.unwrap_or_else(|verdict| verdict)
}

async fn active(address: SocketAddr, course: Course<'_>) -> Result<(), Verdict> {
    match Talk::with(address, course).await?.say(wire::ACTIVE, &[]).await? {
        (0, body) if body.is_empty() => Ok(()),
        (0, _) => Err(net::garbled(address, "FastDFS", "its active test has a body")),
        (status, _) => {
            let why = format!("{address} answers the active test with status {status}");
            Err(Verdict::not_ready(Trouble::Declined, why))
        }
    }
}

/// Whether this tracker knows a storage that takes uploads.
async fn upload(address: SocketAddr, group: Option<&str>, course: Course<'_>) -> Result<Verdict, Verdict> {
    let mut talk = Talk::with(address, course).await?;
    let (status, target) = match group {
        Some(group) => talk.say(wire::UPLOAD_TO_GROUP, &wire::name(group)).await?,
        None => talk.say(wire::UPLOAD, &[]).await?,
    };
    let groups = talk.groups().await?;
    let told = groups.iter().filter(|known| group.is_none_or(|group| known.name == group));
    let told: Vec<String> = told.map(Group::told).collect();
    let told = if told.is_empty() { "no storage has joined it".into() } else { told.join("; ") };
    let no = |why: &str| Verdict::not_ready(Trouble::Declined, format!("{address} {why}: {told}"));
    Ok(match status {
        0 if wire::is_target(&target) => Verdict::ready(format!("takes uploads: {told}")),
        0 => net::garbled(address, "FastDFS", "the place for uploads makes no sense"),
        NOT_FOUND => no("knows no storage that takes uploads"),
        NO_SPACE => no("knows no storage with space left"),
        status => no(&format!("does not say where to upload (status {status})")),
    })
}

/// What the trackers say of this storage. The first that has it as active decides; they are asked side by side, so that
/// a dead one keeps nobody waiting while another answers.
async fn listed(storage: SocketAddr, group: &str, trackers: &[SocketAddr], course: Course<'_>) -> Verdict {
    let mut answers: FuturesUnordered<_> =
        trackers.iter().map(|tracker| by_tracker(*tracker, storage, group, course)).collect();
    // One that is on its way tells more than one that is not there, and both tell more than a tracker that does not answer.
    let tells = |said: &Verdict| match said {
        Verdict::Ready(_) => 3,
        Verdict::Progress { .. } => 2,
        Verdict::NotReady { kind: Trouble::Declined, .. } => 1,
        Verdict::NotReady { .. } => 0,
    };
    let mut best = None;
    while let Some(answer) = answers.next().await {
        let said = answer.unwrap_or_else(|verdict| verdict);
        if said.is_ready() {
            return said;
        }
        if best.as_ref().is_none_or(|before| tells(&said) > tells(before)) {
            best = Some(said);
        }
    }
    best.unwrap_or_else(|| Verdict::not_ready(Trouble::Unaskable, "the probe names no tracker"))
}

async fn by_tracker(
    tracker: SocketAddr,
    storage: SocketAddr,
    group: &str,
    course: Course<'_>,
) -> Result<Verdict, Verdict> {
    let mut talk = Talk::with(tracker, course).await?;
    let groups = talk.groups().await?;
    let known = groups.iter().find(|known| known.name == group);
    let no = |why: String| Verdict::not_ready(Trouble::Declined, format!("the tracker {tracker} {why}"));
    let Some(known) = known else { return Ok(no(format!("knows no {group}"))) };
    let (status, body) = talk.say(wire::LIST_STORAGES, &wire::name(group)).await?;
    if status != 0 {
        return Ok(no(format!("does not list the storages of {group} (status {status})")));
    }
    let nonsense = || net::garbled(tracker, "FastDFS", "its list of storages makes no sense");
    let storages = wire::storages(&body, known.storages).ok_or_else(nonsense)?;
    let address = storage.ip().to_string();
    let Some(found) = storages.iter().find(|s| s.address == address) else {
        return Ok(no(format!("does not list {address} in {group}")));
    };
    let progress = |doing: &str| {
        let reason = format!("{storage} {doing}, says the tracker {tracker}");
        Verdict::Progress { reason, percent: None, left: None }
    };
    Ok(match found.state {
        State::Active => Verdict::ready(format!("active in {}", known.told())),
        State::Init => progress("is new in its group"),
        State::WaitSync => progress("waits for its turn to copy the files of its group"),
        State::Syncing => progress("copies the files of its group"),
        State::Recovery => progress("recovers its files from its group"),
        State::Online => progress("has joined, and is not active yet"),
        State::Offline => no(format!("believes that {storage} is offline")),
        State::Deleted => no(format!("has deleted {storage} from {group}")),
        State::Other(state) => no(format!("says state {state} of {storage}, which this probe does not know")),
    })
}

/// One connection. Whatever goes wrong is a verdict.
struct Talk<'a> {
    address: SocketAddr,
    stream: TcpStream,
    course: Course<'a>,
}

impl<'a> Talk<'a> {
    async fn with(address: SocketAddr, course: Course<'a>) -> Result<Talk<'a>, Verdict> {
        let stream = net::connect(address, course).await?;
        course.commit();
        course.enter(Stage::Reply);
        Ok(Talk { address, stream, course })
    }

    async fn groups(&mut self) -> Result<Vec<Group>, Verdict> {
        let (status, body) = self.say(wire::LIST_GROUPS, &[]).await?;
        match wire::groups(&body) {
            Some(groups) if status == 0 => Ok(groups),
            _ => Err(net::garbled(self.address, "FastDFS", "its list of groups makes no sense")),
        }
    }

    /// Sends a command; the status and the body of the reply.
    async fn say(&mut self, command: u8, body: &[u8]) -> Result<(u8, Vec<u8>), Verdict> {
        let address = self.address;
        match self.course.limit(exchange(&mut self.stream, &wire::request(command, body))).await {
            Some(Ok(Ok(reply))) => Ok(reply),
            Some(Ok(Err(heard))) => Err(net::garbled(address, "FastDFS", heard)),
            Some(Err(error)) => Err(net::exchange_trouble(address, &error)),
            None => Err(net::silent(address, self.course)),
        }
    }
}

/// Sends a request and reads its reply: status and body, or what was heard instead.
pub(super) async fn exchange<S>(stream: &mut S, request: &[u8]) -> io::Result<Result<(u8, Vec<u8>), String>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(request).await?;
    let mut header = [0; 10];
    stream.read_exact(&mut header).await?;
    Ok(match wire::header(header) {
        Ok((length, status)) => {
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await?;
            Ok((status, body))
        }
        Err(heard) => Err(heard),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Ask;
    use crate::probe::hostile::captured;
    use crate::probe::testing::{answers, ask, ask_in_vain, greets, nobody, not_ready, server};

    fn active_of(address: SocketAddr) -> Ask {
        Ask::Fastdfs { address, ask: FastdfsAsk::Active }
    }

    /// A tracker or storage that answers each request as one was captured to.
    async fn replays(names: &'static [&'static str]) -> SocketAddr {
        server(move |mut stream| async move {
            let known: Vec<_> = names.iter().map(|name| captured(name)).collect();
            let mut heard = Vec::new();
            while stream.read_buf(&mut heard).await.is_ok_and(|n| n > 0) {
                if let Some((request, reply)) = known.iter().find(|(request, _)| *request == heard) {
                    let _ = stream.write_all(reply).await;
                    heard.drain(..request.len());
                }
            }
        })
        .await
    }

    #[tokio::test]
    async fn what_is_not_ready_is_said() {
        let address = answers([0, 0, 0, 0, 0, 0, 0, 0, 0x64, 0x16]).await;
        let reason = format!("{address} answers the active test with status 22");
        not_ready(ask(active_of(address)).await, Trouble::Declined, reason);

        let address = answers("HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let reason = format!("{address} does not speak FastDFS: it says \"HTTP/1.1 4\"");
        not_ready(ask(active_of(address)).await, Trouble::Garbled, reason);

        let address = answers(captured("storage-active-test").1[..7].to_vec()).await;
        let reason = format!("{address} closed the connection without an answer");
        not_ready(ask(active_of(address)).await, Trouble::Declined, reason);

        let address = greets("").await;
        let reason = format!("{address} accepts the connection and says nothing within 200 ms");
        not_ready(ask_in_vain(active_of(address)).await, Trouble::Silent, reason);
    }

    /// Every word that was captured of real servers is heard, each with what an operator reads of it.
    #[tokio::test]
    async fn what_real_servers_said_is_told() {
        const GROUPS: &str = "tracker-list-groups";
        let upload = |group: Option<&str>| FastdfsAsk::Upload { group: group.map(str::to_owned) };
        let storage = FastdfsAsk::Storage { group: "group1".into(), trackers: vec![] };
        let (all, group) = (upload(None), upload(Some("group1")));
        let cases: &[(&'static [&'static str], &FastdfsAsk, &str)] = &[
            (&["storage-active-test"], &FastdfsAsk::Active, "ready (active test passed)"),
            (&["storage-joining-active-test"], &FastdfsAsk::Active, "ready (active test passed)"),
            (&["storage-one-storage-lost-active-test"], &FastdfsAsk::Active, "ready (active test passed)"),
            (&["tracker-active-test-empty"], &FastdfsAsk::Active, "ready (active test passed)"),
            (&["tracker-active-test-none-joined"], &FastdfsAsk::Active, "ready (active test passed)"),
            (
                &["tracker-upload-target", GROUPS],
                &all,
                "ready (takes uploads: group1 with 2 of 2 storages, 28 % free)",
            ),
            (
                &["tracker-upload-target-group", GROUPS],
                &group,
                "ready (takes uploads: group1 with 2 of 2 storages, 28 % free)",
            ),
            (
                &["tracker-joining-upload-target", "tracker-joining-list-groups"],
                &all,
                "ready (takes uploads: group1 with 2 of 2 storages, 28 % free)",
            ),
            (
                &["tracker-joining-upload-target-group", "tracker-joining-list-groups"],
                &group,
                "ready (takes uploads: group1 with 2 of 2 storages, 28 % free)",
            ),
            (
                &["tracker-one-storage-lost-upload-target", "tracker-one-storage-lost-list-groups"],
                &all,
                "ready (takes uploads: group1 with 1 of 2 storages, 28 % free)",
            ),
            (
                &["tracker-one-storage-lost-upload-target-group", "tracker-one-storage-lost-list-groups"],
                &group,
                "ready (takes uploads: group1 with 1 of 2 storages, 28 % free)",
            ),
            (
                &["tracker-upload-target-none-joined", "tracker-list-groups-none-joined"],
                &all,
                "AT knows no storage that takes uploads: group1 with 0 of 2 storages",
            ),
            (
                &["tracker-upload-target-empty", "tracker-list-groups-empty"],
                &all,
                "AT knows no storage that takes uploads: no storage has joined it",
            ),
            (
                &[GROUPS, "tracker-list-storages"],
                &storage,
                "ready (active in group1 with 2 of 2 storages, 28 % free)",
            ),
            (
                &["tracker-joining-list-groups", "tracker-joining-list-storages"],
                &storage,
                "ready (active in group1 with 2 of 2 storages, 28 % free)",
            ),
            (
                &["tracker-one-storage-lost-list-groups", "tracker-one-storage-lost-list-storages"],
                &storage,
                "the tracker AT believes that 10.77.0.23:23000 is offline",
            ),
            (
                &["tracker-list-groups-none-joined", "tracker-list-storages-none-joined"],
                &storage,
                "the tracker AT believes that 10.77.0.23:23000 is offline",
            ),
            (
                &[GROUPS, "tracker-list-storages-unknown-group"],
                &storage,
                "the tracker AT does not list the storages of group1 (status 2)",
            ),
        ];
        for (names, question, wanted) in cases {
            let address = replays(names).await;
            let said = match question {
                FastdfsAsk::Storage { .. } => listed_by(&[address]).await,
                ask_of => ask(Ask::Fastdfs { address, ask: (*ask_of).clone() }).await,
            };
            assert_eq!(said.to_string(), wanted.replace("AT", &address.to_string()), "{names:?}");
        }
        // `unknown-command` is what the stand-in answers with.
        let heard = cases.iter().flat_map(|(names, ..)| *names).chain(&["tracker-unknown-command"]);
        let heard: std::collections::BTreeSet<String> = heard.map(|name| format!("{name}.hex")).collect();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/captures/fastdfs");
        let files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        assert_eq!(heard, files.filter(|name| name != "README.md").collect());
    }

    /// Words of which there is no capture: a tracker's own, with one byte or one address changed.
    #[tokio::test]
    async fn what_else_a_tracker_may_say_is_told() {
        let says = |change: fn(&mut Vec<u8>)| async move {
            server(move |mut stream| async move {
                let (_, groups) = captured("tracker-list-groups");
                let (_, mut storages) = captured("tracker-list-storages");
                change(&mut storages);
                for reply in [groups, storages] {
                    let _ = stream.read(&mut [0; 100]).await;
                    let _ = stream.write_all(&reply).await;
                }
            })
            .await
        };
        let deleted = says(|storages| storages[10 + 487] = 4).await;
        let why = format!("the tracker {deleted} has deleted 10.77.0.23:23000 from group1");
        not_ready(listed_by(&[deleted]).await, Trouble::Declined, why);
        let strange = says(|storages| storages[10 + 487] = 77).await;
        let why = format!(
            "the tracker {strange} says state 77 of 10.77.0.23:23000, which this probe does not know"
        );
        not_ready(listed_by(&[strange]).await, Trouble::Declined, why);
        let other = says(|storages| {
            let digit = storages.windows(10).rposition(|w| w == b"10.77.0.23").unwrap() + 9;
            let first = storages.windows(10).position(|w| w == b"10.77.0.23").unwrap() + 9;
            (storages[digit], storages[first]) = (b'9', b'9');
        })
        .await;
        let why = format!("the tracker {other} does not list 10.77.0.23 in group1");
        not_ready(listed_by(&[other]).await, Trouble::Declined, why);
        let full = server(|mut stream| async move {
            for reply in [vec![0, 0, 0, 0, 0, 0, 0, 0, 0x64, NO_SPACE], captured("tracker-list-groups").1] {
                let _ = stream.read(&mut [0; 100]).await;
                let _ = stream.write_all(&reply).await;
            }
        })
        .await;
        let why = format!("{full} knows no storage with space left: group1 with 2 of 2 storages, 28 % free");
        let question = Ask::Fastdfs { address: full, ask: FastdfsAsk::Upload { group: None } };
        not_ready(ask(question).await, Trouble::Declined, why);
    }

    /// What a storage at 10.77.0.23 is told to be, by these trackers. Its own active test is not asked here.
    async fn listed_by(trackers: &[SocketAddr]) -> Verdict {
        use crate::probe::course::{Commitment, Stages};
        let (commitment, stages) = <(Commitment, Stages)>::default();
        let course = Course::begin(std::time::Duration::from_secs(5), &commitment, &stages);
        listed("10.77.0.23:23000".parse().unwrap(), "group1", trackers, course).await
    }

    #[tokio::test]
    async fn a_storage_is_what_a_tracker_says_of_it() {
        let good = replays(&["tracker-list-groups", "tracker-list-storages"]).await;
        let active = Verdict::ready("active in group1 with 2 of 2 storages, 28 % free");
        assert_eq!(listed_by(&[good]).await, active);

        let lost =
            replays(&["tracker-one-storage-lost-list-groups", "tracker-one-storage-lost-list-storages"])
                .await;
        let why = format!("the tracker {lost} believes that 10.77.0.23:23000 is offline");
        not_ready(listed_by(&[lost]).await, Trouble::Declined, why);
        let (_port, dead) = nobody().await;
        assert_eq!(listed_by(&[dead, lost, good]).await, active, "one that says so is enough");

        let none = replays(&["tracker-list-groups-empty"]).await;
        not_ready(listed_by(&[none]).await, Trouble::Declined, format!("the tracker {none} knows no group1"));
        not_ready(listed_by(&[dead]).await, Trouble::Refused, format!("connection refused by {dead}"));
    }

    #[tokio::test]
    async fn a_storage_on_its_way_is_progress() {
        for (state, doing) in [
            (0, "is new in its group"),
            (1, "waits for its turn to copy the files of its group"),
            (2, "copies the files of its group"),
            (6, "has joined, and is not active yet"),
            (9, "recovers its files from its group"),
        ] {
            let tracker = server(move |mut stream| async move {
                let (_, groups) = captured("tracker-list-groups");
                let (_, mut storages) = captured("tracker-list-storages");
                storages[10 + 487] = state; // of the second one
                for reply in [groups, storages] {
                    let _ = stream.read(&mut [0; 100]).await;
                    let _ = stream.write_all(&reply).await;
                }
            })
            .await;
            let reason = format!("10.77.0.23:23000 {doing}, says the tracker {tracker}");
            let told = listed_by(&[tracker]).await;
            assert_eq!(told, Verdict::Progress { reason, percent: None, left: None });
        }
    }
}
