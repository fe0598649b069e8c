//! ActiveMQ Classic: alone, and two on one store in MariaDB.

use super::mariadb::MariaDb;
use super::*;
use clusterd::model::{BrokerAsk, StoreAsk};

const POOL: &str = "/usr/share/activemq/lib/optional/commons-dbcp.jar";
const DRIVER: &str = "/usr/share/java/mariadb-java-client.jar";

struct Broker {
    dir: TempDir,
    address: SocketAddr,
    stomp: SocketAddr,
}

impl Broker {
    fn new() -> Broker {
        let dir = tempfile::tempdir().unwrap();
        Broker { dir, address: free_address(), stomp: free_address() }
    }

    fn at(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// `store` is what goes into the broker, `beans` what goes beside it.
    fn start(&self, name: &str, store: &str, beans: &str) -> Daemon {
        let Broker { address, stomp, .. } = self;
        let persistent = !store.is_empty();
        let text = format!(
            r#"<beans xmlns="http://www.springframework.org/schema/beans"
                 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="
                   http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans-2.0.xsd
                   http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
                 <broker xmlns="http://activemq.apache.org/schema/core" brokerName="{name}" persistent="{persistent}"
                     useJmx="false" dataDirectory="{data}">{store}
                   <transportConnectors>
                     <transportConnector name="openwire" uri="tcp://{address}"/>
                     <transportConnector name="stomp" uri="stomp://{stomp}"/>
                   </transportConnectors>
                 </broker>{beans}</beans>"#,
            data = self.at("data"),
        );
        std::fs::write(self.at("activemq.xml"), text).unwrap();
        let log4j = format!(
            "log4j.rootLogger=INFO, f\nlog4j.appender.f=org.apache.log4j.FileAppender\nlog4j.appender.f.file={}\n\
             log4j.appender.f.layout=org.apache.log4j.PatternLayout\n\
             log4j.appender.f.layout.ConversionPattern=%p %m%n\n",
            self.at("log")
        );
        std::fs::write(self.at("log4j.properties"), log4j).unwrap();
        Daemon::start(
            Command::new("java")
                .args(["-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
                .arg("-Dactivemq.home=/usr/share/activemq")
                .arg(format!("-Dlog4j.configuration=file:{}", self.at("log4j.properties")))
                .arg(format!("-Dactivemq.base={}", self.dir.path().display()))
                .arg(format!("-Dactivemq.classpath={DRIVER}:{POOL}"))
                .arg(format!("-Djava.io.tmpdir={}", self.dir.path().display()))
                .args(["-jar", "/usr/share/activemq/bin/activemq.jar", "start"])
                .arg(format!("xbean:file:{}", self.at("activemq.xml"))),
        )
    }

    fn question(&self) -> Ask {
        Ask::Activemq { address: self.address, also: BrokerAsk::default() }
    }

    fn with_its_store(&self, login: Option<Login>) -> Ask {
        let also = BrokerAsk { store: Some(StoreAsk { login }), ..BrokerAsk::default() };
        Ask::Activemq { address: self.address, also }
    }

    /// Debian's ActiveMQ has no AMQP, and an MQTT that lacks its libraries.
    fn in_stomp_too(&self) -> Ask {
        let also = BrokerAsk { stomp: Some(self.stomp.port()), ..BrokerAsk::default() };
        Ask::Activemq { address: self.address, also }
    }

    fn complaints(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.at("log")).unwrap();
        log.lines().filter(|l| l.contains("Transport Connection")).map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn activemq_introduces_itself_and_complains_of_nothing() {
    let mq = Broker::new();
    let address = mq.address;
    let mut broker = mq.start("mq1", "", "");
    let up = until(mq.question(), Verdict::is_ready).await;
    assert_eq!(up.to_string(), "ready (broker mq1)");
    assert!(identity(&up).starts_with("ID:"), "{up:?}");
    let all = until(mq.in_stomp_too(), Verdict::is_ready).await;
    assert_eq!(all.to_string(), "ready (broker mq1, STOMP)");
    for _ in 0..20 {
        assert_eq!(ask(mq.question()).await, up);
        assert_eq!(ask(mq.in_stomp_too()).await, all);
    }
    let nothing = free_address();
    let amqp = BrokerAsk { amqp: Some(nothing.port()), ..BrokerAsk::default() };
    let reason = format!("it greets in OpenWire, but not in AMQP: connection refused by {nothing}");
    not_ready(ask(Ask::Activemq { address, also: amqp }).await, Trouble::Declined, reason);

    broker.signal(Signal::SIGSTOP);
    let reason = format!("{address} accepts the connection and says nothing within 3 s");
    not_ready(ask(mq.question()).await, Trouble::Silent, reason);
    broker.signal(Signal::SIGCONT);
    assert_eq!(until(mq.question(), Verdict::is_ready).await, up);
    // Its last words are in the log once it has ended.
    broker.signal(Signal::SIGTERM);
    let begun = Instant::now();
    broker.child.wait().unwrap();
    assert!(begun.elapsed() < PATIENCE);
    assert!(std::fs::read_to_string(mq.at("log")).unwrap().contains("mq1"));
    assert_eq!(mq.complaints(), [""; 0]);
}

#[tokio::test]
async fn of_two_brokers_on_one_database_the_slave_keeps_its_port_closed_until_it_is_the_master() {
    let db = MariaDb::install();
    let database = db.start();
    until(db.question("secret"), Verdict::is_ready).await;
    db.sql("CREATE DATABASE mq; GRANT ALL ON mq.* TO probe@'127.0.0.1'");
    let store = r##"<persistenceAdapter>
        <jdbcPersistenceAdapter dataSource="#store" lockKeepAlivePeriod="1000">
          <locker><lease-database-locker lockAcquireSleepInterval="3000"/></locker>
        </jdbcPersistenceAdapter>
      </persistenceAdapter>"##;
    let beans = format!(
        r#"<bean id="store" class="org.apache.commons.dbcp.BasicDataSource" destroy-method="close">
             <property name="driverClassName" value="org.mariadb.jdbc.Driver"/>
             <property name="url" value="jdbc:mariadb://{}/mq"/>
             <property name="username" value="probe"/><property name="password" value="secret"/>
           </bean>"#,
        db.address
    );
    let (first, second) = (Broker::new(), Broker::new());
    let master = first.start("mq1", store, &beans);
    let up = until(first.question(), Verdict::is_ready).await;
    assert_eq!(up.to_string(), "ready (broker mq1)");

    let slave = second.start("mq2", store, &beans);
    let waits = || std::fs::read_to_string(second.at("log")).unwrap_or_default();
    let begun = Instant::now();
    while !waits().contains("attempting to acquire exclusive lease") {
        assert!(begun.elapsed() < PATIENCE, "{}", waits());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let closed = format!("connection refused by {}", second.address);
    not_ready(ask(second.question()).await, Trouble::Refused, closed);

    // Its greeting says nothing of the database, the store does.
    assert_eq!(ask(first.with_its_store(None)).await.to_string(), "ready (broker mq1, its store answers)");
    database.signal(Signal::SIGSTOP);
    let hangs = ask(first.with_its_store(None)).await;
    let silent = format!("{} greets, but its store does not answer within 3 s", first.address);
    not_ready(hangs, Trouble::Silent, silent);
    database.cut();
    let lost = format!("{} greets, but its store does not answer: ", first.address);
    let says = |verdict: &Verdict| matches!(verdict, Verdict::NotReady { kind: Trouble::Declined, reason } if reason.starts_with(&lost));
    let said = until(first.with_its_store(None), says).await;
    assert_eq!(ask(first.question()).await, up, "an open port lies, and so does a greeting: {said}");
    let again = db.start();
    let back = until(first.with_its_store(None), Verdict::is_ready).await;
    assert_eq!(back.to_string(), "ready (broker mq1, its store answers)");

    master.cut();
    let took = until(second.question(), Verdict::is_ready).await;
    assert_eq!(took.to_string(), "ready (broker mq2)");
    assert_ne!(identity(&took), identity(&up));
    drop((slave, again));
}

/// The lock is a file in the shared folder, which the kernel frees when its holder dies.
#[tokio::test]
async fn of_two_brokers_on_one_folder_the_slave_keeps_its_port_closed_until_it_is_the_master() {
    let shared = tempfile::tempdir().unwrap();
    let store = format!(
        r#"<persistenceAdapter><kahaDB directory="{}" journalMaxFileLength="1mb" lockKeepAlivePeriod="1000">
             <locker><shared-file-locker lockAcquireSleepInterval="1000"/></locker></kahaDB></persistenceAdapter>"#,
        shared.path().display()
    );
    let (first, second) = (Broker::new(), Broker::new());
    let master = first.start("mq1", &store, "");
    let up = until(first.with_its_store(None), Verdict::is_ready).await;
    assert_eq!(up.to_string(), "ready (broker mq1, its store answers)");
    let slave = second.start("mq2", &store, "");
    let waits = || std::fs::read_to_string(second.at("log")).unwrap_or_default();
    let begun = Instant::now();
    while !waits().contains("now in slave mode") {
        assert!(begun.elapsed() < PATIENCE, "{}", waits());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let closed = format!("connection refused by {}", second.address);
    not_ready(ask(second.question()).await, Trouble::Refused, closed);
    master.cut();
    let took = until(second.with_its_store(None), Verdict::is_ready).await;
    assert_eq!(took.to_string(), "ready (broker mq2, its store answers)");
    drop(slave);
}

/// A broker that asks for a login lets the store be asked by who may make queues.
#[tokio::test]
async fn a_broker_with_users_tells_who_may_not_ask_its_store() {
    let mq = Broker::new();
    let plugins = r#"<plugins>
        <simpleAuthenticationPlugin><users>
          <authenticationUser username="probe" password="of its own" groups="probes"/>
          <authenticationUser username="guest" password="nothing" groups="guests"/>
        </users></simpleAuthenticationPlugin>
        <authorizationPlugin><map><authorizationMap><authorizationEntries>
          <authorizationEntry queue=">" read="probes" write="probes" admin="probes"/>
          <authorizationEntry topic=">" read="probes,guests" write="probes,guests" admin="probes,guests"/>
        </authorizationEntries></authorizationMap></map></authorizationPlugin>
      </plugins>"#;
    let _broker = mq.start("mq1", plugins, "");
    let address = mq.address;
    let up = until(mq.question(), Verdict::is_ready).await;
    assert_eq!(up.to_string(), "ready (broker mq1)", "the greeting needs no login");
    let dir = tempfile::tempdir().unwrap();
    let probe = |password: &str| Some(login(dir.path(), "probe", password));
    let ready = ask(mq.with_its_store(probe("of its own"))).await;
    assert_eq!(ready.to_string(), "ready (broker mq1, its store answers)");
    let wrong = ask(mq.with_its_store(probe("guessed"))).await;
    let reason =
        format!("{address} greets, but refuses the login of probe: User name [probe] or password is invalid");
    not_ready(wrong, Trouble::Denied, reason);
    let nobody = ask(mq.with_its_store(None)).await;
    let reason = format!(
        "{address} greets, but asks for a login, and none is given: User name [null] or password is invalid"
    );
    not_ready(nobody, Trouble::Denied, reason);
    let guest = ask(mq.with_its_store(Some(login(dir.path(), "guest", "nothing")))).await;
    let Verdict::NotReady { kind: Trouble::Denied, reason } = guest else { panic!("{guest:?}") };
    let begin = format!(
        "{address} greets, but its store cannot be asked without the right to make queues: User guest is not \
         authorized to create: queue://clusterd"
    );
    assert!(reason.starts_with(&begin), "{reason}");
}
