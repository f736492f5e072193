#!/usr/bin/env python3
"""Candles with known faults, the same bytes for the same arguments; no libraries.

    generate.py --rows 10000000 --csv in.csv --jsonl in.jsonl --expect in.json
    generate.py --rows 10000000 --series 100000 --rejects 20 --duplicates 30 --shuffle --csv hard.csv --expect hard.json
    generate.py --rows 1000 --from 9600000 --csv more.csv --expect more.json       # 500 rows that are known and 500 new ones

Rows lie in the order of time, shuffled in a window (`--shuffle`: anywhere). Of the duplicates a third carry other values (conflicts).
Rejects are in turn high below low, a negative price, no close, NaN as volume. `--expect` gets what is right: rows, kept, rejected, duplicates,
and the sum of volume * 100 over the first row of each key, which is right only if the first one that keeps the rules is kept.
"""
import argparse
import json
import random
import sys

T0, HOUR = 1_577_836_800_000, 3_600_000


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--rows", type=int, default=1_000_000)
    a.add_argument("--series", type=int, default=500)
    a.add_argument("--rejects", type=float, default=1.0, help="percent")
    a.add_argument("--duplicates", type=float, default=3.0, help="percent")
    a.add_argument("--shuffle", action="store_true")
    a.add_argument("--window", type=int, default=50_000)
    a.add_argument("--from", type=int, default=0, dest="start", help="the first key that is new; half of the rows come before it")
    a.add_argument("--csv")
    a.add_argument("--jsonl")
    a.add_argument("--expect")
    a = a.parse_args()
    draw = random.Random(7)
    base = [round(10 ** draw.uniform(-2, 4.7), 4) for _ in range(a.series)]
    rejects, doubles = int(a.rows * a.rejects / 100), int(a.rows * a.duplicates / 100)
    keys = a.rows - rejects - doubles
    first = max(0, a.start - keys // 2)

    def kinds():
        """The numbers of keys and what is wrong with the row, in the order of time."""
        for n in range(keys):
            yield first + n, 0
        for n in range(doubles):
            yield first + draw.randrange(keys), 1 + (n % 3 == 0)
        for n in range(rejects):
            yield first + draw.randrange(keys), 3 + n % 4

    if a.shuffle:
        rows = list(kinds())
        draw.shuffle(rows)
    else:
        rows = sorted(kinds(), key=lambda row: row[0] + draw.randrange(a.window))
    csv = open(a.csv, "w", buffering=1 << 20) if a.csv else None
    js = open(a.jsonl, "w", buffering=1 << 20) if a.jsonl else None
    if csv:
        csv.write("coin_id,timestamp,open,high,low,close,volume\n")
    seen, cents = set(), 0
    for n, kind in rows:
        coin, hour = n % a.series, n // a.series
        own = (n * 2654435761) & 0xFFFFFFFF  # a hash is enough, and quick
        price, high, low = base[coin] * (1 + own % 97 / 1000), 1 + own % 13 / 1000, 1 - own % 11 / 1000
        close = f"{price * (1 + own % 5 / 2000):.4f}"
        o, h, l = f"{price:.4f}", f"{price * high * 1.0025:.4f}", f"{price * low:.4f}"
        volume = 10_000 + own + (12_345 if kind == 2 else 0)
        v = f"{volume // 100}.{volume % 100:02d}"
        if kind == 3:
            h, l = l, f"{price * high * 1.01 + 1:.4f}"
        elif kind == 4:
            l = "-" + l
        elif kind == 5:
            close = ""
        elif kind == 6:
            v = "NaN"
        elif n not in seen:
            seen.add(n)
            cents += volume
        name, at = f"coin-{coin:05d}", T0 + hour * HOUR
        if csv:
            csv.write(f"{name},{at},{o},{h},{l},{close},{v}\n")
        if js:
            v = '"NaN"' if kind == 6 else v
            js.write(f'{{"coin_id":"{name}","timestamp":{at},"open":{o},"high":{h},"low":{l},"close":{close or "null"},"volume":{v}}}\n')
    for file in (csv, js):
        if file:
            file.close()
    expect = {"rows": len(rows), "kept": len(seen), "rejected": rejects, "duplicates": doubles, "volume_cents": cents}
    if a.expect:
        with open(a.expect, "w") as file:
            json.dump(expect, file)
    json.dump(expect, sys.stdout)
    print()


if __name__ == "__main__":
    main()
