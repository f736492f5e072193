//! Every fault of a table, with its place and its words.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::de::DeTable;

use super::*;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read by serde alone")]
struct Config {
    /// Where to ask.
    url: String,
    /// How many.
    #[serde(default)]
    #[schemars(range(min = 1, max = 64))]
    top: u32,
    /// How often.
    every: Option<HumanDuration>,
    ratio: Option<Spanned<f64>>,
    #[schemars(range(min = 0.0, max = 1.0))]
    share: Option<f64>,
    #[serde(default)]
    loud: bool,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    names: Vec<Spanned<String>>,
    #[schemars(length(min = 1))]
    counts: Option<Vec<u8>>,
    auth: Option<Auth>,
    #[serde(default)]
    columns: BTreeMap<Spanned<String>, Column>,
    #[serde(default)]
    rules: Vec<Rule>,
    secret: Option<Secret>,
    pair: Option<(i64, i64)>,
    way: Option<Way>,
    either: Option<Either>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    KeepFirst,
    /// The last.
    KeepLast,
    Reject,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read by serde alone")]
struct Auth {
    /// Who asks.
    user: String,
    password: Secret,
    port: Option<u16>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read by serde alone")]
struct Column {
    min: Option<f64>,
    #[serde(default)]
    required: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read by serde alone")]
struct Rule {
    name: String,
    expr: Spanned<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "snake_case")]
#[expect(dead_code, reason = "read by serde alone")]
enum Way {
    Page { size: u32 },
    Cursor { field: String },
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "read by serde alone")]
enum Either {
    Rows(u64),
    Share(String),
}

/// One line a fault: code, what the span covers, message, help.
fn told<T: DeserializeOwned + JsonSchema>(text: &str, table: &ConfigTable<'_>) -> Vec<String> {
    let Err(faults) = parse_config::<T>("source \"x\"", table) else { return vec!["fine".into()] };
    let line = |fault: &PlanError| {
        let help = fault.help.as_ref().map(|help| format!(" / {help}")).unwrap_or_default();
        let place = fault.span.clone().and_then(|span| text.get(span)).unwrap_or("?");
        format!("{} [{place}] {}{help}", fault.code, fault.message)
    };
    faults.iter().map(line).collect()
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let table = table_from_str(text).unwrap();
    assert_eq!(told::<Config>(text, &table), expected, "{text}");
}

#[test]
fn a_good_table_is_typed() {
    let text = r#"
url = "u"
share = 1
top = 64
every = "1h 30m"
ratio = 1
names = ["a", "b"]
mode = "keep_last"
auth = { user = "u", password = "p" }
way = { kind = "page", size = 3 }
either = 5
pair = [1, 2]
[columns.close]
min = 0
[[rules]]
name = "n"
expr = "e"
"#;
    let table = table_from_str(text).unwrap();
    let config: Config = parse_config("x", &table).unwrap();
    assert_eq!(config.top, 64);
    assert_eq!(config.ratio.as_deref(), Some(&1.0));
    // Where no range is set, NaN is a number as any other.
    assert!(parse_config::<Config>("x", &table_from_str("url = 'u'\nratio = nan").unwrap()).is_ok());
    assert_eq!(&text[config.names[1].span()], "\"b\"");
    let (key, _) = config.columns.get_key_value("close").unwrap();
    assert_eq!(&text[key.span()], "close");
    assert_eq!(&text[config.rules[0].expr.span()], "\"e\"");
}

#[test]
fn wrong_types_are_said_in_plain_words() {
    let u = "url = \"u\"\n";
    for (line, expected) in [
        ("top = \"3\"", "E012 [\"3\"] `top`: expected a whole number from 1 to 64, found text \"3\" / write it without quotes"),
        ("top = 2.5", "E012 [2.5] `top`: expected a whole number from 1 to 64, found the number 2.5"),
        ("top = 65", "E012 [65] `top`: expected a whole number from 1 to 64, found the whole number 65"),
        ("top = -1", "E012 [-1] `top`: expected a whole number from 1 to 64, found the whole number -1"),
        (
            "top = 99999999999999999999",
            "E012 [99999999999999999999] `top`: expected a whole number from 1 to 64, found the whole number 99999999999999999999",
        ),
        ("ratio = \"x\"", "E012 [\"x\"] `ratio`: expected a number, found text \"x\""),
        ("ratio = \"\"", "E012 [\"\"] `ratio`: expected a number, found an empty text"),
        ("share = 1.5", "E012 [1.5] `share`: expected a number from 0.0 to 1.0, found the number 1.5"),
        ("share = nan", "E012 [nan] `share`: expected a number from 0.0 to 1.0, found the number nan"),
        ("loud = \"yes\"", "E012 [\"yes\"] `loud`: expected true or false, found text \"yes\" / did you mean `true`?"),
        ("loud = 1", "E012 [1] `loud`: expected true or false, found the whole number 1"),
        ("secret = 1", "E012 [1] `secret`: expected text, found the whole number 1"),
        ("secret = 2020-01-01", "E012 [2020-01-01] `secret`: expected text, found the date 2020-01-01"),
        ("names = \"a\"", "E012 [\"a\"] `names`: expected a list, found text \"a\" / a list stands in brackets"),
        ("names = [\"a\", 2]", "E012 [2] `names[1]`: expected text, found the whole number 2"),
        ("counts = [1, 256]", "E012 [256] `counts[1]`: expected a whole number from 0 to 255, found the whole number 256"),
        ("counts = []", "E012 [[]] `counts`: expected a list that is not empty"),
        ("auth = 3", "E012 [3] `auth`: expected a table, found the whole number 3"),
        ("pair = [1]", "E012 [[1]] `pair`: expected a list of 2"),
        ("pair = [1, \"x\"]", "E012 [\"x\"] `pair[1]`: expected a whole number, found text \"x\""),
        ("either = true", "E012 [true] `either`: expected a whole number of 0 or more or text, found true"),
        ("way = 3", "E012 [3] `way`: expected a table, found the whole number 3"),
    ] {
        check(&format!("{u}{line}"), &[expected]);
    }
}

#[test]
fn a_config_without_its_faulty_entries_can_be_checked_further() {
    let text = "url = \"u\"\ntop = \"three\"\nnames = [\"a\", 1]\nzzz = 1\nevery = \"1h\"";
    let table = table_from_str(text).unwrap();
    let (config, faults) = parse_partial::<Config>("x", &table);
    let config = config.unwrap();
    assert_eq!((faults.len(), config.top, config.names.len(), config.every.is_some()), (3, 0, 1, true));
    let table = table_from_str("url = 1").unwrap();
    let (config, faults) = parse_partial::<Config>("x", &table);
    assert!(config.is_none());
    assert_eq!(faults.len(), 1);
}

#[test]
fn a_choice_names_its_choices() {
    check(
        "url = \"u\"\nmode = \"keep_frist\"",
        &[
            "E012 [\"keep_frist\"] `mode`: expected \"keep_first\", \"reject\" or \"keep_last\", found text \"keep_frist\" / did you mean \"keep_first\"?",
        ],
    );
    check("url = \"u\"\nmode = 3", &["E012 [3] `mode`: expected \"keep_first\", \"reject\" or \"keep_last\", found the whole number 3"]);
    check(
        "url = \"u\"\nway = { kind = \"pages\" }",
        &["E012 [\"pages\"] `way.kind`: expected \"page\" or \"cursor\", found text \"pages\" / did you mean \"page\"?"],
    );
}

#[test]
fn a_length_of_time_says_what_it_lacks() {
    for (value, expected) in [
        ("\"1 hou\"", "no unit of time is called \"hou\" / did you mean \"1 hour\"?"),
        ("\"1h 20 minuts\"", "no unit of time is called \"minuts\" / did you mean \"1h 20 minute\"?"),
        ("\"5 fortnights\"", "no unit of time is called \"fortnights\" / units are ms, s, m, h, days, weeks"),
        ("\"90\"", "\"90\" has no unit / write it as \"90s\", \"90m\" or \"90h\""),
        ("\"\"", "an empty text is not a length of time / write it as \"90s\", \"1h 30m\" or \"2 days\""),
        ("\"soon\"", "\"soon\" is not a length of time / write it as \"90s\", \"1h 30m\" or \"2 days\""),
        ("\"-1h\"", "\"-1h\" is not a length of time / write it as \"90s\", \"1h 30m\" or \"2 days\""),
        ("\"99999999999999999999s\"", "\"99999999999999999999s\" is too long or too fine a length of time"),
        ("60", "expected a length of time such as \"90s\", \"1h 30m\" or \"2 days\", found the whole number 60"),
    ] {
        check(&format!("url = \"u\"\nevery = {value}"), &[&format!("E012 [{value}] `every`: {expected}")]);
    }
}

#[test]
fn unknown_and_missing_keys_are_reported_at_any_depth() {
    check("url = \"u\"\nevry = \"1h\"", &["E010 [evry] source \"x\" has no key `evry` / did you mean `every`?"]);
    check("", &["E011 [] source \"x\" needs the key `url` / `url`: Where to ask."]);
    check(
        "url = \"u\"\n[auth]\nusr = \"me\"",
        &[
            "E011 [[auth]] `auth` in source \"x\" needs the key `password` / add `password = ...`",
            "E010 [usr] `auth` in source \"x\" has no key `usr` / did you mean `user`?",
        ],
    );
    check(
        "url = \"u\"\n[columns.close]\nmn = 1\n[columns.open]\nrequird = true",
        &[
            "E010 [mn] `columns.close` in source \"x\" has no key `mn` / did you mean `min`?",
            "E010 [requird] `columns.open` in source \"x\" has no key `requird` / did you mean `required`?",
        ],
    );
    check(
        "url = \"u\"\n[[rules]]\nname = \"a\"\n[[rules]]\nexpr = 3",
        &[
            "E011 [[[rules]]] `rules[0]` in source \"x\" needs the key `expr` / add `expr = ...`",
            "E011 [[[rules]]] `rules[1]` in source \"x\" needs the key `name` / add `name = ...`",
            "E012 [3] `rules[1].expr`: expected text, found the whole number 3",
        ],
    );
    // What is there already is not offered: two of one name are no TOML.
    check("url = \"u\"\ntop = 3\ntopp = 4", &["E010 [topp] source \"x\" has no key `topp` / `top` is there already: take one of the two away"]);
    // Behind a tag the schema cannot tell which keys there are: serde does.
    check("url = \"u\"\nway = { kind = \"page\", sise = 3 }", &["E010 [sise] `way` in source \"x\" has no key `sise` / did you mean `size`?"]);
    check("url = \"u\"\nway = { kind = \"page\" }", &["E011 [{ kind = \"page\" }] `way` in source \"x\" needs the key `size` / add `size = ...`"]);
}

#[test]
fn all_faults_of_a_table_come_at_once_in_the_order_of_the_file() {
    check(
        r#"
top = "three"
every = "1 hou"
loud = 1
names = ["a", 1, 2, "b"]
zzz = 1
mode = "x"
auth = { user = 1, prt = 3, port = 70000 }
[columns.close]
min = "low"
required = "yes"
[columns.open]
min = 1
[[rules]]
name = 1
expr = "e"
[[rules]]
name = "b"
"#,
        &[
            "E011 [] source \"x\" needs the key `url` / `url`: Where to ask.",
            "E012 [\"three\"] `top`: expected a whole number from 1 to 64, found text \"three\"",
            "E012 [\"1 hou\"] `every`: no unit of time is called \"hou\" / did you mean \"1 hour\"?",
            "E012 [1] `loud`: expected true or false, found the whole number 1",
            "E012 [1] `names[1]`: expected text, found the whole number 1",
            "E012 [2] `names[2]`: expected text, found the whole number 2",
            "E010 [zzz] source \"x\" has no key `zzz` / its keys are `auth`, `columns`, `counts`, `either`, `every`, `loud`, `mode`, `names`, \
             `pair`, `ratio`, `rules`, `secret`, `share`, `top`, `url`, `way`",
            "E012 [\"x\"] `mode`: expected \"keep_first\", \"reject\" or \"keep_last\", found text \"x\"",
            "E011 [{ user = 1, prt = 3, port = 70000 }] `auth` in source \"x\" needs the key `password` / add `password = ...`",
            "E012 [1] `auth.user`: expected text, found the whole number 1",
            "E010 [prt] `auth` in source \"x\" has no key `prt` / `port` is there already: take one of the two away",
            "E012 [70000] `auth.port`: expected a whole number from 0 to 65535, found the whole number 70000",
            "E012 [\"low\"] `columns.close.min`: expected a number, found text \"low\"",
            "E012 [\"yes\"] `columns.close.required`: expected true or false, found text \"yes\" / did you mean `true`?",
            "E012 [1] `rules[0].name`: expected text, found the whole number 1",
            "E011 [[[rules]]] `rules[1]` in source \"x\" needs the key `expr` / add `expr = ...`",
        ],
    );
}

/// A table whose texts `${...}` were replaced, as the engine does it; every value counts as the environment's.
fn expanded<'a>(text: &'a str, values: &[(&str, &str)]) -> ConfigTable<'a> {
    let (mut table, _) = DeTable::parse_recoverable(text);
    let mut all = Vec::new();
    for (_, value) in table.get_mut().iter_mut() {
        let span = value.span();
        if let DeValue::String(written) = value.get_mut()
            && let Some((form, new)) = values.iter().find(|(form, _)| written.contains(form))
        {
            let replaced = written.replace(form, new);
            all.push(Expansion {
                span,
                written: written.to_string(),
                value: replaced.clone(),
                hidden: vec![((*new).to_owned(), (*form).to_owned())],
                whole: written == form,
                faulty: *new == "!",
            });
            *written = replaced.into();
        }
    }
    ConfigTable::new(table, all.into_iter().collect())
}

