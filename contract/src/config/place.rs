//! Finding values of a table by their byte range, and naming them.

use std::fmt;
use std::ops::Range;

use toml::de::{DeArray, DeTable, DeValue};

/// One step from a table to what is in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// The way from a table to a value in it, shown as `columns.close.min` or `rules[2].expr`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path(pub(super) Vec<Step>);

impl Path {
    pub(super) fn join(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    pub(super) fn key(&self, name: &str) -> Self {
        self.join(Step::Key(name.to_owned()))
    }

    pub(super) fn parent(&self) -> Self {
        Self(self.0.iter().take(self.0.len().saturating_sub(1)).cloned().collect())
    }

    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if n == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// An entry of a table or an array: where it is, and the value that is there.
pub(super) struct Place<'t, 'a> {
    pub(super) path: Path,
    pub(super) value: &'t DeValue<'a>,
    width: usize,
}

/// The smallest entry whose key or value encloses `span`; of two equal ones the inner.
///
/// A table with a header spans its header alone, so what is in a table may stand outside of its span: every entry is looked at.
pub(super) fn locate<'t, 'a>(table: &'t DeTable<'a>, span: &Range<usize>) -> Option<Place<'t, 'a>> {
    let mut best = None;
    in_table(table, span, &Path::default(), &mut best);
    best
}

fn in_table<'t, 'a>(table: &'t DeTable<'a>, span: &Range<usize>, path: &Path, best: &mut Option<Place<'t, 'a>>) {
    for (key, value) in table.iter() {
        let spans = [key.span(), value.span()];
        consider(spans, value.get_ref(), span, path.key(key.get_ref()), best);
    }
}

fn consider<'t, 'a>(outer: [Range<usize>; 2], value: &'t DeValue<'a>, span: &Range<usize>, path: Path, best: &mut Option<Place<'t, 'a>>) {
    let encloses = |outer: &Range<usize>| outer.start <= span.start && span.end <= outer.end;
    if let Some(width) = outer.iter().filter(|outer| encloses(outer)).map(ExactSizeIterator::len).min()
        && best.as_ref().is_none_or(|best| width <= best.width)
    {
        *best = Some(Place { path: path.clone(), value, width });
    }
    match value {
        DeValue::Table(table) => in_table(table, span, &path, best),
        DeValue::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                consider([item.span(), item.span()], item.get_ref(), span, path.join(Step::Index(n)), best);
            }
        }
        _ => {}
    }
}

/// Takes the entry at `path` out.
pub(super) fn remove(table: &mut DeTable<'_>, path: &Path) {
    if let Some((Step::Key(first), rest)) = path.0.split_first() {
        if rest.is_empty() {
            table.remove(first.as_str());
        } else if let Some(value) = table.get_mut(first.as_str()) {
            remove_in(value.get_mut(), rest);
        }
    }
}

fn remove_in(value: &mut DeValue<'_>, steps: &[Step]) {
    match (value, steps) {
        (DeValue::Table(table), [Step::Key(key)]) => {
            table.remove(key.as_str());
        }
        (DeValue::Array(items), [Step::Index(index)]) => {
            *items = std::mem::replace(items, DeArray::new()).into_iter().enumerate().filter(|(n, _)| n != index).map(|(_, item)| item).collect();
        }
        (DeValue::Table(table), [Step::Key(key), rest @ ..]) => {
            if let Some(inner) = table.get_mut(key.as_str()) {
                remove_in(inner.get_mut(), rest);
            }
        }
        (DeValue::Array(items), [Step::Index(index), rest @ ..]) => {
            if let Some(inner) = items.get_mut(*index) {
                remove_in(inner.get_mut(), rest);
            }
        }
        _ => {}
    }
}

/// A value as messages name it.
pub(super) fn found(value: &DeValue<'_>) -> String {
    const LONGEST: usize = 40;
    match value {
        DeValue::String(text) if text.is_empty() => "an empty text".into(),
        DeValue::String(text) => {
            let shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
            format!("text \"{shown}{}\"", if text.chars().count() > LONGEST { "…" } else { "" })
        }
        DeValue::Integer(number) => format!("the whole number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(flag) => format!("{flag}"),
        DeValue::Datetime(at) => format!("the date {at}"),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}
