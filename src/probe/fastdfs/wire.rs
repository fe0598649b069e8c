//! FastDFS's bytes. Pure: each function takes what was read and never more.
//!
//! A header is 10 bytes: body length (i64, big-endian), command, status. A reply's command is always 100. The records of
//! the lists have other sizes in other versions: these follow from the length of the whole.

use crate::probe::net;

/// The largest body that is read, in bytes: 130 storages in one group.
pub(in crate::probe) const MOST: usize = 64 * 1024;

/// "Are you there": no body, command 111, status 0.
pub(crate) const ACTIVE_TEST: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 0, ACTIVE, 0];
/// The command of every reply.
pub(crate) const REPLY: u8 = 100;

pub(in crate::probe) const ACTIVE: u8 = 111;
pub(in crate::probe) const LIST_GROUPS: u8 = 91;
pub(in crate::probe) const LIST_STORAGES: u8 = 92;
/// "Where can I upload."
pub(in crate::probe) const UPLOAD: u8 = 101;
pub(in crate::probe) const UPLOAD_TO_GROUP: u8 = 104;

/// The width of a group's name in a request, and in the place for an upload.
const NAME: usize = 16;
/// The width of its name in the list of groups.
const NAME_LISTED: usize = 17;
/// A group in the list: its name, then numbers of 8 bytes. Version 6 has one number more than version 5.
const GROUP_6: usize = NAME_LISTED + 12 * 8;
const GROUP_5: usize = NAME_LISTED + 11 * 8;
/// The place for an upload: group, address (15 bytes, or 45 where IPv6 is known), port, path.
const TARGETS: [usize; 2] = [NAME + 15 + 8 + 1, NAME + 45 + 8 + 1];

pub(in crate::probe) fn request(command: u8, body: &[u8]) -> Vec<u8> {
    let mut request = (body.len() as u64).to_be_bytes().to_vec();
    request.extend([command, 0]);
    request.extend(body);
    request
}

/// A group's name as requests have it.
pub(in crate::probe) fn name(group: &str) -> [u8; NAME] {
    let mut name = [0; NAME];
    for (to, from) in name.iter_mut().zip(group.bytes()) {
        *to = from;
    }
    name
}

/// The length of a reply's body, and its status; or what was heard instead.
pub(in crate::probe) fn header(header: [u8; 10]) -> Result<(usize, u8), String> {
    let [length @ .., command, status] = header;
    match usize::try_from(u64::from_be_bytes(length)) {
        Ok(length) if command == REPLY && length <= MOST => Ok((length, status)),
        Ok(length) if command == REPLY && length >> 40 == 0 => {
            Err(format!("its answer has {length} bytes, more than {MOST}"))
        }
        _ => Err(format!("it says \"{}\"", net::shown(&header))),
    }
}

/// Whether this is a place for an upload.
pub(in crate::probe) fn is_target(body: &[u8]) -> bool {
    TARGETS.contains(&body.len()) && text(&body[..NAME]).is_some()
}

/// A group, as a tracker lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::probe) struct Group {
    pub name: String,
    pub storages: u64,
    /// How many of them serve.
    active: u64,
    /// How full its emptiest storage is: percent of space left; `None` where none has told.
    free: Option<u64>,
}

impl Group {
    /// `group1 with 2 of 2 storages, 28 % free`. Whole percents: an answer that changes with every file is news with
    /// every file.
    pub fn told(&self) -> String {
        let free = self.free.map_or_else(String::new, |percent| format!(", {percent} % free"));
        format!("{} with {} of {} storages{free}", self.name, self.active, self.storages)
    }
}

/// The groups in a list; `None` when it makes no sense.
pub(in crate::probe) fn groups(body: &[u8]) -> Option<Vec<Group>> {
    let read = |size: usize| body.chunks(size).map(group).collect::<Option<Vec<_>>>();
    [GROUP_6, GROUP_5].into_iter().filter(|size| body.len().is_multiple_of(*size)).find_map(read)
}

fn group(record: &[u8]) -> Option<Group> {
    let name = text(record.get(..NAME_LISTED)?)?;
    let number = |at: usize| {
        let bytes = record.get(NAME_LISTED + 8 * at..)?.first_chunk()?;
        Some(u64::from_be_bytes(*bytes))
    };
    // Total and free megabytes; then version 6 has the reserved ones, and the count comes one later. At 6 stands how many
    // are readable (version 6), or active (version 5).
    let (total, free) = (number(0)?, number(1)?);
    let (storages, active) = (number(if record.len() == GROUP_6 { 4 } else { 3 })?, number(6)?);
    let free =
        (total > 0).then(|| u64::try_from(u128::from(free) * 100 / u128::from(total)).unwrap_or(u64::MAX));
    let sound = active <= storages && free.is_none_or(|percent| percent <= 100);
    sound.then_some(Group { name, storages, active, free })
}

