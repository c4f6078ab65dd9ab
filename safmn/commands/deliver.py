"""How a command that measures hands over its record: to a file, as JSON, or printed for people."""

import argparse
import json
from collections.abc import Callable
from typing import Any

from safmn import files


def deliver(args: argparse.Namespace, record: dict[str, Any], show: Callable[[dict[str, Any]], None]) -> None:
    """Writes the record to `args.out` if given; prints it as JSON with `args.json`, else by `show`."""
    if args.out:
        files.write_json(args.out, record)
    if args.json:
        print(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        show(record)


def place(provenance: dict[str, Any]) -> str:
    """The device that a record was made on, in words."""
    return provenance.get("gpu") or f"CPU ({provenance['cpu']}, {provenance['threads']} threads)"
