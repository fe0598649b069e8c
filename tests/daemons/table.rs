//! What each script does and what we do, seen in trials and compared with the checked-in `table.md`.

use crate::kernel::{self, Process};
use crate::machine::{Disk, Ended, Machine, Run, wait};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::thread;

/// Daemons get numbers above this, out of the way of what a boot starts.
const NUMBERS: i32 = 20_000;

/// One daemon, as its own script and as a shipped unit run it.
struct Daemon {
    name: &'static str,
    /// Its unit, and the lines that `cluster.toml` sets in it.
    unit: &'static str,
    set: &'static str,
    /// The name that its processes go by.
    process: &'static str,
    /// Whether it serves.
    serves: &'static str,
    /// Written before the first start.
    files: &'static [(&'static str, &'static str)],
    /// Run once the daemon serves for the first time.
    prepare: &'static str,
    /// Where it leaves its number.
    pidfile: Option<&'static str>,
    /// Starts it first; as a rule also the script that is tried.
    script: (&'static str, &'static str),
}

/// What happens before the start that is tried.
#[derive(Clone, Copy)]
enum Left {
    /// All of it was killed with -9, and its number is free.
    Killed,
    /// Only the program of this name was killed with -9.
    WrapperKilled(&'static str),
    /// The power failed, and `/run` is empty.
    RunEmptied,
    /// The power failed, and a living program has its number: what it is called, and its command.
    Reused(&'static str, &'static str),
    /// The power failed before the pid file's content was on the disk.
    Empty,
}

const REDIS: Daemon = Daemon {
    name: "Redis",
    unit: "redis",
    set: "",
    process: "redis-server",
    serves: "redis-cli -p 6379 ping | grep -q PONG",
    files: &[("/opt/redis_init_script", CLASSIC_REDIS)],
    prepare: "",
    pidfile: Some("/run/redis/redis-server.pid"),
    script: ("`/etc/init.d/redis-server start`", "/etc/init.d/redis-server start"),
};

/// The rule of the script that comes with Redis: a file that is there is a server that runs.
const CLASSIC_REDIS: &str = "#!/bin/sh
PIDFILE=/run/redis/redis-server.pid
if [ -f $PIDFILE ]; then
    echo \"$PIDFILE exists, process is already running or crashed\"
else
    start-stop-daemon --start --chuid redis:redis --exec /usr/bin/redis-server -- /etc/redis/redis.conf
fi
";

const NGINX: Daemon = Daemon {
    name: "nginx",
    unit: "nginx",
    set: "",
    process: "nginx",
    serves: "timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/80; echo -e \"GET / HTTP/1.0\\n\" >&3; grep -q HTTP <&3'",
    files: &[("/etc/nginx/other.conf", "pid /run/other.pid; events {} http { server { listen 8080; } }\n")],
    prepare: "",
    pidfile: Some("/run/nginx.pid"),
    script: ("`/etc/init.d/nginx start`", "/etc/init.d/nginx start"),
};

const MARIADB: Daemon = Daemon {
    name: "MariaDB",
    unit: "mysql",
    set: "",
    process: "mariadbd",
    serves: "mariadb-admin --defaults-file=/etc/mysql/debian.cnf ping | grep -q alive",
    files: &[("/etc/clusterd/mysql.password", "a-password")],
    prepare: "mariadb -e \"CREATE USER clusterd@'%' IDENTIFIED BY 'a-password'\"",
    pidfile: Some("/run/mysqld/mysqld.pid"),
    script: ("`/etc/init.d/mariadb start`", "/etc/init.d/mariadb start"),
};

const POSTGRES: Daemon = Daemon {
    name: "PostgreSQL",
    unit: "postgres",
    set: "",
    process: "postgres",
    serves: "pg_isready -q -h 127.0.0.1",
    files: &[("/etc/clusterd/postgres.password", "a-password")],
    prepare: "cd / && setpriv --reuid=postgres --clear-groups psql -qc \"CREATE USER clusterd PASSWORD 'a-password'\" && \
              setpriv --reuid=postgres --clear-groups /usr/lib/postgresql/15/bin/initdb -N /var/lib/postgresql/15/other",
    pidfile: Some("/var/lib/postgresql/15/main/postmaster.pid"),
    script: ("`pg_ctlcluster start`", "pg_ctlcluster 15 main start"),
};

const KEEPALIVED: Daemon = Daemon {
    name: "keepalived",
    unit: "keepalived",
    set: "",
    process: "keepalived",
    serves: "test -e /run/keepalived.pid && ip -4 addr show eth0 | grep -q 10.0.0.100 && pgrep -x keepalived >/dev/null",
    files: &[("/etc/keepalived/keepalived.conf", KEEPALIVED_CONF)],
    prepare: "",
    pidfile: Some("/run/keepalived.pid"),
    script: ("`keepalived`", "keepalived"),
};

const KEEPALIVED_CONF: &str = "global_defs {
    vrrp_version 3
}
vrrp_instance www {
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority 150
    advert_int 0.1
    unicast_src_ip 10.0.0.1
    unicast_peer {
        10.0.0.2
    }
    virtual_ipaddress {
        10.0.0.100/24
    }
}
";

