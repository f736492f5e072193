"""Many coins from an API that takes its time, with a budget that does not limit."""
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from measure import HERE, bar, fresh, in_turn, medians, run, table

LATENCY, CONCURRENCY, COINS = 20, 10, (100, 1000)


@contextmanager
def mock(coins, latency):
    """The port of a look-alike that runs meanwhile."""
    command = [sys.executable, HERE / "mock.py", "serve", "--coins", str(coins), "--latency-ms", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield int(server.stdout.readline())
        finally:
            server.terminate()


def pipeline_file(file, port, coins, trigger='type = "manual"', concurrency=CONCURRENCY, folder="data"):
    names = json.dumps([f"coin-{n:04d}" for n in range(coins)])
    file.write_text(f"""name = "{file.stem}"
[trigger]
{trigger}
[run]
concurrency = {concurrency}
[source]
type = "coingecko_ohlc"
base_url = "http://127.0.0.1:{port}"
coins = {names}
interval = "1h"
[[validate.rules]]
kind = "price_envelope"
[dedupe]
keys = ["coin_id", "timestamp"]
[sink]
type = "csv"
path = "{folder}/{{coin_id}}.csv"
columns = ["timestamp", "open", "high", "low", "close"]
""")
    return file


def drive(port, coins):
    command = [sys.executable, HERE / "mock.py", "drive", "--port", str(port), "--coins", str(coins), "--connections", str(CONCURRENCY)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def sync_ms(folder):
    """What it takes to make a small file durable there: median of 50."""
    took = []
    for n in range(50):
        began = time.perf_counter()
        with open(folder / f"sync-{n}", "wb") as file:
            file.write(bytes(2000))
            file.flush()
            os.fsync(file.fileno())
        took.append((time.perf_counter() - began) * 1000)
        (folder / f"sync-{n}").unlink()
    return statistics.median(took)


def api(session):
    memory = Path(f"/dev/shm/pipeline-bench-{os.getpid()}")
    on = {coins: session.work / "api" for coins in COINS}
    if memory.parent.is_dir():
        on |= {f"{coins}, no disk": memory for coins in COINS}  # every commit waits for the disk: how much is that?
    try:
        return measured(session, on)
    finally:
        shutil.rmtree(memory, ignore_errors=True)


def measured(session, on):
    most, said = max(COINS), session.work / "summary.json"
    own = {name: [] for name in on}
    with mock(most, 0) as port:
        drive(port, most)
        alone = most / drive(port, most)
    with mock(most, LATENCY) as port:

        def one(name):
            coins, out = int(str(name).split(",")[0]), fresh(on[name])
            file = pipeline_file(session.work / f"api-{coins}.toml", port, coins)
            took = run([session.binary, "run", file, "--once", "-q", "--format", "json"], cwd=out, stdout=said)
            summary = json.loads(said.read_text())
            files = len(list((out / "data").glob("*.csv")))
            if summary["status"] != "ok" or files != coins or summary["rows"]["written"] < coins * 22:
                sys.exit(f"a run of {coins} coins is not whole: {files} files, {summary['rows']}")
            own[name].append(summary["duration_ms"])
            return took

        took = in_turn({name: lambda name=name: one(name) for name in on}, max(5, session.rounds), session.say)
        driven = {coins: statistics.median(drive(port, coins) for _ in range(3)) * 1000 for coins in COINS}
    bars, rows = [], []
    for coins in COINS:
        least = LATENCY * coins / CONCURRENCY
        asked = f"{coins:,} coins at {LATENCY} ms, {CONCURRENCY} at once: the run within 1.3 x of latency x coins / concurrency"
        bars.append(bar(asked, [ms / least for ms in own[coins]], 1.3, " x"))
        for name in (name for name in on if str(name).split(",")[0] == str(coins)):
            t = medians(took[name])
            cells = [least, driven[coins], statistics.median(own[name]), t.wall * 1000, t.cpu * 1000, t.peak]
            rows.append((str(name).replace("no disk", "files and state in `/dev/shm`"), *(f"{cell:.0f}" for cell in cells)))
    peaks = [big.peak - small.peak for big, small in zip(took[COINS[1]], took[COINS[0]])]
    bars.append(bar(f"memory flat: {COINS[1]:,} coins take at most 10 MB more than {COINS[0]}", peaks, 10, " MB", 1))
    head = ["coins", "latency x coins / concurrency, ms", "a trivial client, ms", "the run, ms", "the process, wall ms", "CPU ms", "peak MB"]
    text = f"API, {LATENCY} ms for each answer, {CONCURRENCY} requests at once. Without latency the mock answers {alone:,.0f} requests a second. "
    text += f"Each coin has a file of its own, which a commit makes durable: here a small file takes {sync_ms(session.work):.1f} ms.\n\n"
    return bars, text + table(head, rows)
