"""Makes of the measurements of `limits growth` the Markdown tables and the charts of scripts/growth.

    growth.py FOLDER MACHINE       FOLDER has growth.csv; the tables go to standard output, and charts go
                                   there, if there is matplotlib
"""

import pathlib
import sys

from charts import FLOOR, OTHERS, OURS, drawing, logarithmic, read, save, significant, size, table

# What grows: its name in the measurements, the title of its chart, its axis, and what the cost is of.
SERIES = [
    ("connections", "Connections", "connections, at the same total rate", "operation"),
    ("tags", "Tags", "tags, of which each operation takes any", "operation"),
    ("subscribers", "Subscribers of one tag", "subscribers", "delivered update"),
    ("devices", "Polled devices", "devices, each polled once a second", "poll"),
    ("shards", "Shards", "shards, 1,000 connections", "operation"),
]
# Their memory was measured without that of a fresh server.
EACH = ("connections", "tags")
PIPELINED = "tags-pipelined"
# What fewer take is a matter of pages and chance.
MANY = 1_000


def main(folder, machine):
    folder = pathlib.Path(folder)
    curves = {}
    for row in read(folder / "growth.csv"):
        curves.setdefault((row["series"], row["server"]), []).append(row)
    for series, title, _, unit in SERIES:
        if (series, "lumina") in curves:
            print_table(curves, series, title, unit)
    print(f"Medians; {machine}.")
    if pyplot := drawing():
        draw_charts(pyplot, curves, folder, machine)


def draw_charts(pyplot, curves, folder, machine):
    panels = [(f"growth-{series}", lambda axis, row=(series, *rest): cost(axis, curves, *row))
              for series, *rest in SERIES if (series, "lumina") in curves]
    panels.append(("growth-memory", lambda axis: memory(axis, curves)))
    for name, draw in panels:
        figure, axis = pyplot.subplots(figsize=(5, 3.4))
        draw(axis)
        save(figure, folder / f"{name}.svg")
    figure, axes = pyplot.subplots(2, 3, figsize=(12, 6.6))
    for axis, (_, draw) in zip(axes.flat, panels):
        draw(axis)
    for axis in list(axes.flat)[len(panels):]:
        axis.set_axis_off()
    figure.suptitle(machine.replace("`", ""), x=0.01, ha="left", fontsize=9, color=OTHERS)
    save(figure, folder / "growth.svg")


def print_table(curves, series, title, unit):
    ours, bare = curves[series, "lumina"], curves[series, "bare"]
    pipelined = curves.get((PIPELINED, "lumina"), []) if series == "tags" else []
    has_memory, has_opening = ours[0]["bytes"] != "", ours[0]["open_ns"] != ""
    head = [title.lower(), f"CPU µs per {unit} (quartiles)", "bare echo", "ratio"]
    if pipelined:
        head += ["16 pipelined", "bare echo", "ratio"]
    if has_memory:
        head += ["user-space memory"]
    if has_memory and series in EACH:
        head += ["each"]
    if has_opening:
        head += ["kernel, both ends, each", "CPU µs to open", "bare echo"]
    rows = []
    for index, (one, other) in enumerate(zip(ours, bare)):
        spread = "–".join(microseconds(one[edge]) for edge in ("cpu_low", "cpu_high"))
        row = [f"{one['x']:,.0f}", f"{microseconds(one['cpu_ns'])} ({spread})", *against(one, other)]
        if pipelined:
            both = pipelined[index], curves[PIPELINED, "bare"][index]
            row += [microseconds(both[0]["cpu_ns"]), *against(*both)]
        if has_memory:
            row += [size(one["bytes"])]
        if has_memory and series in EACH:
            row += [size(one["bytes"] / one["x"]) if one["x"] >= MANY else "–"]
        if has_opening:
            kernel = size(one["kernel_bytes"] / one["x"]) if one["x"] >= MANY else "–"
            row += [kernel, microseconds(one["open_ns"]), microseconds(other["open_ns"])]
        rows.append(row)
    print(table(head, rows), end="\n\n")


