"""Colours, style, panels and files that all figures share.

Colours are Okabe and Ito's, which colour-blind readers can distinguish; maps are shaded by lightness, so that they can
be printed in grey. Lines and marks differ in shape, too.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safmn.files import atomic

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#000000")
PUBLISHED, MEASURED = COLOURS[0], COLOURS[1]
AUTHORS = "#555555"
OTHERS = "#B5B9BF"  # lines that are there to be compared with, not to be told apart
BOX = "#D55E00"  # the frame around a place in a picture, with a white rim
LINES = ("-", "--", ":", "-.")


@contextmanager
def style() -> Iterator[None]:
    """Set the style for the figures that are drawn inside; close them afterwards."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    settings: Any = {
        "font.size": 8,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "safmn",  # the same figure is the same file
        "svg.fonttype": "none",  # text stays text, for searching and for screen readers
        "text.parse_math": False,  # a $ in a name is a $
    }
    with plt.rc_context(settings):
        yield
    plt.close("all")


EMPTY = "without-input"  # id in the SVG of a figure that only says why there is none
WIDTH = 5.0  # inches of a diagram: as wide as a phone shows with letters that can be read


def panels(count: int, title: str, height: float = 2.9) -> tuple[Any, list[Any]]:
    """Make a figure with `count` diagrams below each other, each `height` inches high."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(count, 1, figsize=(WIDTH, height * count), layout="constrained", squeeze=False)
    figure.set_label(title)
    return figure, list(axes[:, 0])


def label_ends(ax: Any, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write the name of each line right of the diagram, moved up or down so that no two names overlap.

    Args:
        ax: The diagram, with its final limits.
        ends: (x and y of the line's end, name, colour) of each line.
    """
    ax.figure.draw_without_rendering()  # computes the layout, on which places depend
    to_axes = ax.transData + ax.transAxes.inverted()
    line = 9 / (ax.get_window_extent().height * 72 / ax.figure.dpi)  # height of a line of text, as a part of the axis
    starts = [to_axes.transform((x, y)) for x, y, _, _ in ends]
    heights = [line * (1 + name.count("\n")) for _, _, name, _ in ends]
    places = spread([float(start[1]) for start in starts], heights)
    for start, place, (_, _, name, colour) in zip(starts, places, ends, strict=True):
        ax.annotate(
            name,
            start,
            xytext=(1.03, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            fontsize=6.5,
            color=colour,
            va="center",
            # Of a line that ends early, it would cross the others.
            arrowprops=_connector(colour) if start[0] > 0.9 else None,
        )


def _connector(colour: str) -> dict[str, Any]:
    return {"arrowstyle": "-", "lw": 0.5, "color": colour, "shrinkA": 0, "shrinkB": 1, "relpos": (0, 0.5)}


def spread(wanted: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Return places near the `wanted` ones, in their order, where things of these heights do not overlap.

    They are in [0, 1] while there is room.
    """
    order = sorted(range(len(wanted)), key=lambda place: wanted[place])
    places = [0.0] * len(wanted)
    above = sum(heights)
    lowest = 0.0
    for place in order:
        above -= heights[place]
        middle = heights[place] / 2
        places[place] = max(min(wanted[place], 1 - above - middle), lowest + middle)
        lowest = places[place] + middle
    return places


def pictures(
    rows: int, columns: int, title: str, cell: tuple[float, float], below: float = 0.0
) -> tuple[Any, list[Any]]:
    """Make a figure with pictures in rows and columns; return it and its axes row by row.

    Args:
        rows: Number of rows.
        columns: Number of columns.
        title: The figure's label.
        cell: Width and height in inches of a picture with a line or two above it.
        below: Inches for what comes under all of them.
    """
    import matplotlib.pyplot as plt

    size = (columns * cell[0], rows * cell[1] + below)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    figure.set_label(title)
    for ax in axes.flat:
        ax.set_axis_off()
    return figure, list(axes.flat)


def picture(ax: Any, image: Any, **look: Any) -> Any:
    """Draw a picture, each pixel as a square, in SVG too; return what a colour bar needs."""
    ax.set_axis_off()
    return ax.imshow(image, interpolation="none", **look)


def box(ax: Any, left: float, top: float, size: float, lw: float = 1.4, rim: float = 1.4) -> None:
    """Draw a frame around pixels `left` to `left + size`; its white rim makes it visible on dark pixels, too."""
    from matplotlib.patches import Rectangle

    for colour, width in (("white", lw + rim), (BOX, lw)):
        ax.add_patch(Rectangle((left - 0.5, top - 0.5), size, size, fill=False, edgecolor=colour, lw=width))


def log_axis(axis: Any) -> None:
    """Set plain numbers at 1, 2 and 5 of each decade on a logarithmic axis."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def empty(title: str, text: str) -> Any:
    """Make a figure that says why there is none."""
    figure, (ax,) = panels(1, title, height=0.6 + 0.16 * (len(text) // 70))
    figure.set_gid(EMPTY)
    ax.set_axis_off()
    say(ax, wrapped(text, 70))
    return figure


def say(ax: Any, text: str) -> None:
    """Write a text into a panel without data."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=8)


def foot(figure: Any, text: str) -> None:
    """Write a text, if any, below everything."""
    if text:
        figure.supxlabel(wrapped(text, _letters(figure.get_figwidth())), fontsize=6.5, x=0.01, ha="left")


def foot_height(text: str, width: float) -> float:
    """Return the inches that `foot` needs in a figure of `width` inches."""
    return 0.12 * (1 + wrapped(text, _letters(width)).count("\n")) + 0.1 if text else 0.0


def _letters(width: float) -> int:
    """Return how many small letters fit in a line of `width` inches."""
    return int(width * 19)


def wrapped(text: str, width: int) -> str:
    """Break a text into lines of at most `width` letters."""
    import textwrap

    return "\n".join(textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False))


def save(figure: Any, file: Path) -> Path:
    """Write `file`, an SVG, and a PNG beside it; return the former."""
    forms: dict[str, dict[str, Any]] = {".png": {"dpi": 150}, ".svg": {"metadata": {"Date": None}}}
    for suffix, options in forms.items():
        with atomic(file.with_suffix(suffix)) as temporary:
            figure.savefig(temporary, format=suffix[1:], **options)
    return file
