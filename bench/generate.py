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
import array
import heapq
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
        """The numbers of keys and what is wrong with the row, by and large in the order of time."""
        for n in range(keys):
            yield n << 3
            for count, kind in ((doubles, 1), (rejects, 3)):  # spread evenly, of keys that came not long before
                for own in range(n * count // keys, (n + 1) * count // keys):
                    yield (n - draw.randrange(min(n, 1000) + 1)) << 3 | kind + (own % 3 == 0 if kind == 1 else own % 4)

    def near(rows):
        """Each row somewhere in the window that begins with it; only the window is held."""
        held = []
        for at, row in enumerate(rows):
            heapq.heappush(held, (at + draw.randrange(a.window), at, row))
            while held and held[0][0] <= at:
                yield heapq.heappop(held)[2]
        for _, _, row in sorted(held):
            yield row

    if a.shuffle:
        rows = array.array("q", kinds())
        draw.shuffle(rows)
    else:
        rows = near(kinds())
    csv = open(a.csv, "w", buffering=1 << 20) if a.csv else None
    js = open(a.jsonl, "w", buffering=1 << 20) if a.jsonl else None
    if csv:
        csv.write("coin_id,timestamp,open,high,low,close,volume\n")
    seen, cents, written, kept = bytearray(keys), 0, 0, 0
    names = [f"coin-{coin:05d}" for coin in range(a.series)]
    for row in rows:
        n, kind = first + (row >> 3), row & 7
        written += 1
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
        elif not seen[n - first]:
            seen[n - first] = 1
            kept += 1
            cents += volume
        name, at = names[coin], T0 + hour * HOUR
        if csv:
            csv.write(f"{name},{at},{o},{h},{l},{close},{v}\n")
        if js:
            v = '"NaN"' if kind == 6 else v
            js.write(f'{{"coin_id":"{name}","timestamp":{at},"open":{o},"high":{h},"low":{l},"close":{close or "null"},"volume":{v}}}\n')
    for file in (csv, js):
        if file:
            file.close()
    expect = {"rows": written, "kept": kept, "rejected": rejects, "duplicates": doubles, "volume_cents": cents}
    if a.expect:
        with open(a.expect, "w") as file:
            json.dump(expect, file)
    json.dump(expect, sys.stdout)
    print()


if __name__ == "__main__":
    main()
