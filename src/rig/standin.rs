//! Units that run the built-in stand-in instead of a daemon: it speaks the protocol's readiness and nothing more.
//! Like the daemons it leaves its pid file behind when it is killed.

use super::{Laid, Nature, Site, command, literal, quoted};

pub const TRACKER_PORT: u16 = 22122;
const STORAGE_PORT: u16 = 23000;
const OFFICE_PORT: u16 = 2002;

/// A daemon whose probe is called as it is itself.
pub fn plain(site: &Site, kind: &str, port: u16, why: String) -> Laid {
    listening(site, kind, &address(port), &format!("kind = \"{kind}\", port = {port}"), why)
}

pub fn http(site: &Site, port: u16, why: String) -> Laid {
    listening(site, "http", &address(port), &format!("kind = \"http\", port = {port}, path = \"/\""), why)
}

/// Debian has no FastDFS.
pub fn fastdfs(site: &Site, kind: &str, port: u16) -> Laid {
    let why = "FastDFS is in no Debian package".to_owned();
    listening(site, kind, &address(port), &format!("kind = \"fastdfs\", port = {port}"), why)
}

/// The sample says with `set.trackers` who knows of it; a stand-in of a tracker knows nobody.
pub fn storage(site: &Site) -> Laid {
    fastdfs(site, "fastdfs-storage", STORAGE_PORT).with_set("trackers", "\"\"")
}

/// The preview server; the sample may say with `set.listen` where it listens.
pub fn office(site: &Site) -> Laid {
    let why = "the rig has no set-up for LibreOffice yet".to_owned();
    let laid = listening(site, "office", "{listen}", "kind = \"tcp\", address = \"{listen}\"", why);
    laid.with_set("listen", &quoted(address(OFFICE_PORT)))
}

/// Refuses to start over a pid file, as Redis's classic start script does.
pub fn redis(site: &Site, port: u16, why: String) -> Laid {
    let words = ["--listen", "{address}:{port}", "--strict-pidfile"];
    let laid = unit(site, "redis", &words, "kind = \"redis\", port = \"{port}\"", why);
    laid.with_set("port", &port.to_string())
}

/// A daemon that serves no port: it counts as ready while it runs.
pub fn running(site: &Site, kind: &str, why: String) -> Laid {
    unit(site, kind, &[], "kind = \"running\"", why)
}

fn address(port: u16) -> String {
    format!("{{address}}:{port}")
}

fn listening(site: &Site, kind: &str, listen: &str, probe: &str, why: String) -> Laid {
    unit(site, kind, &["--listen", listen], probe, why)
}

fn unit(site: &Site, kind: &str, more: &[&str], probe: &str, why: String) -> Laid {
    let program = literal(&site.options.clusterctl);
    let here = site.unit_dir();
    let pidfile = format!("{here}/{kind}.pid");
    let words = [&program, "stand-in", kind, "--pidfile", &pidfile].into_iter().chain(more.iter().copied());
    let unit = format!(
        "# A built-in stand-in: {why}.\n\
         [run]\n\
         command = {command}\n\
         pidfile = {pidfile}\n\
         make_folders = [{folder}]\n\
         \n\
         [ready]\n\
         probe = {{ {probe} }}\n",
        command = command(words),
        pidfile = quoted(&pidfile),
        folder = quoted(&here),
    );
    Laid { unit, nature: Nature::StandIn(why) }
}

impl Laid {
    /// The same with a parameter and its value (as TOML).
    fn with_set(mut self, key: &str, value: &str) -> Laid {
        self.unit.insert_str(0, &format!("[set]\n{key} = {value}\n\n"));
        self
    }
}
