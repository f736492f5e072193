"""The work of pipelines/clean-candles.toml in Polars (lazy, streaming): polars_clean.py IN OUT REJECTS; threads: POLARS_MAX_THREADS."""
import sys

import polars as pl

src, out, rejects = sys.argv[1:4]
names = ["coin_id", "timestamp", "open", "high", "low", "close", "volume"]
schema = {name: pl.String for name in names}
rows = pl.scan_ndjson(src, schema=schema) if src.endswith(".jsonl") else pl.scan_csv(src, schema=schema)
o, h, l, c, v = (pl.col(name).cast(pl.Float64, strict=False) for name in names[2:])
ok = (
    (pl.col("coin_id").str.len_bytes() > 0) & pl.col("timestamp").cast(pl.Int64, strict=False).is_not_null()
    & v.is_finite() & h.is_finite() & (l > 0) & (h >= l) & (h >= o) & (h >= c) & (l <= o) & (l <= c) & (v >= 0)
).fill_null(False)
good = rows.filter(ok).unique(subset=["coin_id", "timestamp"], keep="first", maintain_order=True)
pl.collect_all([good.sink_csv(out, lazy=True), rows.filter(~ok).sink_csv(rejects, lazy=True)], engine="streaming")