const ACTIVEMQ: Daemon = Daemon {
    name: "ActiveMQ",
    unit: "activemq",
    set: "",
    process: "java",
    serves: "timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/61616; head -c 13 <&3 | grep -q ActiveMQ'",
    files: &[("/etc/activemq/instances-enabled/main/activemq.xml", BROKER)],
    prepare: "",
    pidfile: Some("/run/activemq/main.pid"),
    script: ("`bin/activemq start`", START_ACTIVEMQ),
};

const START_ACTIVEMQ: &str = "install -d -o activemq /run/activemq /var/lib/activemq/main
export INSTANCE=main ACTIVEMQ_PIDFILE=/run/activemq/main.pid
export ACTIVEMQ_CONF=/etc/activemq/instances-enabled/main ACTIVEMQ_BASE=/var/lib/activemq/main
/usr/bin/activemq start xbean:activemq.xml";

const BROKER: &str = r#"<beans xmlns="http://www.springframework.org/schema/beans"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans-2.0.xsd
                      http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName="mq1" dataDirectory="${activemq.data}" useJmx="false"
          persistent="false" advisorySupport="false">
    <transportConnectors><transportConnector name="openwire" uri="tcp://127.0.0.1:61616"/></transportConnectors>
  </broker>
</beans>
"#;

const OFFICE: Daemon = Daemon {
    name: "LibreOffice",
    unit: "office",
    set: "",
    process: "soffice.bin",
    serves: "timeout 2 bash -c ': </dev/tcp/127.0.0.1/2002'",
    files: &[],
    prepare: "",
    pidfile: None,
    script: ("`soffice --headless`", START_OFFICE),
};

const START_OFFICE: &str = "install -d -o office /var/lib/office
cd / && HOME=/var/lib/office setsid setpriv --reuid=office --clear-groups soffice --headless --norestore \
    -env:UserInstallation=file:///var/lib/office \
    '--accept=socket,host=127.0.0.1,port=2002,tcpNoDelay=1;urp;StarOffice.ComponentContext' >/dev/null 2>&1 </dev/null &";

/// Any program, and others of the daemon's own kind.
const SLEEP: Left = Left::Reused("`sleep`", "sleep 1000000");
const OTHER_REDIS: Left = Left::Reused("another Redis", "redis-server --port 6380 --save ''");
const OTHER_NGINX: Left = Left::Reused("another nginx", "nginx -c /etc/nginx/other.conf -g 'daemon off;'");
/// PostgreSQL looks whether its own user's process has the number.
const SLEEP_AS_POSTGRES: Left =
    Left::Reused("its own user's `sleep`", "setpriv --reuid=postgres --clear-groups sleep 1000000");
const OTHER_POSTGRES: Left = Left::Reused(
    "another PostgreSQL",
    "setpriv --reuid=postgres --clear-groups /usr/lib/postgresql/15/bin/postgres -D /var/lib/postgresql/15/other \
     -p 5433 -k /tmp",
);
const OTHER_JAVA: Left = Left::Reused(
    "another Java program",
    "java -agentlib:jdwp=transport=dt_socket,server=y,suspend=y,address=127.0.0.1:5005 -version",
);

/// Further rows that only one daemon has.
type More = fn(&Daemon, &Disk, i32) -> Vec<Row>;

/// The daemons, each with what is left of it.
const TRIALS: &[(&Daemon, &[Left], More)] = &[
    (&REDIS, &[Left::Killed, Left::RunEmptied, SLEEP, OTHER_REDIS, Left::Empty], more_of_redis),
    (&MARIADB, &[Left::Killed, Left::RunEmptied, SLEEP], nothing_more),
    (
        &POSTGRES,
        &[Left::Killed, Left::RunEmptied, SLEEP_AS_POSTGRES, OTHER_POSTGRES, Left::Empty],
        nothing_more,
    ),
    (&NGINX, &[Left::Killed, SLEEP, OTHER_NGINX, Left::Empty], more_of_nginx),
    (&KEEPALIVED, &[Left::Killed, SLEEP, Left::Empty], nothing_more),
    (&ACTIVEMQ, &[Left::Killed, SLEEP, OTHER_JAVA, Left::Empty], nothing_more),
    (&OFFICE, &[Left::Killed, Left::WrapperKilled("oosplash")], nothing_more),
];

