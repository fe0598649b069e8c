//! The connection to systemd, by way of the system's bus.

use super::state::{Fact, State};
use futures_util::{FutureExt, StreamExt};
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::Duration;
use zbus::message::{Body, Sequence, Type};
use zbus::{
    Connection, DBusError, DynamicType, Message, MessageStream, ObjectPath, OwnedObjectPath, Variant, fdo,
};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "/org/freedesktop/systemd1";
const MANAGER_FACE: &str = "org.freedesktop.systemd1.Manager";
const UNIT_FACE: &str = "org.freedesktop.systemd1.Unit";
const SERVICE_FACE: &str = "org.freedesktop.systemd1.Service";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// How long an answer may take: PID 1 answers nobody while it reads its files again.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long reading all units again may take.
const RELOAD_WITHIN: Duration = Duration::from_secs(90);
/// The most of a text that is taken over, in characters.
const LONGEST_SAID: usize = 300;
/// Signals that may wait for us. The bus drops nobody's, so this only has to be more than come at once.
const QUEUE: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// Why systemd does not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    /// The last part of the error's name; empty where it has none.
    name: String,
    pub reason: String,
    /// It was not reached, or is busy: nothing is wrong with the unit.
    pub passing: bool,
}

impl Refused {
    /// It will pass.
    pub fn passing(reason: String) -> Refused {
        Refused { name: String::new(), reason, passing: true }
    }
}

/// The bus, for orders.
#[derive(Clone, Debug)]
pub struct Bus {
    connection: Connection,
}

/// The bus, for what it tells.
pub struct Ears {
    bus: Bus,
    stream: MessageStream,
    /// Units that are watched, by their object's path.
    watched: HashMap<String, Watched>,
}

struct Watched {
    unit: String,
    state: State,
    /// What came before was known when it was asked.
    since: Sequence,
}

/// What systemd tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// How a unit is now. `anew`: what came before may not have been heard.
    Is {
        unit: String,
        state: Box<State>,
        anew: bool,
    },
    /// There is a job for it.
    JobBegan {
        unit: String,
        job: u32,
        kind: String,
    },
    JobEnded {
        unit: String,
        job: u32,
        result: String,
    },
    /// systemd has begun anew, or has read all its files again: all is to be asked again.
    Again,
    /// Nothing more will be told.
    Gone {
        why: String,
    },
}

/// How a unit is now, asked over a connection of its own.
///
/// # Errors
/// What the bus or systemd says.
pub async fn state_of(unit: &str) -> Result<State, Refused> {
    let bus = Bus::reach().await?;
    let path = bus.object(unit).await?;
    bus.state(unit, path.as_str()).await.map(|watched| watched.state)
}

impl Bus {
    /// Connects, and has systemd send its signals.
    ///
    /// # Errors
    /// What the bus or systemd says.
    pub async fn connect() -> Result<(Bus, Ears), Refused> {
        let bus = Bus::reach().await?;
        let stream = MessageStream::from(&bus.connection);
        bus.listen(&format!("type='signal',sender='{SYSTEMD}',path='{MANAGER}',interface='{MANAGER_FACE}'"))
            .await?;
        bus.listen(&format!(
            "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{SYSTEMD}'"
        ))
        .await?;
        bus.manager("Subscribe", &()).await?;
        Ok((bus.clone(), Ears { bus, stream, watched: HashMap::new() }))
    }

    async fn reach() -> Result<Bus, Refused> {
        let connect =
            zbus::connection::Builder::system().max_queued(QUEUE).method_timeout(ANSWER_WITHIN).build();
        match tokio::time::timeout(ANSWER_WITHIN, connect).await {
            Ok(connected) => connected.map(|connection| Bus { connection }).map_err(refused),
            Err(_) => Err(Refused::passing("the system's bus does not answer".to_owned())),
        }
    }

    async fn listen(&self, rule: &str) -> Result<(), Refused> {
        let (bus, path) = ("org.freedesktop.DBus", "/org/freedesktop/DBus");
        self.call(bus, path, bus, "AddMatch", &rule).await.map(drop)
    }

    async fn manager<B: serde::Serialize + DynamicType>(
        &self,
        method: &str,
        body: &B,
    ) -> Result<Message, Refused> {
        self.call(SYSTEMD, MANAGER, MANAGER_FACE, method, body).await
    }

    async fn call<B: serde::Serialize + DynamicType>(
        &self,
        to: &str,
        path: &str,
        face: &str,
        method: &str,
        body: &B,
    ) -> Result<Message, Refused> {
        self.connection.call_method(Some(to), path, Some(face), method, body).await.map_err(refused)
    }

