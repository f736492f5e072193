//! Rows to lines and back.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may stop where it stands

#[allow(dead_code)]
mod common;

use chrono::DateTime;
use common::{Candle, World, candle, time};
use pipeline_contract::arrow::RecordBatch;
use pipeline_contract::arrow::select::concat::concat_batches;
use pipeline_contract::{Act, Filter, Op, Row, rows};
use proptest::prelude::*;

rows! {
    struct Texts {
        a: String,
        b: Option<String>,
    }
}

async fn read(world: &World, filter: &Filter) -> RecordBatch {
    let batches = world.read(filter).await.unwrap();
    concat_batches(batches[0].schema_ref(), &batches).unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Stores rows in one file and gives it back, after checking that the rows are read back the same.
fn written<R: Row>(config: &str, rows: &[R]) -> String {
    block_on(async {
        let mut world = World::new(&format!("path = \"x.csv\"\n{config}"));
        (world.schema, world.keys) = (R::schema(), vec![]);
        let batch = R::batch(rows);
        world.run(&[(Op::Append, batch.clone())]).await.unwrap();
        assert_eq!(read(&world, &Filter::default()).await, batch, "{config}");
        world.files()["x.csv"].clone()
    })
}

#[test]
fn every_type() {
    let rows = [
        Candle { coin: "a".into(), at: time("2026-05-19T15:00:00Z"), close: 77_139.0, trades: Some(-7), final_: Some(true), note: Some("x".into()) },
        Candle { coin: "b".into(), at: time("2026-05-19T15:00:00.25Z"), close: 1e-8, trades: None, final_: None, note: None },
        Candle {
            coin: "c".into(),
            at: time("1969-12-31T23:59:59.999999Z"),
            close: 0.1,
            trades: Some(i64::MIN),
            final_: Some(false),
            note: Some(String::new()),
        },
    ];
    assert_eq!(
        written("", &rows),
        "coin,at,close,trades,final_,note\n\
         a,2026-05-19T15:00:00Z,77139.0,-7,true,x\n\
         b,2026-05-19T15:00:00.250Z,1e-8,,,\n\
         c,1969-12-31T23:59:59.999999Z,0.1,-9223372036854775808,false,\"\"\n"
    );
    assert_eq!(
        written("delimiter = \";\"\nnull = \"NA\"\nheader = false\ntime_format = \"unix_ms\"\nline_ending = \"crlf\"", &rows),
        "a;1779202800000;77139.0;-7;true;x\r\n\
         b;1779202800250;1e-8;NA;NA;NA\r\n\
         c;-0.001;0.1;-9223372036854775808;false;\r\n"
    );
    assert_eq!(
        written(
            "columns = [\"note\", { column = \"coin\", as = \"the, coin\" }, \"at\", \"close\", \"trades\", \"final_\"]\ntime_format = \"%d,%m,%Y %H:%M:%S%.6f\"",
            &rows[..1]
        ),
        "note,\"the, coin\",at,close,trades,final_\nx,a,\"19,05,2026 15:00:00.000000\",77139.0,-7,true\n"
    );
}

#[test]
fn floats_that_are_no_numbers() {
    let rows = [f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE, -0.0]
        .map(|close| Candle { close, ..candle("a", "2026-05-19T15:00:00Z", 0.0) });
    assert!(written("", &rows).contains(",inf,"));
    // A null that looks like a number: the number is quoted.
    let rows =
        [Candle { trades: Some(0), close: f64::INFINITY, ..candle("a", "2026-05-19T15:00:00Z", 0.0) }, candle("b", "2026-05-19T15:00:00Z", 1.0)];
    assert!(written("null = \"0\"", &rows).contains("inf,\"0\",0,0\nb,2026-05-19T15:00:00Z,1.0,0,0,0\n"));
    assert!(written("null = \"inf\"", &rows).contains(",\"inf\",0,"));
}

#[test]
fn nulls_and_empty_texts_are_told_apart() {
    let rows = [None, Some(""), Some("NA"), Some("x")].map(|b| Texts { a: String::new(), b: b.map(str::to_owned) });
    assert_eq!(written("", &rows), "a,b\n\"\",\n\"\",\"\"\n\"\",NA\n\"\",x\n");
    assert_eq!(written("null = \"NA\"", &rows), "a,b\n,NA\n,\n,\"NA\"\n,x\n");
}

#[test]
fn formulas_are_guarded_and_come_back() {
    let rows = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "'=1", "plain", "a=b", ""].map(|a| Texts { a: a.to_owned(), b: None });
    assert_eq!(written("guard_formulas = true", &rows), "a,b\n'=1+1,\n'+1,\n'-1,\n'@x,\n'\tx,\n\"'\rx\",\n''=1,\nplain,\na=b,\n\"\",\n");
    assert!(written("guard_formulas = true\nnull = \"'=1\"", &[Texts { a: "=1".into(), b: Some("'=1".into()) }]).contains("\n\"'=1\",\"''=1\"\n"));
    let rows = ["\n=1", "\u{ff1d}1", "\u{ff0b}1", "\u{ff0d}1", "\u{ff20}x"].map(|a| Texts { a: a.to_owned(), b: None });
    assert_eq!(written("guard_formulas = true", &rows), "a,b\n\"'\n=1\",\n'\u{ff1d}1,\n'\u{ff0b}1,\n'\u{ff0d}1,\n'\u{ff20}x,\n");
    let header = written("guard_formulas = true\ncolumns = [\"b\", { column = \"a\", as = \"=a\" }]", &[Texts { a: "x".into(), b: None }]);
    assert_eq!(header, "b,'=a\n,x\n");
    // Numbers are none.
    assert!(written("guard_formulas = true", &[candle("a", "2026-05-19T15:00:00Z", -1.5)]).contains(",-1.5,"));
}