impl Daemon {
    /// A disk with the daemon's files on it, from which the power was cut while the daemon served; and the number
    /// that it had.
    fn cut_off(&self) -> (Disk, i32) {
        let machine = Machine::boot(&Disk::default(), Run::Kept);
        machine.must("useradd --system --home-dir /var/lib/office --no-create-home office");
        for (path, text) in self.files {
            machine.write(path, text);
        }
        machine.must("chmod -f 600 /etc/clusterd/*.password; true");
        self.write_cluster(&machine);
        machine.numbers_from(NUMBERS);
        let started = machine.run(self.script.1);
        self.wait_serves(&machine, &started);
        if !self.prepare.is_empty() {
            machine.must(self.prepare);
        }
        let number = match self.pidfile {
            Some(path) => {
                machine.read(path).and_then(|t| t.lines().next()?.parse().ok()).expect("a pid file")
            }
            None => machine.named(self.process)[0].own_pid,
        };
        (machine.power_cut(), number)
    }

    fn write_cluster(&self, machine: &Machine) {
        let Daemon { unit, set, .. } = self;
        machine.write(
            "/etc/clusterd/cluster.toml",
            &format!(
                "[cluster]\nname = \"trial\"\ninsecure = true\n\
                 [vips]\nwww = {{ address = \"10.0.0.100/24\", on = \"n1\", to = \"{unit}\", port = 80 }}\n\
                 [nodes]\nall = {{ n1 = \"127.0.0.1\" }}\n\
                 [services]\n{unit} = {{ on = \"n1\"{set} }}\n"
            ),
        );
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("units").join(format!("{unit}.toml"));
        let text = std::fs::read_to_string(shipped).expect("the shipped unit");
        machine.write(&format!("/etc/clusterd/units/{unit}.toml"), &text);
    }

    #[track_caller]
    fn wait_serves(&self, machine: &Machine, started: &Ended) {
        wait(&format!("{} serves", self.name), || {
            let asked = machine.run(self.serves);
            if asked.code == Some(0) { Ok(()) } else { Err(format!("{asked:?}; {started:?}")) }
        });
    }

    /// A machine on which that is left; with the stranger, if one lives.
    fn set_up(&self, disk: &Disk, number: i32, left: Left) -> (Machine, Option<Process>) {
        let kept = matches!(left, Left::Reused(..) | Left::Empty);
        let machine = Machine::boot(disk, if kept { Run::Kept } else { Run::Emptied });
        match left {
            Left::RunEmptied => {}
            Left::Killed => {
                let started = machine.run(self.script.1);
                self.wait_serves(&machine, &started);
                machine.kill_all();
            }
            Left::WrapperKilled(name) => {
                let started = machine.run(self.script.1);
                self.wait_serves(&machine, &started);
                machine.kill(name);
            }
            Left::Empty => drop(machine.must(&format!(": >{}", self.pidfile.expect("a pid file")))),
            Left::Reused(_, command) => {
                let stranger = machine.start_numbered(number, command);
                return (machine, Some(stranger));
            }
        }
        (machine, None)
    }

    /// What its own script does.
    fn start_by_script(&self, disk: &Disk, number: i32, left: Left, script: &str) -> String {
        let (machine, stranger) = self.set_up(disk, number, left);
        let before: BTreeSet<i32> = machine.processes().iter().map(|p| p.pid).collect();
        let ended = machine.run(script);
        // A look through /proc passes by one that forks and ends at that moment: nobody is there when several say so.
        let mut looks = 0;
        let serves = wait("the script's work comes to an end", || {
            // A stranger may have workers, which it starts in its own time.
            let mut new = machine.processes();
            let workers = stranger.as_ref().map(|s| kernel::children_of(s.pid as u32)).unwrap_or_default();
            new.retain(|p| !before.contains(&p.pid) && !workers.contains(&p.pid));
            looks = if new.is_empty() { looks + 1 } else { 0 };
            match machine.run(self.serves) {
                Ended { code: Some(0), .. } => Ok(true),
                _ if looks >= 5 => Ok(false),
                asked => Err(format!("{asked:?}; {ended:?}; {new:?}")),
            }
        });
        let serves = if serves { "serves" } else { "**does not serve**" };
        format!("{}, {serves}{}", code(&ended), fate(&machine, stranger.as_ref()))
    }

