//! Where it lies: the servers, the key, how they are reached, and what the keys below it mean.

use super::answer::Found;
use super::client::Client;
use crate::model::{Login, Secret, Source, Sources};
use crate::probe::secure::Identity;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

const SCHEME: &str = "etcd://";
/// The most servers that are named.
const MAX_SERVERS: usize = 16;

/// How its servers are reached and what they are shown, as it is typed. Nothing secret is: what is secret is in files.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Access {
    /// Speak TLS with etcd, whose certificate names its address and is signed by an authority in this file
    #[arg(long, value_name = "FILE")]
    pub etcd_ca: Option<PathBuf>,
    /// The certificate to show to etcd
    #[arg(long, value_name = "FILE", requires_all = ["etcd_ca", "etcd_key"])]
    pub etcd_cert: Option<PathBuf>,
    /// Its key, in a file that nobody else may read
    #[arg(long, value_name = "FILE", requires = "etcd_cert")]
    pub etcd_key: Option<PathBuf>,
    /// Log in to etcd by this name; over TLS only
    #[arg(long, value_name = "NAME", requires_all = ["etcd_ca", "password"])]
    pub etcd_user: Option<String>,
    /// The password, in a file that nobody else may read
    #[arg(long, value_name = "FILE", requires = "etcd_user", group = "password")]
    pub etcd_password_file: Option<PathBuf>,
    /// The password, as a credential that systemd has given the agent (LoadCredential=)
    #[arg(long, value_name = "NAME", requires = "etcd_user", group = "password")]
    pub etcd_password_credential: Option<String>,
}

impl Access {
    pub fn identity(&self) -> Option<Identity> {
        let (certificate, key) = (self.etcd_cert.clone()?, self.etcd_key.clone()?);
        Some(Identity { certificate, key })
    }

    pub fn login(&self) -> Option<Login> {
        let file = self.etcd_password_file.clone().map(Secret::File);
        let password = file.or_else(|| self.etcd_password_credential.clone().map(Secret::Credential));
        Some(Login { user: self.etcd_user.clone()?, password })
    }

    /// The files by which it is known whom we listen to: who can write them can give us commands to run.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let files = [&self.etcd_ca, &self.etcd_cert, &self.etcd_key, &self.etcd_password_file];
        files.into_iter().flatten().map(PathBuf::as_path)
    }
}

/// Where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    servers: Vec<SocketAddr>,
    /// Without a slash at its end.
    key: String,
    access: Rc<Access>,
}

impl Place {
    /// What `--config` says, where that is no path.
    ///
    /// # Errors
    /// A sentence, with what to write instead.
    pub fn read(config: &Path, access: Access) -> Option<Result<Place, String>> {
        let rest = config.to_str()?.strip_prefix(SCHEME)?;
        Some(Place::parse(rest, access))
    }

    fn parse(rest: &str, access: Access) -> Result<Place, String> {
        let form = "write etcd://ADDRESS:PORT,…/KEY, such as etcd://10.0.0.1:2379/shop";
        let (servers, key) = rest.split_once('/').ok_or_else(|| format!("no key is named; {form}"))?;
        let key = key.trim_end_matches('/');
        if key.is_empty() {
            return Err(format!("no key is named; {form}"));
        }
        let server = |text: &str| {
            text.parse::<SocketAddr>().map_err(|_| {
                format!(
                    "\"{text}\" is no address with a port (names are not looked up: DNS may be down); {form}"
                )
            })
        };
        let servers: Vec<SocketAddr> = servers.split(',').map(server).collect::<Result<_, _>>()?;
        if servers.len() > MAX_SERVERS {
            return Err(format!("more than {MAX_SERVERS} servers are named"));
        }
        Ok(Place { servers, key: format!("/{key}"), access: Rc::new(access) })
    }

    /// One for each server.
    pub(super) fn clients(&self) -> Vec<Client> {
        self.servers.iter().map(|server| Client::new(*server, self.access.clone())).collect()
    }

