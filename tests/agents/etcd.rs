//! A configuration that lies in etcd: a real one, with a single member.

use super::agents::{Cluster, wait};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

struct Etcd {
    server: Child,
    at: String,
}

impl Etcd {
    fn start(cluster: &Cluster) -> Etcd {
        let (client, peer) = (
            format!("http://{}:2379", cluster.address(250)),
            format!("http://{}:2380", cluster.address(250)),
        );
        let server = Command::new("etcd")
            .arg("--data-dir")
            .arg(cluster.dir().join("etcd"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts; run tests/install");
        let etcd = Etcd { server, at: format!("{}:2379", cluster.address(250)) };
        wait("etcd to take a key", || etcd.try_put("/anything", "x").then_some(()));
        etcd
    }

    fn try_put(&self, key: &str, value: &str) -> bool {
        let Ok(mut stream) = TcpStream::connect(&self.at) else { return false };
        let body = format!(r#"{{"key":"{}","value":"{}"}}"#, STANDARD.encode(key), STANDARD.encode(value));
        let head = format!(
            "POST /v3/kv/put HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.at,
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
    }

    fn put(&self, key: &str, value: &str) {
        assert!(self.try_put(key, value), "{key}");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn file(cluster: &Cluster, services: &str) -> String {
    format!(
        "[cluster]\nname = \"{}\"\ninsecure = true\n[nodes]\nall = {{ n1 = \"{}\" }}\n[services]\n{services}\n",
        cluster.name(),
        cluster.address(1)
    )
}

/// The agent with its configuration in etcd, at a server that is not there and at this one.
fn agent(cluster: &Cluster, etcd: &str) -> Command {
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

const UNIT: &str =
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
