//! The transforms as pipeline files use them.

use pipeline_contract::arrow::SchemaRef;
use pipeline_contract::{BuildContext, ColumnType, PlanError, Split, Stage, batch_from_json, row_json, schema, table_from_str};
use serde_json::{Value, json};

use ColumnType::{Boolean, Float, Integer, Text, Timestamp};

fn candles() -> SchemaRef {
    schema([("time", Timestamp, false), ("symbol", Text, false), ("low", Float, false), ("high", Float, true)])
}

fn candle(symbol: &str, low: f64, high: Option<f64>) -> Value {
    json!({ "time": "2026-05-19T15:00:00Z", "symbol": symbol, "low": low, "high": high })
}

struct Outcome {
    schema: SchemaRef,
    rows: Vec<Value>,
    rejects: Vec<(Value, String, String)>,
}

fn run(type_name: &str, toml: &str, input: &SchemaRef, rows: &[Value]) -> Result<Outcome, Vec<PlanError>> {
    let plugin = super::plugins().into_iter().find(|plugin| plugin.describe().type_name == type_name).unwrap();
    let stage = plugin.build(&table_from_str(toml).unwrap(), &BuildContext { pipeline: "test".into() })?;
    let Stage::Transform(mut transform) = stage else { panic!("not a transform") };
    let planned = transform.plan(input)?;
    let given = batch_from_json(input, rows).unwrap();
    assert!(given.rejects.is_empty(), "{:?}", given.rejects);
    let mut run = transform.start(&Split::new("one"));
    let applied = run.apply(given.batch).unwrap();
    assert_eq!(applied.batch.schema(), planned);
    assert!(run.finish().unwrap().is_none());
    Ok(Outcome {
        schema: planned,
        rows: (0..applied.batch.num_rows()).map(|row| Value::Object(row_json(&applied.batch, row))).collect(),
        rejects: applied.rejects.into_iter().map(|reject| (reject.row, reject.rule, reject.message)).collect(),
    })
}

fn columns(schema: &SchemaRef) -> Vec<String> {
    let nullable = |field: &pipeline_contract::arrow::Field| if field.is_nullable() { "?" } else { "" };
    schema.fields().iter().map(|field| format!("{}: {}{}", field.name(), ColumnType::of(field.data_type()).unwrap(), nullable(field))).collect()
}

#[test]
fn every_transform_keeps_its_promises() {
    let rows: Vec<Value> =
        (0..15).map(|n| candle(&n.to_string().repeat(n % 4), f64::from(u8::try_from(n).unwrap()) - 3.0, (n % 3 > 0).then_some(5.5))).collect();
    let input = batch_from_json(&candles(), &rows).unwrap().batch;
    for (name, toml) in [
        ("select", "columns = [\"high\", \"time\"]"),
        ("rename", "columns = { low = \"least\" }"),
        ("cast", "columns = { symbol = \"integer\", low = \"text\" }"),
        ("derive", "column = \"spread\"\nexpr = \"high - low\""),
        ("filter", "expr = \"high > low\""),
    ] {
        let plugin = super::plugins().into_iter().find(|plugin| plugin.describe().type_name == name).unwrap();
        pipeline_contract::testkit::TransformKit::new(plugin, toml, input.clone()).assert();
    }
}

#[test]
fn every_sample_builds() {
    for plugin in super::plugins() {
        let described = plugin.describe();
        let table = described.sample.replace("[[transforms]]\n", "").replace(&format!("type = \"{}\"\n", described.type_name), "");
        let table = table.replace("[transforms.", "[");
        let built = plugin.build(&table_from_str(&table).unwrap(), &BuildContext { pipeline: "test".into() });
        assert!(built.is_ok(), "{}: {:?}", described.type_name, built.err());
    }
}

