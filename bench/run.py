#!/usr/bin/env python3
"""Measures `pipeline` beside DuckDB and Polars on pipelines/clean-candles.toml, its state and its commits on; writes a table.

    cargo build --release && bench/run.py [--rows 10000000] [--rounds 3] [--work DIR] [--table FILE]

Needs Python 3 with `venv`, and pip's registry once; about 15 GB below `--work` (default: bench/.work) and 4 GB of memory, which is DuckDB's.
Programs run in turn, round after round, and the median counts. CPU seconds (user and system) tell more than wall time where others use the
machine. Every output is checked against what the generator says is right (`check.py`).
"""
import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parent


def measured(command, **more):
    """Wall and CPU seconds and peak MB of a program."""
    began = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **more)
    said = child.stderr.read()
    _, status, used = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"{command} failed:\n{said.decode()}")
    return time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--rows", type=int, default=10_000_000)
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--work", type=Path, default=HERE / ".work")
    a.add_argument("--binary", type=Path, default=Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target")) / "release/pipeline")
    a.add_argument("--table", type=Path, help="also write the table to this file")
    a = a.parse_args()
    a.work.mkdir(parents=True, exist_ok=True)
    work, binary = a.work.resolve(), a.binary.resolve()
    pip = work / "venv/bin/pip"
    if not pip.exists():
        subprocess.run([sys.executable, "-m", "venv", work / "venv"], check=True)
        subprocess.run([pip, "install", "-q", "duckdb", "polars"], check=True)
    python = work / "venv/bin/python"

    def made(name, *options):
        expect = work / f"{name}.json"
        if not expect.exists():
            subprocess.run([sys.executable, HERE / "generate.py", *options, "--expect", expect], check=True, stdout=subprocess.DEVNULL)
        return expect

    def pipeline_file(name, rules=""):
        text = (REPO / "pipelines/clean-candles.toml").read_text()
        if name.endswith(".jsonl"):
            text = "".join(line for line in text.splitlines(True) if not line.startswith("quoted_newlines"))
        file = work / "clean.toml"
        file.write_text(rules + text)
        return file

    def ours(source, out, fresh=True, rules=""):
        if fresh:
            shutil.rmtree(out, ignore_errors=True)
        out.mkdir(exist_ok=True)
        file = pipeline_file(str(source), rules)
        return measured([binary, "run", file, "--once", "-q"], cwd=out, env={**os.environ, "CANDLES": str(source)})

    plain = made(f"plain-{a.rows}", "--rows", str(a.rows), "--csv", work / "plain.csv", "--jsonl", work / "plain.jsonl")
    hard = made(f"hard-{a.rows}", "--rows", str(a.rows), "--series", "100000", "--rejects", "20", "--duplicates", "30", "--shuffle",
                "--csv", work / "hard.csv")
    lines = ["| input | program | wall s | CPU s | peak MB |", "|---|---|---:|---:|---:|"]
    two = {**os.environ, "POLARS_MAX_THREADS": "2"}
    for name, source, expect in [("CSV", "plain.csv", plain), ("JSON Lines", "plain.jsonl", plain), ("CSV, hard", "hard.csv", hard)]:
        source, out, flat, bad = work / source, work / "out", work / "o.csv", work / "r.csv"
        programs = {
            "pipeline": lambda: ours(source, out),
            "pipeline, one core": lambda: measured(
                ["taskset", "-c", "0", binary, "run", pipeline_file(str(source)), "--once", "-q"], cwd=fresh(out), env={**os.environ, "CANDLES": str(source)}),
            "DuckDB": lambda: measured([python, HERE / "duckdb_clean.py", source, flat, bad, "2"]),
            "Polars": lambda: measured([python, HERE / "polars_clean.py", source, flat, bad], env=two),
        }
        if name == "JSON Lines":
            programs.pop("Polars")  # it reads a number that is asked for as text anew, which is another text
        times = {program: [] for program in programs}
        for turn in range(a.rounds):
            for program, run in programs.items():
                times[program].append(run())
                if turn == 0:
                    written = out / "data/clean/candles.csv" if program.startswith("pipeline") else flat
                    subprocess.run([sys.executable, HERE / "check.py", written, expect], check=True, stdout=subprocess.DEVNULL)
        for program, all_times in times.items():
            wall, cpu, peak = (statistics.median(column) for column in zip(*all_times))
            lines.append(f"| {name} | {program} | {wall:.2f} | {cpu:.2f} | {peak:.0f} |")
    versions = subprocess.run([python, "-c", "import duckdb, polars; print('DuckDB', duckdb.__version__ + ', Polars', polars.__version__)"],
                              check=True, capture_output=True, text=True).stdout.strip()
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    lines += ["", f"{a.rows:,} rows; median of {a.rounds}; {os.cpu_count()} cores, {model or platform.machine()}; {versions}."]
    table = "\n".join(lines) + "\n"
    print(table, end="")
    if a.table:
        a.table.write_text(table)


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


if __name__ == "__main__":
    main()
