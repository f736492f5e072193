//! CoinGecko markets and candles as pipeline sources.
