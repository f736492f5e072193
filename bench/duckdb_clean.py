"""The work of pipelines/clean-candles.toml in DuckDB: duckdb_clean.py IN OUT REJECTS THREADS. The first row of a key is kept, exactly."""
import sys

import duckdb

src, out, rejects, threads = sys.argv[1:5]
con = duckdb.connect()
con.execute(f"SET threads={int(threads)}")
texts = "coin_id:'VARCHAR',timestamp:'BIGINT',open:'VARCHAR',high:'VARCHAR',low:'VARCHAR',close:'VARCHAR',volume:'VARCHAR'"
if src.endswith(".jsonl"):
    read = f"read_json('{src}', format='newline_delimited', columns={{{texts}}})"
else:
    read = f"read_csv('{src}', header=true, all_varchar=true)"
numbers = ", ".join(f"try_cast({c} AS DOUBLE) AS {c[0]}_" for c in ("open", "high", "low", "close", "volume"))
con.execute(f"""CREATE TEMP TABLE raw AS
  SELECT *, coalesce(coin_id <> '' AND t_ IS NOT NULL AND isfinite(v_) AND isfinite(h_) AND l_ > 0 AND h_ >= l_
     AND h_ >= o_ AND h_ >= c_ AND l_ <= o_ AND l_ <= c_ AND v_ >= 0, false) AS ok
  FROM (SELECT *, {numbers}, try_cast(timestamp AS BIGINT) AS t_ FROM {read})""")
columns = "coin_id, timestamp, open, high, low, close, volume"
con.execute(f"COPY (SELECT {columns} FROM raw WHERE NOT ok) TO '{rejects}' (HEADER)")
con.execute(f"COPY (SELECT {columns} FROM raw WHERE rowid IN (SELECT min(rowid) FROM raw WHERE ok GROUP BY coin_id, t_)) TO '{out}' (HEADER)")
