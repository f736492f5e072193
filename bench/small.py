"""What does not depend on 10 million rows: start-up, memory at rest, the binary, instructions a row."""
import re
import shutil
import statistics
import subprocess
import time
from contextlib import contextmanager

from api import mock, pipeline_file
from measure import REPO, bar, fresh, runs, table

FEW, ROWS, SERVED = 5, 200_000, 50
RUNS_AT_REST = 3


def start(session):
    folder, rows, bars = fresh(session.work / "start"), [], []
    text = (REPO / "pipelines/clean-candles.toml").read_text() + '\n[[validate.rules]]\nname = "rise"\nexpr = "high >= low"\n'
    lines = folder / "lines.toml"
    lines.write_text(text + "# and so on\n" * (64 - text.count("\n")))
    for name, command, limit in [
        ("`--version`", ["--version"], 5),
        ("`check` of a file of 64 lines", ["check", lines], 20),
        ("`check pipelines/crypto.toml`", ["check", REPO / "pipelines/crypto.toml"], 20),
        ("`true`, to compare with", ["true"], None),
    ]:
        took = runs([session.binary, *command] if limit else command, 50, cwd=folder)
        wall, cpu = [t.wall * 1000 for t in took], [t.cpu * 1000 for t in took]
        if limit:
            bars.append(bar(f"{name} under {limit} ms", wall, limit, " ms"))
        figures = statistics.median(wall), min(wall), statistics.median(cpu), min(cpu), max(t.peak for t in took)
        rows.append((name, *(f"{figure:.2f}" for figure in figures)))
    text = "Start-up, 50 times each:\n\n" + table(["command", "wall ms", "least", "CPU ms", "least", "peak MB"], rows)
    if all(round(t.cpu * 1e6) % 1000 == 0 for t in took):
        text += "\n\nThis kernel counts CPU time in ticks: look at the wall time alone."
    return bars, text


@contextmanager
def waiting(session, command, folder):
    """A process that waits for its ticks, and what it logs."""
    log = folder / "log"
    with log.open("w") as to:
        process = subprocess.Popen([session.binary, *command], cwd=folder, stdout=subprocess.DEVNULL, stderr=to)
        try:
            yield process, log
        finally:
            process.terminate()
            process.wait(60)


def logged(log, what, times, process):
    """Waits until so many lines hold this; then for things to settle."""
    until = time.monotonic() + 600
    while log.read_text().count(what) < times and time.monotonic() < until and process.poll() is None:
        time.sleep(0.2)
    time.sleep(3)
    text = log.read_text()
    if text.count(what) != times or text.count('run finished status="ok"') != text.count("run finished"):
        raise SystemExit(f"`{what}` is not logged {times} times, or a run was not ok:\n" + text[-2000:])


def held(process):
    """Resident, proportional and private dirty memory in MB, and the peak."""
    rollup, status = (open(f"/proc/{process.pid}/{name}").read() for name in ("smaps_rollup", "status"))
    where = [(rollup, "Rss"), (rollup, "Pss"), (rollup, "Private_Dirty"), (status, "VmHWM")]
    return [int(re.search(rf"^{name}:\s+(\d+)", text, re.M)[1]) * 1024 / 1e6 for text, name in where]


def soon(seconds):
    """A trigger that fires so many seconds from now, and then not for an hour."""
    return f'type = "interval"\nevery = "1h"\noffset = "{int(time.time() + seconds) % 3600}s"\ncatch_up = "none"'


def resident(session):
    source, _ = session.made(f"plain-{ROWS}", ROWS)
    bars, rows = [], []

    def note(asked, processes, limit):
        """What each of these processes held: resident, proportional, private and at its peak."""
        bars.append(bar(f"{asked}: resident memory under {limit} MB", [rss for rss, *_ in processes], limit, " MB", 1))
        rows.append((asked, *(f"{statistics.median(of_all):.1f}" for of_all in zip(*processes))))
        session.say(f"  {asked}: {', '.join(f'{rss:.1f}' for rss, *_ in processes)} MB")

    def large(name, seconds):
        folder = f'path = "data/{name}/candles.csv"'
        trigger = ('type = "manual"', soon(seconds)), ("${CANDLES:-pipelines/data/candles.csv}", str(source))
        return session.clean(name, replace=[('name = "clean-candles"', f'name = "{name}"'), ('path = "data/clean/candles.csv"', folder), *trigger])

    with mock(FEW, 0) as port:
        few, many = f"after a run of {FEW} coins", f"after a run of {ROWS:,} rows"
        for kind, what in [("few", few), ("many", many)]:
            processes = []
            # Which pages of the binary the system maps is chance, some hundred kilobytes of it.
            for _ in range(RUNS_AT_REST):
                folder = fresh(session.work / "waiting")
                file = pipeline_file(folder / "few.toml", port, FEW, soon(3)) if kind == "few" else large("many", 3)
                with waiting(session, ["run", file], folder) as (process, log):
                    logged(log, "run finished", 1, process)
                    processes.append(held(process))
            note(f"`run` waiting {what}", processes, 20)
        for kind, what in [("few", few), ("many", many)]:
            folder = fresh(session.work / "waiting")
            pipelines = fresh(folder / "pipelines")
            for n in range(SERVED):
                name = f"{kind}-{n:02d}"
                if kind == "few":
                    pipeline_file(pipelines / f"{name}.toml", port, FEW, soon(20), folder=f"data/{name}")
                else:
                    shutil.move(large(name, 20), pipelines / f"{name}.toml")
            with waiting(session, ["serve", pipelines, "--listen", "127.0.0.1:0"], folder) as (process, log):
                if kind == "few":
                    logged(log, " added pipeline=", SERVED, process)
                    note(f"`serve` with {SERVED} pipelines after its start", [held(process)], 60)
                logged(log, "run finished", SERVED, process)
                note(f"`serve` with {SERVED} pipelines {what} each", [held(process)], 60)
    text = "Memory at rest, three seconds after the start or the last run:\n\n"
    return bars, text + table(["process", "resident MB", "proportional (PSS)", "private dirty", "peak"], rows)


def binary(session):
    return [bar("the binary under 25 MB", [session.binary.stat().st_size / 1e6], 25, " MB", 1)], ""


def instructions(session):
    if not shutil.which("valgrind"):
        return [], "Instructions a row: not measured, valgrind is not installed."
    rows = min(session.rows, ROWS)
    source, _ = session.made(f"instructions-{rows}", rows, jsonl=True)
    counted = []
    for kind, file in [("CSV", source), ("JSON Lines", source.with_suffix(".jsonl"))]:
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", session.binary, "run"]
        toml = session.clean(jsonl=kind != "CSV", more="\n[run]\nconcurrency = 1\n", replace=[("${CANDLES:-pipelines/data/candles.csv}", str(file))])
        done = subprocess.run([*command, toml, "--once", "-q"], cwd=fresh(session.work / "out"), capture_output=True, text=True)
        found = re.search(r"Collected : (\d+)", done.stderr)
        if done.returncode or not found:
            raise SystemExit(done.stderr)
        counted.append((kind, f"{int(found[1]) / rows:,.0f}"))
        session.say(f"  {counted[-1]}")
    text = f"Instructions a row (callgrind, {rows:,} rows, `concurrency = 1`, the start of the process included):\n\n"
    return [], text + table(["input", "instructions"], counted)
