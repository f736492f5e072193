//! The one polite HTTP client of every source that speaks HTTP.