#[tokio::test]
async fn a_nan_comes_back() {
    let mut world = World::new("path = \"x.csv\"");
    world.store(&[candle("a", "2026-05-19T15:00:00Z", f64::NAN)]).await.unwrap();
    assert!(world.files()["x.csv"].contains(",NaN,"));
    let batch = read(&world, &Filter::default()).await;
    let close = batch.column(2).as_any().downcast_ref::<pipeline_contract::arrow::array::Float64Array>().unwrap();
    assert!(close.value(0).is_nan());
}

#[tokio::test]
async fn a_key_that_the_format_would_change_is_refused() {
    let mut world = World::new("path = \"x.csv\"\ntime_format = \"%Y-%m-%d %H:%M\"");
    world.store(&[candle("a", "2026-05-19T15:01:00Z", 1.0)]).await.unwrap();
    let error = world.store(&[candle("a", "2026-05-19T15:02:30Z", 1.0)]).await.unwrap_err();
    assert_eq!(error.message, "`time_format` drops a part of at = 2026-05-19T15:02:30Z, which is a dedupe key");
    world.keys = vec!["coin"];
    world.store(&[candle("b", "2026-05-19T15:02:30Z", 1.0)]).await.unwrap();
    assert!(world.files()["x.csv"].ends_with("b,2026-05-19 15:02,1.0,,,\n"));
}

