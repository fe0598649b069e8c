//! A broker's own view of its health, by Jolokia: JMX over HTTP.
//!
//! The operation `healthStatus` is called, which looks; the attribute `CurrentStatus` is only what the last look saw.
//! Newer releases take a POST alone, and one with an `Origin` that they know.

use super::super::course::Course;
use super::super::{http, net, password};
use crate::facts::{Trouble, Verdict};
use crate::model::Login;
use base64::prelude::{BASE64_STANDARD, Engine};
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use hyper::{Request, StatusCode};
use serde_json::{Value, json};
use std::net::SocketAddr;
use zeroize::Zeroizing;

/// The word of a broker that complains of nothing.
const GOOD: &str = "Good";

pub(super) async fn ask(
    address: SocketAddr,
    path: &str,
    login: Option<&Login>,
    broker: Option<&str>,
    course: Course<'_>,
) -> Result<(), Verdict> {
    let authority = address.to_string();
    let body = question(broker).to_string();
    let mut request = Request::post(path)
        .header(HOST, &authority)
        .header(ORIGIN, format!("http://{}", address.ip()))
        .header(CONTENT_TYPE, "application/json");
    if let Some(login) = login {
        let password = password::of(login)?.unwrap_or_default();
        let both = Zeroizing::new(format!("{}:{}", login.user, *password));
        let basic = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(both.as_bytes())));
        request = request.header(AUTHORIZATION, basic.as_str());
    }
    let request = request.body(Full::from(body)).map_err(|e| {
        Verdict::not_ready(Trouble::Unaskable, format!("its Jolokia cannot be asked at {path}: {e}"))
    })?;
    let stream = net::connect(address, course).await.map_err(of)?;
    let answer = http::send(stream, &authority, request, true, course).await.map_err(of)?;
    judge(&authority, login, answer.status, &answer.body)
}

fn question(broker: Option<&str>) -> Value {
    // A name with one of these must be quoted (javax.management.ObjectName); `*` means any.
    let name = match broker {
        Some(name) if name.contains([',', '=', ':', '"', '*', '?', '\\']) => {
            let quoted: String = name.chars().fold(String::new(), |mut text, c| {
                if matches!(c, '"' | '*' | '?' | '\\') {
                    text.push('\\');
                }
                text.push(c);
                text
            });
            format!("\"{quoted}\"")
        }
        Some(name) => name.to_owned(),
        None => "localhost".to_owned(),
    };
    let mbean = format!("org.apache.activemq:type=Broker,brokerName={name},service=Health");
    json!({ "type": "exec", "mbean": mbean, "operation": "healthStatus" })
}

/// It serves OpenWire: what is wrong is its Jolokia.
fn of(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::NotReady { kind, reason } => {
            let kind = if kind == Trouble::Refused { Trouble::Declined } else { kind };
            Verdict::not_ready(
                kind,
                format!("it greets in OpenWire, but its Jolokia does not answer: {reason}"),
            )
        }
        other => other,
    }
}

