//! MariaDB: two servers that replicate each other, so that either may be missing and both may be written.
//!
//! The brokers keep one store and one lock in it; were the two servers strangers, each broker could hold "the"
//! lock on a server of its own. Each replica begins at the start of the other's log (GTID, a domain for each), and
//! what both did by themselves, such as making the brokers' tables, is passed over.
//!
//! Each server has a folder for temporary tables of its own: names there begin with the process number, and a server
//! that starts sweeps the folder. In a shared `/tmp`, servers of several process namespaces ruin each other's work.

use super::files::{self, Owner};
use super::{Laid, Nature, Placed, RigError, Site, command, literal, missing, quoted, standin};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

pub const PORT: u16 = 3306;
/// Who asks the probes' questions. It has no rights.
const PROBER: &str = "clusterd";
/// Whose tables the brokers' are, in the database of the same name.
pub const BROKER: &str = "activemq";
const REPLICA: &str = "replica";

const SERVER: &str = "/usr/sbin/mariadbd";
const INSTALLER: &str = "/usr/bin/mariadb-install-db";

/// Where the data folder is made that each server begins with.
const TEMPLATE: &str = "mysql-template";

/// Modest in memory (some 55 MB resident), quick to start. What shapes the files must stand when they are made, too.
const SETTINGS: &str = "\
skip-name-resolve
innodb-buffer-pool-size = 16M
innodb-log-file-size = 8M
innodb-log-buffer-size = 1M
key-buffer-size = 1M
aria-pagecache-buffer-size = 1M
performance-schema = OFF
";

/// Why a stand-in is needed, if one is.
pub fn absent() -> Option<String> {
    missing(&[SERVER, INSTALLER], "mariadb-server")
}

/// Where a password is kept, for the one who must know it.
pub fn password_file(site: &Site, user: &str) -> PathBuf {
    site.dir.join("secrets").join(user)
}

pub fn lay_out(site: &Site, placed: &Placed) -> Result<Laid, RigError> {
    if let Some(why) = absent() {
        return Ok(standin::plain(site, "mysql", PORT, why));
    }
    let secrets = Secrets::new(site)?;
    let template = make_template(site, &secrets)?;
    let owner = site.owner("mysql")?;
    for (place, (node, address)) in placed.nodes.iter().enumerate() {
        let folder = site.instance_dir(placed.service, node);
        files::make_folder(&folder, &owner)?;
        files::remove_tree(&folder.join("data"))?;
        files::copy_tree(&template, &folder.join("data"), &owner)?;
        files::make_folder(&folder.join("tmp"), &owner)?;
        // With two servers each is the other's source; with more, a ring.
        let (source_node, source) = &placed.nodes[(place + 1) % placed.nodes.len()];
        let mut text = format!("[mysqld]\n{SETTINGS}");
        let here = folder.display();
        let id = place + 1;
        let _ = write!(
            text,
            "max-connections = 60\n\
             datadir = {here}/data\n\
             tmpdir = {here}/tmp\n\
             socket = {here}/mysqld.sock\n\
             pid-file = {here}/mysqld.pid\n\
             bind-address = {address}\n\
             port = {PORT}\n\
             server-id = {id}\n\
             gtid-domain-id = {id}\n\
             report-host = {node}\n\
             log-bin = binlog\n\
             binlog-format = ROW\n\
             log-slave-updates\n\
             slave-exec-mode = IDEMPOTENT\n\
             slave-skip-errors = 1050,1062\n\
             slave-net-timeout = 10\n\
             skip-slave-start\n",
        );
        // MariaDB refuses to run as root unless told to.
        if !site.options.as_users && nix::unistd::geteuid().is_root() {
            text.push_str("user = root\n");
        }
        if source_node != node {
            let _ = writeln!(text, "init-file = {here}/replicate.sql");
            let password = &secrets.replica;
            let sql = format!(
                "CHANGE MASTER TO MASTER_HOST='{source}', MASTER_PORT={PORT}, MASTER_USER='{REPLICA}', \
                 MASTER_PASSWORD='{password}', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1;\nSTART SLAVE;\n"
            );
            files::write(&folder.join("replicate.sql"), &sql, &owner, 0o600)?;
        }
        files::write(&folder.join("my.cnf"), &text, &owner, 0o644)?;
    }
    files::remove_tree(&site.dir.join(TEMPLATE))?;

    let here = site.unit_dir();
    let unit = format!(
        "# MariaDB, in the foreground.\n\
         [run]\n\
         command = {command}\n\
         {user}\
         pidfile = {pidfile}\n\
         \n\
         [ready]\n\
         probe = {{ kind = \"mysql\", port = {PORT}, user = \"{PROBER}\", password_file = {password} }}\n\
         \n\
         [leftovers]\n\
         sockets = [{socket}]\n",
        command = command([SERVER.to_owned(), format!("--defaults-file={here}/my.cnf")]),
        user = site.user_line("mysql"),
        pidfile = quoted(format!("{here}/mysqld.pid")),
        password = quoted(literal(&password_file(site, PROBER))),
        socket = quoted(format!("{here}/mysqld.sock")),
    );
    Ok(Laid { unit, nature: Nature::Real(SERVER.into()) })
}

