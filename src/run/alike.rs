//! Splits of which the same is to be said, so that it is said once: the parts of a large file, or all those that a full disk fails.

use crate::state::{Counts, SplitRecord};

/// More splits are not listed one by one where they went well.
const LISTED: usize = 20;
/// More are named by the first and the last of them.
const NAMED: usize = 3;

/// The splits of a run, in order, as groups of neighbours that may be spoken of together: those with one error; and of a run with more than twenty
/// splits, those that went well at the first try, apart by whether they brought anything.
pub fn alike(splits: &[SplitRecord]) -> impl Iterator<Item = &[SplitRecord]> {
    let many = splits.len() > LISTED;
    splits.chunk_by(move |a, b| match (&a.error, &b.error) {
        _ if a.status != b.status => false,
        (None, None) => many && a.attempts <= 1 && b.attempts <= 1 && (a.rows.read == 0) == (b.rows.read == 0),
        (a_error, b_error) => a_error == b_error && a.attempts == b.attempts,
    })
}

/// What a group is called.
pub fn named(group: &[SplitRecord]) -> String {
    let id = |split: &SplitRecord| split.split.id.clone();
    match group {
        [first, .., last] if group.len() > NAMED => format!("{} ... {} ({} splits)", id(first), id(last), group.len()),
        _ => group.iter().map(id).collect::<Vec<_>>().join(", "),
    }
}

/// What all of them brought.
pub fn together(group: &[SplitRecord]) -> Counts {
    group.iter().map(|split| &split.rows).sum()
}

#[cfg(test)]
mod tests {
    use pipeline_contract::{Category, Split};

    use super::*;
    use crate::state::{ErrorRecord, SplitStatus};

    fn split(id: &str, read: u64, error: Option<&str>) -> SplitRecord {
        SplitRecord {
            split: Split::new(id),
            status: if error.is_some() { SplitStatus::Failed } else { SplitStatus::Ok },
            rows: Counts { read, ..Counts::default() },
            attempts: 1,
            position: None,
            error: error.map(|text| ErrorRecord { category: Category::Storage, message: text.to_owned(), help: None }),
        }
    }

    fn said(splits: &[SplitRecord]) -> Vec<String> {
        assert!(alike(splits).flatten().eq(splits), "each once, in order");
        alike(splits).map(|group| format!("{}: {}", named(group), together(group).read)).collect()
    }

    #[test]
    fn few_splits_are_listed_and_many_are_not() {
        let many = |n: u64| (0..n).map(|n| split(&format!("#{n}"), 10, None)).collect::<Vec<_>>();
        assert_eq!(said(&many(20)).len(), 20);
        assert_eq!(said(&many(21)), ["#0 ... #20 (21 splits): 210"]);
        let mut some = many(24);
        some[3] = split("#3", 0, None);
        some[5].attempts = 2;
        some[9] = split("#9", 1, Some("it broke"));
        let expected = ["#0, #1, #2: 30", "#3: 0", "#4: 10", "#5: 10", "#6, #7, #8: 30", "#9: 1", "#10 ... #23 (14 splits): 140"];
        assert_eq!(said(&some), expected);
        assert_eq!(said(&[]), [""; 0]);
    }

    #[test]
    fn one_error_is_said_once() {
        let gone = || split("a", 0, Some("the file is gone"));
        assert_eq!(said(&[gone(), gone(), gone(), split("b", 1, None), gone()]), ["a, a, a: 0", "b: 1", "a: 0"]);
        assert_eq!(said(&[gone(), gone(), gone(), gone()]), ["a ... a (4 splits): 0"]);
        let mut tried = gone();
        tried.attempts = 2;
        assert_eq!(said(&[gone(), split("b", 0, Some("the file of b is gone")), tried, gone()]).len(), 4);
    }
}
