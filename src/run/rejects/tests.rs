//! Lines are, byte for byte, what `serde_json` makes of stored rejects: files and states of users hold them and their hashes.

use std::sync::Arc;

use pipeline_contract::arrow::array::RecordBatchOptions;
use pipeline_contract::arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use pipeline_contract::arrow::{ArrayRef, Field, RecordBatch, Schema};
use pipeline_contract::row_json;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::*;

/// A text, often with what must be escaped.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![".*", "[\\x00-\\x30\"\\\\é\u{2028}\u{7f}]{0,8}", "[a-z0-9 <=(),]{0,60}"]
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        (any::<i32>(), 0..9).prop_map(|(digits, places)| f64::from(digits) / 10_f64.powi(places)),
        select(vec![0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e16, 1e21, 1e-7, 5e-324, f64::MAX, 0.1 + 0.2]),
    ]
}

fn instant() -> impl Strategy<Value = i64> {
    // chrono ends with the year 262142; four digits with the year 9999, and begin with the year 0.
    let edges =
        vec![0, 1, -1, i64::MIN, i64::MAX, 253_402_300_799_999_999, 253_402_300_800_000_000, -62_167_219_200_000_000, -62_167_219_200_000_001];
    let chrono = vec![8_210_266_876_799_999_999, 8_210_266_876_800_000_000, -8_334_601_228_800_000_000, -8_334_601_228_800_000_001];
    prop_oneof![any::<i64>(), (0..4_000_000_000_i64).prop_map(|seconds| seconds * 1_000_000), select([edges, chrono].concat())]
}

/// A column of so many rows.
fn column(rows: usize) -> impl Strategy<Value = ArrayRef> {
    use proptest::collection::vec;
    use proptest::option::of;
    fn shared(column: impl pipeline_contract::arrow::Array + 'static) -> ArrayRef {
        Arc::new(column)
    }
    prop_oneof![
        vec(of(any::<bool>()), rows).prop_map(|cells| shared(cells.into_iter().collect::<BooleanArray>())),
        vec(of(any::<i64>()), rows).prop_map(|cells| shared(cells.into_iter().collect::<Int64Array>())),
        vec(of(float()), rows).prop_map(|cells| shared(cells.into_iter().collect::<Float64Array>())),
        vec(float(), rows).prop_map(|cells| shared(Float64Array::from(cells))),
        vec(of(text()), rows).prop_map(|cells| shared(cells.into_iter().collect::<StringArray>())),
        vec(of(instant()), rows).prop_map(|cells| shared(cells.into_iter().collect::<TimestampMicrosecondArray>().with_timezone("UTC"))),
        // A type that pipelines do not speak.
        vec(of(any::<i64>()), rows).prop_map(|cells| shared(cells.into_iter().collect::<TimestampMicrosecondArray>())),
    ]
}

fn batch() -> impl Strategy<Value = RecordBatch> {
    let name = prop_oneof![text(), "[a-c]"];
    (0_usize..5).prop_flat_map(move |rows| {
        proptest::collection::vec((name.clone(), column(rows)), 0..5).prop_map(move |columns| {
            let fields: Vec<Field> = columns.iter().map(|(name, column)| Field::new(name, column.data_type().clone(), true)).collect();
            let columns = columns.into_iter().map(|(_, column)| column).collect();
            RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &RecordBatchOptions::new().with_row_count(Some(rows))).unwrap()
        })
    })
}

/// Whatever a source may have received.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        float().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(text(), inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// What is kept of a reject, made the plain way.
fn stored(run: &str, split: &str, stage: &str, reject: Reject) -> StoredReject {
    let Reject { row, rule, message } = reject;
    StoredReject { row, rule, message, run: run.to_owned(), split: split.to_owned(), stage: stage.to_owned() }
}

fn written(stored: &StoredReject) -> Vec<u8> {
    let mut line = serde_json::to_vec(stored).unwrap();
    line.push(b'\n');
    line
}

