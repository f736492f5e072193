#!/usr/bin/env python3
"""Measures `pipeline` against every bar that was set for it, and writes the table into docs/performance.md.

    cargo build --release && bench/run.py --write            everything: most of an hour, 12 GB below bench/.work
    bench/run.py --rows 200000 --only csv,api                parts alone, small, printed
    bench/run.py --only held --far                           measures what is else extrapolated: half an hour and 20 GB more
    bench/run.py --only held --resume --write                goes on: keeps what the same binary did before, with the same options

Needs Linux, Python 3.10 with `venv`, cargo, pip's registry once, and for instructions valgrind. Programs take turns, ratios are those of one round,
and the median of the rounds counts; met or missed is the script's verdict. Every output is checked against what the generator says is right.
"""
import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import api
import files
import held
import small
from measure import HERE, REPO, Session, table

PARTS = {
    "binary": small.binary, "start": small.start, "api": api.api, "resident": small.resident, "instructions": small.instructions,
    "csv": files.csv, "jsonl": files.jsonl, "cores": files.cores, "hard": files.hard, "held": held.held,
}
DOCUMENT, BEGIN, END = REPO / "docs/performance.md", "<!-- bench:begin -->", "<!-- bench:end -->"


def load():
    return " ".join(f"{figure:.1f}" for figure in os.getloadavg())


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, cwd=REPO).stdout.strip()


def machine(session):
    """What was measured, and on what."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")), platform.machine())
    memory = int(Path("/proc/meminfo").read_text().split()[1]) * 1024 / 1e9
    digest = hashlib.sha256(session.binary.read_bytes()).hexdigest()
    commit = said("git", "rev-parse", "--short", "HEAD") or "no commit"
    build = f"{said(session.binary, '--version')}, SHA-256 {digest[:12]}, the repository at {commit}"
    system = f"{len(os.sched_getaffinity(0))} cores of {model}, {memory:.0f} GB, Linux {platform.release().split('-')[0]}"
    tools = f"{files.versions(session)}, Python {platform.python_version()}, {said('rustc', '--version').split(' (')[0]}"
    return digest, f"{system}; {build}; {tools}."


def block(session, about, done):
    """What stands between the markers."""
    parts = [done[name] for name in PARTS if name in done]
    missing = [name for name in PARTS if name not in done]
    bars = [bar for part in parts for bar in part["bars"]]
    lines = [about, f"{session.rows:,} rows, rounds: {session.rounds}. MB are 10^6 bytes. In brackets: lowest and highest."]
    if session.rows < 10_000_000:
        lines[-1] += " **The bars speak of 10,000,000 rows: this is a small session, to try the script.**"
    if max(float(part["before"].split()[0]) for part in parts) > len(os.sched_getaffinity(0)):
        lines[-1] += " **Others used the machine meanwhile (load below): wall times, and what follows from them, are not to be relied on.**"
    if missing:
        lines[-1] += f" Not measured: {', '.join(missing)}."
    lines += ["", f"**{sum(bar['met'] for bar in bars)} of {len(bars)} bars are met.**", "", "| asked | measured | |", "|---|---|---|"]
    lines += [f"| {bar['asked']} | {bar['measured']} | {'met' if bar['met'] else '**missed**'} |" for bar in bars]
    for part in parts:
        lines += ["", part["text"]] if part["text"] else []
    shown = [(name, done[name]) for name in PARTS if name in done]
    rows = [(name, part["began"], f"{part['took']:.0f}", part["before"], part["after"]) for name, part in shown]
    lines += ["", "Load (of 1, 5 and 15 minutes) before and after each part, the script's own work included:", ""]
    lines.append(table(["part", "began (UTC)", "took s", "before", "after"], rows))
    return "\n".join(lines) + "\n"


def arguments():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--rows", type=int, default=10_000_000)
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--rows-held", help="what 1,000 rows come onto; --rows must be among them (held.py says why 933,333)")
    a.add_argument("--appends", type=int, default=9, help="runs of 1,000 rows onto each of --rows-held")
    a.add_argument("--far", action="store_true", help="hold ten times --rows, too, instead of only extrapolating: half an hour and 20 GB more")
    a.add_argument("--only", help=f"parts, with commas between: {','.join(PARTS)}")
    a.add_argument("--resume", action="store_true", help="keep the parts that this binary did before, with the same rows and rounds")
    a.add_argument("--write", action="store_true", help="write the tables into docs/performance.md")
    a.add_argument("--work", type=Path, default=HERE / ".work")
    a.add_argument("--binary", type=Path, default=Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target")) / "release/pipeline")
    a = a.parse_args()
    a.only = a.only.split(",") if a.only else list(PARTS)
    default = [10_000, 133_333, 933_333, a.rows, a.rows * 3] if a.rows > 5_000_000 else [10_000, a.rows // 10, a.rows, a.rows * 3]
    a.rows_held = [int(rows) for rows in a.rows_held.split(",")] if a.rows_held else default
    if unknown := [name for name in a.only if name not in PARTS]:
        sys.exit(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if a.rows not in a.rows_held[1:]:
        sys.exit("--rows-held needs --rows, and a smaller one before it")
    if not a.binary.exists():
        sys.exit(f"there is no {a.binary}: `cargo build --release`, or --binary")
    return a


def main():
    session = Session(arguments())
    args = session.args
    session.work.mkdir(parents=True, exist_ok=True)
    kept = session.work / "results.json"
    digest, about = machine(session)
    same = [digest, args.rows, args.rounds]
    before = json.loads(kept.read_text()) if args.resume and kept.exists() else None
    done = before["done"] if before and before["same"] == same else {}
    for name in PARTS:
        if name not in args.only:
            continue
        session.say(name)
        began, at, load_before = time.monotonic(), time.strftime("%Y-%m-%d %H:%M", time.gmtime()), load()
        bars, text = PARTS[name](session)
        done[name] = {"bars": bars, "text": text, "began": at, "took": time.monotonic() - began, "before": load_before, "after": load()}
        kept.write_text(json.dumps({"same": same, "done": done}))
    written = block(session, about, done)
    print(written)
    if args.write:
        head, _, rest = DOCUMENT.read_text().partition(BEGIN)
        _, _, tail = rest.partition(END)
        if not tail:
            sys.exit(f"{DOCUMENT} has no {BEGIN} ... {END}")
        DOCUMENT.write_text(f"{head}{BEGIN}\n{written}{END}{tail}")


if __name__ == "__main__":
    main()
