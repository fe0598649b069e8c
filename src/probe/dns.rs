//! DNS: a name that one server answers for (RFC 1035). The query is one datagram; an answer that did not fit into one
//! is asked for again over TCP.

use super::course::Course;
use super::{datagram, net};
use crate::facts::{Stage, Trouble, Verdict};
use crate::model::Record;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How much we say (by EDNS, RFC 6891) that a datagram to us may hold: what no network cuts into pieces.
const DATAGRAM: u16 = 1232;
/// How many addresses are shown.
const SHOWN: usize = 4;

/// What is asked.
pub(super) struct Query<'a> {
    pub name: &'a str,
    pub record: Record,
    pub expect: Option<IpAddr>,
}

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Not the answer to our query: somebody else's, or an earlier one's.
    Stranger,
    /// It did not fit into a datagram.
    Cut,
    Answer {
        code: u8,
        /// How many records of the type that was asked for.
        records: usize,
        /// The addresses in them.
        addresses: Vec<IpAddr>,
    },
}

pub(super) async fn ask(address: SocketAddr, query: Query<'_>, course: Course<'_>) -> Verdict {
    let id = (RandomState::new().hash_one(query.name) % 0x1_0000) as u16;
    match answer(address, id, &query, course).await {
        Ok(heard) => judge(address, &query, &heard),
        Err(verdict) => verdict,
    }
}

async fn answer(
    address: SocketAddr,
    id: u16,
    query: &Query<'_>,
    course: Course<'_>,
) -> Result<Heard, Verdict> {
    let question = message(id, query);
    let garbled = |why: &str| net::garbled(address, "DNS", why);
    let heard = datagram::exchange(address, &question, course, |reply| match read(reply, id, query) {
        Some(Heard::Stranger) => None,
        heard => Some(heard),
    });
    match heard.await? {
        None => Err(garbled("its reply is broken")),
        Some(Heard::Cut) => {
            let mut stream = net::connect(address, course).await?;
            course.enter(Stage::Reply);
            let talk = async {
                let length = u16::try_from(question.len()).unwrap_or(u16::MAX).to_be_bytes();
                stream.write_all(&[&length, &question[..]].concat()).await?;
                let length = stream.read_u16().await?; // and so 64 KiB at the most
                let mut reply = vec![0; usize::from(length)];
                stream.read_exact(&mut reply).await?;
                Ok(reply)
            };
            let reply = match course.limit(talk).await {
                Some(Ok(reply)) => reply,
                Some(Err(error)) => return Err(net::exchange_trouble(address, &error)),
                None => return Err(net::silent(address, course)),
            };
            match read(&reply, id, query) {
                Some(heard @ Heard::Answer { .. }) => Ok(heard),
                _ => Err(garbled("its reply is broken")),
            }
        }
        Some(heard) => Ok(heard),
    }
}

/// The query: recursion is asked for, as a client on this machine would.
pub(super) fn message(id: u16, query: &Query<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let header = [id, 0x0100, 1, 0, 0, 1];
    out.extend(header.iter().flat_map(|word| word.to_be_bytes()));
    out.extend(name_of(query.name));
    out.extend([query.record as u16, 1].iter().flat_map(|word| word.to_be_bytes()));
    // EDNS: the root, type OPT, the size, then no flags and no options.
    out.push(0);
    out.extend([41, DATAGRAM, 0, 0, 0].iter().flat_map(|word| word.to_be_bytes()));
    out
}

/// A name as it stands in a message. The model sees to its lengths.
fn name_of(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut out: Vec<u8> =
        labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    out.push(0);
    out
}

/// Reads a message; `None` where it is broken.
pub(super) fn read(bytes: &[u8], id: u16, query: &Query<'_>) -> Option<Heard> {
    let mut rest = Reader { bytes, at: 0 };
    let (theirs, flags) = (rest.word()?, rest.word()?);
    let [questions, answers] = [rest.word()?, rest.word()?];
    rest.skip(4)?;
    if theirs != id || flags & 0x8000 == 0 {
        return Some(Heard::Stranger);
    }
    let code = (flags & 0x000f) as u8;
    // A server that cannot read a query may leave the question out of its refusal.
    if questions == 1 {
        let asked = name_of(query.name);
        let same = rest.take(asked.len())?.eq_ignore_ascii_case(&asked);
        if !same || rest.word()? != query.record as u16 || rest.word()? != 1 {
            return Some(Heard::Stranger);
        }
    } else if questions > 1 || code == 0 {
        return None;
    }
    if flags & 0x0200 != 0 {
        return Some(Heard::Cut);
    }
    let (mut records, mut addresses) = (0, Vec::new());
    for _ in 0..answers {
        rest.skip_name()?;
        let (kind, class) = (rest.word()?, rest.word()?);
        rest.skip(4)?;
        let length = rest.word()?;
        let data = rest.take(length.into())?;
        if kind != query.record as u16 || class != 1 {
            continue; // a CNAME on the way, most likely
        }
        records += 1;
        match query.record {
            Record::A => addresses.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
            Record::Aaaa => addresses.push(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into()),
            _ => {}
        }
    }
    Some(Heard::Answer { code, records, addresses })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(drop)
    }

    fn word(&mut self) -> Option<u16> {
        self.take(2).map(|two| u16::from_be_bytes([two[0], two[1]]))
    }

    /// Passes over a name. A pointer ends it, and is not followed: nobody here wants to know where it leads.
    fn skip_name(&mut self) -> Option<()> {
        loop {
            match self.take(1)?[0] {
                0 => return Some(()),
                length @ 1..=63 => self.skip(length.into())?,
                0xc0.. => return self.skip(1),
                _ => return None,
            }
        }
    }
}

