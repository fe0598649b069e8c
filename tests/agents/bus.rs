//! A system bus of the test's own, and on it a stand-in of systemd: for what the real one never answers, and for a bus that
//! forbids. What the real one answers is in `tests/machines/answers.rs`.

use super::agents::{Cluster, wait};
use futures_util::StreamExt;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use tokio::runtime::Builder;
use zbus::message::{Header, Type};
use zbus::{Connection, Message, MessageStream, ObjectPath, Variant};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "/org/freedesktop/systemd1";
const FACE: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const NONE: Option<&str> = None;

/// A real dbus-daemon. Nobody may ask systemd to stop something there.
struct Bus(Child);

impl Bus {
    fn start(folder: &Path) -> Bus {
        let config = folder.join("bus.conf");
        let text = format!(
            "<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
             <policy context='default'><allow user='*'/><allow own='*'/><allow send_destination='*'/>\
             <allow receive_sender='*'/><deny send_destination='{SYSTEMD}' send_interface='{SYSTEMD}.Manager' send_member='StopUnit'/></policy>\
             </busconfig>",
            folder.join("bus").display()
        );
        fs::write(&config, text).unwrap();
        let daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--nopidfile", "--nosyslog"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon starts; run tests/install");
        let bus = Bus(daemon);
        wait("the bus", || folder.join("bus").exists().then_some(()));
        bus
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Says what it is told to say. It ends with its bus.
struct StandIn {
    /// Where the object of a unit is, it tells by a number.
    tells_numbers: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl StandIn {
    fn start(folder: &Path) -> StandIn {
        let tells_numbers = Arc::new(AtomicBool::new(true));
        let (address, numbers) =
            (format!("unix:path={}", folder.join("bus").display()), tells_numbers.clone());
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let connecting = zbus::connection::Builder::address(address.as_str()).build();
                let connection = connecting.await.unwrap();
                connection.request_name(SYSTEMD).await.unwrap();
                Told { numbers, running: HashMap::new(), job: 0 }.answer_all(connection).await;
            });
        });
        StandIn { tells_numbers, thread: Some(thread) }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let thread = self.thread.take().unwrap();
        if !std::thread::panicking() {
            thread.join().unwrap();
        }
    }
}

struct Told {
    numbers: Arc<AtomicBool>,
    /// The bytes of its invocation.
    running: HashMap<String, u8>,
    job: u8,
}

impl Told {
    async fn answer_all(mut self, connection: Connection) {
        let mut calls = MessageStream::from(&connection);
        while let Some(Ok(call)) = calls.next().await {
            if call.message_type() == Type::MethodCall {
                // One who has hung up is not answered.
                let _ = self.answer(&connection, &call).await;
            }
        }
    }

    async fn answer(&mut self, bus: &Connection, call: &Message) -> zbus::Result<()> {
        let header = call.header();
        let path = header.path().map_or("", |path| path.as_str()).to_owned();
        match header.member().map_or("", |member| member.as_str()) {
            "LoadUnit" if self.numbers.load(Ordering::Relaxed) => bus.reply(&header, &7u32).await,
            "LoadUnit" => {
                let unit = call.body().deserialize::<&str>()?.to_owned();
                let name = unit.strip_suffix(".service").unwrap();
                bus.reply(&header, &ObjectPath::try_from(format!("{MANAGER}/unit/{name}"))?).await
            }
            "GetAll" => {
                let body = call.body();
                let face: &str = body.deserialize()?;
                bus.reply(&header, &self.properties(&path, face)).await
            }
            "Get" => bus.reply(&header, &Variant::from("")).await,
            "StartUnit" => {
                let body = call.body();
                let (unit, _): (&str, &str) = body.deserialize()?;
                self.start(bus, &header, unit.strip_suffix(".service").unwrap()).await
            }
            "KillUnit" => {
                let body = call.body();
                let (unit, _, _): (&str, &str, i32) = body.deserialize()?;
                let name = unit.strip_suffix(".service").unwrap();
                self.running.remove(name);
                bus.reply(&header, &()).await?;
                self.tell_changes(bus, name).await
            }
            _ => bus.reply(&header, &()).await,
        }
    }

