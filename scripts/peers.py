"""Makes of the measurements of `limits peers` the Markdown table and the charts of scripts/peers.

    peers.py FOLDER MACHINE        FOLDER has peers.csv and versions; the table goes to standard output, and
                                   charts go there, if there is matplotlib
"""

import math
import pathlib
import sys

from charts import FLOOR, OTHERS, OURS, drawing, duration, logarithmic, read, save, significant, size, table

# In the order of table and charts: what it is called with its version, and what an operation is. A group is
# of the same protocol, or at least does the same work.
GROUPS = [
    [("bare-echo", "bare mio echo", "the same bytes back"),
     ("lumina-echo", "Lumina echo", "the same bytes back"),
     ("thread-echo", "Python {python}, threads", "the same bytes back")],
    [("lumina-line", "Lumina line", "`SET` or `GET`"),
     ("redis", "Redis {redis}", "`SET` or `GET`"),
     ("mosquitto", "Mosquitto {mosquitto}", "publish and delivery")],
    [("lumina-modbus", "Lumina Modbus", "10 registers written or read"),
     ("libmodbus", "libmodbus {libmodbus}, epoll", "10 registers written or read"),
     ("pymodbus", "pymodbus {pymodbus}", "10 registers written or read")],
]
LOADS = [((50, 1), "50 connections"), ((50, 16), "50, 16 pipelined"), ((1000, 1), "1,000 connections")]
GAP = 0.5


def main(folder, machine):
    folder = pathlib.Path(folder)
    versions = dict(line.split("=", 1) for line in (folder / "versions").read_text().split())
    found = {}
    for row in read(folder / "peers.csv"):
        found.setdefault(row["peer"], {})[int(row["connections"]), int(row["pipelined"])] = row
    groups = [[(name.format_map(versions), what, found[key]) for key, name, what in group if key in found]
              for group in GROUPS]
    print_table(groups, machine)
    if pyplot := drawing():
        save(processor(pyplot, groups, machine), folder / "peers.svg")
        save(memory(pyplot, groups, machine), folder / "memory.svg")


def print_table(groups, machine):
    def cost(loads, load):
        if load not in loads:
            return ["–", "–"]
        row = loads[load]
        ratio = f"{row['ratio']:.2f} ({row['ratio_low']:.2f}–{row['ratio_high']:.2f})"
        return [significant(row["cpu_ns"] / 1_000, 3), ratio]

    rows = []
    for name, what, loads in (peer for group in groups for peer in group):
        any_load = next(iter(loads.values()))
        rows.append([
            name, what,
            *(cell for load, _ in LOADS for cell in cost(loads, load)),
            duration(any_load["p99_us"]), size(any_load["idle_bytes"]), size(any_load["fresh_bytes"]),
        ])
    head = ["server", "an operation is"]
    for _, title in LOADS:
        head += [f"CPU µs, {title}", "× bare echo"]
    print(table([*head, "p99 at 5,000/s", "memory per idle connection", "memory fresh"], rows))
    floors = ", ".join(significant(floor_of(groups, load) / 1_000, 3) for load, _ in LOADS)
    print(f"\nMedians, and the quartiles of the rounds in brackets; µs are the bare echo's median ({floors}) "
          f"times the ratio. {machine}.")


def floor_of(groups, load):
    """CPU time of the bare echo that ratios are of: the median of all its windows, whatever it was beside."""
    return next(loads[load]["floor_ns"] for group in groups for _, _, loads in group if load in loads)


def rows_of(groups, axes):
    """The place of each peer on the vertical axis, groups apart, and the names there."""
    places, labels, place = [], [], 0
    for group in groups:
        for name, _, loads in group:
            places.append((place, name.startswith("Lumina"), loads))
            labels.append(name)
            place += 1
        place += GAP
    axes[0].set_yticks([place for place, _, _ in places], labels)
    axes[0].invert_yaxis()
    for label, (_, ours, _) in zip(axes[0].get_yticklabels(), places):
        label.set_color(OURS if ours else OTHERS)
    for axis in axes:
        axis.grid(axis="y", visible=False)
    return places


