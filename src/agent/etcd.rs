//! A configuration that lies in etcd: `--config etcd://10.0.0.1:2379,10.0.0.2:2379/shop`.
//!
//! The keys below that one are the files: `/shop/cluster.toml`, `/shop/units/redis.toml`. What etcd holds is copied into the state
//! folder, and from there it goes the way of any file: it is checked, refused whole with a mistake, and a boot without
//! etcd begins with the copy. etcd's own agreement is what keeps two operators apart, so `apply` and the other agents' files
//! play no part.
//!
//! Spoken is the JSON that etcd serves beside gRPC: two calls, over plain HTTP/1.1.

use super::config;
use super::files;
use super::generations::Configure;
use super::shell::{Message, Shell};
use crate::model::{self, MAX_CLUSTER_FILE, Source, Sources};
use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

const SCHEME: &str = "etcd://";
/// The most servers that are named.
const MAX_SERVERS: usize = 16;
/// How long a server may take for an answer, or to be connected to.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long all of them are tried when there is no copy yet.
const FIRST_WITHIN: Duration = Duration::from_secs(30);
/// Between two rounds of trying them.
const AGAIN: Duration = Duration::from_secs(1);
/// Keys are put one after the other: how long after the first change all is read.
const SETTLES: Duration = Duration::from_millis(200);
/// A watch over a dead machine's connection would never end: how often all is read although nothing was said.
const READ_EVERY: Duration = Duration::from_secs(30);
/// The most of an answer that is read: base64 of the largest file, with its units.
const MOST: usize = 2 * MAX_CLUSTER_FILE as usize;
/// The longest line of a watch that is read. One that is longer says that something has changed, too.
const LONGEST_LINE: usize = 1 << 20;

/// Where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    servers: Vec<SocketAddr>,
    /// Without a slash at its end.
    key: String,
}

impl Place {
    /// What `--config` says, where that is no path.
    ///
    /// # Errors
    /// A sentence, with what to write instead.
    pub fn read(config: &Path) -> Option<Result<Place, String>> {
        let rest = config.to_str()?.strip_prefix(SCHEME)?;
        Some(Place::parse(rest))
    }

    fn parse(rest: &str) -> Result<Place, String> {
        let form = "write etcd://ADDRESS:PORT,…/KEY, such as etcd://10.0.0.1:2379/shop";
        let (servers, key) = rest.split_once('/').ok_or_else(|| format!("no key is named; {form}"))?;
        let key = key.trim_end_matches('/');
        if key.is_empty() {
            return Err(format!("no key is named; {form}"));
        }
        let server = |text: &str| {
            text.parse::<SocketAddr>().map_err(|_| {
                format!(
                    "\"{text}\" is no address with a port (names are not looked up: DNS may be down); {form}"
                )
            })
        };
        let servers: Vec<SocketAddr> = servers.split(',').map(server).collect::<Result<_, _>>()?;
        if servers.len() > MAX_SERVERS {
            return Err(format!("more than {MAX_SERVERS} servers are named"));
        }
        Ok(Place { servers, key: format!("/{key}") })
    }

    /// The copy's cluster file, in a state folder.
    pub fn copy_in(state: &Path) -> PathBuf {
        state.join("etcd").join("cluster.toml")
    }

    fn shown(&self, name: &str) -> String {
        let servers: Vec<String> = self.servers.iter().map(SocketAddr::to_string).collect();
        format!("{SCHEME}{}{}/{name}", servers.join(","), self.key)
    }

    /// The first key and the one after the last, as etcd wants them.
    fn range(&self) -> Value {
        // `0` comes after `/`.
        json!({ "key": STANDARD.encode(format!("{}/", self.key)), "range_end": STANDARD.encode(format!("{}0", self.key)) })
    }

    /// The configuration among the keys.
    fn sources(&self, found: &Found) -> Result<Sources, String> {
        let mut cluster = None;
        let mut units = BTreeMap::new();
        for pair in &found.kvs {
            let key = text(&pair.key)?;
            let name = key.strip_prefix(&self.key).and_then(|k| k.strip_prefix('/')).unwrap_or_default();
            let source = || Ok::<_, String>(Source { path: self.shown(name), text: text(&pair.value)? });
            if name == "cluster.toml" {
                cluster = Some(source()?);
            } else if let Some(unit) = name.strip_prefix("units/").and_then(|unit| unit.strip_suffix(".toml"))
            {
                units.insert(unit.to_owned(), source()?);
            }
        }
        let cluster = cluster.ok_or_else(|| format!("there is no {}", self.shown("cluster.toml")))?;
        let sources = Sources { cluster, folder: self.shown("units"), units, unread: BTreeMap::new() };
        sources.check_limits()?;
        Ok(sources)
    }
}

fn text(base64: &str) -> Result<String, String> {
    let bytes = STANDARD.decode(base64).map_err(|_| "etcd's answer is no base64".to_owned())?;
    String::from_utf8(bytes).map_err(|_| "a value is not UTF-8".to_owned())
}

