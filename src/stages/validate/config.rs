//! The table `[validate]` of a pipeline file.

use std::collections::BTreeMap;

use pipeline_contract::{ColumnType, HumanDuration, Spanned};
use schemars::JsonSchema;
use serde::Deserialize;

use super::limits::LimitConfig;
use super::literal::Literal;

/// Which rows are good, and what becomes of the others.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ValidateConfig {
    /// What becomes of a row that breaks a rule.
    #[serde(default)]
    pub on_reject: OnReject,
    /// Where quarantined rows are kept.
    pub quarantine_path: Option<Spanned<String>>,
    /// How long quarantined rows are kept, counted from the tick of the run that rejected them: a year if not given.
    #[schemars(extend("default" = "1 year"))]
    pub keep_rejects: Option<Spanned<HumanDuration>>,
    /// How many rejects are too many.
    #[serde(default)]
    pub limits: Limits,
    /// Constraints on single columns, by column name.
    #[serde(default)]
    pub columns: BTreeMap<Spanned<String>, ColumnRule>,
    /// Rules over whole rows, checked in this order after the columns' constraints.
    #[serde(default)]
    pub rules: Vec<Spanned<RuleConfig>>,
}

/// What becomes of a row that breaks a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnReject {
    /// It is kept with the rule and the reason; the other rows go on.
    #[default]
    Quarantine,
    /// It is counted and left out.
    Drop,
    /// It fails its split.
    Fail,
}

/// How many rejects of a run are too many.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// More rejects than this are warned of: a number of rows, or a share of the rows read such as "5%".
    pub warn: Option<Spanned<LimitConfig>>,
    /// More rejects than this fail the run, and what it has not committed is dropped: a number of rows, or a share such as "5%".
    pub abort: Option<Spanned<LimitConfig>>,
}

/// The constraints on one column. All but `required` and `type` let null pass.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnRule {
    /// Null is rejected.
    #[serde(default)]
    pub required: bool,
    /// The type that the column must have. Checked before anything runs; `cast` is what changes a type.
    #[serde(rename = "type")]
    pub ty: Option<Spanned<ColumnType>>,
    /// The least value of a number or a timestamp. NaN is rejected.
    pub min: Option<Spanned<Literal>>,
    /// The greatest value of a number or a timestamp. NaN is rejected.
    pub max: Option<Spanned<Literal>>,
    /// A regular expression that the text must match, anywhere unless it says `^` and `$`.
    pub regex: Option<Spanned<String>>,
    /// The values that are allowed.
    pub one_of: Option<Spanned<Vec<Spanned<Literal>>>>,
    /// The least number of characters of a text.
    pub min_length: Option<Spanned<u64>>,
    /// The greatest number of characters of a text.
    pub max_length: Option<Spanned<u64>>,
}

/// A rule over whole rows: an expression of your own, or a kind that is known.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Its name in rejects and counts; where it is not given, the kind, or the text of the expression.
    pub name: Option<Spanned<String>>,
    /// What must hold. A row for which it is false is rejected; one for which it is unknown (null) passes, as with CHECK in SQL.
    pub expr: Option<Spanned<String>>,
    /// A rule that is known by name, instead of `expr`.
    pub kind: Option<Spanned<RuleKind>>,
    /// The column that `kind` takes for `open`, where it has another name.
    pub open: Option<Spanned<String>>,
    /// The column that `kind` takes for `high`, where it has another name.
    pub high: Option<Spanned<String>>,
    /// The column that `kind` takes for `low`, where it has another name.
    pub low: Option<Spanned<String>>,
    /// The column that `kind` takes for `close`, where it has another name.
    pub close: Option<Spanned<String>>,
    /// The column that `kind` takes for `volume`, where it is not `volume` or `volume_24h`.
    pub volume: Option<Spanned<String>>,
    /// What to say of a row that breaks it, before the row's values.
    pub message: Option<String>,
}

/// The rules that are known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleKind {
    /// `low <= least(open, close) AND high >= greatest(open, close) AND low <= high`
    PriceEnvelope,
    /// `open`, `high`, `low` and `close` are finite and above 0.
    PositivePrices,
    /// `volume >= 0`, or null.
    NonNegativeVolume,
}

impl RuleKind {
    /// The name used in pipeline files and rejects.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PriceEnvelope => "price_envelope",
            Self::PositivePrices => "positive_prices",
            Self::NonNegativeVolume => "non_negative_volume",
        }
    }
}
