//! Probes: one question over a component's own protocol → a [`Verdict`].
//!
//! One file a protocol; each turns bytes into a verdict with a reason that a person would say, naming the address.
//! An [`Asker`] asks one question as often as it is told to; the [`prober`] decides when. What holds for all of them:
//!
//! - One deadline covers the whole question: connect, TLS, login and reply.
//! - Every read has a limit. Nothing that the other side sends can make us grow.
//! - Whatever happens is a verdict. There is no error that a caller could forget.
//! - The question takes the network path that the service itself will take, and proves that a *new* connection is
//!   possible: TCP, Redis, HTTP, ActiveMQ and FastDFS connect afresh each time (0.1 ms on a local network). MySQL and
//!   PostgreSQL, where a login costs milliseconds, keep a connection, but only for [`FRESH_FOR`].
//!
//! Knows `facts`, `clock`, `crash`, the kernel's door and the model's [`Question`]; nothing of the engine or the agent.

pub(crate) mod activemq;
pub mod by_hand;
mod certificate;
mod course;
mod datagram;
mod dns;
mod exec;
pub(crate) mod fastdfs;
mod grpc;
#[cfg(any(test, feature = "fuzz"))]
pub mod hostile;
mod http;
pub mod ipvs;
pub mod keepalived;
mod lag;
mod meaning;
mod mysql;
mod net;
mod password;
mod place;
mod postgres;
pub mod prober;
mod redis;
pub mod secure;
mod systemd;
mod tcp;
#[cfg(test)]
pub(crate) mod testing;
mod tls;
mod uno;
mod urp;
mod vip;

pub use meaning::asked;
pub use password::credential_path;
pub use prober::{Event, Pace, Prober};

use crate::clock;
use crate::crash;
use crate::facts::{Answer, Took, Trouble, Verdict};
use crate::model::{Ask, Question};
use course::{Commitment, Course, Stages};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// How long a kept connection may go on answering before a new one must be made. A server that has run out of
/// connections, or a firewall that lets only established ones through, still answers on an old connection: the
/// service that is about to start would find the door shut. Half a minute bounds that lie; at the waiting pace it
/// makes one question in six hundred pay for a login.
const FRESH_FOR: Duration = Duration::from_secs(30);

/// Asks one question, again and again.
///
/// Dropping an `Asker`, or the future of [`Asker::ask`], never hangs up on a MySQL server between its greeting and
/// the end of the login: that would count against this host there.
pub struct Asker {
    question: Question,
    client: Client,
    commitment: Commitment,
    stages: Stages,
}

/// What is kept between two questions, by protocol.
enum Client {
    Mysql(mysql::Client),
    Postgres(postgres::Client),
    Http(http::Client),
    Uno(uno::Client),
    Vip(vip::Client),
    Grpc(grpc::Client),
    File(place::Client),
    /// Nothing: every question starts from scratch.
    Fresh,
}

impl Asker {
    pub fn new(question: Question) -> Asker {
        let client = match &question.ask {
            Ask::Mysql { .. } => Client::Mysql(mysql::Client::default()),
            Ask::Postgres { .. } => Client::Postgres(postgres::Client::default()),
            Ask::Http { .. } => Client::Http(http::Client::default()),
            Ask::Uno { .. } => Client::Uno(uno::Client::default()),
            Ask::Vip(_) => Client::Vip(vip::Client::default()),
            Ask::Grpc { .. } => Client::Grpc(grpc::Client::default()),
            Ask::File { .. } => Client::File(place::Client::default()),
            _ => Client::Fresh,
        };
        Asker { question, client, commitment: Commitment::default(), stages: Stages::default() }
    }

    /// Asks once. It takes at most the question's timeout, and a little for the machine.
    pub async fn ask(&mut self) -> Answer {
        self.commitment.reset();
        self.stages.reset();
        let begun = clock::now();
        let asked = async {
            crash::trip("probe");
            self.verdict().await
        };
        // Whatever an answer does to the code that reads it, it is an answer that is no good, and no more than that.
        let asked = AssertUnwindSafe(asked).catch_unwind().await;
        let verdict = asked.unwrap_or_else(|_| {
            self.client = Asker::new(self.question.clone()).client;
            Verdict::not_ready(Trouble::Garbled, "the probe itself crashed over it: see the agent's log")
        });
        Answer { verdict, begun, ended: clock::now() }
    }

    /// Where the time of the last question went.
    fn taken(&self) -> Vec<Took> {
        self.stages.taken()
    }

    /// What is long on the way is on the heap: a question has room for each kind of it, and is moved as it begins.
    async fn verdict(&mut self) -> Verdict {
        let course = Course::begin(self.question.timeout, &self.commitment, &self.stages);
        match (&self.question.ask, &mut self.client) {
            (Ask::Tcp { address }, _) => tcp::ask(*address, course).await,
            (Ask::Exec { command, contains }, _) => {
                Box::pin(exec::ask(command, contains.as_deref(), course)).await
            }
            (Ask::Udp { address, send, expect }, _) => datagram::ask(*address, send, expect, course).await,
            (Ask::Dns { address, name, record, expect }, _) => {
                dns::ask(*address, dns::Query { name, record: *record, expect: *expect }, course).await
            }
            (Ask::Unix { path }, _) => place::unix(path, course).await,
            (Ask::Mount { path, fs }, _) => place::mount(path, fs.as_deref(), course),
            (Ask::Clock { max_error }, _) => place::clock(*max_error, course),
            (Ask::Systemd { unit }, _) => Box::pin(systemd::ask(unit, course)).await,
            (Ask::File { path, contains, max_age }, Client::File(client)) => {
                let wanted =
                    place::Wanted { path: path.clone(), contains: contains.clone(), max_age: *max_age };
                client.ask(wanted, course).await
            }
            (Ask::Grpc(ask), Client::Grpc(client)) => Box::pin(client.ask(ask, course)).await,
            (Ask::Redis { address, login }, _) => redis::ask(*address, login.as_ref(), course).await,
            (Ask::Activemq { address, also }, _) => Box::pin(activemq::ask(*address, also, course)).await,
            (Ask::Fastdfs { address, ask }, _) => fastdfs::ask(*address, ask, course).await,
            (Ask::Http(get), Client::Http(client)) => Box::pin(client.ask(get, course)).await,
            (Ask::Uno { address, convert }, Client::Uno(client)) => {
                Box::pin(client.ask(*address, convert.as_ref(), course)).await
            }
            (Ask::Vip(vip), Client::Vip(client)) => client.ask(vip, course).await,
            (Ask::Ipvs(service), _) => ipvs::ask(service, course).await,
            (Ask::Mysql { address, login }, Client::Mysql(client)) => {
                client.ask(*address, login.as_ref(), course).await
            }
            (Ask::Postgres { address, login, database }, Client::Postgres(client)) => {
                Box::pin(client.ask(*address, login, database, course)).await
            }
            // `new` pairs them, and nothing changes them afterwards.
            (ask, _) => Verdict::not_ready(Trouble::Unaskable, format!("no client was made for {ask:?}")),
        }
    }
}
