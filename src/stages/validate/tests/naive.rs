//! The validator agrees with a check of one row after the other that knows nothing of columns.

use proptest::prelude::*;

use super::*;

const RULES: &str = "
    [columns]
    a = { required = true, min = -2, max = 3 }
    b = { min = 0, one_of = [-1, 0, 1, 2] }
    t = { regex = '^x', min_length = 1, max_length = 2 }
    [[rules]]
    kind = 'price_envelope'
    open = 'a'
    high = 'h'
    low = 'l'
    close = 'b'
    [[rules]]
    kind = 'positive_prices'
    open = 'h'
    high = 'h'
    low = 'h'
    close = 'h'
    [[rules]]
    name = 'sum'
    expr = 'a + b <= 3 OR t IS NULL'
";

#[derive(Clone, Debug)]
struct Row {
    a: Option<f64>,
    b: Option<i64>,
    h: Option<f64>,
    l: Option<f64>,
    t: Option<String>,
}

fn broken(row: &Row) -> Option<&'static str> {
    let Row { a, b, h, l, t } = row;
    let Some(a) = *a else { return Some("a.required") };
    if a.is_nan() || a < -2.0 {
        return Some("a.min");
    }
    if a > 3.0 {
        return Some("a.max");
    }
    if let Some(b) = *b {
        if b < 0 {
            return Some("b.min");
        }
        if b > 2 {
            return Some("b.one_of");
        }
    }
    if let Some(t) = t {
        if !t.starts_with('x') {
            return Some("t.regex");
        }
        if t.len() > 2 {
            return Some("t.max_length");
        }
    }
    let ends: Vec<f64> = [Some(a), b.map(|b| b as f64)].into_iter().flatten().collect();
    let not = |holds: bool| !holds;
    let low = l.is_some_and(|l| ends.iter().any(|end| not(l <= *end)));
    let high = h.is_some_and(|h| ends.iter().any(|end| not(h >= *end)));
    if low || high || l.zip(*h).is_some_and(|(l, h)| not(l <= h)) {
        return Some("price_envelope");
    }
    if h.is_some_and(|h| not(h > 0.0 && h.is_finite())) {
        return Some("positive_prices");
    }
    if b.is_some_and(|b| a + b as f64 > 3.0) && t.is_some() {
        return Some("sum");
    }
    None
}

fn numbers() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![1 => Just(None), 1 => Just(Some(f64::NAN)), 1 => Just(Some(f64::INFINITY)), 20 => (-6..14).prop_map(|n| Some(f64::from(n) / 2.0))]
}

/// Mostly good ones: a batch whose every row is bad says little about which rows are kept.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    let wild = (numbers(), proptest::option::of(-2_i64..5), numbers(), numbers(), proptest::option::of("[xy]{0,3}"));
    let wild = wild.prop_map(|(a, b, h, l, t)| Row { a, b, h, l, t });
    let tame = (0..4, 0..2_i64).prop_map(|(a, b)| Row { a: Some(f64::from(a) / 2.0), b: Some(b), h: Some(4.0), l: Some(-1.0), t: None });
    proptest::collection::vec(prop_oneof![wild, tame], 0..40)
}

proptest! {
    #[test]
    fn agrees_row_by_row(rows in rows()) {
        let schema = schema([("t", Text, true), ("a", Float, true), ("b", Integer, true), ("h", Float, true), ("l", Float, true)]);
        // In the order of the schema, `t` is first.
        let first = |row: &Row| match broken(&Row { a: Some(0.0), b: None, h: None, l: None, t: row.t.clone() }) {
            None if row.t.as_deref() == Some("") => unreachable!("the empty text does not start with x"),
            None => broken(row),
            text => text,
        };
        let columns: Vec<Arc<dyn Array>> = vec![
            Arc::new(rows.iter().map(|row| row.t.as_deref()).collect::<pipeline_contract::arrow::array::StringArray>()),
            Arc::new(rows.iter().map(|row| row.a).collect::<Float64Array>()),
            Arc::new(rows.iter().map(|row| row.b).collect::<pipeline_contract::arrow::array::Int64Array>()),
            Arc::new(rows.iter().map(|row| row.h).collect::<Float64Array>()),
            Arc::new(rows.iter().map(|row| row.l).collect::<Float64Array>()),
        ];
        let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
        let applied = validator(RULES, &schema).unwrap().apply(&batch).unwrap();
        let expected: Vec<_> = rows.iter().enumerate().filter_map(|(place, row)| Some((place, first(row)?))).collect();
        let told: Vec<_> = applied.rejects.iter().map(|reject| reject.rule.as_str()).collect();
        prop_assert_eq!(told, expected.iter().map(|(_, rule)| *rule).collect::<Vec<_>>());
        for (reject, (place, _)) in applied.rejects.iter().zip(&expected) {
            prop_assert_eq!(&reject.row, &Value::Object(row_json(&batch, *place)));
        }
        let kept: Vec<_> = (0..rows.len()).filter(|place| !expected.iter().any(|(bad, _)| bad == place)).collect();
        prop_assert_eq!(applied.batch.num_rows(), kept.len());
        for (place, row) in kept.into_iter().enumerate() {
            prop_assert_eq!(row_json(&applied.batch, place), row_json(&batch, row));
        }
    }
}
