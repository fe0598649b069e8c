//! The shipped unit of a FastDFS storage, and what its trackers say of it. Debian has no FastDFS: the storage is the built-in
//! stand-in under the daemon's name, and the tracker gives the answers that were captured from real servers, some of them
//! with another state or with records of another size.

use crate::machine::{Disk, Machine, Run, wait};
use std::path::Path;

/// Of two trackers nobody answers at the first one.
const CLUSTER: &str = r#"[cluster]
name = "files"
insecure = true
[nodes]
all = { n1 = "10.77.0.23" }
[services.storage]
on = "n1"
unit = "fdfs-storage"
set.trackers = "10.77.0.24:22122, 10.77.0.22:22122"
"#;

/// It goes into the background, and leaves its number where the real one does.
const STORAGE: &str = "#!/bin/sh
setsid /opt/clusterd/clusterctl stand-in fastdfs-storage --listen 10.77.0.23:23000 \
    --pidfile /var/lib/fastdfs/storage/data/fdfs_storaged.pid >/dev/null 2>&1 </dev/null &
until test -s /var/lib/fastdfs/storage/data/fdfs_storaged.pid; do sleep 0.01; done
";

/// `/srv/says` has a pattern of captures, and if wanted the state of the second storage and so many bytes more for each record.
const TRACKER: &str = r##"
import socket, threading
def captured(pattern, what):
    text = open("/opt/captures/tracker-%s.hex" % pattern.replace("*", what))
    return bytearray.fromhex([line for line in text if line[0] != "#"][1].strip())
def reply(command):
    words = open("/srv/says").read().split()
    if command == 91:
        return captured(words[0], "list-groups")
    said = captured(words[0], "list-storages")
    records = [said[at:at + 487] for at in range(10, len(said), 487)]
    if len(words) > 1:
        records[1][0] = int(words[1])
    body = b"".join(record + b"x" * int((words[2:] or [0])[0]) for record in records)
    return len(body).to_bytes(8, "big") + said[8:10] + body
def talk(client):
    while len(head := client.recv(10, socket.MSG_WAITALL)) == 10:
        client.recv(int.from_bytes(head[:8], "big"), socket.MSG_WAITALL)
        client.sendall(reply(head[8]))
server = socket.create_server(("10.77.0.22", 22122))
while True:
    threading.Thread(target=talk, args=server.accept()[:1], daemon=True).start()
"##;

fn machine() -> Machine {
    let machine = Machine::boot(&Disk::default(), Run::Emptied);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for end in [22, 23, 24] {
        machine.must(&format!("ip addr add 10.77.0.{end}/24 dev eth0"));
    }
    machine.write("/etc/clusterd/cluster.toml", CLUSTER);
    let unit = std::fs::read_to_string(root.join("units/fdfs-storage.toml")).expect("the shipped unit");
    machine.write("/etc/clusterd/units/fdfs-storage.toml", &unit);
    for capture in std::fs::read_dir(root.join("tests/captures/fastdfs")).expect("captures").flatten() {
        let text = std::fs::read_to_string(capture.path()).expect("a capture");
        machine.write(&format!("/opt/captures/{}", capture.file_name().to_string_lossy()), &text);
    }
    machine.write("/usr/bin/fdfs_storaged", STORAGE);
    machine.write("/opt/tracker.py", TRACKER);
    machine.must("chmod 755 /usr/bin/fdfs_storaged && mkdir -p /var/lib/fastdfs/storage/data");
    machine.must("setsid /usr/bin/python3 /opt/tracker.py >/var/log/tracker.log 2>&1 </dev/null &");
    machine
}

/// Waits until the storage is in this state, and its own question is answered in these words.
#[track_caller]
fn storage(machine: &Machine, state: &str, words: &str) {
    wait(&format!("the storage is {state}: {words}"), || {
        let said = machine.clusterctl("status --json").said;
        let all: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
        let view = &all["nodes"][0]["status"]["instances"][0];
        let answer = &view["own"];
        let told = answer["reason"].as_str().or(answer["detail"].as_str()).unwrap_or_default();
        let log = || ["clusterd", "tracker"].map(|name| machine.read(&format!("/var/log/{name}.log")));
        if view["state"] == state && told == words { Ok(()) } else { Err(format!("{view} {:?}", log())) }
    });
}

#[test]
fn a_storage_is_ready_when_a_tracker_lists_it_as_active() {
    let machine = machine();
    let says = |what: &str| machine.write("/srv/says", what);
    let tracker = "the tracker 10.77.0.22:22122";
    let on_its_way = |doing: &str| format!("10.77.0.23:23000 {doing}, says {tracker}");
    let active = "active in group1 with 2 of 2 storages, 28 % free";
    says("*-empty");
    machine.start_agent("");
    storage(&machine, "starting", &format!("{tracker} knows no group1"));
    says("* 1 25");
    storage(&machine, "starting", &on_its_way("waits for its turn to copy the files of its group"));
    says("* 2");
    storage(&machine, "starting", &on_its_way("copies the files of its group"));
    says("* 7 25");
    storage(&machine, "ready", active);
    let probe = machine.clusterctl("probe storage@n1");
    let means = "  it means: it has all files of its group, and serves them\n";
    let asked =
        "fastdfs storage at 10.77.0.23:23000, and of it the tracker 10.77.0.24:22122 or 10.77.0.22:22122";
    assert_eq!(probe.said, format!("ready ({active})\n{means}  asked: {asked}, from n1\n"));

    // It answers its own active test all the while.
    says("* 9");
    storage(&machine, "unready", &on_its_way("recovers its files from its group"));
    says("one-storage-lost-*");
    storage(&machine, "unready", &format!("{tracker} believes that 10.77.0.23:23000 is offline"));
    says("*");
    storage(&machine, "ready", active);
}