    /// Below it lie the files.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// The copy's cluster file, in a state folder.
    pub fn copy_in(state: &Path) -> PathBuf {
        state.join("etcd").join("cluster.toml")
    }

    pub(super) fn shown(&self, name: &str) -> String {
        let servers: Vec<String> = self.servers.iter().map(SocketAddr::to_string).collect();
        format!("{SCHEME}{}{}/{name}", servers.join(","), self.key)
    }

    /// The first key and the one after the last, as etcd wants them.
    pub(super) fn range(&self) -> Value {
        // `0` comes after `/`.
        json!({ "key": STANDARD.encode(format!("{}/", self.key)), "range_end": STANDARD.encode(format!("{}0", self.key)) })
    }

    /// The configuration among the keys.
    pub(super) fn sources(&self, found: &Found) -> Result<Sources, String> {
        let mut cluster = None;
        let mut units = BTreeMap::new();
        for pair in &found.kvs {
            let key = text(&pair.key)?;
            let name = key.strip_prefix(&self.key).and_then(|k| k.strip_prefix('/')).unwrap_or_default();
            let source = || Ok::<_, String>(Source { path: self.shown(name), text: text(&pair.value)? });
            if name == "cluster.toml" {
                cluster = Some(source()?);
            } else if let Some(unit) = name.strip_prefix("units/").and_then(|unit| unit.strip_suffix(".toml"))
            {
                units.insert(unit.to_owned(), source()?);
            }
        }
        let cluster = cluster.ok_or_else(|| format!("there is no {}", self.shown("cluster.toml")))?;
        let sources = Sources { cluster, folder: self.shown("units"), units, unread: BTreeMap::new() };
        sources.check_limits()?;
        Ok(sources)
    }
}

fn text(base64: &str) -> Result<String, String> {
    let bytes = STANDARD.decode(base64).map_err(|_| "etcd's answer is no base64".to_owned())?;
    String::from_utf8(bytes).map_err(|_| "a value is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::answer::Pair;
    use super::*;

    fn place(text: &str) -> Result<Place, String> {
        Place::read(Path::new(text), Access::default()).unwrap()
    }

    #[test]
    fn a_place_in_etcd_is_told_from_a_path() {
        assert!(Place::read(Path::new("/etc/clusterd/cluster.toml"), Access::default()).is_none());
        let two = place("etcd://10.0.0.1:2379,[fd00::1]:2379/prod/shop/").unwrap();
        assert_eq!((two.servers.len(), two.key.as_str()), (2, "/prod/shop"));
        assert!(place("etcd://10.0.0.1:2379").unwrap_err().contains("no key"));
        assert!(place("etcd://10.0.0.1:2379/").unwrap_err().contains("no key"));
        assert!(place("etcd://etcd1:2379/shop").unwrap_err().contains("\"etcd1:2379\" is no address"));
    }

    #[test]
    fn keys_are_files_and_nothing_else_is() {
        let place = place("etcd://10.0.0.1:2379/shop").unwrap();
        let pair = |key: &str, value: &str| Pair { key: STANDARD.encode(key), value: STANDARD.encode(value) };
        let found = |kvs| {
            let mut found = Found::default();
            found.kvs = kvs;
            found
        };
        let all = [("/shop/cluster.toml", "c"), ("/shop/units/redis.toml", "u"), ("/shop/notes", "n")];
        let sources = place.sources(&found(all.map(|(k, v)| pair(k, v)).into())).unwrap();
        assert_eq!((sources.cluster.text.as_str(), sources.units.len()), ("c", 1));
        assert_eq!(sources.units["redis"].path, "etcd://10.0.0.1:2379/shop/units/redis.toml");
        assert!(place.sources(&found(vec![])).unwrap_err().contains("there is no etcd://"));
        let outside = [pair("/shop/cluster.toml", "c"), pair("/shop/units/../../x.toml", "u")];
        assert!(place.sources(&found(outside.into())).is_err(), "a unit's name leads nowhere else");
    }
}
