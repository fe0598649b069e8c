//! nginx, in the foreground: answers 200 with its node's name.

use super::{Laid, Nature, Placed, RigError, Site, command, files, missing, quoted, standin};

const SERVER: &str = "/usr/sbin/nginx";

pub fn lay_out(site: &Site, placed: &Placed) -> Result<Laid, RigError> {
    let port = site.options.http_port;
    if let Some(why) = missing(&[SERVER], "nginx-light") {
        return Ok(standin::http(site, port, why));
    }
    // Its master keeps the agent's user; as root its workers take one of their own.
    let workers = if nix::unistd::geteuid().is_root() {
        if site.options.as_users { "user www-data;\n" } else { "user root;\n" }
    } else {
        ""
    };
    let owner = files::Owner::Me;
    for (node, address) in &placed.nodes {
        let folder = site.instance_dir(placed.service, node);
        files::make_folder(&folder, &owner)?;
        let here = folder.display();
        let config = format!(
            "{workers}worker_processes 1;\n\
             pid {here}/nginx.pid;\n\
             events {{ worker_connections 128; }}\n\
             http {{\n\
             \x20   access_log off;\n\
             \x20   client_body_temp_path {here}/body;\n\
             \x20   proxy_temp_path {here}/proxy;\n\
             \x20   fastcgi_temp_path {here}/fastcgi;\n\
             \x20   uwsgi_temp_path {here}/uwsgi;\n\
             \x20   scgi_temp_path {here}/scgi;\n\
             \x20   server {{\n\
             \x20       listen {address}:{port};\n\
             \x20       location / {{ return 200 \"{node}\\n\"; }}\n\
             \x20   }}\n\
             }}\n"
        );
        files::write(&folder.join("nginx.conf"), &config, &owner, 0o644)?;
    }
    let here = site.unit_dir();
    let unit = format!(
        "# nginx, in the foreground.\n\
         [run]\n\
         command = {command}\n\
         pidfile = {pidfile}\n\
         \n\
         [ready]\n\
         probe = {{ kind = \"http\", port = {port}, path = \"/\" }}\n\
         \n\
         [stop]\n\
         signal = \"QUIT\"\n\
         timeout = \"10s\"\n",
        command = command([
            SERVER.to_owned(),
            "-p".to_owned(),
            here.clone(),
            "-c".to_owned(),
            format!("{here}/nginx.conf"),
            "-e".to_owned(),
            "stderr".to_owned(),
            "-g".to_owned(),
            "daemon off;".to_owned(),
        ]),
        pidfile = quoted(format!("{here}/nginx.pid")),
    );
    Ok(Laid { unit, nature: Nature::Real(SERVER.into()) })
}
