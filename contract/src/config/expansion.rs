//! Which texts of a file came from the environment. Their values are never shown.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::PlanError;

/// What became of one text of the file that has `${NAME}` forms in it.
#[derive(Clone)]
pub struct Expansion {
    /// Where the text stands, its quotes included.
    pub span: Range<usize>,
    /// The text as it is written in the file, as `https://${HOST}/v3`.
    pub written: String,
    /// The text with its forms replaced.
    pub value: String,
    /// Each value that came from the environment, with the `${NAME}` to show in its stead. Defaults stand in the file and may be shown.
    pub hidden: Vec<(String, String)>,
    /// The text is one form and nothing else, so it may stand for a number or a boolean.
    pub whole: bool,
    /// A form of it could not be replaced, which is reported already.
    pub faulty: bool,
}

/// What became of the `${NAME}` forms of a file, by where their texts start.
#[derive(Clone, Default)]
pub struct Expansions(Arc<BTreeMap<usize, Expansion>>);

impl FromIterator<Expansion> for Expansions {
    fn from_iter<I: IntoIterator<Item = Expansion>>(all: I) -> Self {
        Self(Arc::new(all.into_iter().map(|one| (one.span.start, one)).collect()))
    }
}

/// How many there are: the values may be secrets.
impl fmt::Debug for Expansions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expansions({})", self.0.len())
    }
}

impl Expansions {
    /// The expansion of the text that encloses `span`, if it is one.
    pub fn at(&self, span: &Range<usize>) -> Option<&Expansion> {
        self.0.range(..=span.start).next_back().map(|(_, one)| one).filter(|one| span.end <= one.span.end)
    }

    /// Replaces what came from the environment by its `${NAME}` form in everything that an error says, and drops errors about texts
    /// whose form could not be replaced: that is reported already.
    pub fn hide(&self, errors: &mut Vec<PlanError>) {
        if self.0.is_empty() {
            return;
        }
        errors.retain(|error| !error.span.as_ref().and_then(|span| self.at(span)).is_some_and(|one| one.faulty));
        for error in errors {
            // An edit inside a text that came from the environment would not mend it; and none may write its values down.
            if error.suggestion.as_ref().is_some_and(|edit| self.at(&edit.span).is_some_and(|one| !one.hidden.is_empty())) {
                error.suggestion = None;
            }
            let here = error.span.as_ref().and_then(|span| self.at(span)).map(|one| one.span.start);
            let replacements = self.replacements(here);
            let edit = error.suggestion.as_mut().map(|edit| &mut edit.replacement);
            let labels = error.related.iter_mut().map(|place| &mut place.label);
            for text in [Some(&mut error.message), error.label.as_mut(), error.help.as_mut(), edit].into_iter().flatten().chain(labels) {
                for (value, shown) in &replacements {
                    *text = replace(text, value, shown);
                }
            }
        }
    }

    /// What to replace in an error about the text that starts at `here`: its own values whatever they are, and long values of any other
    /// text (a short one, as `text`, would hit innocent words).
    fn replacements(&self, here: Option<usize>) -> Vec<(String, &str)> {
        let mut all = Vec::new();
        for one in self.0.values().filter(|one| !one.hidden.is_empty()) {
            let own = Some(one.span.start) == here;
            let whole = Some((&one.value, &one.written)).filter(|_| own);
            for (value, shown) in whole.into_iter().chain(one.hidden.iter().map(|(value, shown)| (value, shown))) {
                if own && !value.is_empty() || value.len() >= 8 {
                    all.push((value.clone(), shown.as_str()));
                    let escaped = value.escape_debug().to_string();
                    if escaped != *value {
                        all.push((escaped, shown.as_str()));
                    }
                }
            }
        }
        // The longest first: one value may hold another.
        all.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
        all
    }
}

/// Replaces `value` in `text`; a short value only where it stands as a word of its own, so that a `3` does not spoil a `300`.
fn replace(text: &str, value: &str, shown: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(value) {
        let end = at + value.len();
        let before = rest[..at].chars().next_back().or_else(|| out.chars().next_back());
        let after = rest[end..].chars().next();
        let word = value.len() >= 8 || ![before, after].into_iter().flatten().any(char::is_alphanumeric);
        out.push_str(&rest[..at]);
        out.push_str(if word { shown } else { value });
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expansions() -> Expansions {
        [
            Expansion {
                span: 10..20,
                written: "https://${HOST}/v3".into(),
                value: "https://a.example/v3".into(),
                hidden: vec![("a.example".into(), "${HOST}".into())],
                whole: false,
                faulty: false,
            },
            Expansion {
                span: 30..38,
                written: "${TOP}".into(),
                value: "3".into(),
                hidden: vec![("3".into(), "${TOP}".into())],
                whole: true,
                faulty: false,
            },
            Expansion { span: 40..48, written: "${GONE}".into(), value: "${GONE}".into(), hidden: vec![], whole: true, faulty: true },
        ]
        .into_iter()
        .collect()
    }

    fn hidden(error: PlanError) -> Option<String> {
        let mut errors = vec![error];
        expansions().hide(&mut errors);
        errors.pop().map(|error| error.message)
    }

    #[test]
    fn a_value_of_the_environment_is_never_said() {
        let say = |message: &str, span| hidden(PlanError::new("E030", message).at(span));
        assert_eq!(say("no host a.example in https://a.example/v3", 10..20).unwrap(), "no host ${HOST} in https://${HOST}/v3");
        assert_eq!(say("the host a.example is down", 100..101).unwrap(), "the host ${HOST} is down");
        assert_eq!(say("3 is not 300", 31..37).unwrap(), "${TOP} is not 300");
        assert_eq!(say("3 columns", 100..101).unwrap(), "3 columns");
        assert_eq!(say("bad", 41..45), None);
        assert_eq!(hidden(PlanError::new("E030", "a.example").help("x")).unwrap(), "${HOST}");
    }

    #[test]
    fn of_two_values_the_longer_is_hidden_first() {
        let hidden = vec![("sesame01".into(), "${A}".into()), ("sesame0123".into(), "${B}".into())];
        let one = Expansion { span: 0..9, written: "${A}-${B}".into(), value: "sesame01-sesame0123".into(), hidden, whole: false, faulty: false };
        let mut errors = vec![PlanError::new("E030", "sesame0123 sesame01").at(0..9)];
        Expansions::from_iter([one]).hide(&mut errors);
        assert_eq!(errors[0].message, "${B} ${A}");
    }

    #[test]
    fn a_text_is_found_by_a_span_inside_it() {
        let all = expansions();
        assert_eq!(all.at(&(12..14)).unwrap().span, 10..20);
        assert!(all.at(&(12..21)).is_none());
        assert!(all.at(&(5..6)).is_none());
        assert!(!format!("{all:?}").contains("a.example"));
    }
}