    async fn start(&mut self, bus: &Connection, call: &Header<'_>, name: &str) -> zbus::Result<()> {
        let error =
            |name: &'static str, text: String| async move { bus.reply_error(call, name, &text).await };
        match name {
            "denied" => {
                error(
                    "org.freedesktop.DBus.Error.AccessDenied",
                    "Access denied as the requested operation requires it".into(),
                )
                .await
            }
            "strange" => error("org.example.Strange", "it is Tuesday".into()).await,
            "wordless" => bus.reply_error(call, "org.example.Strange", &7u32).await,
            "endless" => error("org.example.Strange", "\u{1b}[31mno ".repeat(1 << 17)).await,
            "wrong" => bus.reply(call, &(1u32, "what?")).await,
            "nowhere" => bus.reply(call, &ObjectPath::try_from("/over/there")?).await,
            // It has read its files again, and before anybody asks how all is somebody else has cancelled the start.
            "cancelled" => {
                let job = self.take(bus, call).await?;
                bus.emit_signal(NONE, MANAGER, FACE, "Reloading", &true).await?;
                bus.emit_signal(NONE, MANAGER, FACE, "Reloading", &false).await?;
                let ended = (u32::from(self.job), &job, format!("{name}.service"), "canceled");
                bus.emit_signal(NONE, MANAGER, FACE, "JobRemoved", &ended).await
            }
            _ => {
                let job = self.take(bus, call).await?;
                self.running.insert(name.to_owned(), self.job);
                // Nobody's signals, and then its own.
                let unit = format!("{MANAGER}/unit/{name}");
                bus.emit_signal(NONE, unit.as_str(), PROPERTIES, "PropertiesChanged", &"all of them").await?;
                bus.emit_signal(NONE, MANAGER, FACE, "JobRemoved", &(7u32, "what?")).await?;
                bus.emit_signal(NONE, MANAGER, FACE, "Reloading", &"perhaps").await?;
                bus.emit_signal(NONE, MANAGER, FACE, "Unheard", &()).await?;
                self.tell_changes(bus, name).await?;
                let ended = (u32::from(self.job), &job, format!("{name}.service"), "done");
                bus.emit_signal(NONE, MANAGER, FACE, "JobRemoved", &ended).await
            }
        }
    }

