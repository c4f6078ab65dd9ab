"""`safmn operations`: Table 5."""

import argparse
from typing import Any

from safmn import networks, provenance
from safmn.commands import options, output
from safmn.device import lease

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
    """Add the arguments."""
    parser.add_argument("--network", default="safmn", metavar="NAME", help="safmn (default) or one of its variants")
    parser.add_argument("--images", type=int, default=50, help="images profiled (default 50)")
    parser.add_argument(
        "--form",
        choices=("reference", "fused"),
        default="reference",
        help="LayerNorm step by step as the authors run it (default), or by torch's kernel",
    )
    options.add_measurement(parser)


def run(args: argparse.Namespace) -> None:
    """Profile and print."""
    networks.at_scale(args.network, args.scale)  # a mistake is told before torch is imported
    from safmn.cost import operations

    begun = provenance.begin()
    with lease.alone(args.device):
        record = operations.measure(
            args.images, args.scale, args.height, args.width, args.network, args.form, args.device
        )
    output.deliver(args, begun, record, _print)


def _print(record: dict[str, Any]) -> None:
    provenance, settings = record["provenance"], record["settings"]
    print(
        f"{settings['network']} x{settings['scale']}, {settings['images']} LR images of {settings['width']}x"
        f"{settings['height']}, LayerNorm {settings['form']}, on {output.device_name(provenance)}, "
        f"torch {provenance['torch']}"
    )
    columns = {
        "calls": "calls",
        "ms, all images": "total_ms",
        "ms an image": "per_image_ms",
        "% of pass": "percent",
        "ms in kernels": "kernel_ms",
    }
    parts = [*record["operations"].values(), {"title": "whole pass", **record["forward"]}]
    parts = [part | {"percent": 100 * part["share"]} for part in parts]
    shown = {header: key for header, key in columns.items() if key in parts[0]}
    rows = [[part["title"], *(f"{part[key]:.2f}" for key in shown.values())] for part in parts]
    output.print_table(["operation", *shown], rows, right=list(shown))
    if "kernels" in settings:
        print(f"Kernels: {settings['kernels']}")