#[test]
fn a_text_of_the_environment_may_stand_for_a_number() {
    let text = "url = \"${U}\"\ntop = \"${T}\"\nratio = \"${R}\"\nloud = \"${L}\"\neither = \"${T}\"";
    let table = expanded(text, &[("${U}", "5"), ("${T}", "3"), ("${R}", "2"), ("${L}", "true")]);
    let config: Config = parse_config("x", &table).unwrap();
    assert_eq!((config.url.as_str(), config.top, config.loud), ("5", 3, true));
    assert_eq!(config.ratio.as_deref(), Some(&2.0));
    // Where text will do, it is text.
    assert!(matches!(config.either, Some(Either::Share(text)) if text == "3"));
}

#[test]
fn a_value_of_the_environment_is_not_shown() {
    let text = "url = \"u\"\ntop = \"${T}\"\nevery = \"${E}\"\nmode = \"${M}\"\nratio = \"1${R}\"\nnames = \"${N}\"\neither = \"${G}\"";
    let values = [("${T}", "sesame"), ("${E}", "7 sesame"), ("${M}", "sesame"), ("${R}", "77777"), ("${N}", "sesame"), ("${G}", "!")];
    let table = expanded(text, &values);
    let told = told::<Config>(text, &table);
    assert_eq!(
        told,
        [
            "E012 [\"${T}\"] `top`: the value of \"${T}\" is not a whole number from 1 to 64",
            "E012 [\"${E}\"] `every`: the value of \"${E}\" is not a length of time such as \"90s\", \"1h 30m\" or \"2 days\"",
            "E012 [\"${M}\"] `mode`: the value of \"${M}\" is not \"keep_first\", \"reject\" or \"keep_last\"",
            "E012 [\"1${R}\"] `ratio`: the value of \"1${R}\" is not a number",
            "E012 [\"${N}\"] `names`: the value of \"${N}\" is not a list",
        ]
    );
    assert!(!format!("{table:?}").contains("sesame"));
    let text = "url = \"u\"\ntop = \"${T}\"";
    assert_eq!(
        self::told::<Config>(text, &expanded(text, &[("${T}", "65")])),
        ["E012 [\"${T}\"] `top`: the value of \"${T}\" is not a whole number from 1 to 64"]
    );
}