/// The answer to a range.
#[derive(Debug, Default, Deserialize)]
struct Found {
    #[serde(default)]
    header: Header,
    #[serde(default)]
    kvs: Vec<Pair>,
}

#[derive(Debug, Default, Deserialize)]
struct Header {
    /// Of the whole store; 64 bits, as a string.
    #[serde(default)]
    revision: String,
}

#[derive(Debug, Deserialize)]
struct Pair {
    key: String,
    #[serde(default)]
    value: String,
}

/// Asks a server.
async fn post(server: SocketAddr, path: &str, body: &Value) -> Result<Response<Incoming>, String> {
    let exchange = async {
        let stream = TcpStream::connect(server).await.map_err(|e| e.to_string())?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        tokio::task::spawn_local(connection);
        let request = Request::post(path)
            .header("host", server.to_string())
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|e| e.to_string())?;
        sender.send_request(request).await.map_err(|e| e.to_string())
    };
    let late = || format!("{server}: no answer within {} s", ANSWER_WITHIN.as_secs());
    let response = timeout(ANSWER_WITHIN, exchange).await.map_err(|_| late())?;
    let response = response.map_err(|e| format!("{server}: {e}"))?;
    if !response.status().is_success() {
        return Err(format!("{server}: HTTP {}", response.status().as_u16()));
    }
    Ok(response)
}

/// All keys, as most of the servers agree on them.
async fn read(place: &Place, server: SocketAddr) -> Result<Found, String> {
    let response = post(server, "/v3/kv/range", &place.range()).await?;
    let whole = timeout(ANSWER_WITHIN, Limited::new(response.into_body(), MOST).collect()).await;
    let whole = whole.map_err(|_| format!("{server}: its answer does not end"))?;
    let bytes = whole.map_err(|e| format!("{server}: {e}"))?.to_bytes();
    serde_json::from_slice(&bytes).map_err(|e| format!("{server}: its answer is not understood: {e}"))
}

/// A watch that stands.
struct Watch {
    body: Incoming,
    line: Vec<u8>,
}

impl Watch {
    /// From the revision that comes after what was read.
    async fn begin(place: &Place, server: SocketAddr, read: &Found) -> Result<Watch, String> {
        let mut create = place.range();
        let revision = read.header.revision.parse::<u64>().unwrap_or(0);
        create["start_revision"] = json!((revision + 1).to_string());
        let response = post(server, "/v3/watch", &json!({ "create_request": create })).await?;
        Ok(Watch { body: response.into_body(), line: Vec::new() })
    }

    /// Ends when something has changed; an error when nothing more is told.
    async fn change(&mut self) -> Result<(), String> {
        loop {
            let frame = match self.body.frame().await {
                Some(Ok(frame)) => frame,
                Some(Err(e)) => return Err(e.to_string()),
                None => return Err("it has hung up".to_owned()),
            };
            let Some(data) = frame.data_ref() else { continue };
            for byte in data.iter() {
                if *byte != b'\n' && self.line.len() < LONGEST_LINE {
                    self.line.push(*byte);
                    continue;
                }
                let is_change = self.line.len() >= LONGEST_LINE || is_change(&self.line)?;
                self.line.clear();
                if is_change {
                    return Ok(());
                }
            }
        }
    }
}

fn is_change(line: &[u8]) -> Result<bool, String> {
    let told: Value = serde_json::from_slice(line).unwrap_or_default();
    if let Some(error) = told.get("error") {
        return Err(error.to_string());
    }
    let result = &told["result"];
    if result["canceled"] == json!(true) {
        return Err("the watch has ended".to_owned());
    }
    Ok(result["events"].as_array().is_some_and(|events| !events.is_empty()))
}

/// Where there is no copy yet: takes it from the first server that has it.
///
/// # Errors
/// What the last server said, when none has answered in time; or what is wrong with what it holds.
pub async fn copy_first(place: &Place, state: &Path) -> anyhow::Result<()> {
    let copy = Place::copy_in(state);
    if copy.exists() {
        return Ok(());
    }
    let begun = Instant::now();
    loop {
        let mut why = String::new();
        for server in &place.servers {
            match read(place, *server).await {
                Ok(found) => {
                    let sources = place.sources(&found).map_err(anyhow::Error::msg)?;
                    model::parse(&sources).map_err(|e| anyhow::anyhow!("{e}"))?;
                    return files::write(&sources, &copy, None)
                        .with_context(|| format!("cannot keep a copy of {}", place.shown("cluster.toml")));
                }
                Err(e) => why = e,
            }
        }
        anyhow::ensure!(
            begun.elapsed() < FIRST_WITHIN,
            "etcd is not reached, and there is no copy from before: {why}"
        );
        sleep(AGAIN).await;
    }
}

