//! The keys of `type = "csv"`.

use pipeline_contract::{Expansions, PlanError, Spanned};
use pipeline_sink_lines::{Checked, ColumnName, Options};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::cell::Style;
use crate::format::Csv;

/// Rows as CSV files, one for each path that the rows name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["path"]))]
pub(crate) struct Config {
    /// The file of a row: text with columns in braces, `{coin_id}` for text, integer and boolean columns, `{timestamp:%Y-%m}` (strftime, in
    /// UTC) for timestamps, `{{` and `}}` for braces. Values are made safe as file names; folders are created.
    #[serde(default = "pipeline_sink_lines::nowhere")]
    pub(crate) path: Spanned<String>,
    /// The columns to write, in this order: names, or `{ column = "volume_24h", as = "volume" }` to rename one. Default: all columns.
    pub(crate) columns: Option<Spanned<Vec<Spanned<ColumnName>>>>,
    /// How timestamps are written: `rfc3339` (the default), `unix` (seconds), `unix_ms`, `unix_us`, or a strftime format such as
    /// `%Y-%m-%d %H:%M:%S`, in UTC. The first four keep every digit.
    pub(crate) time_format: Option<Spanned<String>>,
    /// What stands between the cells, one sign: `,` (the default), `;`, `|`, a tab (`"\t"`).
    pub(crate) delimiter: Option<Spanned<String>>,
    /// Whether a file begins with a line of column names.
    #[serde(default = "yes")]
    pub(crate) header: bool,
    /// What stands for null; nothing by default. A text that is the same is quoted, so that the two are told apart.
    pub(crate) null: Option<Spanned<String>>,
    /// Whether a text that a spreadsheet would take for a formula (it begins with `=`, `+`, `-`, `@`, tab or return) gets a `'` before it.
    /// Reading back takes it away again.
    #[serde(default)]
    pub(crate) guard_formulas: bool,
    /// How lines end.
    #[serde(default)]
    pub(crate) line_ending: LineEnding,
}

fn yes() -> bool {
    true
}

/// How lines end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LineEnding {
    /// `\n`
    #[default]
    Lf,
    /// `\r\n`, as RFC 4180 has it
    Crlf,
}

/// Looks at what can be judged without knowing the columns. What is faulty is as if it were not there.
pub(crate) fn check(config: Config, expansions: &Expansions) -> (Checked, Csv, Vec<PlanError>) {
    let options = Options { path: config.path.clone(), columns: config.columns.clone(), time_format: config.time_format.clone() };
    let (checked, mut faults) = pipeline_sink_lines::check(options, expansions);
    let delimiter = match config.delimiter.as_ref().map(|text| (text, text.as_bytes())) {
        None => b',',
        Some((_, [sign])) if matches!(sign, b'\t' | b' ' | b'!'..=b'~') && !sign.is_ascii_alphanumeric() && !b"\"'.+-%:".contains(sign) => *sign,
        Some((text, _)) => {
            let error = text.error("E034", format!("`delimiter`: {:?} cannot stand between cells", **text));
            faults.push(error.help("choose one sign that is in no number or time: `,`, `;`, `|` or a tab (`\"\\t\"`)"));
            b','
        }
    };
    let null = config.null.as_ref().map(|text| text.as_bytes().to_vec()).unwrap_or_default();
    if let Some(text) = &config.null
        && null.iter().any(|sign| *sign == delimiter || matches!(sign, b'"' | b'\r' | b'\n'))
    {
        let error = text.error("E034", format!("`null`: {:?} would need quotes, and what is quoted is not null", **text));
        faults.push(error.help("choose a text without delimiter, quotes and line breaks, as `NA` or `\\N`"));
    }
    let newline: &[u8] = if config.line_ending == LineEnding::Crlf { b"\r\n" } else { b"\n" };
    let style = Style { delimiter, null, guard: config.guard_formulas, newline, time: checked.time().clone() };
    (checked, Csv { style, header: config.header, path: config.path.span() }, faults)
}
