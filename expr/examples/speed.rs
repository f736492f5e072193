//! Rows a second of some expressions, on one core: `cargo run --release -p pipeline-expr --example speed`.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, reason = "a measurement, not a part of the product")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use pipeline_contract::{ColumnType, schema};
use pipeline_expr::Expr;

const ROWS: usize = 8192;

fn main() {
    let schema = schema([
        ("timestamp", ColumnType::Timestamp, false),
        ("coin_id", ColumnType::Text, false),
        ("open", ColumnType::Float, false),
        ("high", ColumnType::Float, false),
        ("low", ColumnType::Float, false),
        ("close", ColumnType::Float, false),
        ("volume", ColumnType::Float, true),
        ("trades", ColumnType::Integer, false),
    ]);
    let float = |offset: f64| -> ArrayRef { Arc::new((0..ROWS).map(|row| Some(row as f64 * 0.5 + offset)).collect::<Float64Array>()) };
    let volume: ArrayRef = Arc::new((0..ROWS).map(|row| (row % 10 > 0).then_some(row as f64)).collect::<Float64Array>());
    let coins: ArrayRef = Arc::new((0..ROWS).map(|row| Some(["bitcoin", "ethereum", "solana"][row % 3])).collect::<StringArray>());
    let times = TimestampMicrosecondArray::from_iter_values((0..ROWS as i64).map(|row| row * 3_600_000_000)).with_timezone("UTC");
    let trades: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS as i64));
    let columns = vec![Arc::new(times) as ArrayRef, coins, float(1.0), float(3.0), float(0.0), float(2.0), volume, trades];
    let batch = RecordBatch::try_new(schema.clone(), columns).expect("the columns fit the schema");
    for text in [
        "volume > 0",
        "low <= high",
        "low <= least(open, close) AND high >= greatest(open, close)",
        "open > 0 AND high > 0 AND low > 0 AND close > 0",
        "volume IS NULL OR volume >= 0",
        "(high - low) / open",
        "trades * 2 + 1",
        "trades IN (1, 2, 3, 5, 8, 13, 21, 34, 55, 89)",
        "coin_id = 'bitcoin'",
        "coin_id IN ('bitcoin', 'dogecoin')",
        "coin_id LIKE 'bit%'",
        "timestamp >= '2026-01-01' AND timestamp < '2027-01-01'",
        "date_trunc('day', timestamp)",
        "CASE WHEN close > open THEN 1 WHEN close < open THEN -1 ELSE 0 END",
        "coalesce(volume, 0)",
        "upper(coin_id) || '-usd'",
        "CAST(close AS TEXT)",
    ] {
        let expr = Expr::compile(text, &schema).expect("it compiles");
        let (mut rounds, start) = (0_u32, Instant::now());
        while start.elapsed() < Duration::from_millis(300) {
            for _ in 0..50 {
                std::hint::black_box(expr.evaluate(std::hint::black_box(&batch)).expect("it has a value"));
                rounds += 1;
            }
        }
        let rate = f64::from(rounds) * ROWS as f64 / start.elapsed().as_secs_f64() / 1e6;
        println!("{rate:8.0} M rows/s  {text}");
    }
}
