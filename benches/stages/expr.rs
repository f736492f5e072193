//! SQL expressions: compiled, and evaluated on one batch.

use divan::Bencher;
use divan::counter::ItemsCount;
use pipeline_contract::Row;
use pipeline_expr::Expr;

use crate::candles::{Candle, batch};

const TEXTS: [&str; 4] = [
    "volume >= 0",
    "low <= open AND low <= close AND high >= open AND high >= close",
    "(high - low) / nullif(open, 0)",
    "upper(coin_id) LIKE 'COIN-0%'",
];

#[divan::bench(args = TEXTS)]
fn compile(bencher: Bencher<'_, '_>, text: &str) {
    let schema = Candle::schema();
    assert!(Expr::compile(text, &schema).is_ok());
    bencher.bench_local(|| Expr::compile(text, &schema));
}

#[divan::bench(args = TEXTS)]
fn evaluate(bencher: Bencher<'_, '_>, text: &str) {
    let batch = batch();
    let expr = Expr::compile(text, &batch.schema()).unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!(expr.evaluate(&batch).unwrap().len(), batch.num_rows());
    bencher.counter(ItemsCount::new(batch.num_rows())).bench_local(|| expr.evaluate(&batch));
}
