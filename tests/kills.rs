//! A thousand kill -9, of agents and of services, of real daemons and tiny ones, wherever they happen to be. In the end
//! all is up, one of each.

mod agents;

use agents::Cluster;
use clusterd::engine::view::StateName;
use clusterd::process::Tree;
use clusterd::sim::chance::Chance;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

const KILLS: u32 = 1000;
/// Of so many kills, one is of an agent.
const AGENTS: u64 = 4;
/// Between two kills passes at most so much, by chance: no two starts are cut off at the same point.
const PACE_MICROS: u64 = 60_000;
/// How long until all is up again after the last.
const WITHIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// Each instance, and how many processes it has.
const INSTANCES: [(&str, usize); 9] = [
    ("redis@n1", 1),
    ("redis@n2", 1),
    ("mariadb@n1", 1),
    ("nginx@n2", 3),
    ("nginx@n3", 3),
    ("plain@n3", 2),
    ("plain@n1", 2),
    ("forked@n2", 1),
    ("notified@n3", 1),
];

fn seed() -> u64 {
    let given = std::env::var("SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| (u64::from(std::process::id()) * 0x9E37_79B9) | 1)
}

#[test]
fn a_thousand_random_kills_leave_one_of_each() {
    let seed = seed();
    println!("SEED={seed}");
    let mut chance = Chance::new(seed);
    let mut cluster = lay_out();
    for node in NODES {
        cluster.start(node);
    }
    wait_all_up(&mut cluster, seed);
    let trees: BTreeMap<&str, Tree> = NODES.iter().map(|n| (*n, cluster.tree(n).unwrap())).collect();
    let mut told: BTreeMap<String, u32> = BTreeMap::new();
    let begun = Instant::now();
    for _ in 0..KILLS {
        if chance.below(AGENTS) == 0 {
            let node = NODES[chance.index(NODES.len())];
            cluster.kill(node);
            cluster.start(node);
            *told.entry(format!("agent of {node}")).or_default() += 1;
        } else {
            let name = kill_one(&trees, &mut chance, begun);
            *told.entry(name).or_default() += 1;
        }
        std::thread::sleep(Duration::from_micros(chance.below(PACE_MICROS)));
    }
    println!("{KILLS} kills in {:.1} s: {told:?}", begun.elapsed().as_secs_f64());
    wait_all_up(&mut cluster, seed);
    check(&cluster, &trees, seed);
    println!("all up {:.1} s after the first", begun.elapsed().as_secs_f64());
}

/// Kills a process of an instance, whichever lives.
fn kill_one(trees: &BTreeMap<&str, Tree>, chance: &mut Chance, begun: Instant) -> String {
    loop {
        assert!(begun.elapsed() < 4 * WITHIN, "nothing lives any more");
        let (instance, _) = INSTANCES[chance.index(INSTANCES.len())];
        let tree = &trees[instance.split_once('@').unwrap().1];
        let living = members(tree, instance);
        if living.is_empty() {
            continue;
        }
        let pid = living[chance.index(living.len())];
        if let Ok(handle) = clusterd::process::Handle::open(pid)
            && tree.is_member(pid, instance)
            && handle.signal(Signal::SIGKILL as i32).unwrap()
        {
            return instance.to_owned();
        }
    }
}

/// Without a look at all processes, where there are leaves.
fn members(tree: &Tree, instance: &str) -> Vec<i32> {
    match tree.without_cgroups() {
        None => tree.leaf_members(instance),
        Some(_) => tree.members(instance),
    }
    .unwrap()
}

fn wait_all_up(cluster: &mut Cluster, seed: u64) {
    let begun = Instant::now();
    loop {
        for node in NODES {
            // One that found the locks held by a child that was not yet its program has ended by itself.
            if cluster.ended(node).is_some() {
                cluster.start(node);
            }
        }
        let nodes: Vec<_> = NODES.iter().map(|node| cluster.node_status(node)).collect();
        let all: Vec<_> = nodes.iter().flatten().flat_map(|node| &node.instances).collect();
        let others: Vec<_> = all.iter().filter(|view| view.state != StateName::Ready).collect();
        if all.len() == INSTANCES.len() && others.is_empty() {
            return;
        }
        assert!(begun.elapsed() < WITHIN, "SEED={seed}: not up: {others:#?}, {} in all", all.len());
        std::thread::sleep(LOOK);
    }
}

fn check(cluster: &Cluster, trees: &BTreeMap<&str, Tree>, seed: u64) {
    let doubles = fs::read_to_string(cluster.dir().join("doubles")).unwrap_or_default();
    assert_eq!(doubles, "", "SEED={seed}: two at a time");
    let begun = Instant::now();
    loop {
        let wrong = wrong(cluster, trees);
        if wrong.is_empty() {
            return;
        }
        // A worker that was killed last is made anew by its master a moment later.
        assert!(begun.elapsed() < WITHIN, "SEED={seed}: {wrong:#?}");
        std::thread::sleep(LOOK);
    }
}

/// Whatever is too many, too few, dead and not reaped, or nobody's.
fn wrong(cluster: &Cluster, trees: &BTreeMap<&str, Tree>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut known: Vec<i32> = NODES.iter().map(|node| cluster.pid(node) as i32).collect();
    let agents = known.clone();
    for (instance, count) in INSTANCES {
        let members = trees[instance.split_once('@').unwrap().1].members(instance).unwrap();
        if members.len() != count {
            wrong.push(format!("{instance} has {members:?} instead of {count}"));
        }
        known.extend(members);
    }
    let dir = cluster.dir().to_str().unwrap();
    for entry in fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let Some(pid) = path.file_name().and_then(|n| n.to_str()?.parse::<i32>().ok()) else { continue };
        let read = |file: &str| fs::read(path.join(file)).unwrap_or_default();
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let (state, parent) = (fields.next(), fields.next().and_then(|p| p.parse::<i32>().ok()));
        if state == Some("Z") && parent.is_some_and(|p| agents.contains(&p)) {
            wrong.push(format!("a zombie: {stat}"));
        }
        let ours =
            [read("cmdline"), read("environ")].iter().any(|t| String::from_utf8_lossy(t).contains(dir));
        if ours && !known.contains(&pid) && state != Some("Z") {
            wrong.push(format!("nobody's: {stat}"));
        }
    }
    wrong
}

