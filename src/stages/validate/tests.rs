//! Validation as pipeline files ask for it.

mod faults;
mod naive;

use pipeline_contract::arrow::array::Float64Array;
use pipeline_contract::arrow::{Array, RecordBatch, SchemaRef};
use pipeline_contract::{ColumnType, PlanError, batch_from_json, parse_config, row_json, schema, table_from_str};
use serde_json::{Value, json};
use std::sync::Arc;

use super::{Limit, ValidateConfig, Validator};
use ColumnType::{Boolean, Float, Integer, Text, Timestamp};

fn validator(toml: &str, schema: &SchemaRef) -> Result<Validator, Vec<PlanError>> {
    let config: ValidateConfig = parse_config("[validate]", &table_from_str(toml).unwrap())?;
    Validator::new(schema, &config, 0..toml.len())
}

fn batch(schema: &SchemaRef, rows: &[Value]) -> RecordBatch {
    let given = batch_from_json(schema, rows).unwrap();
    assert!(given.rejects.is_empty(), "{:?}", given.rejects);
    given.batch
}

/// The good rows, and (row, rule, message) of the others.
fn apply(toml: &str, schema: &SchemaRef, rows: &[Value]) -> (Vec<Value>, Vec<(Value, String, String)>) {
    let validator = validator(toml, schema).unwrap();
    let applied = validator.apply(&batch(schema, rows)).unwrap();
    assert_eq!(&applied.batch.schema(), schema);
    let good = (0..applied.batch.num_rows()).map(|row| Value::Object(row_json(&applied.batch, row))).collect();
    (good, applied.rejects.into_iter().map(|reject| (reject.row, reject.rule, reject.message)).collect())
}