#[test]
fn a_part_of_a_text_has_its_place() {
    let text = "a = \"one two\"\nb = \"one\\ttwo\"\nc = '''one two'''";
    let mut table = table_from_str(text).unwrap();
    let mut part = |key| text[take_text(&mut table, key).unwrap().unwrap().part(4..7)].to_owned();
    assert_eq!([part("a"), part("b"), part("c")], ["two", "\"one\\ttwo\"", "'''one two'''"]);
    assert_eq!(Spanned::new("ab".to_owned(), 3..7).part(1..9), 3..7);
}

#[test]
fn keys_are_taken_and_split_off() {
    let text = "type = \"t\"\nn = 1\ncatch_up = 2";
    let mut table = table_from_str(text).unwrap();
    assert_eq!(*take_text(&mut table, "type").unwrap().unwrap(), "t");
    assert!(take_text(&mut table, "type").is_none());
    assert_eq!(take_text(&mut table.clone(), "n").unwrap().unwrap_err().message, "`n`: expected text, found the whole number 1");
    let taken = table.split_off(&["catch_up", "overrun"]);
    assert_eq!(taken.keys().iter().map(|key| key.as_str()).collect::<Vec<_>>(), ["catch_up"]);
    assert_eq!(table.keys().len(), 1);
}

#[test]
fn the_nearest_name_is_near() {
    assert_eq!(nearest("intervall", ["interval", "every"]), Some("interval"));
    assert_eq!(nearest("CLOSE", ["open", "close"]), Some("close"));
    assert_eq!(nearest("volume", ["open", "close"]), None);
    assert_eq!(nearest("minimum", ["max", "min"]), Some("min"));
    assert_eq!(nearest("warning", ["error", "warn"]), Some("warn"));
    assert_eq!(nearest("quarant", ["quarantine"]), Some("quarantine"));
    assert_eq!(nearest("a", ["abc"]), None);
}