/// The passwords of one rig, new for each.
struct Secrets {
    prober: String,
    broker: String,
    replica: String,
}

impl Secrets {
    fn new(site: &Site) -> Result<Secrets, RigError> {
        let secrets =
            Secrets { prober: files::password()?, broker: files::password()?, replica: files::password()? };
        files::make_folder(&site.dir.join("secrets"), &Owner::Me)?;
        files::write(&password_file(site, PROBER), &secrets.prober, &Owner::Me, 0o600)?;
        files::write(&password_file(site, BROKER), &secrets.broker, &Owner::Me, 0o600)?;
        Ok(secrets)
    }
}

/// A folder with `data` to be copied for each server: the users and the brokers' database are in it.
fn make_template(site: &Site, secrets: &Secrets) -> Result<PathBuf, RigError> {
    let template = site.dir.join(TEMPLATE);
    let (data, tmp) = (template.join("data"), template.join("tmp"));
    files::remove_tree(&template)?;
    for folder in [&template, &data, &tmp] {
        files::make_folder(folder, &Owner::Me)?;
    }
    let Secrets { prober, broker, replica } = secrets;
    let sql = format!(
        "FLUSH PRIVILEGES;\n\
         CREATE USER '{PROBER}'@'%' IDENTIFIED BY '{prober}';\n\
         CREATE DATABASE {BROKER} CHARACTER SET latin1;\n\
         CREATE USER '{BROKER}'@'%' IDENTIFIED BY '{broker}';\n\
         GRANT ALL ON {BROKER}.* TO '{BROKER}'@'%';\n\
         CREATE USER '{REPLICA}'@'%' IDENTIFIED BY '{replica}';\n\
         GRANT REPLICATION SLAVE ON *.* TO '{REPLICA}'@'%';\n"
    );
    let (script, settings) = (template.join("users.sql"), template.join("my.cnf"));
    files::write(&script, &sql, &Owner::Me, 0o600)?;
    files::write(&settings, &format!("[mysqld]\n{SETTINGS}tmpdir = {}\n", tmp.display()), &Owner::Me, 0o644)?;
    let mut installer = Command::new(INSTALLER);
    installer
        .arg(format!("--defaults-file={}", settings.display()))
        .arg(format!("--datadir={}", data.display()))
        .arg(format!("--extra-file={}", script.display()))
        .args(["--auth-root-authentication-method=socket", "--skip-test-db", "--skip-name-resolve"]);
    if nix::unistd::geteuid().is_root() {
        installer.arg("--user=root");
    }
    files::run(&mut installer)?;
    Ok(data)
}
