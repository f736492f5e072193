//! CoinGecko as pipeline sources: `coingecko_markets` (one row for each coin, now) and `coingecko_ohlc` (candles).
//!
//! What the API does, and what it does not say, is in this crate's README; the rules here follow CoinGecko's API reference v3 and its
//! behaviour as reported in public issue threads.

mod api;
mod errors;
mod markets;
mod ohlc;

pub use api::Plan;
pub use markets::{CoingeckoMarkets, Market, MarketsConfig};
pub use ohlc::{CoingeckoOhlc, Interval, OhlcConfig};
use pipeline_contract::Plugin;

/// Every plugin of this crate, for the registry.
pub fn plugins() -> Vec<Box<dyn Plugin>> {
    vec![Box::new(CoingeckoMarkets), Box::new(CoingeckoOhlc)]
}
