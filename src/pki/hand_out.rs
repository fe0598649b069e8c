//! A certificate's way to whoever it is for: a file in a folder, from which it is taken to its node or person.
//!
//! 1. The file is written beside its place.
//! 2. The certificate is put on record: nobody has one that is not.
//! 3. The file gets its place.
//!
//! Whoever is killed in between begins again: what has come to step 2 is finished, and its key is not lost; what has not
//! is made anew.

use super::bundle::Bundle;
use super::ca::{Ca, CaError};
use super::certificate::Validity;
use super::files;
use super::name::{Name, Who};
use std::path::{Path, PathBuf};

impl Ca {
    /// The file of somebody in a folder: `web1.pem`.
    pub fn file_for(who: &Who, folder: &Path) -> PathBuf {
        match who {
            Who::Ca => folder.join("ca.pem"),
            Who::Node(name) | Who::Operator { name, .. } => folder.join(format!("{name}.pem")),
        }
    }

    /// Makes a certificate for somebody, and [its file](Ca::file_for).
    ///
    /// # Errors
    /// When there is such a file already, or when it cannot be written; then nothing is on record that nobody has.
    pub fn hand_out(&self, who: Who, validity: Validity, folder: &Path) -> Result<PathBuf, CaError> {
        let path = Ca::file_for(&who, folder);
        if path.symlink_metadata().is_ok() {
            return Err(CaError::Taken(path));
        }
        let aside = files::aside(&path);
        if !self.half_handed_out(&who, folder) {
            let issued = self.make(who, validity)?;
            files::write_aside(&aside, &issued.bundle)?;
            self.record(&issued)?;
        }
        files::place(&aside, &path)?;
        Ok(path)
    }

    /// Whether somebody's certificate is on record, and its file has not got its place yet.
    pub fn half_handed_out(&self, who: &Who, folder: &Path) -> bool {
        let path = Ca::file_for(who, folder);
        let name = Name { cluster: self.cluster().to_owned(), who: who.clone() };
        let half = Bundle::read(&files::aside(&path));
        half.is_ok_and(|b| b.own.name == name && b.ca.key == self.own.key && self.has_issued(&b.own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_half_handed_out_is_finished_and_not_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::init(&dir.path().join("ca"), "shop", Validity::days(9), None).unwrap();
        let (web1, days) = (Who::Node("web1".into()), Validity::days(1));
        let path = ca.hand_out(web1.clone(), days, dir.path()).unwrap();
        assert!(matches!(ca.hand_out(web1.clone(), days, dir.path()), Err(CaError::Taken(_))));
        assert_eq!(ca.issued().unwrap().len(), 1);

        let text = files::read(&path).unwrap();
        std::fs::rename(&path, files::aside(&path)).unwrap();
        assert!(ca.half_handed_out(&web1, dir.path()));
        assert!(!ca.half_handed_out(&Who::Node("web2".into()), dir.path()));
        assert_eq!(files::read(&ca.hand_out(web1.clone(), days, dir.path()).unwrap()).unwrap(), text);
        assert_eq!(ca.issued().unwrap().len(), 1);

        // Not on record, or half of it: made anew.
        for left in [&*text, "", &text[..text.len() - 20]] {
            std::fs::remove_file(&path).unwrap();
            ca.issued().unwrap().iter().for_each(|c| ca.withdraw(c).unwrap());
            files::write_aside(&files::aside(&path), left).unwrap();
            assert!(!ca.half_handed_out(&web1, dir.path()));
            ca.hand_out(web1.clone(), days, dir.path()).unwrap();
            assert_eq!(ca.issued().unwrap(), [Bundle::read(&path).unwrap().own]);
        }
    }
}
