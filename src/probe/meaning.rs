//! What an answer means, in one sentence, for who asked by hand. Pure.

use super::ipvs;
use crate::facts::{Ready, Role, Trouble, Verdict};
use crate::model::{Ask, FastdfsAsk};

/// What is asked of whom, without anything secret: `redis at 10.0.0.1:6379`.
pub fn asked(ask: &Ask) -> String {
    match ask {
        Ask::Tcp { address } => format!("tcp to {address}"),
        Ask::Http(get) => format!("GET {}", get.url.split(['?', '#']).next().unwrap_or_default()),
        Ask::Exec { command, .. } => command.first().cloned().unwrap_or_default(),
        Ask::Mysql { address, login: None } => format!("mysql at {address}, without a login"),
        Ask::Mysql { address, login: Some(login) } => format!("mysql at {address} as {}", login.user),
        Ask::Postgres { address, login, database } => {
            format!("postgres at {address} as {}, database {database}", login.user)
        }
        Ask::Redis { address, .. } => format!("redis at {address}"),
        Ask::Activemq { address, .. } => format!("activemq at {address}"),
        Ask::Uno { address, convert: None } => format!("uno at {address}"),
        Ask::Uno { address, convert: Some(_) } => format!("uno at {address}, with a tiny document"),
        Ask::Vip(vip) => {
            let addresses: Vec<_> = vip.addresses.iter().map(ToString::to_string).collect();
            format!("this machine's interfaces for {}", addresses.join(" and "))
        }
        Ask::Ipvs(wanted) => format!("this machine's IPVS for {}", ipvs::told(wanted.service)),
        Ask::Udp { address, .. } => format!("a datagram to {address}"),
        Ask::Dns { address, name, record, .. } => {
            format!("the {} record of {name} at {address}", record.as_str())
        }
        Ask::Grpc(ask) if ask.service.is_empty() => format!("grpc health at {}", ask.address),
        Ask::Grpc(ask) => format!("grpc health of {} at {}", ask.service, ask.address),
        Ask::Unix { path } => format!("unix socket {}", path.display()),
        Ask::File { path, .. } => format!("file {}", path.display()),
        Ask::Mount { path, .. } => format!("mount {}", path.display()),
        Ask::Clock { .. } => "the kernel's clock".to_owned(),
        Ask::Systemd { unit } => format!("systemd for {unit}"),
        Ask::Fastdfs { address, ask } => match ask {
            FastdfsAsk::Active => format!("fastdfs at {address}"),
            FastdfsAsk::Upload { .. } => format!("fastdfs tracker at {address}, where to upload"),
            FastdfsAsk::Storage { trackers, .. } => {
                let trackers: Vec<_> = trackers.iter().map(ToString::to_string).collect();
                format!("fastdfs storage at {address}, and of it the tracker {}", trackers.join(" or "))
            }
        },
    }
}

/// What this answer to this question means.
pub(super) fn of(ask: &Ask, verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Ready(ready) => of_ready(ask, ready),
        Verdict::Progress { .. } => {
            "it lives and is on its way: who needs it waits, and its own deadline is stretched"
        }
        Verdict::NotReady { kind, .. } => of_trouble(ask, *kind),
    }
}

