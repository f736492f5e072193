"""Files into files: CSV, JSON Lines, and CSV as hard as it comes, beside DuckDB, Polars and the reference loop."""
import os
import subprocess
import sys

from measure import HERE, bar, in_turn, medians, ratios, run, table


# A round of the two takes a fifth to an eighth of the time that one with rivals does.
ROUNDS_OF_CORES = 3


def rivals(session):
    """The Python of an environment with DuckDB and Polars, made once."""
    python = session.work / "venv/bin/python"
    if not (session.work / "venv/made").exists():
        subprocess.run([sys.executable, "-m", "venv", session.work / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "duckdb", "polars"], check=True)
        (session.work / "venv/made").touch()
    return python


def versions(session):
    code = "import duckdb, polars; print('DuckDB', duckdb.__version__ + ', Polars', polars.__version__)"
    return subprocess.run([rivals(session), "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def reference(session):
    """The program of bench/reference, built."""
    target = session.work / "reference"
    command = ["cargo", "build", "-q", "--release", "--locked", "--manifest-path", HERE / "reference/Cargo.toml", "--target-dir", target]
    subprocess.run(command, check=True)
    return target / "release/reference"


def programs(session, source, expect, names):
    """What runs in a round; of each program the first output is checked against what the generator says."""
    work, python, checked = session.work, rivals(session), set()
    out, flat, bad = work / "out", work / "out.csv", work / "out-rejects.csv"
    threads = str(len(os.sched_getaffinity(0)))
    commands = {
        "DuckDB": [python, HERE / "duckdb_clean.py", source, flat, bad, threads],
        "Polars": [python, HERE / "polars_clean.py", source, flat, bad],
        "reference loop": [reference(session), source, flat, bad] if "reference loop" in names else None,
    }

    def one(name):
        flat.unlink(missing_ok=True)
        bad.unlink(missing_ok=True)
        if name.startswith("pipeline"):
            took, written = session.ours(source, out, core=session.core if name.endswith("one core") else None), out / "data/clean/candles.csv"
        else:
            took, written = run(commands[name], env={"POLARS_MAX_THREADS": threads}), flat
        if name not in checked:
            done = subprocess.run([sys.executable, HERE / "check.py", written, expect], capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"what {name} wrote of {source.name} is wrong: {done.stdout or done.stderr}")
            checked.add(name)
        return took

    return {name: lambda name=name: one(name) for name in names}


def shown(took):
    cells = [(name, medians(all_took)) for name, all_took in took.items()]
    rows = [(name, f"{t.wall:.2f}", f"{t.cpu:.2f}", f"{t.cpu / t.wall:.2f}", f"{t.peak:.0f}") for name, t in cells]
    return table(["program", "wall s", "CPU s", "cores busy", "peak MB"], rows)


def of_rivals(took, names, share, said):
    return [
        bar(f"{said} of {rival}'s {('CPU' if what == 'cpu' else 'wall')} time", ratios(took, "pipeline", rival, what), share)
        for rival in names
        for what in ("wall", "cpu")
    ]


def csv(session):
    source, expect = session.plain()
    names = ["pipeline", "DuckDB", "Polars", "reference loop"]
    took = in_turn(programs(session, source, expect, names), session.rounds, session.say)
    bars = of_rivals(took, ["DuckDB", "Polars"], 1 / 3, "CSV: at most a third")
    bars.append(bar("CSV: at most 1.8 x the CPU time of the reference loop", ratios(took, "pipeline", "reference loop", "cpu"), 1.8, " x"))
    bars.append(bar("CSV: peak memory under 300 MB", [t.peak for t in took["pipeline"]], 300, " MB", 0))
    return bars, f"CSV into CSV, {session.rows:,} rows:\n\n{shown(took)}"


def jsonl(session):
    source, expect = session.plain()
    # Polars reads a number that is asked for as text anew, which is another text: it does other work here.
    took = in_turn(programs(session, source.with_suffix(".jsonl"), expect, ["pipeline", "DuckDB"]), session.rounds, session.say)
    bars = of_rivals(took, ["DuckDB"], 1 / 2, "JSON Lines: at most half")
    return bars, f"JSON Lines into CSV, {session.rows:,} rows:\n\n{shown(took)}"


def cores(session):
    """Two cores and one, right after each other and in many rounds: what else the machine does changes faster than a round with rivals takes."""
    source, expect = session.plain()
    bars, tables = [], []
    for what, source in {"CSV": source, "JSON Lines": source.with_suffix(".jsonl")}.items():
        took = in_turn(programs(session, source, expect, ["pipeline", "pipeline, one core"]), ROUNDS_OF_CORES * session.rounds, session.say)
        ratio = ratios(took, "pipeline, one core", "pipeline", "wall")
        bars.append(bar(f"{what}: two cores at least 1.7 x as fast as one", ratio, 1.7, " x", least=True))
        tables.append(f"{what} into CSV, {session.rows:,} rows, {len(ratio)} rounds:\n\n{shown(took)}")
    return bars, "\n\n".join(tables)


def hard(session):
    plain, right = session.plain()
    options = ["--series", min(100_000, session.rows // 10), "--rejects", "20", "--duplicates", "30", "--shuffle"]
    source, expect = session.made(f"hard-{session.rows}", session.rows, *options)
    both = {"plain: pipeline": programs(session, plain, right, ["pipeline"])["pipeline"]}
    both |= {f"hard: {name}": one for name, one in programs(session, source, expect, ["pipeline", "DuckDB", "Polars"]).items()}
    took = in_turn(both, session.rounds, session.say)
    names = {"wall": "wall time", "cpu": "CPU time", "peak": "peak memory"}
    what = f"shuffled, {options[1]:,} series, 20 % rejects, 30 % duplicates: at most 2 x the plain case's "
    bars = [bar(what + name, ratios(took, "hard: pipeline", "plain: pipeline", key), 2, " x") for key, name in names.items()]
    return bars, f"Hard CSV, {session.rows:,} rows:\n\n{shown(took)}"
