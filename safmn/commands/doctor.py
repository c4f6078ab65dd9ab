"""`safmn doctor`: one page about this machine, and what to do about what is wrong."""

import argparse
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from safmn.commands import output

if TYPE_CHECKING:
    from safmn.device.doctor import Finding
    from safmn.study import Study

HELP = """One page about this machine: Python, packages, torch and its CUDA against the driver, GPUs (memory, MIG,
other programs), leases and who holds them, disk, SLURM, and whether torch can really compute on each device. With a
study also its images, room, memory of a training step and time of all runs. Each line is ok, a warning or an error,
with what to do."""

EXAMPLES = """examples:
  safmn doctor                                                 # the machine; 10 s
  safmn doctor --study config/t291.yaml --data-root DATA       # and a study on it; a step is timed for a second
  safmn doctor --json

Exit status: 0 without errors (warnings are none), 1 with errors. A device that other jobs hold is not timed."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--study", metavar="FILE", help="a study (YAML) whose needs are compared with this machine")
    parser.add_argument("--data-root", metavar="DIR", help="instead of the study's data.root")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="where the step is timed (default: cuda if there is)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> int:
    """Examine and print; return 1 if there is an error."""
    from safmn.device import doctor
    from safmn.study import Study

    study = Study.load(args.study, data_root=args.data_root) if args.study else None
    findings = doctor.machine(study.results if study else Path("results"))
    if study is not None:
        findings += _of_study(study, args.device, any(each.level == "error" for each in findings))
    counts = {level: sum(each.level == level for each in findings) for level in ("ok", "warning", "error")}
    if args.json:
        output.print_json({"findings": [each.record() for each in findings], "counts": counts})
    else:
        for each in findings:
            _print(each)
        print(", ".join(f"{count} {level}" for level, count in counts.items()))
    return int(counts["error"] > 0)


def _of_study(study: "Study", device: str | None, is_broken: bool) -> "list[Finding]":
    from safmn.device import lease
    from safmn.device.description import present
    from safmn.device.doctor import Finding
    from safmn.errors import UserError
    from safmn.planning import readiness

    findings = [*readiness.data(study), readiness.room(study)]
    try:
        with lease.hold(timeout=0) if device != "cpu" else lease.share("cpu") as leased:
            lease.require_usable(leased)
            findings += readiness.step(study, present(device))
    except UserError as error:
        is_known = is_broken or "came free" in str(error)
        findings.append(Finding("step time", "warning" if is_known else "error", f"not measured: {error}"))
    return findings


def _print(finding: "Finding") -> None:
    head = f"{finding.level:8} {finding.part:21} "
    print(textwrap.fill(finding.says, 120, initial_indent=head, subsequent_indent=" " * len(head)))
    if finding.todo:
        print(textwrap.fill(finding.todo, 120, initial_indent=" " * 30 + "→ ", subsequent_indent=" " * 32))
