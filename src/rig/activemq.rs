//! ActiveMQ: two brokers on one store in MariaDB; who holds the lease serves, the other keeps its port closed.
//!
//! Java is run directly. The packaged wrapper's pid file names a `su` or `sh` whose death leaves the broker behind.

use super::{Laid, Nature, Placed, RigError, Site, command, files, missing, mysql, standin};
use std::fs;

pub const PORT: u16 = 61616;
const JAVA: &str = "/usr/bin/java";
const HOME: &str = "/usr/share/activemq";
const JAR: &str = "/usr/share/activemq/bin/activemq.jar";
const DRIVER: &str = "/usr/share/java/mariadb-java-client.jar";
const POOL: &str = "/usr/share/activemq/lib/optional/commons-dbcp.jar";

/// A master that dies frees the store after this; it renews twice within it.
const LEASE_MS: u32 = 10_000;
const KEEP_ALIVE_MS: u32 = 5_000;

/// Why a stand-in is needed, if one is.
fn absent() -> Option<String> {
    missing(&[JAVA, JAR, POOL], "activemq")
        .or_else(|| missing(&[DRIVER], "libmariadb-java"))
        .or_else(|| mysql::absent().map(|why| format!("its store is MySQL: {why}")))
}

pub fn lay_out(site: &Site, placed: &Placed) -> Result<Laid, RigError> {
    if let Some(why) = absent() {
        return Ok(standin::plain(site, "activemq", PORT, why));
    }
    let owner = site.owner("activemq")?;
    let secret = mysql::password_file(site, mysql::BROKER);
    let password = fs::read_to_string(&secret).map_err(|source| RigError::File {
        what: "read",
        path: secret,
        source,
    })?;
    let servers: Vec<String> = site
        .running("mysql")
        .flat_map(|mysql| mysql.nodes.into_iter().map(|(_, ip)| format!("{ip}:{}", mysql::PORT)))
        .collect();
    for (node, address) in &placed.nodes {
        let folder = site.instance_dir(placed.service, node);
        for folder in [folder.clone(), folder.join("data"), folder.join("tmp")] {
            files::make_folder(&folder, &owner)?;
        }
        let config =
            broker(node, &folder.display().to_string(), &format!("{address}:{PORT}"), &servers, &password);
        files::write(&folder.join("activemq.xml"), &config, &owner, 0o600)?;
        files::write(&folder.join("log4j.properties"), LOGGING, &owner, 0o644)?;
    }
    let here = site.unit_dir();
    let unit = format!(
        "# An ActiveMQ broker, in the foreground. One serves, the others wait for its lease.\n\
         exclusive = true\n\
         \n\
         [run]\n\
         command = {command}\n\
         {user}\
         \n\
         [ready]\n\
         probe = {{ kind = \"activemq\", port = {PORT} }}\n\
         within = \"90s\"\n",
        command = command(java(&here)),
        user = site.user_line("activemq"),
    );
    Ok(Laid { unit, nature: Nature::Real(JAVA.into()) })
}

/// A small heap and a plain compiler: ready within two seconds, some 110 MB resident.
fn java(here: &str) -> Vec<String> {
    let mut words: Vec<String> = [
        JAVA,
        "-Xms32m",
        "-Xmx96m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:-UsePerfData",
        "-Djava.awt.headless=true",
    ]
    .map(str::to_owned)
    .into();
    words.extend([
        format!("-Djava.io.tmpdir={here}/tmp"),
        format!("-Dlog4j.configuration=file:{here}/log4j.properties"),
        format!("-Dactivemq.home={HOME}"),
        format!("-Dactivemq.base={here}"),
        format!("-Dactivemq.conf={here}"),
        format!("-Dactivemq.data={here}/data"),
        format!("-Dactivemq.classpath={DRIVER}"),
        "-jar".to_owned(),
        JAR.to_owned(),
        "start".to_owned(),
        format!("xbean:file:{here}/activemq.xml"),
    ]);
    words
}

/// One server is used at a time, the first that answers: both brokers meet at the same one.
fn broker(name: &str, folder: &str, listen: &str, servers: &[String], password: &str) -> String {
    let (servers, user) = (servers.join(","), mysql::BROKER);
    format!(
        r##"<?xml version="1.0" encoding="UTF-8"?>
<beans xmlns="http://www.springframework.org/schema/beans"
       xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
       xsi:schemaLocation="http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans-2.0.xsd
                           http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
  <!-- Two brokers of one name would both hold the lease. -->
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName="{name}" dataDirectory="{folder}/data"
          useJmx="false" advisorySupport="false">
    <persistenceAdapter>
      <jdbcPersistenceAdapter dataSource="#store" lockKeepAlivePeriod="{KEEP_ALIVE_MS}">
        <locker>
          <lease-database-locker lockAcquireSleepInterval="{LEASE_MS}"/>
        </locker>
      </jdbcPersistenceAdapter>
    </persistenceAdapter>
    <systemUsage>
      <systemUsage>
        <memoryUsage><memoryUsage limit="32 mb"/></memoryUsage>
        <storeUsage><storeUsage limit="256 mb"/></storeUsage>
        <tempUsage><tempUsage limit="64 mb"/></tempUsage>
      </systemUsage>
    </systemUsage>
    <transportConnectors>
      <transportConnector name="openwire" uri="tcp://{listen}?maximumConnections=100"/>
    </transportConnectors>
  </broker>
  <bean id="store" class="org.apache.commons.dbcp.BasicDataSource" destroy-method="close">
    <property name="driverClassName" value="org.mariadb.jdbc.Driver"/>
    <property name="url" value="jdbc:mariadb:sequential://{servers}/{user}?connectTimeout=1000&amp;socketTimeout=10000"/>
    <property name="username" value="{user}"/>
    <property name="password" value="{password}"/>
    <property name="maxActive" value="8"/>
    <property name="poolPreparedStatements" value="true"/>
  </bean>
</beans>
"##
    )
}

const LOGGING: &str = "\
log4j.rootLogger = INFO, out
log4j.appender.out = org.apache.log4j.ConsoleAppender
log4j.appender.out.layout = org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern = %d %-5p %m%n
";