/// Follows what etcd holds, as long as the agent lives.
pub async fn follow(shell: Rc<Shell>, place: Place) {
    let mut last = None;
    loop {
        for server in &place.servers {
            let why = match follow_at(&shell, &place, *server, &mut last).await {
                Err(why) => why,
                Ok(never) => match never {},
            };
            shell.say(
                "etcd",
                Some(format!("etcd is not heard, the copy of what it held last is in force: {why}")),
            );
        }
        sleep(AGAIN).await;
    }
}

/// Follows one server until it is not heard any more.
async fn follow_at(
    shell: &Rc<Shell>,
    place: &Place,
    server: SocketAddr,
    last: &mut Option<String>,
) -> Result<std::convert::Infallible, String> {
    loop {
        let found = read(place, server).await?;
        let mut watch = Watch::begin(place, server, &found).await?;
        shell.say("etcd", None);
        take(shell, place, &found, last).await;
        if let Ok(changed) = timeout(READ_EVERY, watch.change()).await {
            changed.map_err(|e| format!("{server}: {e}"))?;
            sleep(SETTLES).await;
        }
    }
}

/// Has what etcd holds put in force, if it can be; each content is looked at once.
async fn take(shell: &Rc<Shell>, place: &Place, found: &Found, last: &mut Option<String>) {
    let sources = place.sources(found);
    let hash = sources.as_ref().map_or_else(Clone::clone, Sources::hash);
    if last.replace(hash.clone()).as_ref() == Some(&hash) {
        return;
    }
    let written = match sources.and_then(|sources| config::examined(shell, sources)) {
        Ok(sources) => {
            let copy = shell.places.config.clone();
            let written = tokio::task::spawn_blocking(move || files::write(&sources, &copy, None)).await;
            written.map_err(|e| e.to_string()).and_then(|written| written.map_err(|e| e.to_string()))
        }
        Err(why) => Err(why),
    };
    let refused = match written {
        Ok(()) => reload(shell).await.err(),
        Err(why) => Some(why),
    };
    let problem =
        refused.map(|why| format!("what etcd holds is refused, the one before stays in force: {why}"));
    if let Some(problem) = &problem {
        shell.events.borrow_mut().record("", "config-refused", problem, Value::Null);
    }
    shell.say("etcd-content", problem);
}

async fn reload(shell: &Rc<Shell>) -> Result<(), String> {
    let (reply, answer) = tokio::sync::oneshot::channel();
    let told = shell.messages.send(Message::Configure { what: Configure::Reload, reply }).await;
    told.map_err(|_| "the agent is ending".to_owned())?;
    match answer.await {
        Ok(taken) => taken.map(drop).map_err(|refusal| refusal.error),
        Err(_) => Err("the agent is ending".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Result<Place, String> {
        Place::read(Path::new(text)).unwrap()
    }

    #[test]
    fn a_place_in_etcd_is_told_from_a_path() {
        assert!(Place::read(Path::new("/etc/clusterd/cluster.toml")).is_none());
        let two = place("etcd://10.0.0.1:2379,[fd00::1]:2379/prod/shop/").unwrap();
        assert_eq!((two.servers.len(), two.key.as_str()), (2, "/prod/shop"));
        assert!(place("etcd://10.0.0.1:2379").unwrap_err().contains("no key"));
        assert!(place("etcd://10.0.0.1:2379/").unwrap_err().contains("no key"));
        assert!(place("etcd://etcd1:2379/shop").unwrap_err().contains("\"etcd1:2379\" is no address"));
    }

    #[test]
    fn keys_are_files_and_nothing_else_is() {
        let place = place("etcd://10.0.0.1:2379/shop").unwrap();
        let pair = |key: &str, value: &str| Pair { key: STANDARD.encode(key), value: STANDARD.encode(value) };
        let found = |kvs| Found { header: Header::default(), kvs };
        let all = [("/shop/cluster.toml", "c"), ("/shop/units/redis.toml", "u"), ("/shop/notes", "n")];
        let sources = place.sources(&found(all.map(|(k, v)| pair(k, v)).into())).unwrap();
        assert_eq!((sources.cluster.text.as_str(), sources.units.len()), ("c", 1));
        assert_eq!(sources.units["redis"].path, "etcd://10.0.0.1:2379/shop/units/redis.toml");
        assert!(place.sources(&found(vec![])).unwrap_err().contains("there is no etcd://"));
        let outside = [pair("/shop/cluster.toml", "c"), pair("/shop/units/../../x.toml", "u")];
        assert!(place.sources(&found(outside.into())).is_err(), "a unit's name leads nowhere else");
    }

    #[test]
    fn a_watch_tells_changes_from_its_own_noise() {
        assert_eq!(is_change(br#"{"result":{"header":{},"created":true}}"#), Ok(false));
        assert_eq!(is_change(br#"{"result":{"events":[{"kv":{"key":"eA=="}}]}}"#), Ok(true));
        assert!(is_change(br#"{"result":{"canceled":true,"compact_revision":"7"}}"#).is_err());
        assert!(is_change(br#"{"error":{"message":"no leader"}}"#).is_err());
        assert_eq!(is_change(b"noise"), Ok(false));
    }
}