#[tokio::test]
async fn paths_and_their_values() {
    let mut world = World::new("path = \"data/{coin}/{at:%Y/%m}_{trades}_{final_}.csv\"\ncolumns = [\"at\", \"close\", \"note\"]");
    world.keys = vec!["coin", "at", "trades", "final_"];
    let odd = ["bitcoin", "../../etc", "a/b", "", "x_1", "%N", ".", "CON", "日本"];
    let mut rows: Vec<Candle> = odd.iter().map(|coin| candle(coin, "2026-05-19T15:00:00Z", 1.0)).collect();
    rows.push(Candle { trades: Some(-5), final_: Some(true), ..candle("bitcoin", "2026-12-31T23:59:59Z", 2.0) });
    rows.push(Candle { trades: Some(-5), final_: Some(true), ..candle("bitcoin", "2027-01-01T00:00:00Z", 3.0) });
    world.store(&rows).await.unwrap();
    let paths: Vec<_> = world.files().into_keys().collect();
    assert_eq!(
        paths,
        [
            "data/%/2026/05_%N_%N.csv",
            "data/%25N/2026/05_%N_%N.csv",
            "data/%2E.%2F..%2Fetc/2026/05_%N_%N.csv",
            "data/%2E/2026/05_%N_%N.csv",
            "data/%43ON/2026/05_%N_%N.csv",
            "data/a%2Fb/2026/05_%N_%N.csv",
            "data/bitcoin/2026/05_%N_%N.csv",
            "data/bitcoin/2026/12_-5_true.csv",
            "data/bitcoin/2027/01_-5_true.csv",
            "data/x_1/2026/05_%N_%N.csv",
            "data/日本/2026/05_%N_%N.csv"
        ]
    );
    let back = read(&world, &Filter::default()).await;
    assert_eq!(sorted(&back), sorted(&Candle::batch(&rows)));
}

/// Rows as text, in an order that does not depend on files.
fn sorted(batch: &RecordBatch) -> Vec<String> {
    let mut rows: Vec<_> = (0..batch.num_rows()).map(|row| format!("{:?}", pipeline_contract::row_json(batch, row))).collect();
    rows.sort();
    rows
}

#[tokio::test]
async fn a_long_value_is_shortened_in_the_name_of_its_file_and_kept_in_the_file() {
    let long = "x".repeat(400);
    let mut world = World::new("path = \"data/{coin}_{at:%Y}.csv\"");
    let coins = [long.clone(), format!("{long}y"), "short".to_owned()];
    let rows: Vec<Candle> = coins.iter().map(|coin| candle(coin, "2026-05-19T15:00:00Z", 1.0)).collect();
    world.store(&rows).await.unwrap();
    world.store(&[candle(&long, "2026-05-19T16:00:00Z", 2.0)]).await.unwrap();
    let files = world.files();
    assert_eq!(files.len(), 3, "{files:?}");
    let shortened: Vec<&String> = files.keys().filter(|path| path.contains("%~")).collect();
    assert!(shortened.len() == 2 && shortened.iter().all(|path| path.len() < 260), "{shortened:?}");

    let mut back: Vec<String> = Vec::new();
    for batch in world.read(&Filter::default()).await.unwrap() {
        back.extend((0..batch.num_rows()).map(|row| pipeline_contract::row_json(&batch, row)["coin"].as_str().unwrap().to_owned()));
    }
    back.sort();
    assert_eq!(back, ["short", &long, &long, &format!("{long}y")]);
    assert_eq!(world.planned().0.adopt(&world.context()).await.unwrap().0.len(), 3);

    // A file that somebody made for a table that does not keep the value.
    let mut world = World::new("path = \"data/{coin}_{at:%Y}.csv\"\ncolumns = [\"at\", \"close\"]");
    world.disk.put(shortened[0], "at,close\n2026-05-19T15:00:00Z,1.0\n");
    let error = world.planned().0.adopt(&world.context()).await.unwrap_err();
    assert_eq!(error.act, Act::Operator);
    assert_eq!(error.message, format!("{}: the full value of coin cannot be read from the file's name, which was too short for it", shortened[0]));
    assert!(error.help.unwrap().starts_with("add `coin` to `columns`"));

    world.disk.delete(shortened[0]);
    let error = world.store(&rows[..1]).await.unwrap_err();
    assert_eq!(error.act, Act::Split);
    assert!(error.message.ends_with("the value of coin is too long for a file's name, and would be kept nowhere"), "{error}");
    assert!(world.files().is_empty());
}