    /// What we do.
    fn start_by_us(&self, disk: &Disk, number: i32, left: Left) -> String {
        let (machine, stranger) = self.set_up(disk, number, left);
        machine.start_agent("");
        // A process that just begins or ends may block for a moment; only one of the daemon's own kind for good.
        let ends: &[&str] = match left {
            Left::Reused(_, command) if !command.starts_with("sleep") => &["ready", "blocked", "failed"],
            _ => &["ready", "failed"],
        };
        let state = self.wait_state(&machine, ends);
        let mut did: Vec<String> = machine.findings().iter().map(Finding::told).collect();
        if state == "ready" {
            self.wait_serves(&machine, &Ended { code: None, said: String::new() });
            let adopted = machine.events().iter().any(|e| e["what"] == "adopted");
            did.push(if adopted { "adopted, serves" } else { "serves" }.to_owned());
        } else {
            did.push(format!("**{state}**"));
        }
        format!("{}{}", did.join("; "), fate(&machine, stranger.as_ref()))
    }

    #[track_caller]
    fn wait_state(&self, machine: &Machine, wanted: &[&str]) -> String {
        wait(&format!("{} is {wanted:?}", self.name), || {
            let status = machine.clusterctl("status --json");
            let all: serde_json::Value = serde_json::from_str(&status.said).unwrap_or_default();
            let state = all["nodes"][0]["status"]["instances"][0]["state"].as_str().unwrap_or_default();
            let log = || machine.read("/var/log/clusterd.log").unwrap_or_default();
            if wanted.contains(&state) { Ok(state.to_owned()) } else { Err(format!("{status:?} {}", log())) }
        })
    }

    /// Both ways to stop it while its pid file names a stranger of its own kind.
    fn stops(&self, disk: &Disk, left: Left, script: (&'static str, &str)) -> Row {
        let Left::Reused(what, command) = left else { panic!("a stop needs a stranger") };
        let prepare = |machine: &Machine| {
            let mine: BTreeSet<i32> = machine.named(self.process).iter().map(|p| p.pid).collect();
            let stranger = machine.start_numbered(NUMBERS * 2, command);
            machine.write(self.pidfile.expect("a pid file"), &format!("{}\n", stranger.own_pid));
            (mine, stranger)
        };
        let lives = |machine: &Machine, mine: &BTreeSet<i32>| {
            machine.processes().iter().any(|p| mine.contains(&p.pid))
        };

        let machine = Machine::boot(disk, Run::Emptied);
        let started = machine.run(self.script.1);
        self.wait_serves(&machine, &started);
        let (mine, stranger) = prepare(&machine);
        let ended = machine.run(script.1);
        wait("somebody is stopped", || {
            let harmed = fate(&machine, Some(&stranger)) != LIVES;
            if harmed || !lives(&machine, &mine) { Ok(()) } else { Err(format!("{ended:?}")) }
        });
        let stopped = if lives(&machine, &mine) { "**still runs**" } else { "stops" };
        let script_did = format!("{}, {stopped}{}", code(&ended), fate(&machine, Some(&stranger)));
        drop(machine);

        let machine = Machine::boot(disk, Run::Emptied);
        machine.start_agent("");
        self.wait_state(&machine, &["ready"]);
        let (mine, stranger) = prepare(&machine);
        let ended = machine.clusterctl(&format!("stop {}@n1", self.unit));
        let stopped = if lives(&machine, &mine) { "**still runs**" } else { "stops" };
        let we_did = format!("{}, {stopped}{}", code(&ended), fate(&machine, Some(&stranger)));
        Row {
            daemon: self.name,
            left: format!("it runs, its file names {what}"),
            script: script.0,
            script_did,
            we_did,
        }
    }
}

impl Left {
    fn told(self) -> String {
        match self {
            Left::Killed => "killed with -9".into(),
            Left::WrapperKilled(name) => format!("only `{name}` killed with -9"),
            Left::RunEmptied => "power cut, `/run` emptied".into(),
            Left::Reused(what, _) => format!("power cut, its number is {what}'s"),
            Left::Empty => "power cut, its pid file is empty".into(),
        }
    }
}

/// A line of the table.
struct Row {
    daemon: &'static str,
    left: String,
    script: &'static str,
    script_did: String,
    we_did: String,
}

fn code(ended: &Ended) -> String {
    ended.code.map_or_else(|| "killed".to_owned(), |code| format!("exit {code}"))
}

const LIVES: &str = "; the stranger lives";

/// What became of a stranger, if there was one: it must be the very same process.
fn fate(machine: &Machine, stranger: Option<&Process>) -> &'static str {
    match stranger {
        None => "",
        Some(stranger)
            if machine.processes().iter().any(|p| (p.pid, p.started) == (stranger.pid, stranger.started)) =>
        {
            LIVES
        }
        Some(_) => "; **the stranger is dead**",
    }
}

