//! The files that a path with `*` names.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use glob::MatchOptions;
use pipeline_contract::Disk;

/// Folders are not followed deeper than this: a link may lead back.
const DEEPEST: usize = 64;

const MATCH: MatchOptions = MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// A path, or a pattern of paths.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    text: String,
    root: PathBuf,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Name(String),
    Names(glob::Pattern),
    /// `**`: this folder and all below it.
    Folders,
}

impl Pattern {
    /// Takes a pattern apart, or says why it is none.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("the path is empty".to_owned());
        }
        if text.ends_with('/') {
            return Err(format!("{text:?} ends in a folder"));
        }
        if text.contains('\0') {
            return Err("a path cannot hold the NUL character".to_owned());
        }
        let (root, rest) = text.strip_prefix('/').map_or(("", text), |rest| ("/", rest));
        let part = |part: &str| match part {
            "**" => Ok(Part::Folders),
            _ if part.contains("**") => Err(format!("`**` in {text:?} must stand alone between slashes")),
            _ if part.contains(['*', '?', '[']) => {
                glob::Pattern::new(part).map(Part::Names).map_err(|error| format!("{text:?} is no pattern: {}", error.msg))
            }
            _ => Ok(Part::Name(part.to_owned())),
        };
        let parts: Vec<Part> = rest.split('/').filter(|part| !part.is_empty() && *part != ".").map(part).collect::<Result<_, _>>()?;
        match parts.last() {
            None => Err(format!("{text:?} names a folder")),
            Some(Part::Folders) => Err(format!("{text:?} names folders alone; end it as `**/*.csv`")),
            Some(_) => Ok(Self { text: text.to_owned(), root: root.into(), parts }),
        }
    }

    /// As it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The one path that it is, when it is no pattern.
    pub(crate) fn one(&self) -> Option<PathBuf> {
        let mut path = self.root.clone();
        for part in &self.parts {
            let Part::Name(name) = part else { return None };
            path.push(name);
        }
        Some(path)
    }

    /// The files that are there. An error comes with the folder that it is about.
    pub(crate) fn find(&self, disk: &dyn Disk, found: &mut BTreeSet<PathBuf>) -> Result<(), (PathBuf, io::Error)> {
        match self.one() {
            // Whoever opens it says that it is not there.
            Some(path) => drop(found.insert(path)),
            None => walk(disk, &self.root, &self.parts, 0, found)?,
        }
        Ok(())
    }
}

fn walk(disk: &dyn Disk, dir: &Path, parts: &[Part], depth: usize, found: &mut BTreeSet<PathBuf>) -> Result<(), (PathBuf, io::Error)> {
    let Some((part, rest)) = parts.split_first() else { return Ok(()) };
    if depth > DEEPEST {
        return Ok(());
    }
    let is_dir = |path: &Path| disk.metadata(path).map(|meta| meta.map(|meta| meta.is_dir)).map_err(|error| (path.to_owned(), error));
    let mut step = |path: PathBuf| match (is_dir(&path)?, rest.is_empty()) {
        (Some(false), true) => {
            found.insert(path);
            Ok(())
        }
        (Some(true), false) => walk(disk, &path, rest, depth + 1, found),
        _ => Ok(()),
    };
    let names = || -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
        let entries = disk.list(dir).map_err(|error| (dir.to_owned(), error))?;
        Ok(entries.iter().filter_map(|entry| entry.file_name()).map(|name| dir.join(name)).collect())
    };
    let name = |path: &Path| path.file_name().map(OsStr::to_string_lossy).unwrap_or_default().into_owned();
    match part {
        Part::Name(name) => step(dir.join(name)),
        Part::Names(pattern) => names()?.into_iter().filter(|path| pattern.matches_with(&name(path), MATCH)).try_for_each(step),
        Part::Folders => {
            walk(disk, dir, rest, depth + 1, found)?;
            for path in names()?.into_iter().filter(|path| !name(path).starts_with('.')) {
                if is_dir(&path)? == Some(true) {
                    walk(disk, &path, parts, depth + 1, found)?;
                }
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use pipeline_contract::testkit::SimDisk;

    use super::*;

    fn found(disk: &SimDisk, text: &str) -> Vec<String> {
        let mut found = BTreeSet::new();
        Pattern::parse(text).unwrap().find(disk, &mut found).unwrap();
        found.iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn patterns_name_the_files_that_are_there() {
        let disk = SimDisk::new();
        for path in
            ["a.csv", "in/1.csv", "in/2.csv", "in/.hidden.csv", "in/x.txt", "in/deep/3.csv", "in/deep/er/4.csv", "in/.git/5.csv", "in/6.csv/x"]
        {
            disk.put(path, "");
        }
        for (text, files) in [
            ("*.csv", &["a.csv"][..]),
            ("in/*.csv", &["in/1.csv", "in/2.csv"]),
            ("./in//[!1].csv", &["in/2.csv"]),
            ("in/?.*", &["in/1.csv", "in/2.csv", "in/x.txt"]),
            ("in/**/*.csv", &["in/1.csv", "in/2.csv", "in/deep/3.csv", "in/deep/er/4.csv"]),
            ("**/4.csv", &["in/deep/er/4.csv"]),
            ("*/x.txt", &["in/x.txt"]),
            ("no/*.csv", &[]),
            ("no.csv", &["no.csv"]),
        ] {
            assert_eq!(found(&disk, text), files, "{text}");
        }
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        for (text, why) in [
            ("", "the path is empty"),
            ("data/", "\"data/\" ends in a folder"),
            (".", "\".\" names a folder"),
            ("a/**", "\"a/**\" names folders alone; end it as `**/*.csv`"),
            ("a/**.csv", "`**` in \"a/**.csv\" must stand alone between slashes"),
            ("a/[x.csv", "\"a/[x.csv\" is no pattern: invalid range pattern"),
        ] {
            assert_eq!(Pattern::parse(text).unwrap_err(), why);
        }
    }
}
