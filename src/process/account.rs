//! Whom a unit runs as: names are looked up before the start, so that the child needs no database.

use super::kernel::Credentials;
use crate::model::Run;
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgrouplist};
use std::ffi::CString;
use std::io;

/// Whom a unit runs as.
#[derive(Debug)]
pub(super) struct Account {
    /// `None` when it is whom the agent is already, which needs no privilege.
    pub credentials: Option<Credentials>,
    /// For the environment.
    pub name_and_home: Option<(String, String)>,
}

impl Account {
    /// Looks up the unit's names (getpwnam(3), getgrnam(3)). The error names the one that is missing.
    pub fn of(run: &Run) -> Result<Account, (String, io::Error)> {
        let user = run.user.as_deref().map(user).transpose()?;
        let group = run.group.as_deref().map(group_id).transpose()?;
        let uid = user.as_ref().map_or_else(geteuid, |u| u.uid);
        let gid = group.or(user.as_ref().map(|u| u.gid)).unwrap_or_else(getegid);
        let name_and_home = user.as_ref().map(|u| (u.name.clone(), u.dir.to_string_lossy().into_owned()));
        let is_me =
            user.is_none() && group.is_none() || !geteuid().is_root() && uid == geteuid() && gid == getegid();
        if is_me && run.care.groups.is_none() {
            return Ok(Account { credentials: None, name_and_home });
        }
        let groups = match (&run.care.groups, &user) {
            (Some(names), _) => {
                names.iter().map(|name| Ok(group_id(name)?.as_raw())).collect::<Result<_, _>>()?
            }
            (None, Some(u)) => groups_of(&u.name, gid).map_err(|e| (u.name.clone(), e))?,
            (None, None) => vec![gid.as_raw()],
        };
        let credentials = Credentials { uid: uid.as_raw(), gid: gid.as_raw(), groups };
        Ok(Account { credentials: Some(credentials), name_and_home })
    }

    /// To whom folders belong that are made for it.
    pub fn owner(&self) -> Option<(Uid, Gid)> {
        self.credentials.as_ref().map(|c| (Uid::from_raw(c.uid), Gid::from_raw(c.gid)))
    }
}

fn user(name: &str) -> Result<User, (String, io::Error)> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user),
        Ok(None) => Err(missing(name, "user")),
        Err(e) => Err((name.to_owned(), e.into())),
    }
}

fn group_id(name: &str) -> Result<Gid, (String, io::Error)> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        Ok(None) => Err(missing(name, "group")),
        Err(e) => Err((name.to_owned(), e.into())),
    }
}

fn missing(name: &str, what: &str) -> (String, io::Error) {
    (name.to_owned(), io::Error::new(io::ErrorKind::NotFound, format!("there is no such {what}")))
}

fn groups_of(user: &str, gid: Gid) -> io::Result<Vec<u32>> {
    let groups = getgrouplist(&CString::new(user)?, gid)?;
    Ok(groups.into_iter().map(Gid::as_raw).collect())
}
