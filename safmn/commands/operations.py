"""`safmn operations`: Table 5."""

import argparse
from typing import Any

from safmn.commands.deliver import deliver, place

HELP = """Time of LayerNorm, channel splitting, adaptive max pooling, nearest interpolation, element-wise product and
addition inside SAFMN (Table 5), by torch.profiler and named ranges in the network. Holds the device alone. Without CUDA
the times are of the CPU, and say so."""

EXAMPLES = """examples:
  safmn operations                                        # 50 images of 320x180 at x4, as Table 5
  safmn operations --form fused                           # LayerNorm by torch's kernel instead of step by step
  safmn operations --images 5 --json --out results/mini/cost/operations.json

Units: ms over all images (as the paper prints), ms an image, and share of the whole pass. A profiler slows a network
down: these times compare operations with each other; for the time of a network see `safmn runtime`."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("--network", default="safmn", metavar="NAME", help="safmn (default) or one of its variants")
    parser.add_argument("--scale", type=int, default=4, help="enlargement (default 4)")
    parser.add_argument("--images", type=int, default=50, help="images profiled (default 50)")
    parser.add_argument("--height", type=int, default=180, help="LR pixels (default 180)")
    parser.add_argument("--width", type=int, default=320, help="LR pixels (default 320)")
    parser.add_argument(
        "--form",
        choices=("reference", "fused"),
        default="reference",
        help="LayerNorm step by step as the authors run it (default), or by torch's kernel",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if there is one")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--out", metavar="FILE.json", help="write the JSON here")


def run(args: argparse.Namespace) -> None:
    """Profiles and prints."""
    from safmn import provenance
    from safmn.cost import operations
    from safmn.device import lease

    begun = provenance.begin()
    with lease.alone(args.device):
        record = operations.measure(
            args.images, args.scale, args.height, args.width, args.network, args.form, args.device
        )
    deliver(args, begun, record, _print)


def _print(record: dict[str, Any]) -> None:
    from tabulate import tabulate

    provenance, settings = record["provenance"], record["settings"]
    where = place(provenance)
    print(
        f"{settings['network']} x{settings['scale']}, {settings['images']} LR images of {settings['width']}x"
        f"{settings['height']}, LayerNorm {settings['form']}, on {where}, torch {provenance['torch']}"
    )
    rows = [
        [part["title"], part["calls"], part["total_ms"], part["per_image_ms"], 100 * part["share"]]
        + ([part["kernel_ms"]] if "kernel_ms" in part else [])
        for part in [*record["operations"].values(), {"title": "whole pass", **record["forward"]}]
    ]
    headers = ["operation", "calls", "ms, all images", "ms an image", "% of pass", "ms in kernels"]
    print(tabulate(rows, headers=headers[: len(rows[0])], floatfmt=".2f"))
    if "kernels" in settings:
        print(f"Kernels: {settings['kernels']}")
