//! ActiveMQ Classic.

use super::*;
use clusterd::model::BrokerAsk;

#[tokio::test]
async fn activemq_introduces_itself_and_complains_of_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let beans = format!(
        r#"<beans xmlns="http://www.springframework.org/schema/beans"
             xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="
               http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans-2.0.xsd
               http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
             <broker xmlns="http://activemq.apache.org/schema/core" brokerName="mq1" persistent="false" useJmx="false">
               <transportConnectors><transportConnector name="openwire" uri="tcp://{address}"/></transportConnectors>
             </broker></beans>"#
    );
    std::fs::write(at("activemq.xml"), beans).unwrap();
    let log4j = format!(
        "log4j.rootLogger=INFO, f\nlog4j.appender.f=org.apache.log4j.FileAppender\nlog4j.appender.f.file={}\n\
         log4j.appender.f.layout=org.apache.log4j.PatternLayout\nlog4j.appender.f.layout.ConversionPattern=%p %m%n\n",
        at("log")
    );
    std::fs::write(at("log4j.properties"), log4j).unwrap();
    let mut broker = Daemon::start(
        Command::new("java")
            .args(["-Xmx64m", "-Dactivemq.home=/usr/share/activemq"])
            .arg(format!("-Dlog4j.configuration=file:{}", at("log4j.properties")))
            .arg(format!("-Dactivemq.base={}", dir.path().display()))
            .arg(format!("-Djava.io.tmpdir={}", dir.path().display()))
            .args(["-jar", "/usr/share/activemq/bin/activemq.jar", "start"])
            .arg(format!("xbean:file:{}", at("activemq.xml"))),
    );
    let question = || Ask::Activemq { address, also: BrokerAsk::default() };
    let up = until(question(), Verdict::is_ready).await;
    assert_eq!(up.to_string(), "ready (broker mq1)");
    assert!(identity(&up).starts_with("ID:"), "{up:?}");
    for _ in 0..20 {
        assert_eq!(ask(question()).await, up);
    }
    broker.signal(Signal::SIGSTOP);
    let reason = format!("{address} accepts the connection and says nothing within 3 s");
    not_ready(ask(question()).await, Trouble::Silent, reason);
    broker.signal(Signal::SIGCONT);
    assert_eq!(until(question(), Verdict::is_ready).await, up);
    // Its last words are in the log once it has ended.
    broker.signal(Signal::SIGTERM);
    let begun = Instant::now();
    broker.child.wait().unwrap();
    assert!(begun.elapsed() < PATIENCE);
    let log = std::fs::read_to_string(at("log")).unwrap();
    assert!(log.contains("mq1"), "{log}");
    let complaints: Vec<_> = log.lines().filter(|l| l.contains("Transport Connection")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}
