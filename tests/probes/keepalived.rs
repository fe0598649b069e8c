//! keepalived in a network namespace of its own: who holds the address, and what it says of itself.

use super::*;
use clusterd::model::VipAsk;
use std::net::IpAddr;

const VIP: [u8; 4] = [192, 0, 2, 100];

/// The other end of the cable: a namespace that lives as long as a program sleeps in it.
pub struct Far(Child);

impl Far {
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn make() -> Far {
        let child = Command::new("unshare").args(["--net", "sleep", "1000"]).spawn().unwrap();
        let far = Far(child);
        let here = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let begun = Instant::now();
        while std::fs::read_link(format!("/proc/{}/ns/net", far.0.id())).is_ok_and(|there| there == here) {
            assert!(begun.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
        far
    }

    pub fn run(&self, words: &str) {
        let pid = self.0.id().to_string();
        done(Command::new("nsenter").args(["--net", "--target", &pid]).args(words.split(' ')));
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn keepalived_tells_its_state_and_the_kernel_who_holds_the_address() {
    alone(async || {
        let far = Far::make();
        ip("link add eth0 type veth peer name far0");
        ip(&format!("link set far0 netns {}", far.0.id()));
        ip("addr add 192.0.2.1/24 dev eth0");
        ip("link set eth0 up");
        far.run("ip link set far0 up");
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let configuration = "global_defs {\n router_id a\n}\nvrrp_instance www {\n state BACKUP\n interface eth0\n \
            virtual_router_id 51\n priority 150\n advert_int 1\n unicast_src_ip 192.0.2.1\n unicast_peer {\n 192.0.2.2\n }\n \
            virtual_ipaddress {\n 192.0.2.100/24\n }\n}\n";
        std::fs::write(at("keepalived.conf"), configuration).unwrap();
        let asked = |keepalived: bool, held: bool| {
            let keepalived = keepalived.then(|| at("pid"));
            Ask::Vip(VipAsk { addresses: vec![IpAddr::from(VIP)], held, keepalived })
        };
        let gone = format!("keepalived does not run: {}: no such file or directory", at("pid").display());
        not_ready(ask(asked(true, false)).await, Trouble::Refused, gone);
        assert_eq!(ask(asked(false, false)).await, Verdict::ready("holds no virtual address"));
        let missing = "192.0.2.100 is on no interface of this machine";
        not_ready(ask(asked(false, true)).await, Trouble::Declined, missing);
        // As a real server behind a director has it.
        ip("addr add 192.0.2.100/32 dev lo");
        not_ready(ask(asked(false, true)).await, Trouble::Declined, missing);
        ip("addr del 192.0.2.100/32 dev lo");

        let daemon = Daemon::start(
            Command::new("keepalived")
                .args(["--dont-fork", "--log-console", "--vrrp", "--use-file"])
                .arg(at("keepalived.conf"))
                .arg("--pid")
                .arg(at("pid"))
                .arg("--vrrp_pid")
                .arg(at("vrrp.pid")),
        );
        let seen = async |wanted: &str| {
            let begun = Instant::now();
            loop {
                let verdict = ask(asked(true, false)).await;
                if verdict.to_string() == wanted {
                    return verdict;
                }
                assert!(begun.elapsed() < PATIENCE, "{verdict:?}, not {wanted}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        seen("ready (www is BACKUP, holds no virtual address)").await;
        let master = seen("ready (www is MASTER, holds 192.0.2.100 on eth0)").await;
        assert_eq!(roles(&master), [Role::Master]);
        assert_eq!(ask(asked(false, true)).await.to_string(), "ready (holds 192.0.2.100 on eth0)");

        // Somebody takes the address away behind its back: it is put back, or said.
        ip("link set eth0 down");
        seen("keepalived says that www is in FAULT: its interface is down, or what it tracks fails").await;
        ip("link set eth0 up");
        seen("ready (www is MASTER, holds 192.0.2.100 on eth0)").await;

        // Frozen it cannot write its state down.
        daemon.freeze();
        let silent = "keepalived runs and does not write its state into /tmp/keepalived.json within 3 s";
        not_ready(ask_in_vain(asked(true, false)).await, Trouble::Silent, silent);
        daemon.thaw();

        // Killed as a power cut would: the address stays, which the kernel alone tells.
        let child: i32 = std::fs::read_to_string(at("vrrp.pid")).unwrap().trim().parse().unwrap();
        kill(Pid::from_raw(child), Signal::SIGSTOP).unwrap();
        let number = daemon.child.id();
        daemon.cut();
        kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
        let held = ask(asked(false, true)).await;
        assert_eq!(held.to_string(), "ready (holds 192.0.2.100 on eth0)");
        let gone = format!("keepalived does not run: by {}, process {number} is gone", at("pid").display());
        not_ready(ask(asked(true, false)).await, Trouble::Refused, gone);
    });
}