def against(one, other):
    # The median of ratios, where both took turns; else the ratio of the medians.
    ratio = one["ratio"] or one["cpu_ns"] / other["cpu_ns"]
    return [microseconds(other["cpu_ns"]), f"{ratio:.2f} ×"]


def microseconds(nanoseconds):
    return significant(nanoseconds / 1_000, 3)


def cost(axis, curves, series, title, label, unit):
    """CPU time over what grows, Lumina's and the bare echo's."""
    lines = [("lumina", series, OURS, "Lumina"), ("bare", series, FLOOR, "bare echo")]
    if series == "tags":
        lines += [("lumina", PIPELINED, OURS, "16 pipelined"), ("bare", PIPELINED, FLOOR, "")]
    ends, top = [], 0
    for server, name, color, text in lines:
        rows = curves[name, server]
        xs = [row["x"] for row in rows]
        values, low, high = ([row[key] / 1_000 for row in rows] for key in ("cpu_ns", "cpu_low", "cpu_high"))
        axis.plot(xs, values, "o-", color=color, markersize=4, linewidth=1.6)
        axis.fill_between(xs, low, high, color=color, alpha=0.15, linewidth=0)
        top = max(top, *high)
        ends.append((values[-1], color, f"{text} {significant(values[-1])}".strip()))
    axis.set_ylim(0, top * 1.08)
    places(axis, xs)
    name_ends(axis, xs[-1], ends, top)
    axis.set_title(title)
    axis.set_xlabel(label)
    axis.set_ylabel(f"CPU µs per {unit}")


def places(axis, xs):
    """The places that were measured, on a logarithmic axis with room for names at the right."""
    axis.set_xscale("log")
    decades = max(xs) / min(xs)
    axis.set_xlim(min(xs) / decades ** 0.06, max(xs) * decades ** 0.45)
    if len(xs) <= 2:
        axis.set_xticks(xs)
    logarithmic_ticks(axis, xs)


def logarithmic_ticks(axis, xs):
    def short(value):
        for unit, of_one in (("M", 1e6), ("k", 1e3)):
            if value >= of_one:
                return f"{value / of_one:g}{unit}"
        return f"{value:g}"

    logarithmic(axis.xaxis, short)
    # Points that lie too close share one mark.
    shown = []
    for x in xs:
        if not shown or x / shown[-1] > (max(xs) / min(xs)) ** 0.1:
            shown.append(x)
    axis.set_xticks(shown)


def name_ends(axis, x, ends, top):
    """Each line's name at its end; those that lie too close are moved apart."""
    least = 0.075 * top
    below = None
    for value, color, text in sorted(ends):
        place = value if below is None else max(value, below + least)
        below = place
        axis.annotate(text, (x, place), (7, 0), textcoords="offset points", va="center",
                      color=OTHERS if color == FLOOR else color)


def memory(axis, curves):
    """What one of each takes, the more there are."""
    kinds = [
        ("tags", "bytes", OURS, "^", "tag, name included"),
        ("connections", "bytes", OURS, "o", "connection"),
        ("connections", "kernel_bytes", FLOOR, "o", "its two sockets, in the kernel"),
    ]
    all_x = set()
    for series, key, color, mark, text in kinds:
        rows = [row for row in curves.get((series, "lumina"), []) if row["x"] >= MANY and row[key]]
        if not rows:
            continue
        xs, each = [row["x"] for row in rows], [row[key] / row["x"] for row in rows]
        all_x.update(xs)
        axis.plot(xs, each, mark + "-", color=color, markersize=4, linewidth=1.6)
        above = key == "kernel_bytes" or series == "connections"
        axis.annotate(f"{text}: {size(each[-1])}", (xs[0], max(each) if above else min(each)),
                      (0, 9 if above else -9), textcoords="offset points", va="center",
                      color=OTHERS if color == FLOOR else color)
    axis.set_yscale("log", base=2)
    places(axis, sorted(all_x))
    axis.set_ylim(64, 16 << 10)
    logarithmic(axis.yaxis, size)
    axis.set_title("Memory of each")
    axis.set_xlabel("connections, tags")
    axis.set_ylabel("bytes of one")


if __name__ == "__main__":
    main(*sys.argv[1:])
