"""How the charts of scripts/peers and scripts/growth look, and how measurements are read and written.

A chart is the same file, byte by byte, whenever it is drawn from the same measurements. Only charts need
matplotlib; tables are made without it.
"""

import csv
import io
import math
import re
import sys

OURS = "#c2410c"
OTHERS = "#475569"
FLOOR = "#94a3b8"
GRID = "#e2e8f0"

STYLE = {
    # Text stays text: a fraction of the size, and it can be found and read aloud.
    "svg.fonttype": "none",
    "svg.hashsalt": "lumina",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FLOOR,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": OTHERS,
    "ytick.color": OTHERS,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": "#0f172a",
    "axes.labelcolor": OTHERS,
    "figure.constrained_layout.use": True,
}


def read(path):
    """The measurements: a dictionary for each line, whose numbers are numbers."""
    def value(text):
        try:
            return float(text)
        except ValueError:
            return text

    with open(path, newline="") as file:
        return [{key: value(text) for key, text in row.items()} for row in csv.DictReader(file)]


def drawing():
    """What draws charts, in our style; None where there is no matplotlib, and a line says so."""
    try:
        import matplotlib
    except ImportError:
        print("there is no matplotlib: charts are left out", file=sys.stderr)
        return None
    matplotlib.use("svg")
    matplotlib.rcParams.update(STYLE)
    # The backend comes first.
    from matplotlib import pyplot
    return pyplot


def save(figure, path):
    """As SVG, without the date and the name of what drew it, and no finer than can be seen."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    short = re.sub(r"(\d\.\d\d)\d+", r"\1", text.getvalue())
    # Indentation and empty groups are a fifth of the file.
    short = re.sub(r"\n +", "\n", re.sub(r"\n *<g id=\"\w+\"/>", "", short))
    with open(path, "w") as file:
        file.write(short)


def logarithmic(axis, label_of):
    """Ticks for a logarithmic axis whose limits are set, labelled by `label_of`: sizes by powers of two."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    low, high = axis.get_view_interval()
    if label_of is size:
        doublings = math.log2(high / low)
        axis.set_major_locator(LogLocator(base=2 ** max(1, round(doublings / 4))))
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: label_of(value)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(NullLocator())


def significant(value, digits=2):
    """A number as short as it may be: 0.23, 4.6, 52, 1,234."""
    before_point = math.floor(math.log10(value)) + 1 if value else 1
    return f"{value:,.{max(0, digits - before_point)}f}"


def size(count):
    """Bytes, in the unit that suits."""
    for unit, bytes_of_one in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= bytes_of_one:
            number = count / bytes_of_one
            return f"{number:g} {unit}" if number.is_integer() else f"{significant(number)} {unit}"
    return f"{count:.0f} B"


def duration(microseconds):
    """In µs or ms."""
    if microseconds >= 1_000:
        return f"{significant(microseconds / 1_000)} ms"
    return f"{significant(microseconds)} µs"


def table(head, rows):
    """A Markdown table: the first column to the left, the others to the right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
