"""Output that commands share: JSON, tables, warnings, and records of measurements with their provenance."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tabulate import tabulate

from safmn import files
from safmn.provenance import Begun


def print_json(value: Any) -> None:
    """Print plain data as indented JSON; NaN and infinity, which JSON does not have, are a ValueError."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(headers: Sequence[str], rows: Iterable[Sequence[Any]], right: Sequence[str] = ()) -> None:
    """Print rows below their headers, each cell as it is written; the columns named in `right` are aligned right."""
    aligned = ["right" if header in right else "left" for header in headers]
    print(tabulate(list(rows), headers, tablefmt="simple", colalign=aligned, disable_numparse=True))


def warn(command: str, text: str) -> None:
    """Print a warning of `safmn COMMAND` as one line on stderr."""
    print(f"safmn {command}: warning: {text}", file=sys.stderr)


def deliver(
    args: argparse.Namespace, begun: Begun, record: dict[str, Any], show: Callable[[dict[str, Any]], None]
) -> None:
    """Write a record to `args.out` if given, and print it: as JSON with `args.json`, else by `show`.

    Args:
        args: the command's arguments, with `command`, `out` and `json`.
        begun: the work that began before the measurement; it completes the record's `provenance`.
        record: `provenance` (the device), `settings`, and `networks` where the settings do not name what was measured.
        show: prints the record for people.
    """
    request = {"command": args.command, "networks": sorted(record.get("networks", ())), "settings": record["settings"]}
    record = record | {"provenance": begun.result(record["provenance"], specification=request)}
    if args.out:
        files.write_json(args.out, record)
    if args.json:
        print_json(record)
    else:
        show(record)


def device_name(provenance: dict[str, Any]) -> str:
    """Name the device of a record: the GPU, or the CPU with its number of threads."""
    return provenance.get("gpu") or f"CPU ({provenance['cpu']}, {provenance['threads']} threads)"
