"""`safmn plan`: hours, memory and disk that a study needs."""

import argparse
import textwrap
from typing import Any

from safmn.commands import output, studies

HELP = """Estimate the hours, memory and disk that a study needs, from a short calibration on this device: real
training steps, a validation and an evaluation of each network (variants that share a network share the measurement).
Absent data counts with its known size. Trains nothing; writes one file, which `safmn status` uses for its estimates."""

EXAMPLES = """examples:
  safmn plan config/mini.yaml --estimate                       # a rough answer in seconds
  safmn plan config/mini.yaml                                  # on the GPU if there is one, else on the CPU
  safmn plan config/paper.yaml --parallel 8                    # wall-clock on eight such devices
  safmn plan config/t291.yaml --data-root DATA --seconds-per-variant 10 --json

Units: times in ms, s, min or h, as printed; device-hours are hours of one device with one job on it (on a CPU, of one
job with the study's number of threads); memory in MiB (2^20 bytes), disk in GB (10^9 bytes). JSON has seconds and
bytes. On a busy CPU OMP_WAIT_POLICY=passive scatters less."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    studies.add_study(parser)
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="the device to calibrate on (default: cuda if there is one)"
    )
    parser.add_argument(
        "--seconds-per-variant",
        type=float,
        default=4.0,
        metavar="S",
        help="seconds for each network (default 4), half of them for training steps; on a CPU a batch that takes "
        "longer is measured in part",
    )
    parser.add_argument("--parallel", type=int, default=1, metavar="N", help="devices that work at once (default 1)")
    parser.add_argument("--data-root", metavar="DIR", help="instead of the study's data.root")
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="in seconds, one line: a step of one network is timed, the others follow from their FLOPs; writes nothing",
    )
    parser.add_argument("--cores", type=int, metavar="N", help="with --estimate: CPU cores (default: all)")
    parser.add_argument("--runs", nargs="+", metavar="RUN", help="with --estimate: only these, e.g. no_fm/x4_seed0")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--out", metavar="FILE", help="where to write the JSON (default results/<study>/plan.json)")


def run(args: argparse.Namespace) -> None:
    """Calibrate, write and print the plan."""
    import math
    from pathlib import Path

    from safmn import layout
    from safmn.device import host, lease
    from safmn.errors import UserError
    from safmn.files import write_json
    from safmn.progress import Progress
    from safmn.study import Study

    if not 0 < args.seconds_per_variant < math.inf:
        raise UserError(f"--seconds-per-variant {args.seconds_per_variant:g}: give more than 0")
    if not 1 <= args.parallel <= 1_000_000:
        raise UserError(f"--parallel {args.parallel}: give the number of devices, at least 1")
    study = Study.load(studies.file_of(args), data_root=args.data_root)  # a mistake is told before torch is imported
    from safmn.device.description import Cpu, Cuda, present
    from safmn.planning import estimate, plan, readiness

    # Nothing else may run on the device. The lease comes before anything that initialises CUDA.
    with lease.alone(args.device):
        device = Cpu() if args.device == "cpu" else Cuda() if args.device else present()
        if args.estimate:
            runs = [run for run in study.runs() if args.runs is None or run.folder in args.runs]
            room = readiness.room(study, runs)
            full = f"; NOT ENOUGH ROOM: {room.says}: {room.todo}" if room.level == "error" else ""
            print(estimate.sentence(study, runs, device, args.cores or host.cores()) + full)
            return
        with Progress(f"calibrating {study.name}") as progress:
            record = plan.make(study, device, args.seconds_per_variant, args.parallel, progress)
    out = Path(args.out) if args.out else study.results / layout.PLAN
    write_json(out, record)
    if args.json:
        output.print_json(record)
    else:
        _print(record)
        print(f"written: {out}")


def _print(record: dict[str, Any]) -> None:
    from safmn.planning.wallclock import spoken, with_days

    totals = record["totals"]
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for run in record["runs"]:
        runs.setdefault((run["variant"], run["scale"]), []).append(run)
    rows = []
    for network in record["networks"]:
        step = network["step"]
        members = [run for name in network["variants"] for run in runs[name, network["scale"]]]
        fits = "  TOO LARGE" if network["fits_memory"] is False else ""
        rows.append(
            (
                textwrap.fill(", ".join(network["variants"]), 40),
                f"x{network['scale']}",
                str(network["runs"]),
                spoken(step["seconds"]),
                f"{100 * step['timing']['spread']:.0f} %",
                f"{step['measured_batch']} of {step['batch']}",
                *(spoken(members[0][f"{part}_seconds"]) for part in ("training", "validation", "evaluation")),
                spoken(sum(run["seconds"] for run in members)),
                f"{network['memory']['peak'] / 2**20:,.0f}{fits}",
            )
        )
    print(f"{record['study']} on {output.device_name(record['provenance'])}")
    if rows:
        times = ("training", "validation", "evaluation", "in all")
        right = ("scale", "runs", "a step", "IQR", "patches timed", *times, "memory MiB")
        output.print_table(("network", *right), rows, right=right)
        parts = {"training": "training", "validation": "validation", "evaluation": "evaluation", "start": "starting"}
        hours = ", ".join(f"{word} {totals[f'{part}_seconds'] / 3600:,.2f}" for part, word in parts.items())
        print(
            f"In all: {totals['runs']} runs, {totals['iterations']:,} iterations, "
            f"{totals['seconds'] / 3600:,.2f} device-hours ({hours}); the longest run "
            f"{with_days(totals['longest_run_seconds'])}"
        )
        count = totals["wall_clock_devices"]
        print(
            f"Wall-clock on {count} such device{'s' * (count > 1)} with one job each: "
            f"{with_days(totals['wall_clock_seconds'])}"
        )
    else:
        print(f"{record['study']} trains nothing")
    print(f"Disk: {_disk(record['disk'])}")
    for title in ("measured", "assumed"):
        if record[title]:
            print(f"{title.capitalize()}: {'; '.join(record[title])}.")


def _disk(disk: dict[str, Any]) -> str:
    def gb(size: int, digits: int = 2) -> str:
        return f"{size / 1e9:,.{digits}f}"

    packed: dict[int, int] = {}
    for each in disk["datasets"]:
        packed[each["scale"]] = packed.get(each["scale"], 0) + (each["bytes"] or 0)
    scales = ", ".join(f"x{scale} {gb(size)}" for scale, size in sorted(packed.items()))
    text = (
        f"{gb(disk['total'])} GB: packed images {gb(disk['packed'])} ({scales}), states {gb(disk['states'])}, weights "
        f"{gb(disk['weights'], 3)}, histories and scalars {gb(disk['history'] + disk['scalars'], 3)}; "
        f"{gb(disk['present'])} GB of it are present"
    )
    if disk["downloads"]:
        names = ", ".join(disk["downloads"])
        text += f"; besides, about {gb(disk['download_bytes'], 1)} GB to download ({names}), and as much unpacked"
    verdict = "which is enough for the study" if disk["fits"] else "NOT ENOUGH"
    return f"{text}; free: {gb(disk['free'], 1)} GB, {verdict}"
