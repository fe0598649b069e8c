//! LibreOffice: the handshake of its UNO socket, and now and then a tiny document that it makes and converts to PDF.
//!
//! The handshake is answered by threads that work even while a document is converted, and by nobody when the office is
//! frozen. Only a document tells whether the office behind them still works, and it converts one at a time: so it is
//! given its own time, and until that is over an office that has converted before counts as busy. An office is not
//! hung up on while it works for us: the document would stay open in it.

use super::course::Course;
use super::net;
use super::urp::{Bridge, Failure};
use crate::facts::{Stage, Trouble, Verdict};
use crate::model::Conversion;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

/// How long a conversion is waited for in the background before its connection is given up after all.
const GIVEN_UP: Duration = Duration::from_secs(3600);
/// How soon a conversion that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Keeps what is known of its conversions.
#[derive(Default)]
pub(super) struct Client {
    /// When the last one ended well.
    converted: Option<Instant>,
    /// When the last one failed, and why.
    failed: Option<(Instant, String)>,
    under_way: Option<UnderWay>,
}

struct UnderWay {
    since: Instant,
    end: oneshot::Receiver<Result<usize, Failure>>,
}

impl Client {
    pub async fn ask(
        &mut self,
        address: SocketAddr,
        convert: Option<&Conversion>,
        course: Course<'_>,
    ) -> Verdict {
        let stream = match net::connect(address, course).await {
            Ok(stream) => stream,
            Err(verdict) => return verdict,
        };
        course.commit();
        course.enter(Stage::Reply);
        let mut bridge = match course.limit(Bridge::open(stream)).await {
            Some(Ok(bridge)) => bridge,
            Some(Err(failure)) => return trouble(address, failure),
            None => return net::silent(address, course),
        };
        let Some(conversion) = convert else { return Verdict::ready("its UNO socket answers") };
        self.look(address);
        if self.under_way.is_none() && self.is_due(conversion) {
            let (sender, end) = oneshot::channel();
            tokio::spawn(async move {
                let done = timeout(GIVEN_UP, bridge.convert()).await;
                let _ = sender.send(done.unwrap_or_else(|_| Err(Failure::Refused("no answer".into()))));
            });
            self.under_way = Some(UnderWay { since: Instant::now(), end });
        }
        if let Some(UnderWay { end, .. }) = &mut self.under_way
            && let Some(ended) = course.limit(end).await
        {
            self.take(address, ended.unwrap_or_else(|_| Err(Failure::Refused("no answer".into()))));
        }
        self.judge(address, conversion)
    }

    /// Whether it is time for another one.
    fn is_due(&self, conversion: &Conversion) -> bool {
        match (&self.failed, self.converted) {
            (Some((at, _)), _) => at.elapsed() >= AGAIN,
            (None, Some(at)) => at.elapsed() >= conversion.every,
            (None, None) => true,
        }
    }

    /// Takes in what has ended since the last question.
    fn look(&mut self, address: SocketAddr) {
        use oneshot::error::TryRecvError;
        match self.under_way.as_mut().map(|way| way.end.try_recv()) {
            Some(Ok(ended)) => self.take(address, ended),
            Some(Err(TryRecvError::Closed)) => self.under_way = None,
            Some(Err(TryRecvError::Empty)) | None => {}
        }
    }

    fn take(&mut self, address: SocketAddr, ended: Result<usize, Failure>) {
        self.under_way = None;
        match ended {
            Ok(_) => (self.converted, self.failed) = (Some(Instant::now()), None),
            Err(failure) => {
                self.failed = Some((Instant::now(), trouble(address, failure).to_string()));
            }
        }
    }

    fn judge(&self, address: SocketAddr, conversion: &Conversion) -> Verdict {
        if let Some((_, why)) = &self.failed {
            return Verdict::not_ready(Trouble::Declined, format!("no tiny document is converted: {why}"));
        }
        match &self.under_way {
            None => Verdict::ready("its UNO socket answers, a tiny document is converted"),
            Some(way) if way.since.elapsed() >= conversion.within => Verdict::not_ready(
                Trouble::Silent,
                format!(
                    "{address} answers, but has not converted a tiny document within {} s: it is hung, or busy with \
                     something long",
                    conversion.within.as_secs()
                ),
            ),
            Some(_) if self.converted.is_some() => {
                Verdict::ready("its UNO socket answers, busy: a tiny document has to wait")
            }
            Some(_) => Verdict::Progress {
                reason: format!("{address} answers, and works on its first document"),
                percent: None,
                left: None,
            },
        }
    }
}

fn trouble(address: SocketAddr, failure: Failure) -> Verdict {
    match failure {
        Failure::Io(error) => net::exchange_trouble(address, &error),
        Failure::Garbled(heard) => net::garbled(address, "UNO's protocol", heard),
        Failure::Refused(why) => Verdict::not_ready(Trouble::Declined, format!("{address} refuses: {why}")),
    }
}

/// What LibreOffice 7.4 says, block by block, each after one of ours (the first one unasked).
#[cfg(any(test, feature = "fuzz"))]
pub(super) const SAID: [&[u8]; 3] = [
    b"\xf8\x04\x96\0\0'com.sun.star.bridge.XProtocolProperties\x15UrpProtocolProperties\0\0\
      \x19.UrpProtocolPropertiesTid\0\0\x10-\x8d\x08",
    b"\x05\x01\x0eCurrentContext\0",
    b"\x88\x05probe\0\x01\x96\0\x01\x1bcom.sun.star.uno.XInterface\
      455dfba6c4870;gcc3[0];51ef6b2bd7794da392688eee79b9b41\0\x01",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Ask;
    use crate::probe::testing::{ask, ask_in_vain, greets, not_ready, server};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn block(message: &[u8]) -> Vec<u8> {
        [&(message.len() as u32).to_be_bytes()[..], &1_u32.to_be_bytes(), message].concat()
    }

    fn plain(address: SocketAddr) -> Ask {
        Ask::Uno { address, convert: None }
    }

    #[tokio::test]
    async fn an_office_that_shows_its_context_answers() {
        let address = server(|mut stream| async move {
            for said in SAID {
                let _ = stream.write_all(&block(said)).await;
                let _ = stream.read(&mut [0; 4096]).await;
            }
        })
        .await;
        assert_eq!(ask(plain(address)).await, Verdict::ready("its UNO socket answers"));
    }

    #[tokio::test]
    async fn what_is_no_office_is_said() {
        let address = greets("").await;
        let silent = format!("{address} accepts the connection and says nothing within 200 ms");
        not_ready(ask_in_vain(plain(address)).await, Trouble::Silent, silent);

        let address = greets("SSH-2.0-OpenSSH_9.2p1\r\n").await;
        let reason = format!("{address} does not speak UNO's protocol: it says \"SSH-2.0-\"");
        not_ready(ask(plain(address)).await, Trouble::Garbled, reason);

        let address = greets(block(b"\x88\x05probe\0\x01")).await;
        let reason = format!(
            "{address} does not speak UNO's protocol: it does not begin with its protocol's properties"
        );
        not_ready(ask(plain(address)).await, Trouble::Garbled, reason);
    }
}