def dots(axis, points, label_of):
    """Points on a logarithmic axis, each with its label; `points` are place, ours, value, lowest, highest."""
    if any(value == 0 for _, _, value, _, _ in points):
        # It has no place on such an axis: left of all others.
        least = min(point[2] for point in points if point[2] > 0) / 2
        points = [(place, ours, value or least, low or least, high or least, label_of(value))
                  for place, ours, value, low, high in points]
    else:
        points = [(*point, label_of(point[2])) for point in points]
    for place, ours, value, low, high, label in points:
        color = OURS if ours else OTHERS
        axis.plot([low, high], [place, place], color=color, linewidth=3, alpha=0.3, solid_capstyle="butt")
        axis.plot([value], [place], "o", color=color, markersize=6)
        axis.annotate(label, (max(value, high), place), (7, 0), textcoords="offset points",
                      va="center", color=color)
    values = [point[2] for point in points]
    # Room for the labels at the right.
    decades = math.log10(max(values) / min(values))
    axis.set_xscale("log")
    axis.set_xlim(min(values) / 1.7, max(values) * 10 ** (0.45 * max(decades, 1)))


def processor(pyplot, groups, machine):
    """CPU time of an operation, a panel for each load."""
    figure, axes = pyplot.subplots(1, len(LOADS), sharey=True, figsize=(10.5, 3.9))
    places = rows_of(groups, axes)
    for axis, (load, title) in zip(axes, LOADS):
        points = []
        for place, ours, loads in places:
            if load in loads:
                row = loads[load]
                value = row["cpu_ns"] / 1_000
                low, high = (value * row[edge] / row["ratio"] for edge in ("ratio_low", "ratio_high"))
                points.append((place, ours, value, low, high))
        dots(axis, points, lambda value: significant(value, 2))
        floor = floor_of(groups, load) / 1_000
        axis.axvline(floor, color=FLOOR, linewidth=1, linestyle=(0, (3, 3)), zorder=0)
        if len(points) < len(places):
            without = [place for place, _, loads in places if load not in loads]
            middle = sum(without) / len(without)
            axis.annotate("a master waits for its reply", (0.5, middle), xycoords=("axes fraction", "data"),
                          ha="center", va="center", color=FLOOR)
        axis.set_title(title)
        axis.set_xlabel("CPU µs per operation")
        logarithmic(axis.xaxis, lambda value: f"{value:g}")
    figure.suptitle(f"What an operation costs the server. Dashed: the bare echo. {machine}".replace("`", ""),
                    x=0.01, ha="left", fontsize=9, color=OTHERS)
    return figure


def memory(pyplot, groups, machine):
    """How long replies take under an even load, and memory."""
    panels = [
        ("reply, 99th percentile", "5,000 operations a second, 1,000 connections", "p99_us", duration),
        ("memory of an idle connection", "user space", "idle_bytes", size),
        ("memory of a fresh server", "resident", "fresh_bytes", size),
    ]
    figure, axes = pyplot.subplots(1, len(panels), sharey=True, figsize=(10.5, 3.9))
    places = rows_of(groups, axes)
    for axis, (title, detail, key, label_of) in zip(axes, panels):
        points = []
        for place, ours, loads in places:
            row = next(iter(loads.values()))
            value = row[key]
            low, high = (row["p99_low"], row["p99_high"]) if key == "p99_us" else (value, value)
            points.append((place, ours, value, low, high))
        dots(axis, points, label_of)
        axis.set_title(title)
        axis.set_xlabel(detail)
        logarithmic(axis.xaxis, label_of)
    figure.suptitle(machine.replace("`", ""), x=0.01, ha="left", fontsize=9, color=OTHERS)
    return figure


if __name__ == "__main__":
    main(*sys.argv[1:])
