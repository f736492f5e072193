//! The functions: names, parameters and results. `README.md` has the same table for readers.

use pipeline_contract::ColumnType;

/// A function that takes its arguments' values row by row and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Abs,
    Round,
    Floor,
    Ceil,
    Sign,
    Sqrt,
    Ln,
    Log10,
    Exp,
    Power,
    IsFinite,
    IsNan,
    Lower,
    Upper,
    Trim,
    TrimStart,
    TrimEnd,
    Length,
    Substr,
    Replace,
    StartsWith,
    EndsWith,
    Contains,
    Concat,
    SplitPart,
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    DayOfWeek,
    DateTrunc(Unit),
    SecondsBetween,
    ToTimestamp,
    FromUnix,
    FromUnixMs,
    Unix,
    UnixMs,
}

impl Function {
    /// Whether a null argument makes the result null.
    pub(crate) fn is_strict(self) -> bool {
        self != Self::Concat
    }

    /// Whether arguments that are not null may give null: what does not fit the result's type.
    pub(crate) fn may_make_null(self, result: ColumnType) -> bool {
        match self {
            Self::Abs | Self::Round => result == ColumnType::Integer,
            Self::SplitPart | Self::FromUnix | Self::FromUnixMs => true,
            _ => false,
        }
    }
}

/// What `date_trunc` cuts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Unit {
    pub(crate) const NAMES: &str = "second, minute, hour, day, week, month, year";

    pub(crate) fn of(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "second" => Self::Second,
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Month,
            "year" => Self::Year,
            _ => return None,
        })
    }
}

/// What a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parameter {
    /// An integer or a float, kept as it is.
    Number,
    /// A value of this type; a float also takes an integer, a timestamp also text that reads as one.
    Of(ColumnType),
}

/// What a function gives.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gives {
    /// The type of the first argument.
    Same,
    /// This type.
    A(ColumnType),
}

/// How a call is type-checked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// Parameters by position; the first `required` must be there.
    Plain {
        function: Function,
        parameters: &'static [Parameter],
        required: usize,
        gives: Gives,
    },
    Coalesce,
    NullIf,
    If,
    Least,
    Greatest,
    /// Any number of texts.
    Concat,
    Matches,
    DateTrunc,
}

/// A function's name, how to call it, and how the call is checked.
#[derive(Debug)]
pub(crate) struct Signature {
    pub(crate) name: &'static str,
    pub(crate) usage: &'static str,
    pub(crate) shape: Shape,
}

const NUMBER: Parameter = Parameter::Number;
const INTEGER: Parameter = Parameter::Of(ColumnType::Integer);
const FLOAT: Parameter = Parameter::Of(ColumnType::Float);
const TEXT: Parameter = Parameter::Of(ColumnType::Text);
const TIMESTAMP: Parameter = Parameter::Of(ColumnType::Timestamp);
const TO_BOOLEAN: Gives = Gives::A(ColumnType::Boolean);
const TO_INTEGER: Gives = Gives::A(ColumnType::Integer);
const TO_FLOAT: Gives = Gives::A(ColumnType::Float);
const TO_TEXT: Gives = Gives::A(ColumnType::Text);
const TO_TIMESTAMP: Gives = Gives::A(ColumnType::Timestamp);

const fn plain(
    name: &'static str,
    usage: &'static str,
    function: Function,
    parameters: &'static [Parameter],
    required: usize,
    gives: Gives,
) -> Signature {
    Signature { name, usage, shape: Shape::Plain { function, parameters, required, gives } }
}

const fn special(name: &'static str, usage: &'static str, shape: Shape) -> Signature {
    Signature { name, usage, shape }
}