#[tokio::test]
async fn a_part_of_time() {
    let mut world = World::new("path = \"data/{coin}_{at:%Y-%m}.csv\"");
    let hours: Vec<_> = (0..24 * 400)
        .map(|hour| Candle { at: time("2025-12-01T00:00:00Z") + chrono::TimeDelta::hours(hour), ..candle("a", "2026-05-19T15:00:00Z", 1.0) })
        .collect();
    world.store(&hours).await.unwrap();
    let (from, to) = (time("2026-02-10T05:30:00Z"), time("2026-04-01T00:00:00Z"));
    let filter = Filter { time_column: Some("at".into()), from: Some(from), to: Some(to) };
    let expected: Vec<_> = hours.iter().filter(|row| from <= row.at && row.at < to).cloned().collect();
    assert_eq!(read(&world, &filter).await, Candle::batch(&expected));
    // Files whose path says that they hold none of it are not opened.
    world.disk.put("data/a_2026-07.csv", "broken");
    assert_eq!(read(&world, &filter).await.num_rows(), expected.len());
    let error = world.read(&Filter::default()).await.unwrap_err();
    assert_eq!(error.message, "data/a_2026-07.csv line 1: the header is `broken`, but this pipeline writes `coin,at,close,trades,final_,note`");
    let until = Filter { from: None, to: Some(time("2025-12-01T00:00:00.0000001Z")), ..filter };
    assert_eq!(read(&world, &until).await.num_rows(), 1);
}

#[tokio::test]
async fn a_bad_line_is_named() {
    let good = "coin,at,close,trades,final_,note\na,2026-05-19T15:00:00Z,1.0,,,\"two\nlines\"\n";
    for (line, message) in [
        ("a,2026-05-19T15:00:00Z,abc,,,", "x.csv line 4: close: `abc` is not float"),
        ("a,2026-05-19T15:00:00Z,,,,", "x.csv line 4: close: it is null, which the column cannot be"),
        ("a,yesterday,1.0,,,", "x.csv line 4: at: `yesterday` is not timestamp"),
        ("a,2026-05-19T15:00:00Z,1.0", "x.csv line 4: it has 3 cells, but the columns are 6"),
        ("a,2026-05-19T15:00:00Z,1.0,1.5,,", "x.csv line 4: trades: `1.5` is not integer"),
        ("a,2026-05-19T15:00:00Z,1.0,,TRUE,", "x.csv line 4: final_: `TRUE` is not boolean"),
        ("\"a", "x.csv line 4: a quote is opened and never closed"),
        ("\"a\"b,c", "x.csv line 4: there is text after a closing quote"),
    ] {
        let world = World::new("path = \"x.csv\"");
        world.disk.put("x.csv", &format!("{good}{line}\n"));
        assert_eq!(world.read(&Filter::default()).await.unwrap_err().message, message);
    }
    // Empty lines, another line break and quotes where none are needed are no fault.
    let world = World::new("path = \"x.csv\"");
    world.disk.put("x.csv", &format!("{good}\n\"b\",2026-05-19T15:00:00Z,\"1.0\",,,\r\n\r\n"));
    assert_eq!(read(&world, &Filter::default()).await.num_rows(), 2);
}

