//! What several pipelines do to each other.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use pipeline_contract::{BudgetScope, PlanError, Spanned};

use super::Columns;
use super::budget::{self, Asked};

/// What can be told of a pipeline, also of a faulty one, and matters to others.
#[derive(Debug, Default)]
pub struct Facts {
    /// Its name.
    pub(super) name: Option<Spanned<String>>,
    /// Where it writes.
    pub(super) writes: Vec<Write>,
    /// What it asks of a request budget.
    pub(super) asked: Option<Asked>,
    /// Its columns from stage to stage.
    pub(super) columns: Option<Columns>,
}

impl Facts {
    /// Its name, where that can be told.
    pub fn name(&self) -> Option<&str> {
        self.name.as_ref().map(|name| name.as_str()).filter(|name| !name.is_empty())
    }

    /// Its columns from stage to stage, as far as they can be told: for tests that stand in a file of their own.
    pub fn columns(&self) -> Option<&Columns> {
        self.columns.as_ref()
    }
}

/// A place that a pipeline writes to.
#[derive(Clone, Debug)]
pub(super) struct Write {
    /// Rows, rejects or log lines.
    pub(super) what: &'static str,
    /// The place, the same for two spellings of one path.
    pub(super) place: PathBuf,
    /// The place as it is written in the file.
    pub(super) shown: String,
    pub(super) span: Range<usize>,
}

impl Write {
    pub(super) fn new(what: &'static str, shown: &str, span: Range<usize>) -> Self {
        Self { what, place: Self::normal(shown), shown: shown.to_owned(), span }
    }

    /// `./a//b/../c` is `a/c`. Links are not followed: nothing here looks at a disk.
    pub(super) fn normal(path: &str) -> PathBuf {
        let mut out = PathBuf::new();
        for part in Path::new(path).components() {
            match part {
                Component::CurDir => {}
                Component::ParentDir if out.file_name().is_some() => {
                    out.pop();
                }
                other => out.push(other),
            }
        }
        out
    }
}

/// What is wrong with pipelines that run side by side: E018 two of one name, E016 two that write to one place, E017 a request budget that
/// does for each but not for all. Each fault goes to the later file, in the order of `all`, and points into the others as well.
pub fn together(all: &[(PathBuf, &Facts)]) -> Vec<(usize, PlanError)> {
    let mut faults = Vec::new();
    for (n, (_, facts)) in all.iter().enumerate() {
        let before = all.get(..n).unwrap_or_default();
        let named = before.iter().find_map(|(path, other)| Some((path, other.name.as_ref()?, facts.name.as_ref()?)).filter(|(_, a, b)| a == b));
        if let Some((path, first, name)) = named {
            let text = format!("two pipelines are named \"{}\"", name.as_str());
            let fault = name.error("E018", text).related_in(path, first.span(), "this one has the name already");
            faults.push((n, fault.help("a pipeline's name is the name of its state: give each its own")));
            // What follows from the name, as the place of the rejects, would be said twice.
            continue;
        }
        for write in facts.writes.iter().filter(|write| write.what != "log lines") {
            let same = |other: &&Write| other.place == write.place;
            let found = before.iter().find_map(|(path, facts)| Some((path, facts.writes.iter().find(same)?)));
            if let Some((path, other)) = found {
                let text = format!("two pipelines write to {}", write.shown);
                let fault = PlanError::new("E016", text).at(write.span.clone());
                let fault = fault.related_in(path, other.span.clone(), format!("this one writes its {} there", other.what));
                faults.push((n, fault.help("each pipeline needs a place of its own")));
            }
        }
    }
    let mut shared: BTreeMap<&BudgetScope, Vec<(usize, &Path, &Facts)>> = BTreeMap::new();
    for (n, (path, facts)) in all.iter().enumerate() {
        if let Some(asked) = &facts.asked {
            shared.entry(&asked.scope).or_default().push((n, path, facts));
        }
    }
    faults.extend(shared.into_values().filter_map(|sharers| budget::shared(&sharers)));
    faults
}
