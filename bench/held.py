"""One more run of 1,000 rows onto much that is held already, and how it grows.

What a series holds is stored in chunks of so many hours, and the newest one is written anew: how full it is counts more than all that lies before.
Sizes are told apart from that only where it is equally full: of 256 to 272 hours in 133,333, 933,333, 10, 30 and 100.13 million rows, 19 in 10,000.
"""
import json
import math
import shutil
import statistics

from measure import bar, in_turn, medians, table

MORE = 1000


def fit(points):
    """The straight line through points by least squares: slope, where it starts, and the mean distance of the points from it."""
    slope, start = statistics.linear_regression(*zip(*points))
    return slope, start, math.sqrt(statistics.mean((y - slope * x - start) ** 2 for x, y in points))


def held(session):
    sizes, outs, far = [*session.args.rows_held], {}, session.rows * 10
    if session.args.far:
        far = 100_133_333 if far == 100_000_000 else far
        sizes.append(far)
    for rows in sizes:
        source, expect = session.plain() if rows == session.rows else session.made(f"plain-{rows}", rows)
        out = session.work / f"held-{rows}"
        took = session.ours(source, out)
        session.say(f"  holds {rows:,}: {took.wall:.1f} s, {took.peak:.0f} MB")
        kept = json.loads(expect.read_text())["kept"]
        if session.rows < rows < far:  # room
            source.unlink()
            expect.unlink()
        outs[rows] = (out, kept, iter(range(1000)))

    def more(rows):
        """Half of the rows are the newest ones held, half follow on them."""
        out, kept, turns = outs[rows]
        turn = next(turns)
        source, expect = session.made(f"more-{rows}-{turn}", MORE, "--from", kept + turn * (MORE * 96 // 100 // 2))
        took = session.ours(source, out, keep=True)
        source.unlink()
        expect.unlink()
        return took

    for rows in sizes:
        more(rows)  # warm
    took = in_turn({rows: lambda rows=rows: more(rows) for rows in sizes}, session.args.appends, session.say)
    for rows, (out, kept, turns) in outs.items():
        with open(out / "data/clean/candles.csv", "rb") as file:
            lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
        want = 1 + kept + (session.args.appends + 1) * (MORE * 96 // 100 // 2)
        if lines != want:
            raise SystemExit(f"{lines} lines are stored instead of {want}, of {rows:,} rows and what came after")
        shutil.rmtree(out)
    small = sizes[0]
    fitted = [rows for rows in sizes if rows * 11 >= session.rows and rows < far]

    def beyond(rows):
        """What onto so many takes more than onto few, against the bars."""
        asked = f"{MORE:,} rows more onto {rows:,} held: within {{}} of onto {small:,}"
        pairs = [*zip(took[rows], took[small])]
        wall, peak = [(a.wall - b.wall) * 1000 for a, b in pairs], [a.peak - b.peak for a, b in pairs]
        return [bar(asked.format("30 ms"), wall, 30, " ms", 1), bar(asked.format("10 MB"), peak, 10, " MB", 1)]

    bars = [bar for rows in (session.rows, far) if rows in took for bar in beyond(rows)]
    laws = []
    figures = [("wall", "wall time", 1000, 30, "ms"), ("cpu", "CPU time", 1000, None, "ms"), ("peak", "peak memory", 1, 10, "MB")]
    for key, name, times, limit, unit in figures:
        points = [(rows, getattr(medians(took[rows]), key) * times) for rows in fitted]
        by_log, by_rows = fit([(math.log10(rows), y) for rows, y in points]), fit([(rows / 1e6, y) for rows, y in points])
        ends = [by_log[0] * math.log10(far) + by_log[1], by_rows[0] * far / 1e6 + by_rows[1]]
        logs, lines = (f"{by_log[0]:.2f} {unit}", f"{by_log[2]:.2f}", f"{ends[0]:.1f}"), (f"{by_rows[0]:.3f} {unit}", f"{by_rows[2]:.2f}", f"{ends[1]:.1f}")
        laws.append((name, *logs, *lines, f"{getattr(medians(took[far]), key) * times:.1f}" if far in took else "-"))
        if limit and far not in took:
            least = getattr(medians(took[small]), key) * times
            asked = f"the same onto {far:,} held, by extrapolation: within {limit} {unit}; the worse of two laws counts"
            measured = f"{ends[0] - least:.1f} {unit} if it grows with the logarithm of the rows, {ends[1] - least:.1f} {unit} if with the rows"
            bars.append({**bar(asked, [max(ends) - least], limit), "measured": measured})
    rows = [(f"{rows:,}", *(f"{v:.1f}" for v in (t.wall * 1000, t.cpu * 1000, t.peak))) for rows, t in ((r, medians(took[r])) for r in sizes)]
    text = f"{MORE:,} rows more, median of {session.args.appends} runs with rows of their own:\n\n"
    text += table(["rows held", "wall ms", "CPU ms", "peak MB"], rows)
    if len(fitted) > 2:
        head = ["law of growth", "for ten times the rows", "mean distance", f"{far:,}", "for a million rows more", "mean distance", f"{far:,}", "measured"]
        text += f"\n\nFitted from {', '.join(f'{rows:,}' for rows in fitted)}; the law with the smaller mean distance fits better:\n\n"
        text += table(head, laws)
    return bars, text
