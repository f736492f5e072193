#!/usr/bin/env python3
"""Is a CSV file of candles what is expected? check.py OUT EXPECT; a word for each fault, exit code 1 when there is one."""
import csv
import json
import sys

rows, cents, seen, coins = 0, 0, set(), {}
with open(sys.argv[1], newline="") as file:
    lines = csv.reader(file)
    next(lines)
    for coin, time, _, _, _, _, volume in lines:
        rows += 1
        seen.add(coins.setdefault(coin, len(coins)) << 44 | int(time))  # a number takes a fifth of a pair of texts
        cents += round(float(volume) * 100)
expect = json.load(open(sys.argv[2]))
faults = [f"{name}: {is_} instead of {want}" for name, is_, want in [
    ("rows", rows, expect["kept"]), ("keys", len(seen), expect["kept"]), ("volume", cents, expect["volume_cents"])] if is_ != want]
print("; ".join(faults) or "right")
sys.exit(bool(faults))
