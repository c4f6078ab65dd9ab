"""`safmn runtime`: inference time of networks, interleaved, with the spread between runs."""

import argparse
import logging
from typing import Any

from safmn import provenance
from safmn.commands import options, output
from safmn.device import lease
from safmn.errors import UserError
from safmn.planning.wallclock import spoken

_log = logging.getLogger(__name__)

HELP = """Inference time an image (Table 2): warm-up until stable, networks taking turns, device synchronised, median,
spread over several processes, and the ratio to SAFMN in the same process. Beside it the field's habit: one pass, no
warm-up, the mean. Holds the device alone. Without CUDA the times are of the CPU, and say so."""

EXAMPLES = """examples:
  safmn runtime imdn carn edsr_baseline --scale 4              # 50 images of 320x180, 3 processes
  safmn runtime imdn --scale 4 --modes all --json --out results/gpu/cost/runtime.json
  safmn runtime fsrcnn --scale 4 --quick --height 48 --width 64   # a quick look on a CPU

Units: ms an image, batch 1; sizes in LR pixels. SAFMN is always timed, too: it is the reference of the ratio. Mode
`eager` is the authors' code; fused (LayerNorm by torch's kernel), channels_last, half, compiled and cuda_graph are
timed only if their output equals eager's to a stated tolerance."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    options.add_names(parser)
    parser.add_argument("--images", type=int, default=50, help="images timed in each process (default 50)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which the networks take turns (default 5)")
    parser.add_argument("--processes", type=int, default=3, help="repetitions in fresh processes (default 3)")
    parser.add_argument(
        "--modes", default="eager", metavar="MODE,...", help="eager (default), fused, channels_last, ..., or all"
    )
    parser.add_argument("--quick", action="store_true", help="5 images, 1 round, 1 process, no habit: a first look")
    parser.add_argument("--no-habit", action="store_true", help="leave out the pass without warm-up")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    options.add_measurement(parser)


def run(args: argparse.Namespace) -> None:
    """Time and print."""
    args.names = options.names_of(args)
    import torch

    from safmn.cost import runtime, timing

    if args.threads is not None:
        if args.threads < 1:
            raise UserError(f"--threads {args.threads}: give at least 1")
        torch.set_num_threads(args.threads)
    modes = list(timing.MODES) if args.modes == "all" else [mode.strip() for mode in args.modes.split(",")]
    if args.quick:
        args.images, args.rounds, args.processes, args.no_habit = 5, 1, 1, True
    begun = provenance.begin()
    settings = {
        "images": args.images,
        "rounds": args.rounds,
        "processes": args.processes,
        "modes": modes,
        "height": args.height,
        "width": args.width,
        "habit": not args.no_habit,
        "device": args.device,
    }
    with lease.alone(args.device):
        if _log.isEnabledFor(logging.INFO):
            seconds = runtime.forecast(args.names, args.scale, **settings)
            _log.info("this will take about %s", spoken(seconds))
        record = runtime.measure(args.names, args.scale, **settings)
    output.deliver(args, begun, record, _print)


def _print(record: dict[str, Any]) -> None:
    provenance, settings = record["provenance"], record["settings"]
    print(
        f"x{settings['scale']}, {settings['images']} LR images of {settings['width']}x{settings['height']}, ms an "
        f"image, processes: {settings['processes']}, on {output.device_name(provenance)}, torch {provenance['torch']}"
    )
    headers = ["network", "mode", "ratio to SAFMN", "median", "mean", "IQR", "spread %", "habit: mean"]
    rows = [[name, mode, *_cells(part)] for name, modes in record["networks"].items() for mode, part in modes.items()]
    output.print_table(headers, rows)


def _cells(part: dict[str, Any]) -> list[str]:
    if part["status"] != "timed":
        return [part["status"], part.get("reason") or part["message"], "", "", "", ""]
    habit = part.get("habit", {})
    return [
        f"{part['ratio_to_safmn']:.3f}" if "ratio_to_safmn" in part else "",
        *(f"{part[key]:.2f}" for key in ("median_ms", "mean_ms", "iqr_ms")),
        f"{part['spread_percent']:.1f}" if "spread_percent" in part else "",
        f"{habit['mean_ms']:.2f}" if "mean_ms" in habit else habit.get("status", ""),
    ]