/// A storage, as a tracker lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::probe) struct Storage {
    pub state: State,
    pub address: String,
}

/// What a tracker believes that a storage does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::probe) enum State {
    Init,
    WaitSync,
    Syncing,
    Deleted,
    Offline,
    Online,
    Active,
    Recovery,
    Other(u8),
}

/// The storages in a list of so many; `None` when it makes no sense.
///
/// A record begins with the state. Since 6.13 one byte follows that is no text. Then come id and address, each 16 bytes
/// wide with zeros at the end.
pub(in crate::probe) fn storages(body: &[u8], count: u64) -> Option<Vec<Storage>> {
    let count = usize::try_from(count).ok()?;
    if count == 0 {
        return body.is_empty().then(Vec::new);
    }
    let size = body.len() / count;
    if size < 64 || !body.len().is_multiple_of(count) {
        return None;
    }
    body.chunks(size).map(storage).collect()
}

fn storage(record: &[u8]) -> Option<Storage> {
    let (state, rest) = record.split_first()?;
    let state = match state {
        0 => State::Init,
        1 => State::WaitSync,
        2 => State::Syncing,
        4 => State::Deleted,
        5 => State::Offline,
        6 => State::Online,
        7 => State::Active,
        9 => State::Recovery,
        other => State::Other(*other),
    };
    let rest = if rest.first()?.is_ascii_graphic() { rest } else { &rest[1..] };
    Some(Storage { state, address: text(rest.get(16..32)?)? })
}

/// A text with zeros at the end, neither empty nor strange.
fn text(field: &[u8]) -> Option<String> {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    let text = std::str::from_utf8(&field[..end]).ok()?;
    let sound = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    sound.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::hostile::captured;

    #[test]
    fn requests_are_the_captured_ones() {
        assert_eq!(request(ACTIVE, &[]), captured("storage-active-test").0);
        assert_eq!(request(UPLOAD, &[]), captured("tracker-upload-target").0);
        assert_eq!(request(UPLOAD_TO_GROUP, &name("group1")), captured("tracker-upload-target-group").0);
        assert_eq!(request(LIST_STORAGES, &name("group1")), captured("tracker-list-storages").0);
    }

    #[test]
    fn groups_of_version_5_have_a_number_less() {
        // From the sources of version 5: no reserved megabytes, and `active` where version 6 has `readable`.
        let mut record = [b"group1".as_slice(), &[0; 11]].concat();
        for number in [200u64, 50, 0, 3, 23000, 8888, 2, 0, 1, 256, 0] {
            record.extend(number.to_be_bytes());
        }
        let told: Vec<_> = groups(&record.repeat(2)).unwrap().iter().map(Group::told).collect();
        assert_eq!(told, ["group1 with 2 of 3 storages, 25 % free"; 2]);
    }

    #[test]
    fn storages_of_other_sizes_are_read() {
        let reply = captured("tracker-list-storages").1;
        let records = reply[10..].chunks(487);
        // Longer at the end; and without the byte that came in 6.13.
        let longer: Vec<u8> = records.clone().flat_map(|r| [r, &[1; 30]].concat()).collect();
        let older: Vec<u8> = records.flat_map(|r| [&r[..1], &r[2..]].concat()).collect();
        for body in [&reply[10..], &longer, &older] {
            let found = storages(body, 2).unwrap();
            let told: Vec<_> = found.iter().map(|s| (s.state, s.address.as_str())).collect();
            assert_eq!(told, [(State::Active, "10.77.0.22"), (State::Active, "10.77.0.23")]);
        }
        assert_eq!(storages(&reply[10..], 3), None);
        assert_eq!(storages(&[], 0), Some(vec![]));
    }

    #[test]
    fn a_reply_that_is_too_long_is_not_read() {
        let [a, b, c, d, e, f, g, h] = 65_537u64.to_be_bytes();
        let heard = header([a, b, c, d, e, f, g, h, REPLY, 0]).unwrap_err();
        assert_eq!(heard, "its answer has 65537 bytes, more than 65536");
        assert!(header([0xff; 10]).unwrap_err().starts_with("it says "));
    }
}