#[tokio::test]
async fn nothing_stored_is_an_empty_stream() {
    for path in ["x.csv", "nowhere/{coin}.csv"] {
        assert!(World::new(&format!("path = \"{path}\"")).read(&Filter::default()).await.unwrap().is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any text comes back; the csv crate reads the same; where nothing of ours is at work it writes the same.
    #[test]
    fn as_the_csv_crate(rows in prop::collection::vec((any::<String>(), any::<Option<String>>()), 1..20), delimiter in prop_oneof![Just(','), Just(';'), Just('\t')], crlf: bool, guard: bool) {
        let rows: Vec<_> = rows.into_iter().map(|(a, b)| Texts { a, b }).collect();
        let line_ending = if crlf { "crlf" } else { "lf" };
        let text = written(&format!("delimiter = {:?}\nline_ending = \"{line_ending}\"\nguard_formulas = {guard}", delimiter.to_string()), &rows);
        let mut reader = csv::ReaderBuilder::new().delimiter(u8::try_from(delimiter).unwrap()).from_reader(text.as_bytes());
        let cells: Vec<(String, String)> = reader.deserialize().map(Result::unwrap).collect();
        let bare = |text: &str| if guard { text.strip_prefix('\'').unwrap_or(text).to_owned() } else { text.to_owned() };
        prop_assert_eq!(cells.len(), rows.len());
        for (row, (a, b)) in rows.iter().zip(&cells) {
            prop_assert_eq!(&bare(a), &row.a);
            prop_assert_eq!(&bare(b), row.b.as_deref().unwrap_or_default());
        }
        if !guard && rows.iter().all(|row| !row.a.is_empty() && row.b.as_deref() != Some("")) {
            let mut writer = csv::WriterBuilder::new()
                .delimiter(u8::try_from(delimiter).unwrap())
                .terminator(if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') })
                .from_writer(Vec::new());
            writer.write_record(["a", "b"]).unwrap();
            rows.iter().for_each(|row| writer.write_record([&row.a, row.b.as_ref().unwrap_or(&String::new())]).unwrap());
            prop_assert_eq!(text, String::from_utf8(writer.into_inner().unwrap()).unwrap());
        }
    }

    /// Numbers and instants come back to the last bit, with any text for null.
    #[test]
    fn numbers_come_back(close: f64, trades: Option<i64>, micros in -62_135_596_800_000_000_i64..253_402_300_800_000_000, null in "[a-zA-Z0-9.-]{0,2}", time in prop_oneof![Just("rfc3339"), Just("unix"), Just("unix_ms"), Just("%Y-%m-%d %H:%M:%S%.6f")]) {
        prop_assume!(!close.is_nan());
        let row = Candle { close, trades, at: DateTime::from_timestamp_micros(micros).unwrap(), final_: trades.map(|n| n > 0), ..candle("a", "2026-05-19T15:00:00Z", 0.0) };
        written(&format!("null = \"{null}\"\ntime_format = \"{time}\""), &[row.clone(), row]);
    }

    /// No value leaves the folder or meets another, and all come back from the path.
    #[test]
    fn values_in_paths(values in prop::collection::vec((any::<String>(), prop::option::of("[a_.%/ -]{0,4}"), any::<Option<i64>>()), 1..20), template in prop_oneof![Just("data/{coin}_{note}-{trades}.csv"), Just("data/{trades}/{note}%{coin}"), Just("data/{coin}-{trades}_{note}{at:%Y%m}.csv")]) {
        let short = |text: String| text.chars().take(6).collect::<String>();
        let rows: Vec<_> = values.into_iter().map(|(coin, note, trades)| Candle { coin: short(coin), note, trades, ..candle("", "2026-05-19T15:00:00Z", 1.0) }).collect();
        block_on(async {
            let mut world = World::new(&format!("path = \"{template}\"\ncolumns = [\"at\", \"close\", \"final_\"]"));
            world.keys = vec!["coin", "note", "trades", "at"];
            world.store(&rows).await.unwrap();
            assert!(world.files().keys().all(|path| path.starts_with("data/") && !path.contains("/../")));
            assert_eq!(sorted(&read(&world, &Filter::default()).await), sorted(&Candle::batch(&rows)));
            // One file for each of the different values.
            let mut different: Vec<_> = rows.iter().map(|row| (&row.coin, &row.note, row.trades)).collect();
            different.sort();
            different.dedup();
            assert_eq!(world.files().len(), different.len());
        });
    }
}