fn of_ready(ask: &Ask, ready: &Ready) -> &'static str {
    let plays = |role| ready.roles.contains(&role);
    match ask {
        Ask::Tcp { .. } => "something accepts connections there; whether it serves, a connect does not tell",
        Ask::Http(_) => "the server answers as it should",
        Ask::Exec { .. } => "the program says that all is well",
        Ask::Udp { .. } => "what serves there replies as it should",
        Ask::Dns { .. } => "this server answers for the name",
        Ask::Grpc(_) => "by its own word it serves",
        Ask::Unix { .. } => "something accepts connections there; whether it serves, a connect does not tell",
        Ask::File { .. } => "the file is as it should be",
        Ask::Mount { .. } => {
            "it is mounted; whether the disk or the server behind it answers, a `file` on it tells"
        }
        Ask::Clock { .. } => "a time service keeps this machine's clock",
        Ask::Systemd { .. } => {
            "systemd has started it; whether it serves, only a question to the daemon itself tells"
        }
        Ask::Mysql { login: None, .. } => {
            "a server greets there; without a login nobody knows whether it answers queries or takes writes"
        }
        Ask::Mysql { .. } | Ask::Postgres { .. } if plays(Role::Writable) => {
            "it lets us in, answers queries and takes writes"
        }
        Ask::Mysql { .. } | Ask::Postgres { .. } if plays(Role::Replica) => {
            "it lets us in and answers queries as a replica whose link to its primary stands; it takes no writes"
        }
        Ask::Mysql { .. } | Ask::Postgres { .. } => {
            "it lets us in and answers queries, but takes no writes: it meets no need for `writable`"
        }
        Ask::Redis { .. } if plays(Role::Master) => "its data set is loaded, and it takes writes",
        Ask::Redis { .. } if plays(Role::Replica) => {
            "its data set is loaded and its link to its master stands, but it takes no writes"
        }
        Ask::Redis { .. } => "it answers",
        Ask::Activemq { also, .. } if also.store.is_some() => "this broker reaches its store, and serves",
        Ask::Activemq { .. } => {
            "this broker got its store's lock and serves; one that has lost its database since greets as well, which only \
             `store = true` tells"
        }
        Ask::Uno { convert: None, .. } => {
            "the office answers; whether it can still convert, only a document tells (`convert_every`)"
        }
        Ask::Uno { .. } => "the office answers and converts",
        Ask::Vip(_) if plays(Role::Master) => {
            "this machine holds a virtual address, and is the one to answer for it"
        }
        Ask::Vip(_) => "this machine holds none of these addresses: another one should",
        Ask::Ipvs(_) => "the kernel sends connections on to enough real servers",
        Ask::Fastdfs { ask: FastdfsAsk::Active, .. } => {
            "it answers; whether files can be put there, a tracker tells that is asked for an upload"
        }
        Ask::Fastdfs { ask: FastdfsAsk::Upload { .. }, .. } => "files can be put into the store now",
        Ask::Fastdfs { ask: FastdfsAsk::Storage { .. }, .. } => {
            "it has all files of its group, and serves them"
        }
    }
}

