"""`safmn status`: which runs of a study are done, running, interrupted, failed, stale or not started, and why."""

import argparse
from pathlib import Path
from typing import Any

from safmn.commands import output, studies

HELP = """Show how far a study is, run by run: done, collapsed (a result), running, interrupted (will resume from its
saved state), failed (with the first line of the reason), stale (specification, code or data changed, or weights are
missing; it will be trained again) or not started; iterations done, time spent and time expected. Changes nothing and
waits for no lock, so that it can be called at any time, also while Snakemake runs."""

EXAMPLES = """examples:
  safmn status --study config/mini.yaml
  safmn status --study results/t291/study.json --json          # as Snakemake ran it, --config included
  watch -n 30 safmn status --study config/paper.yaml

Units: times in s, min or h, as printed; device-hours are hours of one device. The time expected is from the
run's own rate, else from `safmn plan`, else from other runs of the same scale. JSON has seconds."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    studies.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> None:
    """Print the status of the study."""
    from safmn.progress import Progress

    study, folder = studies.opened(args)  # a mistake is told before torch is imported
    from safmn.planning import status

    with Progress(f"looking at {study.name}", "runs") as progress:
        record = status.look(study, folder, progress)
    if args.json:
        output.print_json(record)
    else:
        _print(record)


def _print(record: dict[str, Any]) -> None:
    from safmn.planning.wallclock import spoken, with_days

    if not Path(record["folder"]).is_dir():
        print(f"{record['study']}: none of its {len(record['runs'])} runs was started in {Path.cwd()}")
        return
    rows = []
    for run in record["runs"]:
        remaining = run["remaining_seconds"]
        rows.append(
            (
                run["folder"],
                run["state"],
                f"{run['iteration']:,} of {run['iterations']:,}",
                spoken(run["seconds"]) if run["seconds"] else "",
                "?" if remaining is None else spoken(remaining) if remaining else "",
                run["remaining_from"],
                "; ".join(run["remarks"]),
            )
        )
    print(f"{record['study']} in {record['folder']}")
    totals = record["totals"]
    if rows:
        headers = ("run", "state", "iterations", "spent", "expected", "from", "remarks")
        output.print_table(headers, rows, right=headers[2:5])
        counts = ", ".join(f"{count} {state}" for state, count in totals["states"].items())
        print(f"{totals['runs']} runs: {counts}; {totals['iteration']:,} of {totals['iterations']:,} iterations")
        unknown, side = totals["remaining_unknown_runs"], totals["side_by_side"]
        text = f"Device-hours of training: {totals['seconds'] / 3600:,.2f} spent"
        if totals["remaining_seconds"]:
            text += f", {totals['remaining_seconds'] / 3600:,.2f} expected, which is "
            text += with_days(totals["remaining_wall_clock_seconds"]) + f" with {side} run{'s' * (side > 1)} at a time"
        if unknown:
            text += f"; the time of {unknown} run{'s' * (unknown > 1)} is unknown: `safmn plan` predicts it"
        print(text)
    else:
        print(f"{record['study']} trains nothing")
    stages = ", ".join(f"{stage} {present} of {count}" for stage, (present, count) in record["stages"].items())
    print(f"Files of the other stages: {stages}")
    if record["plan"]:
        print(f"Expected from {record['plan']['file']}, which was measured on {record['plan']['device']}")
    for remark in record["remarks"]:
        print(f"Note: {remark}")
