//! The columns of `coingecko_ohlc`.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use pipeline_contract::arrow::{RecordBatch, Schema, SchemaRef};
use pipeline_contract::{MUST_BE_STORED, Row, batch_of_columns, rows};

/// What `source` says of a candle.
pub(super) const CANDLES: &str = "candles";
/// What `source` says of a price that stands where a candle is missing.
pub(super) const SAMPLES: &str = "samples";

rows! {
    /// A row with all the columns that there may be. Prices are in `vs_currency`.
    pub(super) struct OhlcRow {
        /// CoinGecko's id, as `bitcoin`.
        pub coin_id: String,
        /// When the candle opened.
        pub timestamp: DateTime<Utc>,
        /// Price at the open.
        pub open: Option<f64>,
        /// Highest price.
        pub high: Option<f64>,
        /// Lowest price.
        pub low: Option<f64>,
        /// Price at the close.
        pub close: f64,
        /// Traded in the 24 hours before the candle's close: a rolling sum, not the candle's own volume.
        pub volume_24h: Option<f64>,
        /// What the row is: `candles`, or `samples` where one price, that at the candle's close, stands for a candle that cannot be had.
        pub source: String,
    }
}

/// The columns: `volume_24h` with the option of that name, `source` with `fill_from`; only then may a row lack open, high and low.
pub(super) fn schema(volume: bool, source: bool) -> SchemaRef {
    let all = OhlcRow::schema();
    let fields = all.fields().iter().filter_map(|field| match field.name().as_str() {
        "volume_24h" => volume.then(|| Arc::clone(field)),
        "source" => source.then(|| {
            let mut field = field.as_ref().clone();
            field.metadata_mut().insert(MUST_BE_STORED.to_owned(), "whether a row is a candle or a sampled price".to_owned());
            Arc::new(field)
        }),
        "open" | "high" | "low" => Some(Arc::new(field.as_ref().clone().with_nullable(source))),
        _ => Some(Arc::clone(field)),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Rows as a batch of a [`schema`]: candles alone where it has no `source`.
pub(super) fn batch(schema: &SchemaRef, rows: &[OhlcRow]) -> RecordBatch {
    let all = OhlcRow::batch(rows);
    let columns = schema.fields().iter().filter_map(|field| all.column_by_name(field.name()).map(Arc::clone)).collect();
    batch_of_columns(Arc::clone(schema), columns, rows.len())
}
