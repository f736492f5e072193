//! What is found in a pipeline file before anything runs.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop where it stands

#[allow(dead_code)]
mod common;

use common::{Candle, plan};
use pipeline_contract::{BuildContext, ColumnType, ConfigTable, Expansion, Kind, Plugin, Row, SinkInput, Stage, schema, table_from_str};
use pipeline_sink_csv::{Csv, plugins};

/// Each fault as code, the text it points at, and message.
fn faults(config: &str, keys: &[&str], replaces: bool) -> Vec<(String, String, String)> {
    match plan(config, Candle::schema(), keys, replaces) {
        Ok(_) => Vec::new(),
        Err(faults) => faults
            .into_iter()
            .map(|fault| {
                assert!(fault.help.is_some() || fault.code == "E012", "{fault:?}");
                let at = fault.span.clone().map_or("", |span| &config[span]);
                (fault.code.to_owned(), at.to_owned(), fault.message)
            })
            .collect(),
    }
}

#[test]
fn every_fault_stands_where_it_is() {
    for (config, code, at, message) in [
        (r#"path = "data/{coyn}.csv""#, "E031", "coyn", "there is no column `coyn`"),
        (r#"path = "data/{ coyn }.csv""#, "E031", "coyn", "there is no column `coyn`"),
        (r#"path = "data/{at}.csv""#, "E030", "{at}", "`at` is a timestamp and needs a format"),
        (r#"path = "data/{coin:%Y}.csv""#, "E030", "{coin:%Y}", "`coin` is text; only a timestamp has a format"),
        (r#"path = "data/{at:%Q}.csv""#, "E030", "%Q", "`%Q` is not a time format"),
        (r#"path = "data/{close}.csv""#, "E030", "{close}", "`close` is a float"),
        (r#"path = "data/{coin.csv""#, "E030", "{coin.csv", "this `{` has no `}`"),
        (r#"path = "data/{coin}{note}.csv""#, "E030", "{note}", "two columns stand side by side"),
        (r#"path = "data/{coin}/""#, "E030", "/", "the path ends in a folder"),
        (r#"path = "data/\u0041{coyn}.csv""#, "E031", r#""data/\u0041{coyn}.csv""#, "there is no column `coyn`"),
        (r#"columns = ["at", "clsoe", "coin"]"#, "E032", r#""clsoe""#, "there is no column `clsoe`"),
        (
            r#"columns = ["at", "coin", { column = "close", as = "at" }]"#,
            "E032",
            r#"{ column = "close", as = "at" }"#,
            "two columns of the file are named `at`",
        ),
        (r#"columns = []"#, "E032", "[]", "`columns` names no column"),
        (r#"columns = ["coin", "close"]"#, "E033", r#"["coin", "close"]"#, "the dedupe key `at` could not be read back from the files"),
        (r#"time_format = "%H:%M""#, "E033", r#""%H:%M""#, "the dedupe key `at` could not be read back from the files"),
        (r#"time_format = "iso""#, "E034", r#""iso""#, "`time_format`: \"iso\" is not a format of timestamps"),
        (r#"delimiter = "::""#, "E034", r#""::""#, "`delimiter`: \"::\" cannot stand between cells"),
        (r#"delimiter = ".""#, "E034", r#"".""#, "`delimiter`: \".\" cannot stand between cells"),
        (r#"null = "a,b""#, "E034", r#""a,b""#, "`null`: \"a,b\" would need quotes"),
    ] {
        let config = if config.starts_with("path") { config.to_owned() } else { format!("path = \"x.csv\"\n{config}") };
        let found = faults(&config, &["coin", "at"], false);
        assert_eq!(found.len(), 1, "{config}: {found:?}");
        assert_eq!((found[0].0.as_str(), found[0].1.as_str()), (code, at), "{config}");
        assert!(found[0].2.starts_with(message), "{config}: {}", found[0].2);
    }
}

#[test]
fn several_faults_at_once() {
    let found = faults("path = \"{a}/{b}.csv\"\ncolumns = [\"c\", \"d\"]", &[], false);
    assert_eq!(found.iter().map(|fault| fault.1.as_str()).collect::<Vec<_>>(), ["\"c\"", "\"d\"", "a", "b"]);
    let found = faults("path = \"{\"\ndelimiter = \"\"\nnull = \"\\n\"\ntime_format = \"x\"", &[], false);
    assert_eq!(found.iter().map(|fault| fault.0.as_str()).collect::<Vec<_>>(), ["E030", "E034", "E034", "E034"]);
    let found = faults("pth = \"x\"\nheader = 3", &[], false);
    assert_eq!(found.iter().map(|fault| fault.0.as_str()).collect::<Vec<_>>(), ["E010", "E012"], "a misspelt key is not missing besides");
    let found = faults("path = \"x\"\ncolumns = [{ column = \"at\", az = \"t\" }]", &[], false);
    assert!(found[0].2.contains("has no key `az`"), "{found:?}");
}

#[test]
fn a_row_that_is_replaced_must_stay_in_its_file() {
    let config = r#"path = "{coin}_{at:%Y}_{trades}.csv""#;
    assert_eq!(faults(config, &["coin", "at"], false), []);
    assert_eq!(
        faults(config, &["coin", "at"], true),
        [("E035".into(), "trades".into(), "rows are replaced, but their file depends on `trades`, which is not a dedupe key".into())]
    );
    assert_eq!(faults(config, &["coin", "at", "trades"], true), []);
}

#[test]
fn what_is_stored() {
    let stored = |config: &str, keys: &[&str]| plan(config, Candle::schema(), keys, false).unwrap().1.stored;
    let all = ["coin", "at", "close", "trades", "final_", "note"];
    assert_eq!(stored(r#"path = "x.csv""#, &[]), all);
    assert_eq!(stored("path = \"x.csv\"\ntime_format = \"unix\"", &[]), all);
    assert_eq!(
        stored("path = \"{coin}_{at:%Y}.csv\"\ncolumns = [\"close\", { column = \"at\", as = \"time\" }]", &["coin", "at"]),
        ["coin", "at", "close"]
    );
    // To the second is enough for a key, where it is kept exact; of another column something may be lost.
    let seconds = "path = \"x.csv\"\ntime_format = \"%Y-%m-%d %H:%M:%S\"";
    assert_eq!(stored(seconds, &["at"]), all);
    assert_eq!(stored(seconds, &["coin"]), ["coin", "close", "trades", "final_", "note"]);
}

#[test]
fn identity_and_targets() {
    let of = |config: &str| plan(config, Candle::schema(), &[], false).unwrap().1;
    let base = of(r#"path = "./data/{coin}.csv""#);
    assert_eq!(base.targets, ["data/{coin}.csv"]);
    assert_eq!(of("path = \"./data/{coin}.csv\"\ntime_format = \"rfc3339\"\nnull = \"\"").identity, base.identity);
    for other in [
        "header = false",
        "null = \"-\"",
        "delimiter = \";\"",
        "time_format = \"unix\"",
        "columns = [\"at\"]",
        "guard_formulas = true",
        "line_ending = \"crlf\"",
    ] {
        assert_ne!(of(&format!("path = \"./data/{{coin}}.csv\"\n{other}")).identity, base.identity, "{other}");
    }
}

#[test]
fn a_lone_column_that_may_be_null_is_odd() {
    let one = schema([("n", ColumnType::Integer, true)]);
    let warnings = |config: &str| plan(config, one.clone(), &[], false).unwrap().1.warnings;
    assert_eq!(warnings(r#"path = "x.csv""#).len(), 1);
    assert_eq!(warnings("path = \"x.csv\"\nnull = \"NA\""), []);
}

#[test]
fn the_sample_works_and_names_every_key() {
    let descriptor = Csv.describe();
    assert_eq!((descriptor.kind, descriptor.type_name), (Kind::Sink, "csv"));
    assert_eq!(plugins().len(), 1);
    let schema_of = |(name, ty)| (name, ty, false);
    let columns = ["open", "high", "low", "close", "volume_24h"].map(|name| (name, ColumnType::Float));
    let columns = [("coin_id", ColumnType::Text), ("timestamp", ColumnType::Timestamp)].into_iter().chain(columns).map(schema_of);
    let columns = schema(columns.collect::<Vec<_>>());
    let commented = descriptor.sample.replace("type = \"csv\"\n", "");
    plan(&commented, columns.clone(), &["coin_id", "timestamp"], true).unwrap();
    // With every option in use too.
    let lines = commented.lines().map(|line| line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).unwrap_or(line));
    let uncommented: String = lines.flat_map(|line| [line, "\n"]).collect();
    plan(&uncommented, columns, &["coin_id", "timestamp"], true).unwrap_or_else(|faults| panic!("{uncommented}\n{faults:?}"));
    let table = table_from_str(&uncommented).unwrap();
    for key in (descriptor.config)().get("properties").unwrap().as_object().unwrap().keys() {
        assert!(table.keys().iter().any(|k| **k == *key), "the sample does not show `{key}`");
    }
}

#[test]
fn a_fault_behind_what_the_environment_gave_stands_where_it_is() {
    let config = r#"path = "${DIR}/{coyn}_${END}""#;
    for (dir, end) in [("", "x"), ("a/long/folder", "x.csv"), ("six123", "six45.")] {
        // As the engine does it: the value changes, its place does not.
        let mut table = toml::de::DeTable::parse(config).unwrap();
        let span = table.get_ref().get("path").unwrap().span();
        let value = format!("{dir}/{{coyn}}_{end}");
        *table.get_mut().get_mut("path").unwrap().get_mut() = toml::de::DeValue::String(value.clone().into());
        let expansion = Expansion { span, written: "${DIR}/{coyn}_${END}".into(), value, hidden: vec![], whole: false, faulty: false };
        let table = ConfigTable::new(table, [expansion].into_iter().collect());
        let Ok(Stage::Sink(mut sink)) = Csv.build(&table, &BuildContext { pipeline: "test".into() }) else { panic!() };
        let faults = sink.plan(&SinkInput { schema: Candle::schema(), keys: vec![], replaces: false }).unwrap_err();
        assert_eq!(&config[faults[0].span.clone().unwrap()], "coyn");
    }
}
