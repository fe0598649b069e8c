//! A fresh tree with nothing but what every Debian has, and the package: no systemd runs there, no cgroups, as in a
//! container.

use super::disks::{disks, run};
use super::machine::Network;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What is done in the tree. The stand-in is the package's own, so nothing else is installed.
const SCRIPT: &str = r#"
set -eu
dpkg -i /clusterd.deb
echo one >/etc/clusterd/node
cat >/etc/clusterd/cluster.toml <<END
[cluster]
name = "bare"
insecure = true
[nodes]
all = { one = "127.0.0.1" }
[services]
cache = { on = "all" }
web = { on = "all", needs.cache = "same-node" }
END
cat >/etc/clusterd/units/cache.toml <<END
[run]
command = ["/usr/bin/clusterctl", "stand-in", "redis", "--listen", "127.0.0.1:6379", "--pidfile", "/run/cache.pid"]
pidfile = "/run/cache.pid"
[ready]
probe = { kind = "redis", port = 6379 }
END
cat >/etc/clusterd/units/web.toml <<END
[run]
command = ["/bin/sleep", "1d"]
[ready]
probe = { kind = "running", for = "100ms" }
END
: >/run/cache.pid
clusterctl check
up() { timeout 100 sh -c 'until clusterctl status; do sleep 0.2; done'; }
clusterd &
up
clusterctl events | grep 'cache.pid is empty'
cache=$(cat /run/cache.pid)
kill -KILL $!
clusterd &
up
test "$(cat /run/cache.pid)" = "$cache"
clusterctl down
test ! -e /proc/"$cache"
"#;

#[test]
#[ignore = "makes a tree of its own; tests/machines/all runs it"]
fn the_package_works_where_nothing_else_is_installed() {
    let folder = tempfile::tempdir().expect("a folder");
    let tree = folder.path().join("tree");
    run(Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machines/tree")).arg(&tree));
    fs::copy(&disks().package, tree.join("clusterd.deb")).expect("a copy");
    fs::write(tree.join("script"), SCRIPT).expect("a script");
    let network = Network::new();
    // Its processes end with the first one's.
    let mut inside = network.command("unshare");
    inside.args(["--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]);
    inside.arg(format!("--mount-proc={}", tree.join("proc").display()));
    run(inside.arg("chroot").arg(&tree).args(["/bin/sh", "/script"]));
}
