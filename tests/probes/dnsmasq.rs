//! DNS: a real name server, as it answers, forwards in vain, and refuses.

use super::*;
use clusterd::model::Record;
use std::net::IpAddr;

/// A dnsmasq that knows `shop.example`, forwards `*.gone.example` to where nobody answers, and refuses all else.
fn dnsmasq(dir: &Path, address: SocketAddr, silent: SocketAddr) -> Daemon {
    let hosts = dir.join("hosts");
    let many: String = (1..=250).map(|i| format!("10.1.0.{i} many.example\n")).collect();
    std::fs::write(
        &hosts,
        format!("10.0.0.5 shop.example\n10.0.0.6 shop.example\nfd00::5 shop.example\n{many}"),
    )
    .unwrap();
    let forward = format!("--server=/gone.example/{}#{}", silent.ip(), silent.port());
    let mut command = Command::new("dnsmasq");
    command
        .args([
            "--keep-in-foreground",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--user=root",
            "--pid-file=",
        ])
        .args([
            "--conf-file=/dev/null",
            "--listen-address=127.0.0.1",
            "--mx-host=shop.example,mail.example,10",
        ])
        .args(["--local=/example/", &forward])
        .arg(format!("--port={}", address.port()))
        .arg(format!("--addn-hosts={}", hosts.display()));
    Daemon::start(&mut command)
}

#[tokio::test]
async fn dnsmasq_answers_for_what_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    // It takes what is forwarded, and says nothing.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let question =
        |name: &str, record, expect: Option<IpAddr>| Ask::Dns { address, name: name.into(), record, expect };
    let shop = || question("shop.example", Record::A, None);
    not_ready(ask(shop()).await, Trouble::Refused, format!("nothing listens on UDP {address}"));

    let daemon = dnsmasq(dir.path(), address, silent.local_addr().unwrap());
    let verdict = until(shop(), Verdict::is_ready).await.to_string();
    // In an order that changes.
    let either =
        ["10.0.0.5, 10.0.0.6", "10.0.0.6, 10.0.0.5"].map(|all| format!("ready (shop.example is {all})"));
    assert!(either.contains(&verdict), "{verdict}");
    assert!(ask(question("Shop.Example", Record::A, "10.0.0.6".parse().ok())).await.is_ready());
    let six = ask(question("shop.example", Record::Aaaa, None)).await;
    assert_eq!(six, Verdict::ready("shop.example is fd00::5"));
    let mail = ask(question("shop.example", Record::Mx, None)).await;
    assert_eq!(mail, Verdict::ready("shop.example has 1 MX record"));
    let text = ask(question("shop.example", Record::Txt, None)).await;
    not_ready(text, Trouble::Declined, format!("{address} answers, but has no TXT record of shop.example"));

    let unknown = ask(question("other.example", Record::A, None)).await;
    let why = format!("{address} says that there is no other.example (NXDOMAIN)");
    not_ready(unknown, Trouble::Declined, why);
    let foreign = ask(question("other.test", Record::A, None)).await;
    not_ready(foreign, Trouble::Declined, format!("{address} refuses to answer for other.test (REFUSED)"));

    // 250 addresses do not fit into a datagram: it is asked again over TCP.
    let many = ask(question("many.example", Record::A, "10.1.0.250".parse().ok())).await.to_string();
    let (some, more) = many.split_at(many.len() - ", 246 more)".len());
    assert!(more == ", 246 more)" && some.starts_with("ready (many.example is 10.1.0."), "{many}");

    let Verdict::NotReady { kind: Trouble::Unreachable, .. } =
        ask_in_vain(question("x.gone.example", Record::A, None)).await
    else {
        panic!("who should know says nothing")
    };
    daemon.freeze();
    let why = format!("no answer from {address} within 3 s");
    not_ready(ask_in_vain(shop()).await, Trouble::Unreachable, why);
    daemon.thaw();
    assert!(ask(shop()).await.is_ready());
    daemon.cut();
    not_ready(ask(shop()).await, Trouble::Refused, format!("nothing listens on UDP {address}"));
}
