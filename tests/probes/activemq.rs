//! ActiveMQ Classic: alone, and two on one store in MariaDB.

use super::mariadb::MariaDb;
use super::*;
use clusterd::model::{BrokerAsk, Jolokia, StoreAsk};
use std::io::{Read, Write};

const POOL: &str = "/usr/share/activemq/lib/optional/commons-dbcp.jar";
const DRIVER: &str = "/usr/share/java/mariadb-java-client.jar";
/// What MQTT needs, and a Jolokia in the broker itself, on Jetty: ActiveMQ's web console is that and some pages, but Debian
/// has left it out.
const LIBRARIES: [&str; 13] = [
    "mqtt-client",
    "hawtbuf",
    "hawtdispatch",
    "hawtdispatch-transport",
    "jolokia-core",
    "json-simple",
    "servlet-api",
    "jetty9-server",
    "jetty9-servlet",
    "jetty9-security",
    "jetty9-http",
    "jetty9-io",
    "jetty9-util",
];

struct Broker {
    dir: TempDir,
    address: SocketAddr,
    stomp: SocketAddr,
    mqtt: SocketAddr,
}

impl Broker {
    fn new() -> Broker {
        let dir = tempfile::tempdir().unwrap();
        Broker { dir, address: free_address(), stomp: free_address(), mqtt: free_address() }
    }

