//! The node's own address, which may come late: after a power cut the machines are up before the switches are.
//!
//! A service that binds an address that is not there dies, and after some failures it is given up. So nothing is looked
//! for and nothing started before the address can be bound, but for a limited time: what needs no network is to come up
//! on a machine whose network never does.

use super::notify;
use super::shell::Shell;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;
use tokio::signal::unix::Signal;
use tokio::time::{Instant, interval, sleep_until};

/// How long it is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is tried.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What ended the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The address is there, or was not waited for any longer.
    Begin,
    /// The machine goes down.
    PowerFails,
    /// The agent is to end.
    End,
}

/// Waits until the address is this machine's. `ends` are the signals that end the agent, `power_fails` the one of a
/// machine that goes down.
pub async fn wait(
    shell: &Shell,
    address: IpAddr,
    [terminate, interrupt]: [&mut Signal; 2],
    power_fails: &mut Signal,
) -> Waited {
    if is_here(address) {
        return Waited::Begin;
    }
    let text = format!(
        "{address}, this node's address, is on no interface yet; nothing is started before it is, for {} s at most",
        PATIENCE.as_secs()
    );
    tracing::warn!("{text}");
    notify::status(&text);
    shell.events.borrow_mut().record("", "address-missing", &text, serde_json::Value::Null);
    shell.problems.borrow_mut().insert("address", text);
    let (deadline, mut look) = (Instant::now() + PATIENCE, interval(LOOK_EVERY));
    let waited = loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => break Waited::End,
            _ = interrupt.recv() => break Waited::End,
            _ = power_fails.recv() => break Waited::PowerFails,
            () = sleep_until(deadline) => {
                tracing::warn!("{address} has not come; services are started without it");
                break Waited::Begin;
            }
            _ = look.tick() => {
                notify::alive();
                if is_here(address) {
                    break Waited::Begin;
                }
            }
        }
    };
    shell.problems.borrow_mut().remove("address");
    waited
}

/// Whether a socket of this machine can have the address.
fn is_here(address: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_machine_is_told_from_another() {
        assert!(is_here("127.8.9.10".parse().unwrap()));
        assert!(!is_here("192.0.2.1".parse().unwrap()), "TEST-NET-1, RFC 5737");
    }
}