fn judge(address: SocketAddr, query: &Query<'_>, heard: &Heard) -> Verdict {
    let Query { name, record, expect } = query;
    let record = record.as_str();
    let Heard::Answer { code, records, addresses } = heard else {
        return net::garbled(address, "DNS", "its reply is another's");
    };
    let declined = |why: String| Verdict::not_ready(Trouble::Declined, format!("{address} {why}"));
    let mut shown: Vec<String> = addresses.iter().take(SHOWN).map(ToString::to_string).collect();
    if addresses.len() > SHOWN {
        shown.push(format!("{} more", addresses.len() - SHOWN));
    }
    let shown = shown.join(", ");
    match code {
        0 if *records == 0 => declined(format!("answers, but has no {record} record of {name}")),
        0 => match expect {
            Some(wanted) if !addresses.contains(wanted) => {
                declined(format!("says that {name} is {shown}, not {wanted}"))
            }
            _ if addresses.is_empty() => {
                let plural = if *records == 1 { "record" } else { "records" };
                Verdict::ready(format!("{name} has {records} {record} {plural}"))
            }
            _ => Verdict::ready(format!("{name} is {shown}")),
        },
        2 => declined(format!("cannot find out about {name} (SERVFAIL)")),
        3 => declined(format!("says that there is no {name} (NXDOMAIN)")),
        5 => declined(format!("refuses to answer for {name} (REFUSED)")),
        code => declined(format!("answers for {name} with error code {code}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: Query<'_> = Query { name: "shop.example", record: Record::A, expect: None };

    fn nobody() -> SocketAddr {
        "10.0.0.53:53".parse().unwrap()
    }

    /// A reply to [`QUERY`] with these flags and answers.
    fn reply(flags: u16, answers: &[&[u8]]) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            [7, flags, 1, answers.len() as u16, 0, 0].iter().flat_map(|w| w.to_be_bytes()).collect();
        bytes.extend(name_of("SHOP.example"));
        bytes.extend([0, 1, 0, 1]);
        bytes.extend(answers.concat());
        bytes
    }

    const ONE: &[u8] = &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 5];
    const CNAME: &[u8] = &[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 4, 1, b'x', 0xc0, 17];

    #[test]
    fn a_query_is_as_the_rfc_has_it() {
        let wanted = b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x04shop\x07example\x00\x00\x01\x00\x01\x00\x00\x29\x04\xd0\0\0\0\0\0\0";
        assert_eq!(message(7, &QUERY), wanted);
    }

    #[test]
    fn answers_are_read_and_judged() {
        let says = |bytes: &[u8], expect| {
            let query = Query { expect, ..QUERY };
            judge(nobody(), &query, &read(bytes, 7, &query).unwrap()).to_string()
        };
        let answer = reply(0x8180, &[CNAME, ONE]);
        assert_eq!(says(&answer, None), "ready (shop.example is 10.0.0.5)");
        assert_eq!(
            says(&answer, Some("10.0.0.6".parse().unwrap())),
            "10.0.0.53:53 says that shop.example is 10.0.0.5, not 10.0.0.6"
        );
        assert_eq!(
            says(&reply(0x8180, &[CNAME]), None),
            "10.0.0.53:53 answers, but has no A record of shop.example"
        );
        assert_eq!(
            says(&reply(0x8183, &[]), None),
            "10.0.0.53:53 says that there is no shop.example (NXDOMAIN)"
        );
        assert_eq!(
            says(&reply(0x8182, &[]), None),
            "10.0.0.53:53 cannot find out about shop.example (SERVFAIL)"
        );
        let many = vec![ONE; 6];
        assert!(says(&reply(0x8180, &many), None).ends_with("10.0.0.5, 2 more)"));
    }

    #[test]
    fn what_is_not_our_answer_is_passed_over() {
        let answer = reply(0x8180, &[ONE]);
        assert_eq!(read(&answer, 8, &QUERY), Some(Heard::Stranger));
        let other = Query { name: "shop.examplf", ..QUERY };
        assert_eq!(read(&answer, 7, &other), Some(Heard::Stranger));
        assert_eq!(read(&reply(0x0100, &[]), 7, &QUERY), Some(Heard::Stranger), "a query");
        assert_eq!(read(&reply(0x8380, &[]), 7, &QUERY), Some(Heard::Cut));
        assert_eq!(read(&answer[..answer.len() - 1], 7, &QUERY), None);
        assert_eq!(read(&[], 7, &QUERY), None);
    }
}
