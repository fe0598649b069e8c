//! A configuration that lies in etcd: a real one, with a single member.

use super::agents::{Cluster, wait};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clusterd::probe::secure::{self, Identity};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Who puts the files there, over TLS with these where there are some.
pub type Operator = Option<(PathBuf, Identity)>;

/// How long it may take to answer: it writes each change down first.
const WITHIN: Duration = Duration::from_secs(60);

pub struct Etcd {
    server: Child,
    pub at: String,
    operator: Operator,
}

impl Etcd {
    fn start(cluster: &Cluster) -> Etcd {
        Etcd::start_with(cluster, &[], None)
    }

    /// With more options, the names of files among them in the cluster's folder.
    pub fn start_with(cluster: &Cluster, more: &[&str], operator: Operator) -> Etcd {
        let scheme = if operator.is_some() { "https" } else { "http" };
        let (client, peer) = (
            format!("{scheme}://{}:2379", cluster.address(250)),
            format!("http://{}:2380", cluster.address(250)),
        );
        let server = Command::new("etcd")
            .current_dir(cluster.dir())
            .args(more)
            .arg("--data-dir")
            .arg(cluster.dir().join("etcd"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts; run tests/install");
        let etcd = Etcd { server, at: format!("{}:2379", cluster.address(250)), operator };
        wait("etcd to take a key", || etcd.try_put("/anything", "x").ok());
        etcd
    }

    fn try_put(&self, key: &str, value: &str) -> Result<String, String> {
        let pair = serde_json::json!({ "key": STANDARD.encode(key), "value": STANDARD.encode(value) });
        self.call("/v3/kv/put", &pair, "")
    }

    pub fn put(&self, key: &str, value: &str) {
        self.try_put(key, value).unwrap();
    }

    /// What it answers; an error is a refusal.
    pub fn call(&self, path: &str, body: &serde_json::Value, token: &str) -> Result<String, String> {
        let body = body.to_string();
        let login = if token.is_empty() { String::new() } else { format!("Authorization: {token}\r\n") };
        let asked = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\n{login}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.at,
            body.len()
        );
        let (server, within) = (self.at.parse().unwrap(), WITHIN);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(async {
            match &self.operator {
                None => talk(secure::connect(server, within).await?, asked).await,
                Some((ca, identity)) => {
                    talk(secure::connect_secure(server, ca, Some(identity), within).await?, asked).await
                }
            }
        })?;
        if answer.starts_with("HTTP/1.1 200") { Ok(answer) } else { Err(answer) }
    }
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, asked: String) -> Result<String, String> {
    stream.write_all(asked.as_bytes()).await.map_err(|e| e.to_string())?;
    let mut answer = String::new();
    match tokio::time::timeout(WITHIN, stream.read_to_string(&mut answer)).await {
        Ok(_) => Ok(answer),
        Err(late) => Err(late.to_string()),
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

pub fn file(cluster: &Cluster, services: &str) -> String {
    format!(
        "[cluster]\nname = \"{}\"\ninsecure = true\n[nodes]\nall = {{ n1 = \"{}\" }}\n[services]\n{services}\n",
        cluster.name(),
        cluster.address(1)
    )
}

/// The agent with its configuration in etcd, at a server that is not there and at this one.
pub fn agent(cluster: &Cluster, etcd: &str) -> Command {
    let plain = cluster.agent("n1");
    let mut command = Command::new(plain.get_program());
    let mut words = plain.get_args();
    while let Some(word) = words.next() {
        command.arg(word);
        if word == "--config" {
            words.next();
            command.arg(format!("etcd://{}:1,{etcd}/prod/shop", cluster.address(250)));
        }
    }
    command
}

pub const UNIT: &str =
    "[run]\ncommand = [\"/bin/sleep\", \"1d\"]\n[ready]\nprobe = { kind = \"running\", for = \"10ms\" }\n";

#[test]
fn a_change_in_etcd_is_taken_a_mistake_is_not_and_a_boot_without_it_begins_with_the_copy() {
    let mut cluster = Cluster::new("etcd");
    let mut etcd = Etcd::start(&cluster);
    etcd.put("/prod/shop/units/nap.toml", UNIT);
    etcd.put("/prod/shop/cluster.toml", &file(&cluster, "a = { on = \"n1\", unit = \"nap\" }"));
    etcd.put("/prod/shop2/cluster.toml", "somebody else's");
    let command = agent(&cluster, &etcd.at);
    cluster.start_as("n1", command);
    let a = wait("what etcd says to run", || cluster.pid_if("n1", "a@n1", "ready"));

    let both = file(&cluster, "a = { on = \"n1\", unit = \"nap\" }\nb = { on = \"n1\", unit = \"nap\" }");
    etcd.put("/prod/shop/cluster.toml", &both);
    let b = wait("what was added there", || cluster.pid_if("n1", "b@n1", "ready"));
    assert_eq!(cluster.pid_if("n1", "a@n1", "ready"), Some(a), "what was there goes on");

    etcd.put("/prod/shop/cluster.toml", &both.replace("on =", "no ="));
    let problems = |cluster: &Cluster| {
        cluster.node_status("n1").map(|node| node.problems.join("\n")).unwrap_or_default()
    };
    let said = wait("the mistake to be told", || {
        Some(problems(&cluster)).filter(|said| said.contains("what etcd holds is refused"))
    });
    assert!(said.contains("/prod/shop/cluster.toml"), "{said}");
    assert_eq!(cluster.pid_if("n1", "b@n1", "ready"), Some(b));
    cluster.write(&both, &[("nap", &format!("{UNIT}usually = \"20ms\"\n"))]);
    let applied = cluster.ctl("n1", &["apply", "--yes", cluster.file().to_str().unwrap()]);
    assert!(applied.code != 0 && applied.text().contains("are in etcd"), "{applied:?}");
    etcd.put("/prod/shop/cluster.toml", &both);
    wait("all to be well again", || problems(&cluster).is_empty().then_some(()));

    // Without it, what it held last is in force, over a death of the agent, too.
    etcd.server.kill().unwrap();
    wait("it to be missed", || problems(&cluster).contains("etcd is not heard").then_some(()));
    cluster.kill("n1");
    let command = agent(&cluster, &etcd.at);
    cluster.start_as("n1", command);
    assert_eq!(wait("the next agent to find it", || cluster.pid_if("n1", "b@n1", "ready")), b);

    // And with it again, what it holds.
    drop(etcd);
    let etcd = Etcd::start(&cluster);
    etcd.put("/prod/shop/cluster.toml", &file(&cluster, "b = { on = \"n1\", unit = \"nap\" }"));
    wait("what was taken out there", || {
        cluster.status("n1").filter(|status| status.to_string().contains("orphaned"))
    });
}