#[test]
fn every_fault_is_told_where_it_stands() {
    // Transform, table, then for each fault: code, what it points at, what it says, what it advises.
    type Fault<'a> = (&'a str, &'a str, &'a str, &'a str);
    let cases: &[(&str, &str, &[Fault<'_>])] = &[
        ("select", "", &[("E044", "", "needs `columns` or `drop`", "keeps these")]),
        ("select", "columns = ['low']\ndrop = ['high']", &[("E044", "['high']", "exclude each other", "take `drop` away")]),
        ("select", "columns = []", &[("E044", "[]", "no column is left", "")]),
        ("select", "drop = ['time', 'symbol', 'low', 'high']", &[("E044", "['time', 'symbol', 'low', 'high']", "no column is left", "")]),
        (
            "select",
            "columns = ['lwo', 'high', 'high', 'volume']",
            &[
                ("E042", "'high'", "`high` is named twice", ""),
                ("E041", "'lwo'", "no column `lwo`", "did you mean `low`?"),
                ("E041", "'volume'", "no column `volume`", "`time`, `symbol`, `low`, `high`"),
            ],
        ),
        ("rename", "columns = { lo = 'bottom' }", &[("E041", "lo", "no column `lo`", "did you mean `low`?")]),
        ("rename", "columns = { low = 'high' }", &[("E042", "'high'", "a column `high` already", "rename that one too")]),
        (
            "rename",
            "columns = { low = 'price', high = 'price', symbol = '' }",
            &[("E042", "'price'", "`price` already, the new name of `low`", ""), ("E044", "''", "needs a name", "")],
        ),
        ("cast", "columns = { lo = 'text' }", &[("E041", "lo", "no column `lo`", "did you mean `low`?")]),
        ("cast", "columns = { low = 'boolean' }", &[("E043", "'boolean'", "`low` is float, which cannot be cast to boolean", "derive")]),
        (
            "cast",
            "columns = { low = { type = 'text', format = '%Y' }, symbol = { type = 'float', unit = 'ms' } }",
            &[
                ("E044", "'%Y'", "`format` has no meaning for float to text", "timestamp"),
                ("E044", "'ms'", "`unit` has no meaning for text to float", "timestamp"),
            ],
        ),
        ("cast", "columns = { symbol = { type = 'timestamp', format = '%H:%M' } }", &[("E044", "'%H:%M'", "does not say year, month and day", "")]),
        ("cast", "columns = { symbol = { type = 'timestamp', format = '%Y-%Q' } }", &[("E044", "'%Y-%Q'", "not a strftime format", "")]),
        ("cast", "columns = { symbol = { type = 'timestamp', format = '%F %T %Z' } }", &[("E044", "'%F %T %Z'", "`%Z` does not tell", "")]),
        ("cast", "columns = { symbol = 'number' }", &[("E012", "'number'", "number", "")]),
        ("cast", "columns = { symbol = 3 }", &[("E012", "3", "a type such as \"float\"", "")]),
        ("cast", "columns = { symbol = { type = 'integer', uint = 'ms' } }", &[("E01", "uint", "uint", "")]),
        ("derive", "", &[("E044", "", "needs `column` and `expr`, or `columns`", "")]),
        ("derive", "column = 'a'", &[("E044", "'a'", "needs an `expr`", "")]),
        ("derive", "expr = 'low'", &[("E044", "'low'", "needs a `column`", "")]),
        ("derive", "column = 'a'\nexpr = 'low'\ncolumns = { b = 'low' }", &[("E044", "{ b = 'low' }", "instead of", "")]),
        ("derive", "columns = {}", &[("E044", "{}", "no column is derived", "")]),
        ("derive", "column = 'low'\nexpr = 'high'", &[("E042", "'low'", "a column `low` already", "replace = true")]),
        (
            "derive",
            "columns = { b = 'hgih - low', a = 'b + 1', c = 'symbol + 1' }",
            &[("E040", "hgih", "hgih", "did you mean `high`?"), ("E040", "symbol", "", "")],
        ),
        ("filter", "", &[("E011", "", "`expr`", "")]),
        ("filter", "expr = 'low + 1'", &[("E040", "low + 1", "boolean", "")]),
    ];
    for (type_name, toml, expected) in cases {
        let Err(faults) = run(type_name, toml, &candles(), &[]) else { panic!("{type_name} took {toml}") };
        assert_eq!(faults.len(), expected.len(), "{type_name} {toml}: {faults:#?}");
        for (fault, (code, pointed, message, help)) in faults.iter().zip(*expected) {
            assert!(fault.code.starts_with(code), "{type_name} {toml}: {fault:?}");
            assert!(fault.message.contains(message), "{type_name} {toml}: {fault:?}");
            assert!(fault.help.as_deref().unwrap_or_default().contains(help), "{type_name} {toml}: {fault:?}");
            let span = fault.span.clone().unwrap_or(0..0);
            assert!(pointed.is_empty() || &toml[span.clone()] == *pointed, "{type_name} {toml}: {:?} in {fault:?}", &toml[span]);
        }
    }
}

#[test]
fn select_orders_or_drops() {
    let rows = [candle("A", 1.0, None)];
    let kept = run("select", "columns = ['high', 'symbol']", &candles(), &rows).unwrap();
    assert_eq!(columns(&kept.schema), ["high: float?", "symbol: text"]);
    assert_eq!(kept.rows, [json!({ "high": null, "symbol": "A" })]);
    let dropped = run("select", "drop = ['high', 'time']", &candles(), &rows).unwrap();
    assert_eq!(columns(&dropped.schema), ["symbol: text", "low: float"]);
}

#[test]
fn rename_swaps() {
    let renamed = run("rename", "columns = { low = 'high', high = 'low', symbol = 'coin' }", &candles(), &[candle("A", 1.0, None)]).unwrap();
    assert_eq!(columns(&renamed.schema), ["time: timestamp", "coin: text", "high: float", "low: float?"]);
    assert_eq!(renamed.rows, [json!({ "time": "2026-05-19T15:00:00Z", "coin": "A", "high": 1.0, "low": null })]);
}

#[test]
fn derive_sees_what_it_made_and_replaces_in_place() {
    let toml = "columns = { z = 'high - low', a = 'z * 2', symbol = 'lower(symbol)' }\nreplace = true";
    let derived = run("derive", toml, &candles(), &[candle("A", 1.0, Some(3.0)), candle("B", 1.0, None)]).unwrap();
    assert_eq!(columns(&derived.schema), ["time: timestamp", "symbol: text", "low: float", "high: float?", "z: float?", "a: float?"]);
    let time = "2026-05-19T15:00:00Z";
    assert_eq!(
        derived.rows,
        [
            json!({ "time": time, "symbol": "a", "low": 1.0, "high": 3.0, "z": 2.0, "a": 4.0 }),
            json!({ "time": time, "symbol": "b", "low": 1.0, "high": null, "z": null, "a": null }),
        ]
    );
}

#[test]
fn derive_rejects_the_rows_without_a_value_as_they_came() {
    let input = schema([("a", Text, false), ("b", Text, false)]);
    let rows = [("1", "1"), ("1", "x"), ("x", "x"), ("2", "2"), ("y", "1"), ("3", "z")].map(|(a, b)| json!({ "a": a, "b": b }));
    let toml = "columns = { n = 'CAST(a AS INTEGER)', m = 'n + CAST(b AS INTEGER)' }";
    let derived = run("derive", toml, &input, &rows).unwrap();
    // A sum may overflow, and is null then.
    assert_eq!(columns(&derived.schema), ["a: text", "b: text", "n: integer", "m: integer?"]);
    assert_eq!(derived.rows, [json!({ "a": "1", "b": "1", "n": 1, "m": 2 }), json!({ "a": "2", "b": "2", "n": 2, "m": 4 })]);
    let rejects: Vec<_> = derived.rejects.iter().map(|(row, rule, message)| (row, rule.as_str(), message.split(':').next().unwrap())).collect();
    assert_eq!(rejects, [(&rows[1], "derive", "m"), (&rows[2], "derive", "n"), (&rows[4], "derive", "n"), (&rows[5], "derive", "m")]);
}

#[test]
fn filter_keeps_what_is_true_and_rejects_only_what_has_no_answer() {
    let rows = [candle("1", 1.0, Some(2.0)), candle("2", 3.0, Some(2.0)), candle("3", 1.0, None), candle("x", 1.0, Some(2.0))];
    let filtered = run("filter", "expr = 'high > low AND CAST(symbol AS INTEGER) > 0'", &candles(), &rows).unwrap();
    assert_eq!(filtered.rows, rows[..1]);
    assert_eq!(filtered.schema, candles());
    let [(row, rule, _)] = &filtered.rejects[..] else { panic!("{:?}", filtered.rejects) };
    assert_eq!((row, rule.as_str()), (&rows[3], "filter"));
    let all = run("filter", "expr = 'low > 0'", &candles(), &rows).unwrap();
    assert_eq!(all.rows, rows);
    assert_eq!(run("filter", "expr = 'low > 0'", &candles(), &[]).unwrap().rows, Vec::<Value>::new());
    // What lies under a null is no answer.
    assert_eq!(run("filter", "expr = 'high < 3'", &candles(), &rows[..3]).unwrap().rows, rows[..2]);
}

#[test]
fn a_cell_is_cast_or_its_row_rejected() {
    let second = r#"{ type = "timestamp" }"#;
    let milli = r#"{ type = "timestamp", unit = "ms" }"#;
    let day = r#"{ type = "timestamp", format = "%d/%m/%Y" }"#;
    let zoned = r#"{ type = "timestamp", format = "%d/%m/%Y %H:%M %z" }"#;
    let written = r#"{ type = "text", format = "%d.%m.%y" }"#;
    let counted = r#"{ type = "integer", unit = "ms" }"#;
    let noon = "2026-05-19T12:00:00Z";
    // From, to, cell, and the new cell or the message.
    let cases: &[(ColumnType, &str, Value, Result<Value, &str>)] = &[
        (Text, r#""integer""#, json!("-12"), Ok(json!(-12))),
        (Text, r#""integer""#, json!("1.0"), Err(r#"v = "1.0" cannot be cast to integer"#)),
        (Text, r#""integer""#, json!("9223372036854775808"), Err(r#"v = "9223372036854775808" cannot be cast to integer"#)),
        (Text, r#""float""#, json!("1e3"), Ok(json!(1000.0))),
        (Text, r#""float""#, json!("NaN"), Err(r#"v = "NaN" cannot be cast to float"#)),
        (Text, r#""float""#, json!("x".repeat(50)), Err(r#"v = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…" cannot be cast to float"#)),
        (Text, r#""boolean""#, json!("TRUE"), Ok(json!(true))),
        (Text, r#""boolean""#, json!("yes"), Err(r#"v = "yes" cannot be cast to boolean"#)),
        (Text, second, json!("2026-05-19T14:00:00+02:00"), Ok(json!(noon))),
        (Text, second, json!("2026-05-19"), Ok(json!("2026-05-19T00:00:00Z"))),
        (Text, second, json!("19.5.2026"), Err(r#"v = "19.5.2026" cannot be cast to timestamp"#)),
        (Text, day, json!("19/05/2026"), Ok(json!("2026-05-19T00:00:00Z"))),
        (Text, day, json!("31/02/2026"), Err(r#"v = "31/02/2026" cannot be cast to timestamp with the format "%d/%m/%Y""#)),
        (Text, day, json!("19/05/2026 "), Err(r#"v = "19/05/2026 " cannot be cast to timestamp with the format "%d/%m/%Y""#)),
        (Text, zoned, json!("19/05/2026 14:00 +0200"), Ok(json!(noon))),
        (Integer, second, json!(1_779_192_000), Ok(json!(noon))),
        (Integer, milli, json!(1_779_192_000_500_i64), Ok(json!("2026-05-19T12:00:00.500Z"))),
        (Integer, second, json!(i64::MAX), Err("v = 9223372036854775807 cannot be cast to timestamp with the unit s")),
        (Integer, r#""float""#, json!(3), Ok(json!(3.0))),
        (Integer, r#""boolean""#, json!(1), Ok(json!(true))),
        (Integer, r#""boolean""#, json!(2), Err("v = 2 cannot be cast to boolean")),
        (Integer, r#""text""#, json!(-3), Ok(json!("-3"))),
        (Integer, r#""integer""#, json!(-3), Ok(json!(-3))),
        (Float, r#""integer""#, json!(3.0), Ok(json!(3))),
        (Float, r#""integer""#, json!(3.5), Err("v = 3.5 cannot be cast to integer without loss")),
        (Float, r#""integer""#, json!(9_223_372_036_854_775_808.0), Err("v = 9.223372036854776e18 cannot be cast to integer without loss")),
        (Float, r#""integer""#, json!(-9_223_372_036_854_775_808.0), Ok(json!(i64::MIN))),
        (Float, r#""text""#, json!(0.1), Ok(json!("0.1"))),
        (Float, second, json!(0.25), Ok(json!("1970-01-01T00:00:00.250Z"))),
        (Float, second, json!(1e300), Err("v = 1e300 cannot be cast to timestamp with the unit s")),
        (Boolean, r#""integer""#, json!(true), Ok(json!(1))),
        (Boolean, r#""text""#, json!(false), Ok(json!("false"))),
        (Timestamp, r#""text""#, json!(noon), Ok(json!(noon))),
        (Timestamp, written, json!(noon), Ok(json!("19.05.26"))),
        (Timestamp, r#""integer""#, json!(noon), Ok(json!(1_779_192_000))),
        (Timestamp, r#""integer""#, json!("1970-01-01T00:00:00.500Z"), Err("v = 1970-01-01T00:00:00.500Z cannot be cast to integer with the unit s")),
        (Timestamp, counted, json!("1970-01-01T00:00:00.500Z"), Ok(json!(500))),
        (Timestamp, r#""float""#, json!("1970-01-01T00:00:00.500Z"), Ok(json!(0.5))),
    ];
    for (from, to, cell, expected) in cases {
        for nullable in [false, true] {
            let input = schema([("v", *from, nullable), ("n", Integer, false)]);
            let row = json!({ "v": cell, "n": 7 });
            let mut rows = vec![row.clone()];
            if nullable {
                rows.push(json!({ "v": null, "n": 8 }));
            }
            let cast = run("cast", &format!("columns = {{ v = {to} }}"), &input, &rows).unwrap();
            let mut good = Vec::new();
            match expected {
                Ok(value) => {
                    assert!(cast.rejects.is_empty(), "{from} {cell} to {to}: {:?}", cast.rejects);
                    good.push(json!({ "v": value, "n": 7 }));
                }
                Err(message) => assert_eq!(cast.rejects, [(row, "cast".to_owned(), (*message).to_owned())]),
            }
            if nullable {
                good.push(json!({ "v": null, "n": 8 }));
            }
            assert_eq!(cast.rows, good, "{from} {cell} to {to}");
            assert_eq!(cast.schema.field(0).is_nullable(), nullable);
        }
    }
}

#[test]
fn a_row_with_several_bad_cells_is_rejected_once_by_the_first_column() {
    let input = schema([("b", Text, false), ("a", Text, false)]);
    let rows = [json!({ "a": "x", "b": "y" }), json!({ "a": "1", "b": "2" })];
    let cast = run("cast", "columns = { a = 'integer', b = 'integer' }", &input, &rows).unwrap();
    assert_eq!(cast.rejects, [(rows[0].clone(), "cast".to_owned(), r#"b = "y" cannot be cast to integer"#.to_owned())]);
    assert_eq!(cast.rows, [json!({ "a": 1, "b": 2 })]);
}

#[test]
fn a_column_is_traced_to_where_its_values_come_from() {
    // Transform, table, a column of its output, the column of its input.
    let cases = [
        ("select", "columns = ['symbol', 'time']", "symbol", Some("symbol")),
        ("select", "drop = ['low']", "low", None),
        ("rename", "columns = { symbol = 'coin' }", "coin", Some("symbol")),
        ("rename", "columns = { symbol = 'coin' }", "symbol", None),
        ("rename", "columns = { low = 'high', high = 'low' }", "low", Some("high")),
        ("rename", "columns = { symbol = 'coin' }", "time", Some("time")),
        ("cast", "columns = { time = 'timestamp', low = 'text' }", "time", Some("time")),
        ("cast", "columns = { low = 'text' }", "low", None),
        ("cast", "columns = { low = 'text' }", "symbol", Some("symbol")),
        ("derive", "columns = { coin = 'lower(symbol)' }", "coin", None),
        ("derive", "columns = { symbol = 'lower(symbol)' }\nreplace = true", "symbol", None),
        ("derive", "columns = { coin = 'lower(symbol)' }", "symbol", Some("symbol")),
        ("filter", "expr = 'low > 0'", "symbol", Some("symbol")),
        ("filter", "expr = 'low > 0'", "coin", None),
    ];
    for (type_name, toml, column, origin) in cases {
        let plugin = super::plugins().into_iter().find(|plugin| plugin.describe().type_name == type_name).unwrap();
        let Stage::Transform(mut transform) = plugin.build(&table_from_str(toml).unwrap(), &BuildContext { pipeline: "test".into() }).unwrap() else {
            panic!("{type_name} is no transform")
        };
        assert_eq!(transform.origin(column), None, "{type_name} is not planned");
        transform.plan(&candles()).unwrap();
        assert_eq!(transform.origin(column).as_deref(), origin, "{type_name} {toml}: {column}");
    }
}

#[test]
fn a_batch_of_another_schema_is_a_developers_fault() {
    let plugin = super::plugins().remove(4);
    let build = || match plugin.build(&table_from_str("expr = 'low > 0'").unwrap(), &BuildContext { pipeline: "test".into() }).unwrap() {
        Stage::Transform(transform) => transform,
        _ => panic!("not a transform"),
    };
    let batch = batch_from_json(&schema([("x", Text, true)]), &[]).unwrap().batch;
    let mut planned = build();
    planned.plan(&candles()).unwrap();
    for transform in [build(), planned] {
        let error = transform.start(&Split::new("one")).apply(batch.clone()).unwrap_err();
        assert_eq!(error.act, pipeline_contract::Act::Developer, "{error}");
    }
}
