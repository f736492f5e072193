//! The long story of every code: what it means, why it is told, a bad and a good example. They are kept in `docs/errors`, a page each.

/// A code and its page.
pub(crate) struct Story {
    /// As `E010`.
    pub(crate) code: &'static str,
    /// Markdown; the first line is its title.
    pub(crate) text: &'static str,
}

macro_rules! stories {
    ($($code:literal)*) => {
        [$(Story { code: $code, text: include_str!(concat!("../../docs/errors/", $code, ".md")) }),*]
    };
}

/// All of them, by code.
pub(crate) static ALL: [Story; 46] = stories![
    "E001" "E002" "E003" "E004" "E005" "E010" "E011" "E012" "E013" "E014" "E015"
    "E016" "E017" "E018" "E019" "E020" "E021" "E022" "E030" "E031" "E032"
    "E033" "E034" "E035" "E040" "E041" "E042" "E043" "E044" "E045" "E046" "E047" "W001"
    "W002" "W003" "W004" "W005" "W006" "W007" "W008" "W009" "W010" "W011"
    "W012" "W013" "W030"
];

/// The page of a code, in capitals or not.
pub(crate) fn find(code: &str) -> Option<&'static Story> {
    ALL.iter().find(|story| story.code.eq_ignore_ascii_case(code))
}

impl Story {
    /// What it is called, without its code.
    pub(crate) fn title(&self) -> &'static str {
        let line = self.text.lines().next().unwrap_or_default();
        line.split_once(": ").map_or(line, |(_, title)| title)
    }
}