    fn at(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// `store` is what goes into the broker, `beans` what goes beside it.
    fn start(&self, name: &str, store: &str, beans: &str) -> Daemon {
        let Broker { address, stomp, mqtt, .. } = self;
        let persistent = !store.is_empty();
        let libraries = LIBRARIES.map(|name| format!("/usr/share/java/{name}.jar")).join(":");
        let text = format!(
            r#"<beans xmlns="http://www.springframework.org/schema/beans"
                 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="
                   http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans-2.0.xsd
                   http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
                 <broker xmlns="http://activemq.apache.org/schema/core" brokerName="{name}" persistent="{persistent}"
                     useJmx="{managed}" dataDirectory="{data}">{store}
                   <managementContext><managementContext createConnector="false"/></managementContext>
                   <transportConnectors>
                     <transportConnector name="openwire" uri="tcp://{address}"/>
                     <transportConnector name="stomp" uri="stomp://{stomp}"/>
                     <transportConnector name="mqtt" uri="mqtt://{mqtt}"/>
                   </transportConnectors>
                 </broker>{beans}</beans>"#,
            data = self.at("data"),
            managed = beans.contains("jolokia"),
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
                .arg(format!("-Dactivemq.classpath={DRIVER}:{POOL}:{libraries}"))
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

    /// Debian's ActiveMQ has no AMQP.
    fn in_all_its_tongues(&self) -> Ask {
        let (stomp, mqtt) = (Some(self.stomp.port()), Some(self.mqtt.port()));
        Ask::Activemq { address: self.address, also: BrokerAsk { stomp, mqtt, ..BrokerAsk::default() } }
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
    let all = until(mq.in_all_its_tongues(), Verdict::is_ready).await;
    assert_eq!(all.to_string(), "ready (broker mq1, STOMP, MQTT)");
    for _ in 0..20 {
        assert_eq!(ask(mq.question()).await, up);
        assert_eq!(ask(mq.in_all_its_tongues()).await, all);
    }
    let nothing = free_address();
    let amqp = BrokerAsk { amqp: Some(nothing.port()), ..BrokerAsk::default() };
    let reason = format!("it greets in OpenWire, but not in AMQP: connection refused by {nothing}");
    not_ready(ask(Ask::Activemq { address, also: amqp }).await, Trouble::Declined, reason);

    broker.freeze();
    let reason = format!("{address} accepts the connection and says nothing within 3 s");
    not_ready(ask_in_vain(mq.question()).await, Trouble::Silent, reason);
    broker.thaw();
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
    database.freeze();
    let hangs = ask_in_vain(first.with_its_store(None)).await;
    let silent = format!("{} greets, but its store does not answer within 3 s", first.address);
    not_ready(hangs, Trouble::Silent, silent);
    database.cut();
    let lost = format!("{} greets, but its store does not answer: ", first.address);
    let says = |verdict: &Verdict| matches!(verdict, Verdict::NotReady { kind: Trouble::Declined, reason } if reason.starts_with(&lost));
    let said = until(first.with_its_store(None), says).await;
    let database = "Could not connect to address=(host=127.0.0.1)(port=";
    let port = db.address.port();
    let told = format!("{lost}{database}{port})(type=master) : Socket fail to connect to h…");
    assert_eq!(said.to_string(), told);
    assert_eq!(ask(first.question()).await, up, "an open port lies, and so does a greeting");
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
         authorized to create: queue://clusterd.probe.127-0-0-1-"
    );
    let number = reason.strip_prefix(&begin).unwrap_or_else(|| panic!("{reason}"));
    assert!(number.parse::<u16>().is_ok(), "{reason}");
}

/// A Jolokia that lets only an administrator in, as the one in ActiveMQ's web console.
fn jolokia(at: SocketAddr, users: &str) -> String {
    format!(
        r#"<bean id="jolokia" class="org.eclipse.jetty.server.Server" init-method="start" destroy-method="stop">
             <constructor-arg><bean class="java.net.InetSocketAddress">
               <constructor-arg value="{ip}"/><constructor-arg value="{port}"/></bean></constructor-arg>
             <property name="handler"><bean class="org.eclipse.jetty.servlet.ServletContextHandler">
               <property name="contextPath" value="/api"/>
               <property name="securityHandler"><bean class="org.eclipse.jetty.security.ConstraintSecurityHandler">
                 <property name="loginService"><bean class="org.eclipse.jetty.security.HashLoginService">
                   <property name="config" value="{users}"/></bean></property>
                 <property name="authenticator">
                   <bean class="org.eclipse.jetty.security.authentication.BasicAuthenticator"/></property>
                 <property name="constraintMappings"><list><bean class="org.eclipse.jetty.security.ConstraintMapping">
                   <property name="pathSpec" value="/*"/>
                   <property name="constraint"><bean class="org.eclipse.jetty.util.security.Constraint">
                     <property name="name" value="BASIC"/><property name="roles" value="admin"/>
                     <property name="authenticate" value="true"/></bean></property></bean></list></property></bean></property>
               <property name="servletHandler"><bean class="org.eclipse.jetty.servlet.ServletHandler">
                 <property name="servlets"><list><bean class="org.eclipse.jetty.servlet.ServletHolder">
                   <property name="name" value="jolokia"/>
                   <property name="className" value="org.jolokia.http.AgentServlet"/></bean></list></property>
                 <property name="servletMappings"><list><bean class="org.eclipse.jetty.servlet.ServletMapping">
                   <property name="servletName" value="jolokia"/>
                   <property name="pathSpecs"><list><value>/jolokia/*</value></list></property></bean></list></property>
               </bean></property></bean></property></bean>"#,
        ip = at.ip(),
        port = at.port(),
    )
}

/// Leaves messages of 80,000 bytes in a queue that nobody reads.
fn fill(stomp: SocketAddr, messages: usize) {
    let mut stream = std::net::TcpStream::connect(stomp).unwrap();
    stream.write_all(b"CONNECT\naccept-version:1.2\nhost:mq\n\n\0").unwrap();
    let body = "x".repeat(80_000);
    for n in 0..messages {
        let receipt = if n + 1 == messages { "receipt:all\n" } else { "" };
        let frame = format!("SEND\ndestination:/queue/full\npersistent:true\n{receipt}\n{body}\0");
        stream.write_all(frame.as_bytes()).unwrap();
    }
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said = String::new();
    while !said.contains("receipt-id:all") {
        let mut some = [0; 4096];
        let n = stream.read(&mut some).unwrap();
        assert!(n > 0, "{said}");
        said += &String::from_utf8_lossy(&some[..n]);
    }
}

/// Its store is nearly full: it serves, and calls its own health worse than good.
#[tokio::test]
async fn a_brokers_own_health_is_asked_of_its_jolokia() {
    let (mq, health) = (Broker::new(), free_address());
    let users = mq.at("users");
    std::fs::write(&users, "probe: of its own, admin\nguest: nothing, guest\n").unwrap();
    let question = |login: Option<Login>| {
        let jolokia = Jolokia { port: health.port(), path: "/api/jolokia".into(), login };
        let also = BrokerAsk { jolokia: Some(jolokia), ..BrokerAsk::default() };
        Ask::Activemq { address: mq.address, also }
    };
    let dir = tempfile::tempdir().unwrap();
    let probe = |user: &str, password: &str| Some(login(dir.path(), user, password));
    let beans = jolokia(health, &users);
    let broker = mq.start("mq1", "", &beans);
    let good = until(question(probe("probe", "of its own")), Verdict::is_ready).await;
    assert_eq!(good.to_string(), "ready (broker mq1, its health is good)");
    let refused = format!("the Jolokia of {health} refuses the login");
    for nobody in [probe("probe", "guessed"), None] {
        not_ready(ask(question(nobody)).await, Trouble::Denied, refused.clone());
    }
    let forbidden = format!("the Jolokia of {health} forbids this: the user needs the role admin");
    not_ready(ask(question(probe("guest", "nothing"))).await, Trouble::Denied, forbidden);
    broker.cut();

    let store = format!(
        r#"<persistenceAdapter><kahaDB directory="{}" journalMaxFileLength="1mb"/></persistenceAdapter>
           <systemUsage><systemUsage><storeUsage><storeUsage limit="1 mb"/></storeUsage></systemUsage></systemUsage>"#,
        mq.at("kahadb")
    );
    let _broker = mq.start("mq1", &store, &beans);
    until(question(probe("probe", "of its own")), Verdict::is_ready).await;
    fill(mq.stomp, 12);
    let says = format!("the broker at {health} says of its own health: ");
    let worse = |verdict: &Verdict| matches!(verdict, Verdict::NotReady { kind: Trouble::Declined, reason } if reason.starts_with(&says));
    let worse = until(question(probe("probe", "of its own")), worse).await;
    let full = "Getting Worried {org.apache.activemq.StoreLimit: WARNING Message Store size is within 95% of its lim…";
    assert_eq!(worse.to_string(), format!("{says}{full}"));
}