/// Each tiny daemon holds a lock with all its processes, and says so where it finds that taken.
fn lay_out() -> Cluster {
    let cluster = Cluster::new("kills");
    let dir = cluster.dir();
    let file = "[cluster]\nname = \"NAME\"\ninsecure = true\n\n[nodes]\nall = { n1 = \"A1\", n2 = \"A2\", n3 = \"A3\" }\n\n[services]\n\
                redis = { on = [\"n1\", \"n2\"] }\nmariadb = { on = \"n1\" }\n\
                nginx = { on = [\"n2\", \"n3\"], needs.redis = \"any\" }\nplain = { on = [\"n1\", \"n3\"] }\n\
                forked = { on = \"n2\" }\nnotified = { on = \"n3\", needs.forked = { count = 1, proof = \"agent\" } }\n";
    let often = "[restart]\ndelay = \"10ms\"\nmax = \"100ms\"\nlimit = 0\n";
    // What a service says while no agent lives is lost: then this deadline is what it waits for.
    let soon = "[ready]\nwithin = \"15s\"\n";
    let running = "[ready]\nprobe = { kind = \"running\", for = \"10ms\" }\n";
    let script = |then: &str| {
        // 1 says that it is taken; a flock that is itself killed says nothing about anybody.
        let one = "exec 9>>DIR/{instance}.one; flock -n 9; test $? != 1 || echo {instance} >>DIR/doubles";
        format!("command = [\"/bin/sh\", \"-c\", \"{one}; {then}\"]\n")
    };
    let redis = "[run]\ncommand = [\"/usr/bin/redis-server\", \"--port\", \"7410\", \"--bind\", \"{address}\", \
                 \"--save\", \"\", \"--dir\", \"DIR\"]\n[ready]\nprobe = { kind = \"redis\", port = 7410 }\n";
    let nginx = "[run]\ncommand = [\"/usr/sbin/nginx\", \"-c\", \"DIR/{node}.nginx\", \"-g\", \"daemon off;\"]\n\
                 pidfile = \"DIR/{node}.nginx.pid\"\n[ready]\nprobe = { kind = \"http\", port = 7411 }\n";
    let mariadb = "[run]\nkind = \"notify\"\ncommand = [\"/usr/sbin/mariadbd\", \"--no-defaults\", \"--user=root\", \
                   \"--datadir=DIR/data\", \"--socket=DIR/mariadb.sock\", \"--skip-networking\", \
                   \"--innodb-buffer-pool-size=8M\"]\n[leftovers]\nsockets = [\"DIR/mariadb.sock\"]\n";
    let forked = "kind = \"forking\"\npidfile = \"DIR/forked.pid\"\nexecutables = [\"sleep\"]\n".to_owned()
        + &script("/bin/sleep 1000 & echo $! >DIR/forked.pid");
    // Where the messenger is killed the service ends, rather than be waited for until its deadline.
    let notified =
        "kind = \"notify\"\n".to_owned() + &script("systemd-notify --ready || exit 1; exec /bin/sleep 1000");
    // It ends when its child does.
    let plain = script("/bin/sleep 1000 & wait; exit 1");
    cluster.write(
        file,
        &[
            ("redis", &format!("{redis}{often}")),
            ("nginx", &format!("{nginx}{often}")),
            ("mariadb", &format!("{mariadb}{soon}{often}")),
            ("plain", &format!("[run]\n{plain}{running}{often}")),
            ("forked", &format!("[run]\n{forked}{running}{often}")),
            ("notified", &format!("[run]\n{notified}{soon}{often}")),
        ],
    );
    for (node, number) in [("n2", 2), ("n3", 3)] {
        let text = format!(
            "worker_processes 2;\npid {dir}/{node}.nginx.pid;\nerror_log {dir}/{node}.nginx.log;\n\
             events {{ worker_connections 64; }}\nhttp {{ access_log off; client_body_temp_path {dir}/{node}.t1; \
             proxy_temp_path {dir}/{node}.t2; fastcgi_temp_path {dir}/{node}.t3; uwsgi_temp_path {dir}/{node}.t4; \
             scgi_temp_path {dir}/{node}.t5; server {{ listen {}:7411; location / {{ return 200; }} }} }}\n",
            cluster.address(number),
            dir = dir.display()
        );
        fs::write(dir.join(format!("{node}.nginx")), text).unwrap();
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).unwrap();
    let installed = Command::new("/usr/bin/mariadb-install-db")
        .args(["--no-defaults", "--user=root", "--skip-test-db"])
        .arg(format!("--datadir={}", dir.join("data").display()))
        .output()
        .unwrap();
    assert!(installed.status.success(), "{installed:?}");
    cluster
}
