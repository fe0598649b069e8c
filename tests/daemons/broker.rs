//! The shipped unit of ActiveMQ with its messages in MariaDB: who stands by, and what is seen of a lost database.

use crate::machine::{Disk, Machine, Run, wait};
use crate::steady::steady;
use serde_json::Value;
use std::path::Path;

/// Two nodes on this machine, and the database outside the cluster, where nobody starts it again.
const CLUSTER: &str = r#"[cluster]
name = "brokers"
insecure = true
[nodes]
mq = { n1 = "127.0.0.1", n2 = "127.0.0.2" }
[services.activemq]
on = "mq"
needs.database = "any"
at.n2.set.instance_name = "second"
[external.database]
address = "127.0.0.1"
probe = { kind = "mysql", port = 3306, user = "clusterd", password_file = "/etc/clusterd/mysql.password" }
every = "1s"
"#;

fn broker(name: &str, address: &str) -> String {
    format!(
        r##"<beans xmlns="http://www.springframework.org/schema/beans"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans-2.0.xsd
                      http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName="{name}" dataDirectory="${{activemq.data}}" useJmx="false"
          advisorySupport="false">
    <persistenceAdapter>
      <jdbcPersistenceAdapter dataSource="#store" lockKeepAlivePeriod="5000">
        <locker><lease-database-locker lockAcquireSleepInterval="10000" maxAllowableDiffFromDBTime="1000"/></locker>
      </jdbcPersistenceAdapter>
    </persistenceAdapter>
    <transportConnectors><transportConnector name="openwire" uri="tcp://{address}:61616"/></transportConnectors>
  </broker>
  <bean id="store" class="org.apache.commons.dbcp.BasicDataSource" destroy-method="close">
    <property name="driverClassName" value="org.mariadb.jdbc.Driver"/>
    <property name="url" value="jdbc:mariadb://127.0.0.1:3306/mq"/>
    <property name="username" value="clusterd"/><property name="password" value="a-password"/>
  </bean>
</beans>
"##
    )
}

/// A machine with a database that runs, and brokers that have never run.
fn machine() -> Machine {
    let machine = Machine::boot(&Disk::default(), Run::Emptied);
    machine.write("/etc/clusterd/mysql.password", "a-password");
    machine.write("/etc/clusterd/cluster.toml", CLUSTER);
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("units/activemq.toml");
    machine.write("/etc/clusterd/units/activemq.toml", &std::fs::read_to_string(shipped).expect("the unit"));
    for (folder, name, address) in [("main", "mq1", "127.0.0.1"), ("second", "mq2", "127.0.0.2")] {
        let file = format!("/etc/activemq/instances-enabled/{folder}/activemq.xml");
        machine.write(&file, &broker(name, address));
        machine.must(&format!("install -d -o activemq /var/lib/activemq/{folder}"));
    }
    machine.must("chmod 600 /etc/clusterd/mysql.password; install -d -o mysql /run/mysqld");
    start_database(&machine);
    machine.must(
        "mariadb -e \"CREATE DATABASE mq; CREATE USER clusterd@localhost IDENTIFIED BY 'a-password'; \
         GRANT ALL ON mq.* TO clusterd@localhost\"",
    );
    machine
}

/// Without the wrapper that would start it again.
fn start_database(machine: &Machine) {
    machine.must("setsid mariadbd --user=mysql >/dev/null 2>&1 </dev/null &");
    wait("the database answers", || {
        let asked = machine.run("mariadb-admin --defaults-file=/etc/mysql/debian.cnf ping");
        if asked.code == Some(0) { Ok(()) } else { Err(format!("{asked:?}")) }
    });
}

/// Waits until the operator's tool prints exactly this, but for times and process numbers, and for how wide its columns are.
#[track_caller]
fn says(machine: &Machine, words: &str, expected: &str) {
    wait(&format!("{words} says {expected}"), || {
        let said = steady(&machine.clusterctl(words).said);
        if said == expected { Ok(()) } else { Err(said) }
    });
}

