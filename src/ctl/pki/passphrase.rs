//! Where the passphrase of the CA's key comes from, and `pki passphrase`. Never from an argument or the environment, which
//! others may see.

use super::super::{Misuse, hint};
use crate::pki::{Ca, Passphrase, typed};
use crate::probe::credential_path;
use anyhow::Context;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

// Where to look for it instead of asking.
#[derive(Debug, Default, clap::Args)]
pub struct Source {
    /// The passphrase of the CA's key is the first line of this file, which only you can read
    #[arg(long, value_name = "FILE", global = true)]
    passphrase_file: Option<PathBuf>,
    /// It is this credential of systemd's (`LoadCredential=NAME:/path`)
    #[arg(long, value_name = "NAME", global = true, conflicts_with = "passphrase_file")]
    passphrase_credential: Option<String>,
}

impl Source {
    fn read(&self) -> anyhow::Result<Option<Passphrase>> {
        if let Some(path) = &self.passphrase_file {
            return of_file(path).map(Some);
        }
        let Some(name) = &self.passphrase_credential else { return Ok(None) };
        let Some(path) = credential_path(name).filter(|_| !name.contains('/')) else {
            let text = format!("systemd has given this command no credential {name}");
            let hint = format!("systemd-run --pty -p LoadCredential={name}:/path clusterctl pki …");
            return Err(Misuse { text, hint }.into());
        };
        let passphrase = Passphrase::read(&path, true);
        passphrase.map(Some).with_context(|| format!("no passphrase in the credential {name}"))
    }

    /// The CA with its key at hand.
    pub fn unlock(&self, ca: Ca) -> anyhow::Result<Ca> {
        if !ca.is_locked() {
            return Ok(ca);
        }
        let passphrase = match self.read()? {
            Some(passphrase) => passphrase,
            None => Passphrase::new(typed("passphrase of the CA's key")?)?,
        };
        Ok(ca.unlocked(Some(passphrase))?)
    }

    /// What a new CA's key is to be kept with: what is given, or (when one is `wanted`) typed.
    pub fn for_new(&self, wanted: bool) -> anyhow::Result<Option<Passphrase>> {
        match self.read()? {
            None if wanted => typed_anew().map(Some),
            given => Ok(given),
        }
    }
}

fn of_file(path: &Path) -> anyhow::Result<Passphrase> {
    Passphrase::read(path, false).with_context(|| format!("no passphrase in {}", path.display()))
}

/// A passphrase that nobody knows yet: on a terminal, where nobody sees what he types, it is typed twice.
fn typed_anew() -> anyhow::Result<Passphrase> {
    let first = Passphrase::new(typed("new passphrase of the CA's key")?)?;
    if std::io::stdin().is_terminal() && Passphrase::new(typed("once more")?).ok().as_ref() != Some(&first) {
        anyhow::bail!("the two are not the same; nothing has changed");
    }
    Ok(first)
}

/// `pki passphrase`: gives the key of a CA that is [unlocked](Source::unlock) another one, or none.
pub fn change(ca: Ca, remove: bool, new: Option<&Path>) -> anyhow::Result<()> {
    let passphrase = match (remove, new) {
        (true, _) => None,
        (false, Some(path)) => Some(of_file(path)?),
        (false, None) => Some(typed_anew()?),
    };
    let kept =
        if passphrase.is_some() { "encrypted with the new passphrase" } else { "without a passphrase" };
    ca.keep_with(passphrase)?;
    eprintln!("the CA's key is kept {kept} now");
    hint("what the disk or a backup held before is still as it was: pki rotate makes a new key");
    Ok(())
}