fn of_trouble(ask: &Ask, kind: Trouble) -> &'static str {
    match (kind, ask) {
        (Trouble::Refused, Ask::Activemq { .. }) => {
            "the machine is up and nothing listens there: the broker does not run, or it stands by, healthy, with its \
             port closed until it gets the store's lock"
        }
        (Trouble::Refused, Ask::Vip(_)) => {
            "keepalived does not run here, or leaves its number in another file"
        }
        (Trouble::Refused, Ask::Ipvs(_)) => {
            "nothing is balanced here: load the module and set the service up"
        }
        (Trouble::Refused, Ask::Unix { .. }) => {
            "the daemon does not run, or its socket is another one: no program listens on this one"
        }
        (Trouble::Refused, Ask::Udp { .. } | Ask::Dns { .. }) => {
            "the machine is up and nothing takes datagrams there: the daemon does not run, or it listens on another \
             address or port"
        }
        (Trouble::Refused, _) => {
            "the machine is up and nothing listens there: the daemon does not run, or it listens on another address or \
             port"
        }
        (Trouble::Unreachable, Ask::Udp { .. } | Ask::Dns { .. }) => {
            "no datagram comes back: the machine is off, a firewall drops it, or the daemon hangs or does not care for \
             this question"
        }
        (Trouble::Unreachable, _) => {
            "nobody answers at all: the machine is off, the network between is cut, or a firewall drops it"
        }
        (Trouble::Silent, Ask::File { .. }) => {
            "the disk under it hangs: a network disk whose server is gone, most likely"
        }
        (Trouble::Silent, Ask::Unix { .. }) => {
            "the daemon hangs or is frozen: connections wait and nobody takes them"
        }
        (Trouble::Silent, Ask::Activemq { also, .. }) if also.store.is_some() => {
            "the broker hangs, or its store does (a database, on JDBC), however open its port is"
        }
        (Trouble::Silent, Ask::Exec { .. }) => "the program hangs, or its time is too short",
        (Trouble::Silent, _) => {
            "the connection is taken and then nothing is said: the daemon hangs or is frozen, however open its port is"
        }
        (Trouble::Declined, Ask::Activemq { also, .. }) if also.store.is_some() => {
            "the broker lives, and nobody can use it: look at its store (the database, on JDBC), or at what else it says"
        }
        (Trouble::Declined, Ask::Http(_)) => {
            "the server lives, and does not answer as it should: look at the page, or at its certificate"
        }
        (Trouble::Declined, Ask::Mysql { .. } | Ask::Postgres { .. }) => {
            "the server lives, and answers no queries of ours"
        }
        (Trouble::Declined, Ask::Exec { .. }) => "by the program's word it does not serve",
        (Trouble::Declined, Ask::Udp { .. }) => "something replies there, and not what was expected",
        (Trouble::Declined, Ask::Dns { .. }) => {
            "the server lives, and does not answer for the name as it should"
        }
        (Trouble::Declined, Ask::File { .. }) => "whoever writes the file has not done it, or not lately",
        (Trouble::Declined, Ask::Mount { .. }) => {
            "what a service writes there now would go into the folder below the mount"
        }
        (Trouble::Declined, Ask::Clock { .. }) => {
            "times that this machine writes or compares may be wrong; `chronyc tracking` or `timedatectl` tells more"
        }
        (Trouble::Declined, Ask::Systemd { .. }) => {
            "systemd does not have it running; `systemctl status` and `journalctl -u` tell more"
        }
        (Trouble::Declined, _) => "it lives, and by its own word it does not serve",
        (Trouble::Garbled, _) => {
            "something answers there, but it is something else: look at the port, and at who listens on it"
        }
        (Trouble::Denied, _) => {
            "it lives and does not let us in: only a person can mend that, with another login or other rights"
        }
        (Trouble::Unaskable, _) => "it could not be asked: the trouble is on the machine that asks",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::*;
    use std::fmt::Write;

    /// One question of each kind, where there are several with the same answers.
    fn questions() -> Vec<Ask> {
        let address = "10.0.0.1:1".parse().unwrap();
        let login = Login { user: "probe".into(), password: None };
        let fastdfs = |ask| Ask::Fastdfs { address, ask };
        let stored = BrokerAsk { store: Some(StoreAsk::default()), ..BrokerAsk::default() };
        let convert = Some(Conversion {
            every: std::time::Duration::from_secs(60),
            within: std::time::Duration::from_secs(30),
        });
        vec![
            Ask::Tcp { address },
            Ask::Http(Get::of("https://10.0.0.1/health?token=secret")),
            Ask::Exec { command: vec!["/bin/check".into(), "secret".into()], contains: None },
            Ask::Mysql { address, login: None },
            Ask::Mysql { address, login: Some(login.clone()) },
            Ask::Postgres { address, login, database: "shop".into() },
            Ask::Redis { address, login: None },
            Ask::Activemq { address, also: BrokerAsk::default() },
            Ask::Activemq { address, also: stored },
            fastdfs(FastdfsAsk::Active),
            fastdfs(FastdfsAsk::Upload { group: None }),
            fastdfs(FastdfsAsk::Storage { group: "group1".into(), trackers: vec![address, address] }),
            Ask::Uno { address, convert: None },
            Ask::Uno { address, convert },
            Ask::Vip(VipAsk { addresses: vec![address.ip()], held: false, keepalived: None }),
            Ask::Ipvs(VirtualService { service: IpvsName::Fwmark(3), servers: vec![], least: 1 }),
            Ask::Udp { address, send: vec![], expect: vec![] },
            Ask::Dns { address, name: "shop.example".into(), record: Record::A, expect: None },
            Ask::Grpc(GrpcHealth { address, service: "orders".into(), tls: false, name: None, ca: None }),
            Ask::Unix { path: "/run/x".into() },
            Ask::File { path: "/run/x".into(), contains: None, max_age: None },
            Ask::Mount { path: "/srv".into(), fs: None },
            Ask::Clock { max_error: None },
            Ask::Systemd { unit: "nginx.service".into() },
        ]
    }

    /// All that an operator may read of an answer. `SNAPSHOTS=overwrite` writes it anew; its diff is then what is to be read.
    #[test]
    fn what_each_answer_means() {
        let mut text = String::new();
        for ask in questions() {
            let _ = writeln!(text, "{}", asked(&ask));
            let ready = |roles: &[Role]| {
                Verdict::Ready(Ready { detail: String::new(), roles: roles.to_vec(), identity: None })
            };
            let mut answers = vec![("ready".to_owned(), ready(&[]))];
            let roles = [Role::Master, Role::Replica, Role::Writable];
            answers.extend(roles.map(|role| (format!("ready, {role:?}"), ready(&[role]))));
            let progress = Verdict::Progress { reason: String::new(), percent: None, left: None };
            answers.push(("progress".to_owned(), progress));
            use Trouble::*;
            let troubles = [Refused, Unreachable, Silent, Declined, Garbled, Denied, Unaskable];
            answers.extend(troubles.map(|kind| (format!("{kind:?}"), Verdict::not_ready(kind, ""))));
            let mut before = "";
            for (name, verdict) in &answers {
                let meaning = of(&ask, verdict);
                if meaning != before {
                    let _ = writeln!(text, "  {name}: {meaning}");
                }
                before = meaning;
            }
        }
        assert!(!text.contains("secret"), "{text}");
        snapbox::assert_data_eq!(text, snapbox::file!["../../tests/probes/meaning.txt"]);
    }
}