/// A judgement as the agent has told it.
struct Finding {
    what: String,
    judgement: String,
}

impl Finding {
    fn told(&self) -> String {
        // A number that is judged is another one each time.
        let name = self.what.rsplit('/').next().unwrap_or_default();
        let name = name.split("_SingleOfficeIPC_").next().unwrap_or_default();
        let name = name.trim_end_matches(|c: char| c.is_ascii_digit());
        format!("{name} {}", self.judgement)
    }
}

impl Machine {
    /// The last judgement of each thing, in the order in which they were first judged.
    fn findings(&self) -> Vec<Finding> {
        let mut last: Vec<Finding> = Vec::new();
        for event in self.events().iter().filter(|e| e["data"]["judgement"].is_string()) {
            let text = |key: &str| event["data"][key].as_str().unwrap_or_default().to_owned();
            let found = Finding { what: text("what"), judgement: text("judgement") };
            match last.iter_mut().find(|f| f.what == found.what) {
                Some(earlier) => *earlier = found,
                None => last.push(found),
            }
        }
        last
    }
}

/// All trials of one daemon.
fn rows(daemon: &Daemon, trials: &[Left], more: More) -> Vec<Row> {
    let (disk, number) = daemon.cut_off();
    let row = |left: &Left| Row {
        daemon: daemon.name,
        left: left.told(),
        script: daemon.script.0,
        script_did: daemon.start_by_script(&disk, number, *left, daemon.script.1),
        we_did: daemon.start_by_us(&disk, number, *left),
    };
    let mut rows: Vec<Row> = trials.iter().map(row).collect();
    rows.extend(more(daemon, &disk, number));
    rows
}

fn nothing_more(_: &Daemon, _: &Disk, _: i32) -> Vec<Row> {
    Vec::new()
}

fn more_of_redis(daemon: &Daemon, disk: &Disk, number: i32) -> Vec<Row> {
    let classic = |left: Left| Row {
        daemon: daemon.name,
        left: left.told(),
        script: "`redis_init_script start`",
        script_did: daemon.start_by_script(disk, number, left, "sh /opt/redis_init_script"),
        we_did: daemon.start_by_us(disk, number, left),
    };
    let stop = ("`/etc/init.d/redis-server stop`", "/etc/init.d/redis-server stop");
    vec![classic(Left::Killed), classic(SLEEP), daemon.stops(disk, OTHER_REDIS, stop)]
}

fn more_of_nginx(daemon: &Daemon, disk: &Disk, _: i32) -> Vec<Row> {
    vec![daemon.stops(disk, OTHER_NGINX, ("`nginx -s stop`", "nginx -s stop"))]
}

#[test]
fn the_table_is_what_the_daemons_do() {
    let all: Vec<Row> = thread::scope(|scope| {
        let each =
            TRIALS.iter().map(|(daemon, trials, more)| scope.spawn(move || rows(daemon, trials, *more)));
        let each: Vec<_> = each.collect();
        each.into_iter().flat_map(|t| t.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
    });
    let mut text = String::from(HEAD);
    for Row { daemon, left, script, script_did, we_did } in all {
        let _ = writeln!(text, "| {daemon} | {left} | {script} | {script_did} | {we_did} |");
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemons/table.md");
    if std::env::var_os("RECORD").is_some_and(|v| v == "write") {
        std::fs::write(&file, &text).expect("the table");
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(text, kept, "RECORD=write cargo test --test daemons writes it anew");
}

const HEAD: &str = "# What the daemons' own scripts do, and what `clusterd` does

Written by `tests/daemons`, which does each of these with the real daemons (Debian 12) and the shipped units; a change of
either fails that test. *Serves* is the daemon's own answer. `stale` files were removed with a copy kept; in `doubt`
nothing was touched, and `blocked` ends by itself once the doubt does.

| daemon | what was left | its own way | does | `clusterd` does |
|---|---|---|---|---|
";