/// Which of the brokers serves, and on which address, while the other stands by.
fn serving(machine: &Machine) -> (&'static str, &'static str, &'static str) {
    wait("one serves and the other stands by", || {
        let status = machine.clusterctl("status --json").said;
        let all: Value = serde_json::from_str(&status).unwrap_or_default();
        let of = |n: usize| all["nodes"][n]["status"]["instances"][0]["state"].as_str().unwrap_or_default();
        match (of(0), of(1)) {
            ("ready", "standby") => Ok(("activemq@n1", "n1", "127.0.0.1")),
            ("standby", "ready") => Ok(("activemq@n2", "n2", "127.0.0.2")),
            _ => Err(status),
        }
    })
}

#[test]
fn the_shipped_broker_is_seen_to_have_lost_its_database_and_the_other_stands_by() {
    let machine = machine();
    machine.start_agent("");
    let alone = "activemq@n1 is ready for N broker mq1, its store answers";
    says(&machine, "why activemq@n1", alone);
    machine.start_agent_of("n2", "2", "");
    says(
        &machine,
        "status",
        "brokers: all 2 up (1 standing by)\n\
         GROUP INSTANCE STATE FOR PID\n\
         mq activemq@n1 ready N broker mq1, its store answers\n\
         activemq@n2 standby N activemq@n1 serves; this one is alive and waits for its turn\n\
         Outside the cluster\n\
         database: ready from 2 nodes",
    );
    let waits = "activemq@n2 is standby for N activemq@n1 serves; this one is alive and waits for its turn";
    says(&machine, "why activemq@n2", waits);
    says(
        &machine,
        "probe activemq@n1",
        "ready (broker mq1, its store answers)\n\
         it means: this broker reaches its store, and serves\n\
         asked: activemq at 127.0.0.1:61616, from n1",
    );
    says(
        &machine,
        "probe activemq@n2 --from n1",
        "connection refused by 127.0.0.2:61616\n\
         it means: the machine is up and nothing listens there: the broker does not run, or it stands by, healthy, \
         with its port closed until it gets the store's lock\n\
         asked: activemq at 127.0.0.2:61616, from n1",
    );

    // Its database hangs: the broker's port is open, and it greets.
    machine.must("pkill -STOP -x mariadbd");
    says(
        &machine,
        "probe activemq@n1",
        "127.0.0.1:61616 greets, but its store does not answer within 2 s\n\
         it means: the broker hangs, or its store does (a database, on JDBC), however open its port is\n\
         asked: activemq at 127.0.0.1:61616, from n1",
    );
    machine.must("pkill -CONT -x mariadbd");

    // It is gone, which the agents know by themselves, too.
    let (master, node, address) = serving(&machine);
    machine.kill("mariadbd");
    let lost = format!(
        "{address}:61616 greets, but its store does not answer: Could not connect to \
         address=(host=127.0.0.1)(port=3306)(type=master) : Socket fail to connect to ho…"
    );
    let outside = |node: &str| {
        format!("database: it is outside the cluster, and {node} hears: connection refused by 127.0.0.1:3306")
    };
    let held_up = "holds up 2: activemq@n1, activemq@n2";
    says(
        &machine,
        &format!("status {master}"),
        &format!(
            "brokers: 0 of 1 up; 1 unready\n\
             Root causes\n{}; {held_up}\n{}; {held_up}\n\
             GROUP INSTANCE STATE FOR PID\n\
             mq {master} unready N {lost}; need database lost for N kept running\n\
             Outside the cluster\n\
             database: from {node} for N connection refused by 127.0.0.1:3306\n\
             hint: clusterctl why {master}\n\
             hint: clusterctl probe database --from n1\n\
             hint: clusterctl probe database --from n2",
            outside("n1"),
            outside("n2"),
        ),
    );
    says(
        &machine,
        &format!("why {master}"),
        &format!(
            "{master} is unready for N {lost}\n\
             needs database (any, 0 of 1) for N\n\
             database: from {node} for N connection refused by 127.0.0.1:3306\n\
             {}\n\
             2 root causes\n\
             {master}: unready for N {lost}\n\
             {}\n\
             hint: clusterctl events {master}\n\
             hint: clusterctl probe database --from {node}",
            outside(node).trim_start_matches("database: "),
            outside(node),
        ),
    );
    // It is back: whoever has the lease serves.
    start_database(&machine);
    serving(&machine);
    let stopped: Vec<Value> = machine.events().into_iter().filter(|e| e["what"] == "stopping").collect();
    assert_eq!(stopped, [Value::Null; 0], "what lost its need is left alone, unless its unit says otherwise");
}
