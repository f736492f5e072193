"""What every part needs: programs measured in turn, and bars judged by the medians. Seconds, and MB of 10^6 bytes."""
import os
import shutil
import statistics
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parent
Took = namedtuple("Took", "wall cpu peak")


def runs(command, times, core=None, cwd=None, env=None, stdout=os.devnull):
    """Runs a program several times; its messages are shown when it fails."""
    launch = [sys.executable, "-I", "-S", HERE / "launch.py", str(times), "-" if core is None else str(core), stdout]
    done = subprocess.run([*map(str, launch), *map(str, command)], cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    lines = [[float(word) for word in line.split()] for line in done.stdout.splitlines()]
    return [Took(wall, cpu, kib * 1024 / 1e6) for wall, cpu, kib in lines]


def run(command, **more):
    return runs(command, 1, **more)[0]


def in_turn(programs, rounds, say):
    """`{name: [Took of each round]}`; the order turns around from round to round, and what the one before wrote is on the disk by then."""
    took = {name: [] for name in programs}
    for turn in range(rounds):
        for name in list(programs)[:: -1 if turn % 2 else 1]:
            os.sync()
            took[name].append(programs[name]())
            say(f"  round {turn + 1}: {name}: {took[name][-1].wall:.3f} s, CPU {took[name][-1].cpu:.3f} s, {took[name][-1].peak:.0f} MB")
    return took


def medians(all_took):
    return Took(*(statistics.median(column) for column in zip(*all_took)))


def ratios(took, of, to, what):
    """What `of` took as a share of what `to` took, round by round."""
    return [getattr(a, what) / getattr(b, what) for a, b in zip(took[of], took[to])]


def bar(asked, values, limit, unit="", digits=2, least=False):
    """A row of the table of bars: the median of `values` against a limit that it must not pass (`least`: must reach)."""
    middle = statistics.median(values)
    met = middle >= limit if least else middle <= limit
    spread = f" ({min(values):.{digits}f} to {max(values):.{digits}f})" if len(values) > 1 else ""
    return {"asked": asked, "measured": f"{middle:.{digits}f}{unit}{spread}", "met": met}


def table(head, rows):
    """Markdown; columns of figures stand to the right."""
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join("---" if at == 0 else "---:" for at in range(len(head))) + "|"]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


class Session:
    """Where things are, and the inputs, made once."""

    def __init__(self, args):
        self.args, self.rows, self.rounds = args, args.rows, args.rounds
        self.work, self.binary = args.work.resolve(), args.binary.resolve()
        self.core = min(os.sched_getaffinity(0))

    def say(self, text):
        print(text, file=sys.stderr, flush=True)

    def made(self, name, rows, *options, jsonl=False):
        """A CSV file of the generator's (and JSON Lines beside it), and what is expected of its rows."""
        csv, expect = self.work / f"{name}.csv", self.work / f"{name}.json"
        if not all(file.exists() for file in [csv, expect, *([csv.with_suffix(".jsonl")] if jsonl else [])]):
            if rows > 1000:
                self.say(f"  makes {csv.name}")
            more = ["--jsonl", csv.with_suffix(".jsonl")] if jsonl else []
            command = [sys.executable, HERE / "generate.py", "--rows", str(rows), "--csv", csv, *more, "--expect", expect, *map(str, options)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return csv, expect

    def plain(self):
        return self.made(f"plain-{self.rows}", self.rows, jsonl=True)

    def clean(self, name="clean", jsonl=False, more="", replace=()):
        """`pipelines/clean-candles.toml`, by the absolute path of a copy; its input is `$CANDLES`."""
        text = (REPO / "pipelines/clean-candles.toml").read_text()
        if jsonl:
            text = "".join(line for line in text.splitlines(True) if not line.startswith("quoted_newlines"))
        for old, new in replace:
            assert old in text, old
            text = text.replace(old, new)
        file = self.work / f"{name}.toml"
        file.write_text(text + more)
        return file

    def ours(self, source, out, keep=False, core=None, more=""):
        """One run of `pipeline` on a file, by default into an empty folder."""
        out = out if keep else fresh(out)
        file = self.clean(jsonl=source.suffix == ".jsonl", more=more)
        return run([self.binary, "run", file, "--once", "-q"], cwd=out, core=core, env={"CANDLES": str(source)})
