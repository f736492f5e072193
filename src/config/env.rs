//! The variables that `${NAME}` forms may name: those of the process and of `.env`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use pipeline_contract::PlanError;

/// Environment variables. Their values may be secrets: nothing here shows them.
#[derive(Clone, Default)]
pub struct Env {
    vars: BTreeMap<String, String>,
    /// Set, but not UTF-8: reported as such, not as unset.
    unreadable: BTreeSet<String>,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.vars.keys()).finish()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(vars: I) -> Self {
        Self { vars: vars.into_iter().map(|(name, value)| (name.into(), value.into())).collect(), unreadable: BTreeSet::new() }
    }
}

impl Env {
    /// The variables of the process, and below them those of the file `.env` in `folder`, if there is one.
    ///
    /// # Errors
    /// E004 when `.env` cannot be read, or a line of it is not `NAME=value`.
    pub fn load(folder: &Path) -> Result<Self, PlanError> {
        let mut env = Self::of_file(&folder.join(".env"))?;
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => {
                    env.vars.insert(name, value);
                }
                Err(_) => {
                    env.vars.remove(&name);
                    env.unreadable.insert(name);
                }
            }
        }
        Ok(env)
    }

    fn of_file(path: &Path) -> Result<Self, PlanError> {
        let fault = |what: String| PlanError::new("E004", what);
        let shown = path.display();
        let bytes = match super::read_capped(path) {
            Ok(bytes) => bytes,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(cause) => return Err(fault(format!("cannot read {shown}: {cause}"))),
        };
        let text = String::from_utf8(bytes).map_err(|_| fault(format!("{shown} is not UTF-8 text")))?;
        // The parser takes neither a byte order mark nor a last line that ends in spaces.
        let text = format!("{}\n", text.trim_start_matches('\u{feff}'));
        let mut vars = BTreeMap::new();
        for entry in dotenvy::Iter::new(text.as_bytes()) {
            match entry {
                Ok((name, value)) => {
                    vars.insert(name, value);
                }
                Err(dotenvy::Error::LineParse(line, _)) => {
                    // Its own message quotes the line, and with it the secret.
                    let line = text.find(line.trim_end()).map_or(1, |at| text[..at].matches('\n').count() + 1);
                    return Err(
                        fault(format!("{shown}, line {line}: expected NAME=value")).help("a value with spaces stands in quotes: NAME=\"two words\"")
                    );
                }
                Err(_) => return Err(fault(format!("cannot read {shown}"))),
            }
        }
        Ok(Self { vars, unreadable: BTreeSet::new() })
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str)
    }

    /// The names of all variables.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.vars.keys().map(String::as_str)
    }

    /// Is it set, to something that is not text?
    pub(super) fn is_unreadable(&self, name: &str) -> bool {
        self.unreadable.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Env, PlanError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".env"), text).unwrap();
        Env::of_file(&folder.path().join(".env"))
    }

    #[test]
    fn a_file_is_read_as_people_write_it() {
        let env = of("\u{feff}# a comment\r\nA=1\r\nexport B=\"two words\"\nC='$A'\n\nD=x # why\nE=y ").unwrap();
        let all: Vec<_> = ["A", "B", "C", "D", "E"].iter().map(|name| env.get(name).unwrap()).collect();
        assert_eq!(all, ["1", "two words", "$A", "x", "y"]);
        assert_eq!(env.get("F"), None);
        assert!(!format!("{env:?}").contains("two words"));
    }

    #[test]
    fn a_bad_line_is_named_by_its_number_and_never_quoted() {
        for (text, line) in [("A=1\nKEY=open sesame\nB=2", 2), ("just sesame", 1), ("A=1\n\n# c\nKEY=\"sesame", 4)] {
            let fault = of(text).unwrap_err();
            assert_eq!(fault.code, "E004");
            assert!(fault.message.ends_with(&format!(".env, line {line}: expected NAME=value")), "{}", fault.message);
            assert!(!format!("{fault:?}").contains("sesame"));
        }
    }

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let whole = format!("A=1\n#{}\n", "x".repeat(usize::try_from(crate::config::MAX_FILE).unwrap() - 6));
        assert_eq!(of(&whole).unwrap().get("A"), Some("1"));
        let fault = of(&format!("{whole}#")).unwrap_err();
        assert_eq!(fault.code, "E004");
        assert!(fault.message.ends_with(".env: it is larger than 1 MiB, the most that is read"), "{}", fault.message);
    }

    #[test]
    fn the_process_wins_and_no_file_is_no_fault() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Env::load(folder.path()).unwrap().get("PATH").is_some());
        std::fs::write(folder.path().join(".env"), "PATH=mine\nPIPELINE_TEST_ONLY_HERE=1").unwrap();
        let env = Env::load(folder.path()).unwrap();
        assert_ne!(env.get("PATH"), Some("mine"));
        assert_eq!(env.get("PIPELINE_TEST_ONLY_HERE"), Some("1"));
        std::fs::remove_file(folder.path().join(".env")).unwrap();
        std::fs::create_dir(folder.path().join(".env")).unwrap();
        assert_eq!(Env::load(folder.path()).unwrap_err().code, "E004");
    }
}