/// Every function, in the order of the documentation.
pub(crate) static FUNCTIONS: &[Signature] = &[
    plain("abs", "abs(x)", Function::Abs, &[NUMBER], 1, Gives::Same),
    plain("round", "round(x [, digits])", Function::Round, &[NUMBER, INTEGER], 1, Gives::Same),
    plain("floor", "floor(x)", Function::Floor, &[NUMBER], 1, Gives::Same),
    plain("ceil", "ceil(x)", Function::Ceil, &[NUMBER], 1, Gives::Same),
    plain("sign", "sign(x)", Function::Sign, &[NUMBER], 1, Gives::Same),
    plain("sqrt", "sqrt(x)", Function::Sqrt, &[FLOAT], 1, TO_FLOAT),
    plain("ln", "ln(x)", Function::Ln, &[FLOAT], 1, TO_FLOAT),
    plain("log10", "log10(x)", Function::Log10, &[FLOAT], 1, TO_FLOAT),
    plain("exp", "exp(x)", Function::Exp, &[FLOAT], 1, TO_FLOAT),
    plain("power", "power(x, exponent)", Function::Power, &[FLOAT, FLOAT], 2, TO_FLOAT),
    plain("is_finite", "is_finite(x)", Function::IsFinite, &[FLOAT], 1, TO_BOOLEAN),
    plain("is_nan", "is_nan(x)", Function::IsNan, &[FLOAT], 1, TO_BOOLEAN),
    special("least", "least(a, b, ...)", Shape::Least),
    special("greatest", "greatest(a, b, ...)", Shape::Greatest),
    special("coalesce", "coalesce(a, b, ...)", Shape::Coalesce),
    special("nullif", "nullif(a, b)", Shape::NullIf),
    special("if", "if(condition, a, b)", Shape::If),
    plain("lower", "lower(text)", Function::Lower, &[TEXT], 1, TO_TEXT),
    plain("upper", "upper(text)", Function::Upper, &[TEXT], 1, TO_TEXT),
    plain("trim", "trim(text)", Function::Trim, &[TEXT], 1, TO_TEXT),
    plain("ltrim", "ltrim(text)", Function::TrimStart, &[TEXT], 1, TO_TEXT),
    plain("rtrim", "rtrim(text)", Function::TrimEnd, &[TEXT], 1, TO_TEXT),
    plain("length", "length(text)", Function::Length, &[TEXT], 1, TO_INTEGER),
    plain("substr", "substr(text, start [, length])", Function::Substr, &[TEXT, INTEGER, INTEGER], 2, TO_TEXT),
    plain("replace", "replace(text, from, to)", Function::Replace, &[TEXT, TEXT, TEXT], 3, TO_TEXT),
    plain("starts_with", "starts_with(text, part)", Function::StartsWith, &[TEXT, TEXT], 2, TO_BOOLEAN),
    plain("ends_with", "ends_with(text, part)", Function::EndsWith, &[TEXT, TEXT], 2, TO_BOOLEAN),
    plain("contains", "contains(text, part)", Function::Contains, &[TEXT, TEXT], 2, TO_BOOLEAN),
    special("concat", "concat(a, b, ...)", Shape::Concat),
    plain("split_part", "split_part(text, separator, n)", Function::SplitPart, &[TEXT, TEXT, INTEGER], 3, TO_TEXT),
    special("regexp_matches", "regexp_matches(text, 'pattern')", Shape::Matches),
    plain("year", "year(timestamp)", Function::Year, &[TIMESTAMP], 1, TO_INTEGER),
    plain("month", "month(timestamp)", Function::Month, &[TIMESTAMP], 1, TO_INTEGER),
    plain("day", "day(timestamp)", Function::Day, &[TIMESTAMP], 1, TO_INTEGER),
    plain("hour", "hour(timestamp)", Function::Hour, &[TIMESTAMP], 1, TO_INTEGER),
    plain("minute", "minute(timestamp)", Function::Minute, &[TIMESTAMP], 1, TO_INTEGER),
    plain("second", "second(timestamp)", Function::Second, &[TIMESTAMP], 1, TO_INTEGER),
    plain("day_of_week", "day_of_week(timestamp)", Function::DayOfWeek, &[TIMESTAMP], 1, TO_INTEGER),
    special("date_trunc", "date_trunc('unit', timestamp)", Shape::DateTrunc),
    plain("seconds_between", "seconds_between(from, to)", Function::SecondsBetween, &[TIMESTAMP, TIMESTAMP], 2, TO_FLOAT),
    plain("to_timestamp", "to_timestamp(text)", Function::ToTimestamp, &[TEXT], 1, TO_TIMESTAMP),
    plain("from_unix", "from_unix(seconds)", Function::FromUnix, &[NUMBER], 1, TO_TIMESTAMP),
    plain("from_unix_ms", "from_unix_ms(milliseconds)", Function::FromUnixMs, &[NUMBER], 1, TO_TIMESTAMP),
    plain("unix", "unix(timestamp)", Function::Unix, &[TIMESTAMP], 1, TO_INTEGER),
    plain("unix_ms", "unix_ms(timestamp)", Function::UnixMs, &[TIMESTAMP], 1, TO_INTEGER),
];

/// Why a function that people look for is not there.
pub(crate) fn absent(name: &str) -> Option<&'static str> {
    Some(match name {
        "now" | "current_timestamp" | "current_date" | "current_time" | "today" | "getdate" | "localtimestamp" | "localtime" => {
            "there is no clock: the same rows must give the same result in every run; compare with a TIMESTAMP literal or another column"
        }
        "random" | "rand" | "uuid" | "gen_random_uuid" => "there is no randomness: the same rows must give the same result in every run",
        "min" => "aggregates are not supported; for the smallest of several values in a row: least(a, b)",
        "max" => "aggregates are not supported; for the largest of several values in a row: greatest(a, b)",
        "count" | "sum" | "avg" | "stddev" | "median" => "aggregates are not supported: an expression sees one row at a time",
        "lag" | "lead" | "row_number" | "rank" | "first_value" | "last_value" => {
            "window functions are not supported: an expression sees one row at a time"
        }
        "ifnull" | "nvl" | "isnull" => "use coalesce(a, b)",
        "len" | "char_length" | "character_length" => "use length(text)",
        "substring" => "use substr(text, start, length)",
        "ceiling" => "use ceil(x)",
        "pow" => "use power(x, exponent)",
        "log" => "use ln(x) or log10(x)",
        "mod" => "use a % b",
        "iif" => "use if(condition, a, b)",
        "regexp_like" | "regexp_match" => "use regexp_matches(text, 'pattern')",
        "date_diff" | "datediff" | "timestampdiff" | "age" => "use seconds_between(from, to)",
        "extract" | "date_part" => "use year(t), month(t), day(t), hour(t), minute(t), second(t) or day_of_week(t)",
        _ => return None,
    })
}
