//! MariaDB and PostgreSQL, the real ones, in temporary folders on loopback; each with a user `probe` who has a password.

use nix::unistd::User;
use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PASSWORD: &str = "secret";

/// One that runs, until it is dropped.
pub struct Database {
    server: Child,
    folder: TempDir,
    pub address: SocketAddr,
    /// Asks it how many questions it has had from `probe`.
    count: Command,
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Database {
    /// A file with the password of `probe`, that nobody else may read.
    pub fn password_file(&self) -> PathBuf {
        let path = self.folder.path().join("password-of-probe");
        fs::write(&path, PASSWORD).expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
        path
    }

    /// How many questions it has had, by its own count.
    pub fn asked(&mut self) -> f64 {
        let told = self.count.output().expect("its client runs");
        let text = String::from_utf8_lossy(&told.stdout);
        let number = text.split_whitespace().last().and_then(|n| n.parse().ok());
        number.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&told.stderr)))
    }

    fn started(folder: TempDir, address: SocketAddr, server: &mut Command, count: Command) -> Database {
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = server.spawn().expect("it is installed");
        let mut database = Database { server, folder, address, count };
        let begun = Instant::now();
        while !database.count.output().is_ok_and(|told| told.status.success()) {
            assert!(begun.elapsed() < Duration::from_secs(60), "a database at {address}");
            std::thread::sleep(Duration::from_millis(50));
        }
        database
    }
}

/// None, and a line saying so, where it is not installed.
pub fn mariadb() -> Option<Database> {
    let (server, user) = (super::daemon("mariadbd", "mariadb-server")?, User::from_name("mysql").ok()??);
    let (folder, address) = (folder_of(&user), free_address());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let data = format!("--datadir={}", at("data"));
    let mut install = Command::new("mariadb-install-db");
    install.args([
        "--no-defaults",
        "--user=mysql",
        "--skip-test-db",
        "--auth-root-authentication-method=normal",
    ]);
    done(install.env("TMPDIR", folder.path()).arg(&data));
    let init = format!("CREATE USER IF NOT EXISTS probe@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n");
    fs::write(at("init.sql"), init).expect("a file");
    let mut command = Command::new(server);
    command
        .args(["--no-defaults", "--user=mysql", "--bind-address=127.0.0.1", "--skip-name-resolve"])
        .arg(data);
    command.arg(format!("--port={}", address.port())).arg(format!("--socket={}", at("sock")));
    command.arg(format!("--pid-file={}", at("pid"))).arg(format!("--init-file={}", at("init.sql")));
    let mut count = Command::new("mariadb");
    count.args(["--no-defaults", "-uroot", "-N", "-B", "-e", "SHOW GLOBAL STATUS LIKE 'Com_select'"]);
    count.arg(format!("--socket={}", at("sock")));
    Some(Database::started(folder, address, &mut command, count))
}

/// As [`mariadb`].
pub fn postgres() -> Option<Database> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.map(|entry| entry.path()).max();
    let (Some(newest), Ok(Some(user))) = (newest, User::from_name("postgres")) else {
        println!(
            "missing: PostgreSQL is not installed (apt-get install postgresql); its figures are left out\n"
        );
        return None;
    };
    let (folder, address) = (folder_of(&user), free_address());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let program = |name: &str| {
        let mut command = Command::new(newest.join("bin").join(name));
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).current_dir("/");
        command
    };
    fs::write(at("password"), PASSWORD).expect("a file");
    chown(Path::new(&at("password")), Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("root");
    let mut install = program("initdb");
    install.args(["--auth-local=trust", "--auth-host=scram-sha-256", "-U", "probe", "-N", "--pwfile"]);
    done(install.arg(at("password")).arg("-D").arg(at("data")));
    let mut command = program("postgres");
    command.args(["-h", "127.0.0.1", "-p", &address.port().to_string(), "-D", &at("data")]);
    command.arg("-c").arg(format!("unix_socket_directories={}", folder.path().display()));
    let mut count = program("psql");
    count.args(["-X", "-A", "-t", "-U", "probe", "-p", &address.port().to_string(), "-d", "template1", "-h"]);
    count.arg(folder.path());
    count.args(["-c", "SELECT xact_commit FROM pg_stat_database WHERE datname = 'postgres'"]);
    Some(Database::started(folder, address, &mut command, count))
}

fn folder_of(user: &User) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    chown(folder.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("root");
    folder
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port")
}

fn done(command: &mut Command) {
    let told = command.output().expect("it is installed");
    assert!(told.status.success(), "{command:?}: {}", String::from_utf8_lossy(&told.stderr));
}