proptest! {
    #[test]
    fn lines_are_what_their_rejects_are_written_as(
        run in text(),
        split in text(),
        stages in proptest::collection::vec(text(), 3),
        rules in proptest::collection::vec(text(), 1..3),
        batch in batch(),
        single in proptest::collection::vec((any_json(), text(), text()), 0..4),
        messages in proptest::collection::vec(text(), 5),
    ) {
        let single: Vec<Reject> = single.into_iter().map(|(row, rule, message)| Reject::new(row, rule, message)).collect();
        let mut rows = RejectedRows::new(&batch, &rules.iter().cloned().collect::<Arc<[String]>>());
        let mut expected: Vec<StoredReject> = single.iter().map(|reject| stored(&run, &split, &stages[0], reject.clone())).collect();
        for (row, message) in messages.iter().enumerate().take(batch.num_rows()) {
            let rule = row % rules.len();
            rows.push(row, rule, |out| { out.push_str(message); Ok::<_, ()>(()) }).unwrap();
            expected.push(stored(&run, &split, &stages[1], Reject::of_row(row_json(&batch, row), &rules[rule], message)));
        }
        expected.extend(single.iter().map(|reject| stored(&run, &split, &stages[2], reject.clone())));

        let mut rejects = Rejects::of(&stages[0], single.clone());
        rejects.add_rows(&stages[1], rows);
        let mut last = Rejects::of(&stages[2], single);
        prop_assert_eq!(rejects.len(), expected.len() - last.len());
        last.keep_lines(&run, &split);
        rejects.append(last);
        let staged: Vec<StagedReject> = rejects.iter().collect();
        prop_assert_eq!(&staged, &expected.iter().cloned().map(StoredReject::staged).collect::<Vec<_>>());
        let mut apart = rejects.clone();
        apart.take_apart();
        rejects.keep_lines(&run, &split);
        let lines = rejects.lines(&run, &split);
        prop_assert_eq!(lines.iter().map(<[u8]>::to_vec).collect::<Vec<_>>(), expected.iter().map(written).collect::<Vec<_>>());
        prop_assert_eq!(lines.hashes(), expected.iter().map(StoredReject::hash).collect::<Vec<_>>());
        prop_assert_eq!(lines.bytes().as_slice(), lines.iter().flatten().copied().collect::<Vec<_>>());
        prop_assert_eq!(apart.lines(&run, &split), lines);
        prop_assert_eq!((rejects.len(), rejects.first(), apart.len()), (staged.len(), staged.first().cloned(), staged.len()));
        // What is read back of a line is the reject, but for the last bits of numbers that only a column can hold.
        prop_assert_eq!(rejects.iter().map(|staged| staged.reject.message).collect::<Vec<_>>(), expected.into_iter().map(|stored| stored.message).collect::<Vec<_>>());
    }
}

#[test]
fn of_a_row_that_makes_too_long_a_line_its_hash_is_kept() {
    let long = "\"".repeat(LONGEST_LINE as usize / 2);
    let rejects =
        vec![Reject::new(json!(1), "r", "before"), Reject::new(json!({ "text": long }), "r", "ä".repeat(2000)), Reject::new(json!(2), "r", "behind")];
    let split = "s".repeat(2000);
    let whole = rejects.clone().into_iter().map(|reject| stored("run", &split, "source", reject)).collect::<Vec<_>>();
    let length = written(&whole[1]).len();
    let row = json!(format!("left out, as it makes a line of {length} bytes: {:032x}", whole[1].hash()));
    let short = stored("run", &split[..1000], "source", Reject::new(row, "r", "ä".repeat(1000)));
    let lines = Rejects::of("source", rejects);
    let lines = lines.lines("run", &split);
    assert_eq!(lines.iter().collect::<Vec<_>>(), [written(&whole[0]), written(&short), written(&whole[2])]);
    assert_eq!(lines.hashes(), [whole[0].hash(), short.hash(), whole[2].hash()]);

    // The longest line that is one.
    let fits = LONGEST_LINE as usize - written(&stored("run", "s", "source", Reject::new("", "r", "m"))).len();
    for (more, is_whole) in [(0, true), (1, false)] {
        let lines = Rejects::of("source", vec![Reject::new("x".repeat(fits + more), "r", "m")]);
        assert_eq!(lines.lines("run", "s").bytes().len() as u64 == LONGEST_LINE, is_whole);
    }
}
