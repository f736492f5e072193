//! The keys of `type = "jsonl"`.

use pipeline_contract::{Expansions, PlanError, Spanned};
use pipeline_sink_lines::{Checked, ColumnName, Options};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::format::Jsonl;

/// Rows as JSON Lines files, one for each path that the rows name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["path"]))]
pub(crate) struct Config {
    /// The file of a row: text with columns in braces, `{coin_id}` for text, integer and boolean columns, `{timestamp:%Y-%m}` (strftime, in
    /// UTC) for timestamps, `{{` and `}}` for braces. Values are made safe as file names; folders are created.
    #[serde(default = "pipeline_sink_lines::nowhere")]
    path: Spanned<String>,
    /// The columns to write, in this order: names, or `{ column = "volume_24h", as = "volume" }` to rename one. Default: all columns.
    columns: Option<Spanned<Vec<Spanned<ColumnName>>>>,
    /// How timestamps are written: `rfc3339` (the default), or a strftime format such as `%Y-%m-%d %H:%M:%S`, in UTC, as texts; `unix` (seconds),
    /// `unix_ms`, `unix_us` as numbers. All but a strftime format keep every digit.
    time_format: Option<Spanned<String>>,
    /// What becomes of nulls.
    #[serde(default)]
    nulls: Nulls,
}

/// What becomes of nulls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Nulls {
    /// They are written: `"volume":null`
    #[default]
    Write,
    /// Their keys are left out
    Omit,
}

/// Looks at what can be judged without knowing the columns.
pub(crate) fn check(config: Config, expansions: &Expansions) -> (Checked, Jsonl, Vec<PlanError>) {
    let options = Options { path: config.path, columns: config.columns, time_format: config.time_format };
    let (checked, faults) = pipeline_sink_lines::check(options, expansions);
    let format = Jsonl { time: checked.time().clone(), nulls: config.nulls };
    (checked, format, faults)
}
