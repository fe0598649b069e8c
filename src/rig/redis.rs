//! Redis behind the classic start script: "pid file exists: already running or crashed".
//!
//! That script is what strands Redis after a power cut, so it is the runner here.

use super::{Laid, Nature, Placed, RigError, SecondRedis, Site, command, files, missing, quoted, standin};
use std::net::IpAddr;

pub const PORT: u16 = 6379;
const SERVER: &str = "/usr/bin/redis-server";

pub fn lay_out(site: &Site, placed: &Placed) -> Result<Laid, RigError> {
    let here = site.unit_dir();
    if let Some(why) = absent() {
        return Ok(standin::redis(site, PORT, why));
    }
    for (node, address) in &placed.nodes {
        configure(site, placed.service, node, *address, PORT)?;
    }
    let unit = format!(
        "# Redis, by a start script that takes any pid file for a running Redis.\n\
         [set]\n\
         port = {PORT}\n\
         \n\
         [run]\n\
         kind = \"forking\"\n\
         command = {command}\n\
         {user}\
         pidfile = {pidfile}\n\
         # Debian's redis-server is a link to redis-check-rdb.\n\
         executables = [\"{SERVER}\", \"/usr/bin/redis-check-rdb\"]\n\
         \n\
         [ready]\n\
         probe = {{ kind = \"redis\", port = \"{{port}}\" }}\n",
        command = command([format!("{here}/start")]),
        user = site.user_line("redis"),
        pidfile = quoted(format!("{here}/redis.pid")),
    );
    Ok(Laid { unit, nature: Nature::Real(SERVER.into()) })
}

/// One more, by the same unit.
pub fn lay_out_second(site: &Site, more: &SecondRedis) -> Result<Nature, RigError> {
    if let Some(why) = absent() {
        return Ok(Nature::StandIn(why));
    }
    configure(site, &more.service, &more.node, site.address(&more.node)?, more.port)?;
    Ok(Nature::Real(SERVER.into()))
}

fn absent() -> Option<String> {
    missing(&[SERVER], "redis-server")
}

/// One instance's own files.
fn configure(site: &Site, service: &str, node: &str, address: IpAddr, port: u16) -> Result<(), RigError> {
    let owner = site.owner("redis")?;
    let folder = site.instance_dir(service, node);
    files::make_folder(&folder, &owner)?;
    files::make_folder(&folder.join("data"), &owner)?;
    let here = folder.display();
    let config = format!(
        "bind {address}\n\
         port {port}\n\
         protected-mode no\n\
         daemonize yes\n\
         pidfile {here}/redis.pid\n\
         logfile {here}/redis.log\n\
         dir {here}/data\n\
         appendonly yes\n\
         save \"\"\n"
    );
    files::write(&folder.join("redis.conf"), &config, &owner, 0o644)?;
    files::write(&folder.join("start"), &start_script(&here.to_string()), &owner, 0o755)
}

/// Looks only at whether the file is there, and calls its refusal a success, as the classic one does.
fn start_script(folder: &str) -> String {
    format!(
        "#!/bin/sh\n\
         pidfile='{folder}/redis.pid'\n\
         if [ -f \"$pidfile\" ]; then\n\
         \x20   echo \"$pidfile exists, process is already running or crashed\"\n\
         else\n\
         \x20   echo 'Starting Redis server...'\n\
         \x20   {SERVER} '{folder}/redis.conf'\n\
         fi\n"
    )
}