    /// Starts a unit: the number of its job.
    ///
    /// # Errors
    /// Where there is no such unit, it is masked, systemd does not take its file, or the machine goes down.
    pub async fn start(&self, unit: &str) -> Result<u32, Refused> {
        let reply = self.manager("StartUnit", &(unit, "replace")).await.map_err(|e| about(unit, e))?;
        job_of(&reply.body())
    }

    /// Stops a unit. `at_once`: whatever else is to be stopped before it.
    ///
    /// # Errors
    /// As [`Bus::start`].
    pub async fn stop(&self, unit: &str, at_once: bool) -> Result<(), Refused> {
        let mode = if at_once { "ignore-dependencies" } else { "replace" };
        self.manager("StopUnit", &(unit, mode)).await.map(drop)
    }

    /// Kills all processes of a unit.
    ///
    /// # Errors
    /// As [`Bus::start`]; also where it has none.
    pub async fn kill(&self, unit: &str) -> Result<(), Refused> {
        self.manager("KillUnit", &(unit, "all", nix::libc::SIGKILL)).await.map(drop)
    }

    /// Has systemd read all its files again.
    ///
    /// # Errors
    /// When it does not.
    pub async fn reload(&self) -> Result<(), Refused> {
        let reload = self.manager("Reload", &());
        match tokio::time::timeout(RELOAD_WITHIN, reload).await {
            Ok(done) => done.map(drop),
            Err(_) => Err(Refused::passing("systemd does not read its files again".to_owned())),
        }
    }

    /// The cgroup of a unit; empty where it has none.
    ///
    /// # Errors
    /// When systemd does not say.
    pub async fn cgroup(&self, unit: &str) -> Result<String, Refused> {
        let path = self.object(unit).await?;
        let reply =
            self.call(SYSTEMD, path.as_str(), PROPERTIES, "Get", &(SERVICE_FACE, "ControlGroup")).await?;
        let body = reply.body();
        match body.deserialize::<Variant<'_>>().map_err(refused)? {
            Variant::Str(text) => Ok(text.to_string()),
            _ => {
                Err(Refused::passing("systemd's answer is not understood: its cgroup is no text".to_owned()))
            }
        }
    }

    async fn object(&self, unit: &str) -> Result<OwnedObjectPath, Refused> {
        let reply = self.manager("LoadUnit", &unit).await?;
        reply.body().deserialize::<OwnedObjectPath>().map_err(refused)
    }

    async fn state(&self, unit: &str, path: &str) -> Result<Watched, Refused> {
        let mut state = State::default();
        let mut since = None;
        for face in [UNIT_FACE, SERVICE_FACE] {
            let reply = self.call(SYSTEMD, path, PROPERTIES, "GetAll", &face).await?;
            since.get_or_insert(reply.recv_position());
            let body = reply.body();
            take_all(&mut state, &body.deserialize::<HashMap<&str, Variant<'_>>>().map_err(refused)?);
        }
        Ok(Watched { unit: unit.to_owned(), state, since: since.unwrap_or_default() })
    }
}

impl Ears {
    /// From now on tells of this unit; how it is at this moment.
    ///
    /// # Errors
    /// When systemd does not say.
    pub async fn watch(&mut self, unit: &str) -> Result<State, Refused> {
        let path = self.bus.object(unit).await?;
        self.bus
            .listen(&format!(
                "type='signal',sender='{SYSTEMD}',path='{}',interface='{PROPERTIES}'",
                path.as_str()
            ))
            .await?;
        self.ask(unit, path.as_str()).await
    }

    /// How a unit that is watched is at this moment, all asked again.
    ///
    /// # Errors
    /// When systemd does not say.
    pub async fn ask_again(&mut self, unit: &str) -> Result<State, Refused> {
        // Its object may be gone where it was unloaded meanwhile.
        let path = self.bus.object(unit).await?;
        self.ask(unit, path.as_str()).await
    }

    async fn ask(&mut self, unit: &str, path: &str) -> Result<State, Refused> {
        let watched = self.bus.state(unit, path).await?;
        let state = watched.state.clone();
        self.watched.insert(path.to_owned(), watched);
        Ok(state)
    }

    /// How all that is watched is as far as it was told.
    pub fn states(&self) -> Vec<(String, State)> {
        self.watched.values().map(|watched| (watched.unit.clone(), watched.state.clone())).collect()
    }

    /// What comes next.
    pub async fn hear(&mut self) -> Heard {
        loop {
            let message = self.stream.next().await;
            if let Some(heard) = self.understand(message).await {
                return heard;
            }
        }
    }