#[test]
fn every_constraint_tells_the_value() {
    // Type, constraint, a good cell, a bad one, the rule, the message.
    let cases = [
        (Float, "min = 0", json!(0.0), json!(-1.0), "min", "v = -1 is below 0"),
        (Float, "min = 0.5", json!(0.5), json!(0.25), "min", "v = 0.25 is below 0.5"),
        (Float, "max = 1e6", json!(1e6), json!(1e20), "max", "v = 1e20 is above 1000000"),
        (Integer, "min = -3", json!(-3), json!(-4), "min", "v = -4 is below -3"),
        (Integer, "min = 0.5", json!(1), json!(0), "min", "v = 0 is below 0.5"),
        (Integer, "max = 0.5", json!(0), json!(1), "max", "v = 1 is above 0.5"),
        (
            Timestamp,
            "min = '2024-01-01'",
            json!("2024-01-01T00:00:00Z"),
            json!("2023-12-31T23:59:59.999Z"),
            "min",
            "v = 2023-12-31T23:59:59.999Z is before 2024-01-01T00:00:00Z",
        ),
        (
            Timestamp,
            "max = 2024-01-01T01:00:00+01:00",
            json!("2024-01-01T00:00:00Z"),
            json!("2024-01-01T00:00:01Z"),
            "max",
            "v = 2024-01-01T00:00:01Z is after 2024-01-01T00:00:00Z",
        ),
        (Text, "regex = '^[A-Z]+$'", json!("AB"), json!("a b"), "regex", r#"v = "a b" does not match ^[A-Z]+$"#),
        (Text, "regex = 'b'", json!("abc"), json!("ac"), "regex", r#"v = "ac" does not match b"#),
        (Text, "one_of = ['buy', 'sell']", json!("buy"), json!("hold"), "one_of", r#"v = "hold" is not one of "buy", "sell""#),
        (Integer, "one_of = [1, 2]", json!(2), json!(3), "one_of", "v = 3 is not one of 1, 2"),
        (Integer, "one_of = [1,2,3,4,5,6,7,8,9,10]", json!(10), json!(0), "one_of", "v = 0 is not one of 1, 2, 3, 4, 5, 6, 7, 8 and 2 more"),
        (Float, "one_of = [1, 2.5]", json!(1.0), json!(2.0), "one_of", "v = 2 is not one of 1, 2.5"),
        (Boolean, "one_of = [true]", json!(true), json!(false), "one_of", "v = false is not one of true"),
        (
            Timestamp,
            "one_of = [1970-01-01]",
            json!("1970-01-01T00:00:00Z"),
            json!("1970-01-02T00:00:00Z"),
            "one_of",
            r#"v = 1970-01-02T00:00:00Z is not one of "1970-01-01""#,
        ),
        (Text, "min_length = 2", json!("äö"), json!("ä"), "min_length", r#"v = "ä" is shorter than 2 characters"#),
        (Text, "max_length = 2", json!("äö"), json!("äöü"), "max_length", r#"v = "äöü" is longer than 2 characters"#),
        (Text, "required = true", json!(""), json!(null), "required", "v is null"),
        (Boolean, "required = true\ntype = 'boolean'", json!(false), json!(null), "required", "v is null"),
    ];
    for (ty, constraint, good, bad, rule, message) in cases {
        let input = schema([("n", Integer, false), ("v", ty, true)]);
        let row = |n: i32, v: &Value| json!({ "n": n, "v": v });
        let mut rows = vec![row(1, &good), row(2, &bad), row(3, &good)];
        if rule != "required" {
            rows.push(row(4, &Value::Null));
        }
        let (kept, rejects) = apply(&format!("[columns.v]\n{constraint}"), &input, &rows);
        assert_eq!(rejects, [(rows.remove(1), format!("v.{rule}"), message.to_owned())], "{constraint}");
        assert_eq!(kept, rows, "{constraint}");
    }
}

fn candles() -> SchemaRef {
    schema([("open", Float, true), ("high", Float, true), ("low", Float, true), ("close", Float, true), ("volume_24h", Integer, true)])
}

fn candle(open: Option<f64>, high: Option<f64>, low: Option<f64>, close: Option<f64>, volume: Option<i64>) -> Value {
    json!({ "open": open, "high": high, "low": low, "close": close, "volume_24h": volume })
}

#[test]
fn every_rule_tells_the_values() {
    let s = Some;
    let good = candle(s(3.0), s(5.0), s(2.0), s(4.0), Some(7));
    let envelope = "kind = 'price_envelope'";
    let positive = "kind = 'positive_prices'";
    // Rule, a bad row, the rule's name, the message.
    let cases = [
        (
            "expr = 'low <= least(open, close)'",
            candle(s(3.0), s(9.0), s(5.0), s(4.0), None),
            "low <= least(open, close)",
            "low <= least(open, close) does not hold: low = 5, open = 3, close = 4",
        ),
        (
            "name = 'order'\nexpr = '''\n low\n   <= high'''",
            candle(None, s(1.0), s(2.0), None, None),
            "order",
            "low <= high does not hold: low = 2, high = 1",
        ),
        (
            "expr = 'low <= high'\nmessage = 'candle upside down'",
            candle(None, s(1.0), s(2.0), None, None),
            "low <= high",
            "candle upside down: low = 2, high = 1",
        ),
        (
            envelope,
            candle(s(3.0), s(5.0), s(5.0), s(4.0), None),
            "price_envelope",
            "low <= least(open, close) does not hold: low = 5, open = 3, close = 4",
        ),
        (
            envelope,
            candle(s(3.0), s(3.5), s(1.0), s(4.0), None),
            "price_envelope",
            "high >= greatest(open, close) does not hold: high = 3.5, open = 3, close = 4",
        ),
        (envelope, candle(None, s(1.0), s(2.0), None, None), "price_envelope", "low <= high does not hold: low = 2, high = 1"),
        (
            envelope,
            candle(s(3.0), None, s(5.0), None, None),
            "price_envelope",
            "low <= least(open, close) does not hold: low = 5, open = 3, close = null",
        ),
        (positive, candle(s(3.0), s(5.0), s(0.0), s(-4.0), None), "positive_prices", "low = 0 is not above 0"),
        (
            "kind = 'positive_prices'\nname = 'prices'\nmessage = 'odd'",
            candle(s(-1.0), None, None, None, None),
            "prices",
            "odd: open = -1 is not above 0",
        ),
        (
            "kind = 'positive_prices'\nhigh = 'volume_24h'",
            candle(s(1.0), s(-1.0), None, None, Some(0)),
            "positive_prices",
            "volume_24h = 0 is not above 0",
        ),
        ("kind = 'non_negative_volume'", candle(None, None, None, None, Some(-1)), "non_negative_volume", "volume_24h = -1 is below 0"),
        ("kind = 'non_negative_volume'\nvolume = 'low'", candle(None, None, s(-0.5), None, None), "non_negative_volume", "low = -0.5 is below 0"),
    ];
    for (rule, bad, name, message) in cases {
        let unknown = candle(None, None, None, None, None);
        let rows = [good.clone(), bad.clone(), unknown.clone(), good.clone()];
        let (kept, rejects) = apply(&format!("[[rules]]\n{rule}"), &candles(), &rows);
        assert_eq!(rejects, [(bad, name.to_owned(), message.to_owned())], "{rule}");
        assert_eq!(kept, [good.clone(), unknown, good.clone()], "{rule}");
    }
}

#[test]
fn a_number_that_is_none_fails_every_bound() {
    let schema = schema([("open", Float, false), ("high", Float, false), ("low", Float, false), ("close", Float, false)]);
    let message = |rule: &str, values: [f64; 4]| {
        let columns = values.map(|value| Arc::new(Float64Array::from(vec![value])) as Arc<dyn Array>);
        let batch = RecordBatch::try_new(schema.clone(), columns.to_vec()).unwrap();
        let applied = validator(rule, &schema).unwrap().apply(&batch).unwrap();
        applied.rejects.first().map(|reject| reject.message.clone())
    };
    let nan = [f64::NAN, 2.0, 1.0, 1.5];
    assert_eq!(message("columns.open.min = 0", nan).unwrap(), "open = NaN cannot be compared with 0");
    assert_eq!(message("columns.open.max = 0", nan).unwrap(), "open = NaN cannot be compared with 0");
    assert_eq!(message("rules = [{ kind = 'positive_prices' }]", nan).unwrap(), "open = NaN is not a finite number");
    assert_eq!(message("rules = [{ kind = 'positive_prices' }]", [1.0, f64::INFINITY, 1.0, 1.0]).unwrap(), "high = inf is not a finite number");
    let envelope = message("rules = [{ kind = 'price_envelope' }]", nan).unwrap();
    assert_eq!(envelope, "low <= least(open, close) does not hold: low = 1, open = NaN, close = 1.5");
    assert_eq!(message("rules = [{ kind = 'non_negative_volume', volume = 'open' }]", nan).unwrap(), "open = NaN is not a number");
    assert_eq!(message("columns.open.required = true", nan), None);
}

/// Columns of floats without nulls are answered in one pass: whatever breaks a rule must be seen there, too.
#[test]
fn one_bad_row_among_many_good_ones_is_found() {
    let schema = schema(["open", "high", "low", "close"].map(|name| (name, Float, false)));
    let good = [3.0, 5.0, 2.0, 4.0];
    let cases = [
        ("kind = 'price_envelope'", [3.0, 5.0, 3.5, 4.0]),
        ("kind = 'price_envelope'", [4.0, 5.0, 3.5, 3.0]),
        ("kind = 'price_envelope'", [3.0, 3.5, 2.0, 4.0]),
        ("kind = 'price_envelope'", [4.0, 3.5, 2.0, 3.0]),
        ("kind = 'positive_prices'", [0.0, 5.0, 2.0, 4.0]),
        ("kind = 'positive_prices'", [3.0, f64::INFINITY, 2.0, 4.0]),
        ("kind = 'positive_prices'", [3.0, 5.0, -2.0, 4.0]),
        ("kind = 'positive_prices'", [3.0, 5.0, 2.0, f64::NAN]),
        ("kind = 'non_negative_volume'\nvolume = 'low'", [3.0, 5.0, -1e-300, 4.0]),
    ];
    for (rule, bad) in cases {
        let validator = validator(&format!("[[rules]]\n{rule}"), &schema).unwrap();
        for place in [None, Some(0), Some(1234), Some(2999)] {
            let row = |at: usize| if Some(at) == place { bad } else { good };
            let column = |of: usize| Arc::new((0..3000).map(|at| Some(row(at)[of])).collect::<Float64Array>()) as Arc<dyn Array>;
            let batch = RecordBatch::try_new(schema.clone(), (0..4).map(column).collect()).unwrap();
            let applied = validator.apply(&batch).unwrap();
            let expected: Vec<_> = place.map(|at| Value::Object(row_json(&batch, at))).into_iter().collect();
            assert_eq!(applied.rejects.into_iter().map(|reject| reject.row).collect::<Vec<_>>(), expected, "{rule} {bad:?} {place:?}");
            assert_eq!(applied.batch.num_rows(), 3000 - expected.len());
        }
    }
}

#[test]
fn a_row_is_rejected_once_by_the_first_rule_in_the_documented_order() {
    let input = schema([("b", Text, true), ("a", Integer, true)]);
    let toml = "
        [columns]
        a = { max_length = 1 }
        b = { max_length = 2, min_length = 2, one_of = ['x1', 'y'], regex = 'x', required = true }
        [[rules]]
        name = 'first'
        expr = 'a < 3'
        [[rules]]
        name = 'second'
        expr = 'a < 2'
    "
    .replace("a = { max_length = 1 }", "a = { max = 9, min = 1, required = true }");
    let names = validator(&toml, &input).unwrap().rules().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(names, ["b.required", "b.regex", "b.one_of", "b.min_length", "b.max_length", "a.required", "a.min", "a.max", "first", "second"]);
    let cases = [
        (json!(null), json!(null), "b.required"),
        (json!("zzz"), json!(null), "b.regex"),
        (json!("xxx"), json!(null), "b.one_of"),
        (json!("x1"), json!(null), "a.required"),
        (json!("x1"), json!(0), "a.min"),
        (json!("x1"), json!(99), "a.max"),
        (json!("x1"), json!(3), "first"),
        (json!("x1"), json!(2), "second"),
    ];
    let rows: Vec<_> = cases.iter().map(|(b, a, _)| json!({ "a": a, "b": b })).collect();
    let (kept, rejects) = apply(&toml, &input, &rows);
    assert!(kept.is_empty());
    let broken: Vec<_> = rejects.iter().map(|(row, rule, _)| (row.clone(), rule.as_str())).collect();
    let expected: Vec<_> = rows.iter().cloned().zip(cases.iter().map(|(_, _, rule)| *rule)).collect();
    assert_eq!(broken, expected);
}

#[test]
fn a_rule_without_an_answer_rejects_its_row_alone() {
    let input = schema([("a", Text, false)]);
    let rows = ["1", "x", "-1"].map(|a| json!({ "a": a }));
    let (kept, rejects) = apply("[[rules]]\nname = 'positive'\nexpr = 'CAST(a AS INTEGER) > 0'", &input, &rows);
    assert_eq!(kept, rows[..1]);
    let [(bad, rule, message), (negative, _, plain)] = &rejects[..] else { panic!("{rejects:?}") };
    assert_eq!((bad, rule.as_str()), (&rows[1], "positive"));
    assert!(message.starts_with("CAST(a AS INTEGER) > 0 has no answer: ") && message.contains('x'), "{message}");
    assert_eq!((negative, plain.as_str()), (&rows[2], r#"CAST(a AS INTEGER) > 0 does not hold: a = "-1""#));
}

#[test]
fn a_batch_that_is_all_good_is_passed_on_as_it_is() {
    let toml = "columns.open.min = 0\nrules = [{ kind = 'price_envelope' }, { expr = 'high >= low' }]";
    let rows = [candle(Some(3.0), Some(5.0), Some(2.0), Some(4.0), Some(7)), candle(None, None, None, None, None)];
    let given = batch(&candles(), &rows);
    let applied = validator(toml, &candles()).unwrap().apply(&given).unwrap();
    assert!(applied.rejects.is_empty());
    assert!(given.columns().iter().zip(applied.batch.columns()).all(|(given, kept)| Arc::ptr_eq(given, kept)));
    let none = validator("", &candles()).unwrap().apply(&given).unwrap();
    assert_eq!(none.batch, given);
}

#[test]
fn a_batch_of_another_schema_is_a_developers_fault() {
    let error = validator("", &candles()).unwrap().apply(&batch(&schema([("x", Text, true)]), &[])).unwrap_err();
    assert_eq!(error.act, pipeline_contract::Act::Developer);
}

#[test]
fn limits_are_rows_or_shares() {
    let limits = |toml: &str| parse_config::<ValidateConfig>("[validate]", &table_from_str(toml).unwrap()).unwrap().limits;
    let both = limits("limits = { warn = '0.5 %', abort = 100 }");
    assert_eq!((both.warn(), both.abort()), (Some(Limit::Share(0.005)), Some(Limit::Rows(100))));
    let edges = limits("limits = { warn = 0, abort = '100%' }");
    assert_eq!((edges.warn(), edges.abort()), (Some(Limit::Rows(0)), Some(Limit::Share(1.0))));
    assert_eq!(limits("").warn(), None);
}