    /// Takes a start, as a job.
    async fn take(&mut self, bus: &Connection, call: &Header<'_>) -> zbus::Result<ObjectPath<'static>> {
        self.job += 1;
        let job = ObjectPath::try_from(format!("{MANAGER}/job/{}", self.job))?;
        bus.reply(call, &job).await?;
        Ok(job)
    }

    async fn tell_changes(&self, bus: &Connection, name: &str) -> zbus::Result<()> {
        let path = format!("{MANAGER}/unit/{name}");
        for face in ["org.freedesktop.systemd1.Service", "org.freedesktop.systemd1.Unit"] {
            let changed = (face, self.properties(&path, face), Vec::<&str>::new());
            bus.emit_signal(NONE, path.as_str(), PROPERTIES, "PropertiesChanged", &changed).await?;
        }
        Ok(())
    }

    fn properties(&self, path: &str, face: &str) -> HashMap<&'static str, Variant<'static>> {
        let name = path.rsplit('/').next().unwrap();
        let invocation = self.running.get(name).map_or(vec![], |byte| vec![*byte; 16]);
        let runs = !invocation.is_empty();
        if face.ends_with(".Unit") {
            return HashMap::from([
                ("LoadState", "loaded".into()),
                ("ActiveState", if runs { "active" } else { "inactive" }.into()),
                ("SubState", if runs { "running" } else { "dead" }.into()),
                ("InvocationID", invocation.into()),
                ("ConditionResult", true.into()),
            ]);
        }
        // Of other types than it has, and larger than any status.
        HashMap::from([
            ("Type", 7u32.into()),
            ("MainPID", "init".into()),
            ("Result", vec!["success"].into()),
            ("StatusText", "\u{1b}[31mserves ".repeat(1 << 17).into()),
        ])
    }
}

/// An instance, and what is to be said of its start.
const REFUSED: &[(&str, &str)] = &[
    (
        "denied",
        "clusterd is not allowed to ask that of systemd, by D-Bus or polkit: Access denied as the requested operation \
         requires it",
    ),
    ("strange", "systemd refuses it: it is Tuesday (Strange)"),
    ("wordless", "systemd refuses it (Strange)"),
    (
        "wrong",
        "systemd's answer is not understood: Signature mismatch: got `(us)`, expected `o`; no fault of its own, so it is \
         not counted",
    ),
    (
        "nowhere",
        "systemd's answer is not understood: /over/there is no job; no fault of its own, so it is not counted",
    ),
    ("cancelled", "somebody else cancelled its start, or ordered its stop"),
];

/// A text that goes on and on, as it is shown.
fn shown(text: &str) -> String {
    text.repeat(300).chars().take(300).collect::<String>() + "…"
}

#[test]
fn what_the_bus_forbids_and_what_no_systemd_would_answer_is_told_in_a_sentence() {
    let mut cluster = Cluster::new("bus");
    let names: Vec<&str> = REFUSED.iter().map(|(name, _)| *name).chain(["endless", "odd"]).collect();
    let services: String = names.iter().map(|name| format!("{name} = {{ on = \"n1\" }}\n")).collect();
    let file = format!(
        "[cluster]\nname = \"NAME\"\ninsecure = true\n[nodes]\nall = {{ n1 = \"A1\" }}\n[services]\n{services}"
    );
    let unit = |name: &str| {
        format!("[run]\nkind = \"systemd\"\nunit = \"{name}.service\"\n[stop]\ntimeout = \"1s\"\n")
    };
    let units: Vec<(&str, String)> = names.iter().map(|name| (*name, unit(name))).collect();
    cluster.write(&file, &units.iter().map(|(name, text)| (*name, text.as_str())).collect::<Vec<_>>());

    // What is added to units goes to a folder that nobody else sees.
    let agent = cluster.agent("n1");
    let mut apart = Command::new("unshare");
    apart.args(["--mount", "sh", "-c", "mount -t tmpfs none /run && exec \"$@\"", "sh"]);
    apart.arg(agent.get_program()).args(agent.get_args());
    apart.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", cluster.dir().join("bus").display()));
    cluster.start_as("n1", apart);

    // No bus, nobody on it, somebody who says nonsense, and systemd as we know it.
    let wait_told = |cluster: &Cluster, said: &str| {
        let problem = format!("what systemd runs is as it was last heard of: {said}");
        wait(said, || cluster.node_status("n1")?.problems.contains(&problem).then_some(()));
    };
    let no_bus = format!(
        "systemd is not reached: failed to connect to `unix:path={}`: No such file or directory (os error 2)",
        cluster.dir().join("bus").display()
    );
    wait_told(&cluster, &no_bus);
    let bus = Bus::start(cluster.dir());
    wait_told(
        &cluster,
        "systemd is not on the system's bus (The name org.freedesktop.systemd1 was not provided by any .service files)",
    );
    let systemd = StandIn::start(cluster.dir());
    wait_told(&cluster, "systemd's answer is not understood: Signature mismatch: got `u`, expected `o`");
    systemd.tells_numbers.store(false, Ordering::Relaxed);
    wait("it to be heard", || cluster.node_status("n1")?.problems.is_empty().then_some(()));

    let told = |cluster: &Cluster, name: &str, said: &str| {
        wait(said, || {
            let events = cluster.ctl("n1", &["events", &format!("{name}@n1")]).out;
            events.contains(said).then_some(events)
        })
    };
    for (name, said) in REFUSED {
        told(&cluster, name, &format!("{name}@n1  backoff: cannot be started: {said}; next start in "));
    }
    let said = shown(" [31mno ");
    told(
        &cluster,
        "endless",
        &format!(
            "endless@n1  backoff: cannot be started: systemd refuses it: {said} (Strange); next start in "
        ),
    );

    // One whose properties are of other types than theirs runs all the same, and what it says is short.
    let view = wait("it to be ready", || {
        cluster.in_state("n1", "odd@n1", "ready")?;
        cluster.view("n1", "odd@n1")
    });
    assert_eq!(view["reason"], shown(" [31mserves "), "{view}");
    // The bus lets nobody stop it; it is killed when its time is over.
    let stop = cluster.ctl("n1", &["stop", "odd@n1"]);
    assert_eq!(stop.code, 0, "{stop:?}");
    let said = "odd@n1  stop-refused: systemd does not stop odd.service: clusterd is not allowed to ask that of systemd, by \
                D-Bus or polkit: Rejected send message, ";
    told(&cluster, "odd", said);
    told(&cluster, "odd", "odd@n1  stopped: ");

    drop(bus);
    wait_told(
        &cluster,
        &no_bus.replace("No such file or directory (os error 2)", "Connection refused (os error 111)"),
    );
}
