//! How long the other end of a connection is waited for, whatever lies below: TCP, TLS or a unix socket.
//!
//! | it owes | deadline |
//! |---|---|
//! | the head of a request, from the first byte on (of the first one: from the beginning on) | [`HEAD_DEADLINE`] |
//! | the next request, while nothing is under way | [`IDLE_DEADLINE`] |
//! | to take an answer, or a line of a stream | [`STALL_DEADLINE`] without a byte taken, [`TAKE_DEADLINE`] in all |
//!
//! The body of a request has its deadline where it is read ([`super::server::BODY_DEADLINE`]).

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// For the head of a request.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// For the next request over a connection that is kept warm.
pub const IDLE_DEADLINE: Duration = Duration::from_secs(600);
/// For a reader to take anything at all.
pub const STALL_DEADLINE: Duration = Duration::from_secs(10);
/// For a reader to take all of what is ready for it.
pub const TAKE_DEADLINE: Duration = Duration::from_secs(60);

/// Where a connection is, shared with who answers its requests.
#[derive(Clone, Debug, Default)]
pub struct Course(Rc<Cell<Phase>>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// A request is awaited, and nothing of it has come.
    Idle,
    /// Its head is coming. So a connection begins: who connects has something to say.
    #[default]
    Head,
    /// It is being answered.
    Answering,
}

impl Course {
    /// A request's head is there.
    pub fn answering(&self) {
        self.0.set(Phase::Answering);
    }

    /// Its answer is ready to be taken.
    pub fn answered(&self) {
        self.0.set(Phase::Idle);
    }
}

/// A stream whose other end is waited for with patience, and not for ever.
#[derive(Debug)]
pub struct Patient<S> {
    inner: S,
    course: Course,
    /// What a read waits under, and until when.
    reading: Option<(Phase, Pin<Box<Sleep>>)>,
    writing: Option<Writing>,
}

/// Something waits to be taken.
#[derive(Debug)]
struct Writing {
    /// When all of it must have been.
    end: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl<S> Patient<S> {
    pub fn new(inner: S, course: Course) -> Patient<S> {
        Patient { inner, course, reading: None, writing: None }
    }

    /// The other end owes something to read. An error when its time is over.
    fn await_reading(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let phase = self.course.0.get();
        let within = match phase {
            Phase::Idle => IDLE_DEADLINE,
            Phase::Head => HEAD_DEADLINE,
            Phase::Answering => {
                self.reading = None;
                return Ok(());
            }
        };
        if self.reading.as_ref().is_none_or(|(of, _)| *of != phase) {
            self.reading = Some((phase, Box::pin(sleep_until(Instant::now() + within))));
        }
        let over = self.reading.as_mut().is_some_and(|(_, sleep)| sleep.as_mut().poll(cx).is_ready());
        if over { Err(late("it did not say what it wants in time")) } else { Ok(()) }
    }

    /// The other end owes to take something. An error when its time is over.
    fn await_taking(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let now = Instant::now();
        let writing = self.writing.get_or_insert_with(|| Writing {
            end: now + TAKE_DEADLINE,
            sleep: Box::pin(sleep_until(now + STALL_DEADLINE)),
        });
        match writing.sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Err(late("it does not take what it asked for")),
            Poll::Pending => Ok(()),
        }
    }

    /// It took some.
    fn some_taken(&mut self) {
        if let Some(writing) = &mut self.writing {
            let next = (Instant::now() + STALL_DEADLINE).min(writing.end);
            writing.sleep.as_mut().reset(next);
        }
    }
}

fn late(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        match Pin::new(&mut self.inner).poll_read(cx, into) {
            Poll::Ready(Ok(())) if into.filled().len() > before => {
                if self.course.0.get() == Phase::Idle {
                    self.course.0.set(Phase::Head);
                    self.reading = None;
                }
                // Bytes of a head that drips leave its deadline where it is.
                Poll::Ready(Ok(()))
            }
            Poll::Pending => match self.await_reading(cx) {
                Ok(()) => Poll::Pending,
                Err(e) => Poll::Ready(Err(e)),
            },
            done => done,
        }
    }
}

impl<S: AsyncWrite + Unpin> Patient<S> {
    fn taken<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match polled {
            Poll::Pending => match self.await_taking(cx) {
                Ok(()) => Poll::Pending,
                Err(e) => Poll::Ready(Err(e)),
            },
            done => {
                self.some_taken();
                done
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.taken(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, parts);
        self.taken(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        let polled = self.taken(cx, polled);
        if polled.is_ready() {
            self.writing = None; // all of it
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.taken(cx, polled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_drips_is_cut_off_after_its_deadline() {
        let (ours, mut theirs) = duplex(64);
        let mut patient = Patient::new(ours, Course::default());
        let begun = Instant::now();
        tokio::spawn(async move {
            while theirs.write_all(b"G").await.is_ok() {
                tokio::time::sleep(seconds(1)).await;
            }
        });
        let mut bytes = [0; 1];
        let error = loop {
            if let Err(e) = patient.read(&mut bytes).await {
                break e;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), HEAD_DEADLINE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_warm_connection_may_be_silent_for_long_and_not_for_ever() {
        let (ours, mut theirs) = duplex(64);
        let course = Course::default();
        let mut patient = Patient::new(ours, course.clone());
        course.answering();
        course.answered();
        let begun = Instant::now();
        tokio::spawn(async move {
            tokio::time::sleep(seconds(300)).await;
            theirs.write_all(b"G").await.unwrap();
            std::future::pending::<()>().await
        });
        let mut bytes = [0; 1];
        patient.read_exact(&mut bytes).await.unwrap();
        // A second head has begun, and owes its rest.
        assert_eq!(patient.read(&mut bytes).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), 300 + HEAD_DEADLINE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_dropped_soon_and_who_sips_at_last() {
        for (sip, within) in [(None, STALL_DEADLINE), (Some(seconds(1)), TAKE_DEADLINE)] {
            let (ours, mut theirs) = duplex(16);
            let mut patient = Patient::new(ours, Course::default());
            tokio::spawn(async move {
                while let Some(pause) = sip {
                    let _ = theirs.read(&mut [0; 1]).await;
                    tokio::time::sleep(pause).await;
                }
                std::future::pending::<()>().await
            });
            let begun = Instant::now();
            let error = patient.write_all(&[0; 4096]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(begun.elapsed().as_secs(), within.as_secs());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_read_lives_on() {
        let (ours, mut theirs) = duplex(16);
        let mut patient = Patient::new(ours, Course::default());
        tokio::spawn(async move { while theirs.read(&mut [0; 16]).await.is_ok_and(|n| n > 0) {} });
        for _ in 0..100 {
            patient.write_all(&[0; 64]).await.unwrap();
            patient.flush().await.unwrap();
            tokio::time::sleep(seconds(30)).await;
        }
    }
}
