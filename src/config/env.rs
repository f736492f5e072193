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
    /// There may be more of them than could be read.
    partial: bool,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.vars.keys()).finish()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(vars: I) -> Self {
        Self { vars: vars.into_iter().map(|(name, value)| (name.into(), value.into())).collect(), ..Self::default() }
    }
}

impl Env {
    /// The variables of the process, and below them those of the file `.env` in `folder`, if there is one.
    ///
    /// # Errors
    /// E004 when `.env` cannot be read, E005 when a line of it is not `NAME=value`.
    pub fn load(folder: &Path) -> Result<Self, PlanError> {
        Self::of_file(&folder.join(Self::FILE)).map(Self::with_process)
    }

    /// The variables of the process alone, where those of the file could not be read: of any other nobody can tell whether it is set.
    pub fn partial() -> Self {
        Self { partial: true, ..Self::default() }.with_process()
    }

    /// The file that holds variables.
    pub const FILE: &'static str = ".env";

    fn with_process(mut self) -> Self {
        let env = &mut self;
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
        self
    }

    fn of_file(path: &Path) -> Result<Self, PlanError> {
        let fault = |what: String| PlanError::new("E004", what);
        let shown = path.display();
        match super::read_capped(path) {
            Ok(bytes) => Self::of_bytes(bytes, &shown.to_string()),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(cause) => Err(fault(format!("cannot read {shown}: {cause}"))),
        }
    }

    fn of_bytes(bytes: Vec<u8>, shown: &str) -> Result<Self, PlanError> {
        /// A value may hold others (`$NAME`), and these others: what each of a few lines multiplies has no bounds.
        const LONGEST: usize = 64 << 10;
        const MOST: usize = 1000;

        let fault = |what: String| PlanError::new("E005", what);
        if bytes.iter().filter(|byte| **byte == b'$').count() > MOST {
            return Err(fault(format!("{shown} has more than {MOST} signs `$`, the most that are read")));
        }
        let text = String::from_utf8(bytes).map_err(|_| PlanError::new("E004", format!("{shown} is not UTF-8 text")))?;
        // The parser takes neither a byte order mark nor a last line that ends in spaces.
        let text = format!("{}\n", text.trim_start_matches('\u{feff}'));
        let mut vars = BTreeMap::new();
        for entry in dotenvy::Iter::new(text.as_bytes()) {
            match entry {
                Ok((name, value)) if value.len() > LONGEST => {
                    let message =
                        format!("{shown}: the value of `{name}` has {} bytes, and {} KiB are the most that are read", value.len(), LONGEST >> 10);
                    return Err(fault(message).help("a file of its own is the place for it"));
                }
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
                Err(_) => return Err(PlanError::new("E004", format!("cannot read {shown}"))),
            }
        }
        Ok(Self { vars, ..Self::default() })
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str)
    }

    /// The names of all variables.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.vars.keys().map(String::as_str)
    }

    /// May there be variables that could not be read?
    pub(super) fn is_partial(&self) -> bool {
        self.partial
    }

    /// Is it set, to something that is not text?
    pub(super) fn is_unreadable(&self, name: &str) -> bool {
        self.unreadable.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use pipeline_contract::testkit::Fuzz;

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
            assert_eq!(fault.code, "E005");
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
    fn values_that_hold_values_do_not_grow_without_end() {
        let laughs: String = (1..20).map(|n| format!("V{n}={}\n", format!("${{V{}}}", n - 1).repeat(10))).collect();
        let fault = of(&format!("V0=ha\n{laughs}")).unwrap_err();
        assert!(fault.message.ends_with(".env: the value of `V5` has 200000 bytes, and 64 KiB are the most that are read"), "{}", fault.message);
        let fault = of(&format!("A=x\nB={}\n", "$A".repeat(1001))).unwrap_err();
        assert!(fault.message.ends_with(".env has more than 1000 signs `$`, the most that are read"), "{}", fault.message);
    }

    #[test]
    fn fuzzed_files_of_variables_are_read_or_a_line_is_named_that_is_not_quoted() {
        let samples = ["# a comment\r\nA=1\nexport B=\"two words\"\nC='$A'\n\nD=x # why\nE=y ", "A=sesame\nB=${A}$A\n", "KEY=\"a\\nb\n c\"\n"];
        let words = ["=", "\"", "'", "\\", "$", "${", "}", "#", "\n", "export ", " ", "\0", "é", "\u{feff}", "${A}", "A", ".", "\r"];
        let fuzz = Fuzz { name: ".env files", samples: &samples, words: &words, cases: 1000, cost: 2 };
        fuzz.run(
            |draw| (0..draw.below(4)).map(|n| format!("V{n}={}\n", draw.of(&["x", "'y'", "\"z z\"", "$V0", ""]))).collect::<String>().into_bytes(),
            |bytes| match Env::of_bytes(bytes.to_vec(), ".env") {
                Ok(env) => env.names().all(|name| !name.is_empty()),
                Err(fault) => {
                    let number = fault.message.strip_prefix(".env, line ").and_then(|rest| rest.strip_suffix(": expected NAME=value"));
                    let lines = 2 + bytes.iter().filter(|byte| **byte == b'\n').count();
                    let known = number.map_or(fault.message == ".env is not UTF-8 text", |line| line.parse::<usize>().unwrap() <= lines);
                    assert!(
                        known || fault.message.starts_with(".env has more than 1000 signs") || fault.message.contains("are the most"),
                        "{fault:?}"
                    );
                    false
                }
            },
        );
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
