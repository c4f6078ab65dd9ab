"""`safmn compare`: two studies, or archives of them, side by side."""

import argparse
from pathlib import Path

from safmn.archive import must_exist
from safmn.commands import output

HELP = """Compare two studies: the cells that differ, by how much, and whether by more than their spread. Beside each
difference stands the first thing behind it that differs and may explain it: the specification, the data, the code, or
versions and devices, in this order. It is a hint where to look, not a proof.
Exit status: 0 no cell differs, 1 some do, 2 a mistake."""

EXAMPLES = """examples:
  safmn compare results/mini results/mine
  safmn compare results/t291 theirs.zip --json

A and B are results/<study>, the folder of an archive, or a zip file. Numbers are in the cell's unit, B minus A. Spread:
none for counts; 0.01 dB and 0.0002 for evaluations of the same weights; 3 % for memory and times on one device; for
trained networks 95 % of the differences of two means over seeds, which needs two seeds of one of the studies."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("first", type=Path, metavar="A", help="results/<study>, or an archive")
    parser.add_argument("second", type=Path, metavar="B", help="likewise")
    parser.add_argument("--json", action="store_true", help="print the differences as JSON")


def run(args: argparse.Namespace) -> int:
    """Compare and print; return 1 if a cell differs."""
    must_exist(args.first)
    must_exist(args.second)
    from safmn.archive.comparing import compare, side

    with side(args.first) as first, side(args.second) as second:
        differences, equal, whole = compare(first, second)
    if args.json:
        cells = [difference.record() for difference in differences]
        output.print_json({"equal": equal, "different": cells, "whole": whole})
        return 1 if differences else 0
    rows = [
        (d.cell, _number(d.first), _number(d.second), _number(d.apart, "+"), d.unit, d.size, d.cause or "none is known")
        for d in differences
    ]
    if rows:
        headers = ("cell", "A", "B", "B - A", "unit", "difference", "first thing that may explain it")
        output.print_table(headers, rows, right=("A", "B", "B - A"))
    print(f"{equal} cells are equal, {len(differences)} differ (A is {args.first}, B is {args.second})")
    for text in whole:
        print(text)
    return 1 if differences else 0


def _number(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.6g}"