    /// What has come already; none where nothing has.
    pub async fn heard_already(&mut self) -> Option<Heard> {
        loop {
            let message = self.stream.next().now_or_never()?;
            if let Some(heard) = self.understand(message).await {
                return Some(heard);
            }
        }
    }

    async fn understand(&mut self, message: Option<zbus::Result<Message>>) -> Option<Heard> {
        match message {
            Some(Ok(message)) if message.message_type() == Type::Signal => self.signal(&message).await,
            Some(Ok(_)) => None,
            Some(Err(e)) => Some(Heard::Gone { why: refused(e).reason }),
            None => Some(Heard::Gone { why: "the bus has hung up".to_owned() }),
        }
    }

    async fn signal(&mut self, message: &Message) -> Option<Heard> {
        let header = message.header();
        let body = message.body();
        match header.member()?.as_str() {
            "PropertiesChanged" => {
                let Watched { unit, state, since } = self.watched.get_mut(header.path()?.as_str())?;
                if message.recv_position() < *since {
                    return None;
                }
                let (face, changed, _) =
                    body.deserialize::<(&str, HashMap<&str, Variant<'_>>, Vec<&str>)>().ok()?;
                take_all(state, &changed);
                // The unit's own come after the service's: then all is of one moment.
                let is_whole = face == UNIT_FACE;
                is_whole.then(|| Heard::Is {
                    unit: unit.clone(),
                    state: Box::new(state.clone()),
                    anew: false,
                })
            }
            "JobNew" => {
                let (job, path, unit) = body.deserialize::<(u32, ObjectPath<'_>, &str)>().ok()?;
                self.is_watched(unit).then_some(())?;
                let what = ("org.freedesktop.systemd1.Job", "JobType");
                let get = self.bus.call(SYSTEMD, path.as_str(), PROPERTIES, "Get", &what);
                let reply = get.await.ok()?; // it may be over already
                let body = reply.body();
                let Variant::Str(kind) = body.deserialize::<Variant<'_>>().ok()? else { return None };
                Some(Heard::JobBegan { unit: unit.to_owned(), job, kind: kind.to_string() })
            }
            "JobRemoved" => {
                let (job, _, unit, result) = body.deserialize::<(u32, ObjectPath<'_>, &str, &str)>().ok()?;
                self.is_watched(unit).then_some(())?;
                Some(Heard::JobEnded { unit: unit.to_owned(), job, result: result.to_owned() })
            }
            "Reloading" => {
                let begins = body.deserialize::<bool>().ok()?;
                (!begins).then_some(Heard::Again)
            }
            "NameOwnerChanged" => {
                let (_, _, new) = body.deserialize::<(&str, &str, &str)>().ok()?;
                // The new one knows nothing of who wants to hear what.
                (!new.is_empty()).then(|| Heard::Gone { why: "systemd has begun anew".to_owned() })
            }
            _ => None,
        }
    }

    fn is_watched(&self, unit: &str) -> bool {
        self.watched.values().any(|watched| watched.unit == unit)
    }
}

fn take_all(state: &mut State, changed: &HashMap<&str, Variant<'_>>) {
    for (name, value) in changed {
        if let Some(fact) = fact(value) {
            state.take(name, fact);
        }
    }
}

fn fact(value: &Variant<'_>) -> Option<Fact> {
    Some(match value {
        Variant::Str(text) => Fact::Text(harmless(text)),
        Variant::U32(n) => Fact::Number((*n).into()),
        Variant::I32(n) => Fact::Number((*n).into()),
        Variant::Bool(flag) => Fact::Flag(*flag),
        Variant::Structure(job) => match job.fields().first()? {
            Variant::U32(n) => Fact::Number((*n).into()),
            _ => return None,
        },
        Variant::Array(array) => {
            let mut bytes = Vec::new();
            let mut texts = Vec::new();
            for item in array.iter() {
                match item {
                    Variant::U8(byte) => bytes.push(*byte),
                    Variant::Str(text) => texts.push(text.to_string()),
                    _ => return None,
                }
            }
            if texts.is_empty() { Fact::Bytes(bytes) } else { Fact::Texts(texts) }
        }
        _ => return None,
    })
}

/// The number at the end of a job's path.
fn job_of(body: &Body) -> Result<u32, Refused> {
    let path = body.deserialize::<ObjectPath<'_>>().map_err(refused)?;
    let number = path.as_str().rsplit('/').next().and_then(|number| number.parse().ok());
    number.ok_or_else(|| {
        Refused::passing(format!("systemd's answer is not understood: {} is no job", harmless(&path)))
    })
}

/// What others say, as anybody's terminal bears it.
fn harmless(text: &str) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let shown: String = chars.by_ref().take(LONGEST_SAID).collect();
    if chars.next().is_some() { shown + "…" } else { shown }
}

fn refused(e: zbus::Error) -> Refused {
    match &e {
        zbus::Error::MethodError(name, text, _) => named(name.as_str(), text.as_deref().unwrap_or_default()),
        zbus::Error::FDO(within) => match &**within {
            fdo::Error::ZBus(e) => refused(e.clone()),
            e => named(e.name().as_str(), e.description().unwrap_or_default()),
        },
        zbus::Error::InputOutput(e) if e.kind() == std::io::ErrorKind::TimedOut => {
            Refused::passing("systemd does not answer".to_owned())
        }
        zbus::Error::InputOutput(_)
        | zbus::Error::Connection(..)
        | zbus::Error::Handshake(_)
        | zbus::Error::Address(_) => Refused::passing(harmless(&format!("systemd is not reached: {e}"))),
        _ => Refused::passing(harmless(&format!("systemd's answer is not understood: {e}"))),
    }
}

/// An error by its name: systemd's own, and those of D-Bus.
fn named(name: &str, text: &str) -> Refused {
    let (name, text) = (name.rsplit('.').next().unwrap_or_default(), harmless(text));
    let (reason, passing) = match name {
        "TransactionIsDestructive" | "JobTypeNotApplicable" | "ShuttingDown" => (text, true),
        "ServiceUnknown" | "NameHasNoOwner" => (format!("systemd is not on the system's bus ({text})"), true),
        "NoReply" | "Timeout" | "TimedOut" | "Disconnected" | "LimitsExceeded" | "NoMemory" => {
            (format!("systemd does not answer: {text}"), true)
        }
        "AccessDenied" | "AuthFailed" | "InteractiveAuthorizationRequired" => {
            (format!("clusterd is not allowed to ask that of systemd, by D-Bus or polkit: {text}"), false)
        }
        _ if OF_UNITS.contains(&name) => (text, false),
        _ if text.is_empty() => (format!("systemd refuses it ({name})"), false),
        _ => (format!("systemd refuses it: {text} ({name})"), false),
    };
    Refused { name: name.to_owned(), reason, passing }
}

/// The names of what is wrong with a unit.
const OF_UNITS: [&str; 4] = ["UnitMasked", "NoSuchUnit", "BadUnitSetting", "LoadFailed"];

/// What is wrong with a unit, and what to type.
fn about(unit: &str, refused: Refused) -> Refused {
    let reason = match refused.name.as_str() {
        "UnitMasked" => format!("{unit} is masked: `systemctl unmask {unit}`"),
        "NoSuchUnit" => format!("there is no {unit} on this machine: is its package installed?"),
        "BadUnitSetting" | "LoadFailed" => {
            let text = &refused.reason;
            format!("systemd does not take the file of {unit} ({text}): `systemd-analyze verify {unit}`")
        }
        _ => refused.reason.clone(),
    };
    Refused { reason, ..refused }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_type() {
        let said = |name: &str, text: &str| about("redis-server.service", named(name, text)).reason;
        let of_systemd = |name: &str, text: &str| said(&format!("{SYSTEMD}.{name}"), text);
        assert!(
            of_systemd("UnitMasked", "Unit redis-server.service is masked.").contains("systemctl unmask")
        );
        assert!(of_systemd("NoSuchUnit", "Unit redis-server.service not found.").contains("package"));
        assert_eq!(
            of_systemd("BadUnitSetting", "has a bad unit file setting."),
            "systemd does not take the file of redis-server.service (has a bad unit file setting.): \
             `systemd-analyze verify redis-server.service`"
        );
        assert_eq!(said("org.example.Strange", "no"), "systemd refuses it: no (Strange)");
        assert_eq!(
            said("org.freedesktop.DBus.Error.AccessDenied", "no"),
            "clusterd is not allowed to ask that of systemd, by D-Bus or polkit: no"
        );
    }

    #[test]
    fn whatever_is_said_is_short_and_harmless() {
        assert_eq!(harmless("a\x1b[31mb"), "a [31mb");
        assert_eq!(harmless(&"é".repeat(LONGEST_SAID)), "é".repeat(LONGEST_SAID));
        assert_eq!(harmless(&"é".repeat(1 << 20)).chars().count(), LONGEST_SAID + 1);
    }
}