pub(in crate::probe) fn judge(
    authority: &str,
    login: Option<&Login>,
    status: StatusCode,
    body: &[u8],
) -> Result<(), Verdict> {
    let not = |kind, why: String| Err(Verdict::not_ready(kind, why));
    match status {
        StatusCode::UNAUTHORIZED => {
            return not(Trouble::Denied, format!("the Jolokia of {authority} refuses the login"));
        }
        StatusCode::FORBIDDEN => {
            let why = format!("the Jolokia of {authority} forbids this: the user needs the role admin");
            return not(Trouble::Denied, why);
        }
        StatusCode::OK => {}
        other => {
            return not(Trouble::Declined, format!("the Jolokia of {authority} answers with {other}"));
        }
    }
    let Ok(answer) = serde_json::from_slice::<Value>(body) else {
        return Err(net::garbled(authority, "Jolokia", "its answer is no JSON"));
    };
    match (answer["value"].as_str(), answer["error"].as_str()) {
        (Some(GOOD), _) => Ok(()),
        (Some(said), _) => {
            let said = password::said(login, said.as_bytes());
            not(Trouble::Declined, format!("the broker at {authority} says of its own health: {said}"))
        }
        (None, Some(error)) => {
            let error = password::said(login, error.as_bytes());
            not(Trouble::Declined, format!("the Jolokia of {authority} answers an error: {error}"))
        }
        (None, None) => Err(net::garbled(authority, "Jolokia", "its answer has neither value nor error")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::introduces;
    use super::*;
    use crate::model::{Ask, BrokerAsk, Jolokia};
    use crate::probe::testing::{ask, login, not_ready, server};
    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A Jolokia that answers this, and the request that it got.
    async fn answers(status: &str, body: &str) -> (SocketAddr, Arc<Mutex<String>>) {
        let said = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let heard = Arc::new(Mutex::new(String::new()));
        let hears = heard.clone();
        let address = server(move |mut stream| {
            let (said, hears) = (said.clone(), hears.clone());
            async move {
                let mut request = vec![0; 4096];
                let mut length = 0;
                while !String::from_utf8_lossy(&request[..length]).contains("}") {
                    length += stream.read(&mut request[length..]).await.unwrap();
                }
                *hears.lock().unwrap() = String::from_utf8_lossy(&request[..length]).into_owned();
                let _ = stream.write_all(said.as_bytes()).await;
            }
        })
        .await;
        (address, heard)
    }

    async fn asked(jolokia: SocketAddr) -> Verdict {
        let dir = tempfile::tempdir().unwrap();
        let jolokia = Jolokia {
            port: jolokia.port(),
            path: "/api/jolokia".into(),
            login: Some(login(dir.path(), "admin", "secret")),
        };
        let also = BrokerAsk { jolokia: Some(jolokia), ..BrokerAsk::default() };
        ask(Ask::Activemq { address: introduces().await, also }).await
    }

    #[tokio::test]
    async fn a_good_health_is_told() {
        let (jolokia, heard) = answers("200 OK", r#"{"value":"Good","status":200}"#).await;
        assert_eq!(asked(jolokia).await.to_string(), "ready (broker localhost, its health is good)");
        let heard = heard.lock().unwrap().to_ascii_lowercase();
        for part in [
            "post /api/jolokia http/1.1",
            "origin: http://127.0.0.1",
            "authorization: basic ywrtaw46c2vjcmv0",
            "brokername=localhost,service=health",
            "\"operation\":\"healthstatus\"",
        ] {
            assert!(heard.contains(part), "{part} is not in {heard}");
        }
    }

    #[tokio::test]
    async fn a_bad_one_and_no_answer_are_said() {
        let (at, _) = answers("200 OK", r#"{"value":"Getting Worried {no consumers}"}"#).await;
        let reason = format!("the broker at {at} says of its own health: Getting Worried {{no consumers}}");
        not_ready(asked(at).await, Trouble::Declined, reason);
        let (at, _) =
            answers("200 OK", r#"{"error":"javax.management.InstanceNotFoundException","status":404}"#).await;
        let reason =
            format!("the Jolokia of {at} answers an error: javax.management.InstanceNotFoundException");
        not_ready(asked(at).await, Trouble::Declined, reason);
        let (at, _) = answers("401 Unauthorized", "").await;
        not_ready(asked(at).await, Trouble::Denied, format!("the Jolokia of {at} refuses the login"));
        let (at, _) = answers("403 Forbidden", "").await;
        let reason = format!("the Jolokia of {at} forbids this: the user needs the role admin");
        not_ready(asked(at).await, Trouble::Denied, reason);
        let (_port, at) = crate::probe::testing::nobody().await;
        let reason =
            format!("it greets in OpenWire, but its Jolokia does not answer: connection refused by {at}");
        not_ready(asked(at).await, Trouble::Declined, reason);
    }

    #[test]
    fn a_name_that_means_something_is_quoted() {
        let mbean = |name| question(Some(name))["mbean"].as_str().unwrap().to_owned();
        assert_eq!(mbean("mq1"), "org.apache.activemq:type=Broker,brokerName=mq1,service=Health");
        assert_eq!(mbean("a,b*"), "org.apache.activemq:type=Broker,brokerName=\"a,b\\*\",service=Health");
    }
}
