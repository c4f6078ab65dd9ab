"""Write or print the record of a command that measures."""

import argparse
import json
from collections.abc import Callable
from typing import Any

from safmn import files
from safmn.provenance import Begun


def deliver(
    args: argparse.Namespace, begun: Begun, record: dict[str, Any], show: Callable[[dict[str, Any]], None]
) -> None:
    """Write the record to `args.out` if given; print it as JSON with `args.json`, else by `show`.

    Args:
        args: The command's arguments.
        begun: The measurement; it adds to the record's `provenance`, which describes the device.
        record: `provenance`, `settings`, and `networks` where the settings do not name what was measured.
        show: Prints the record for people.
    """
    asked = {"command": args.command, "networks": sorted(record.get("networks", ())), "settings": record["settings"]}
    record = record | {"provenance": begun.result(record["provenance"], specification=asked)}
    if args.out:
        files.write_json(args.out, record)
    if args.json:
        print(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        show(record)


def place(provenance: dict[str, Any]) -> str:
    """Describe the device that a record was made on."""
    return provenance.get("gpu") or f"CPU ({provenance['cpu']}, {provenance['threads']} threads)"
