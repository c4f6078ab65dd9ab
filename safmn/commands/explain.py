"""`safmn explain`: which single deviation from the protocol gives the published number?"""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safmn.quality.explain import Explanation

HELP = "Measures a cell under one deviation from the protocol at a time: which closes the gap to a published number?"
EXAMPLES = """\
examples:
  safmn explain IMDN_x4.pth --network imdn --scale 4 --data datasets/Set5 --published 32.21
  safmn explain best.safetensors --scale 4 --data datasets/Set5 --published 0.8948 --metric ssim --json
  safmn explain --network bicubic --scale 4 --data datasets/Set5 --published 28.42

Give the number as printed: its last digit says how near is near enough. PSNR in dB. Files named best, last and last_raw
(.safetensors) beside WEIGHTS, and other sets of weights in WEIGHTS itself, are tried too: best or last, averaged (EMA)
or raw. The benchmark goes through the network about twenty times.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", nargs="?", metavar="WEIGHTS", help="trained weights; only bicubic needs none")
    parser.add_argument("--network", metavar="NAME", help="a name from `safmn list`; not needed where WEIGHTS says it")
    parser.add_argument(
        "--which", metavar="raw|ema|KEY", help="of weights that a file holds twice: averaged (ema, the default) or raw"
    )
    parser.add_argument("--scale", required=True, type=int, metavar="N", help="enlargement: 2, 3 or 4")
    parser.add_argument("--data", required=True, metavar="DIR", help="the benchmark: HR/ and LR_bicubic/, or packed")
    parser.add_argument("--published", required=True, metavar="NUMBER", help="as printed: 32.21 (dB) or 0.8948")
    parser.add_argument("--metric", choices=("psnr", "ssim"), default="psnr", help="what NUMBER is (default: psnr)")
    parser.add_argument(
        "--other-weights", action="append", default=[], metavar="FILE", help="more weights to try; may be repeated"
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:N; by default cuda where there is one")
    parser.add_argument("--json", action="store_true", help="print the table, device and versions as JSON")


def run(args: argparse.Namespace) -> None:
    from safmn.device import lease

    with lease.share(args.device):
        _explain(args)


def _explain(args: argparse.Namespace) -> None:
    import sys

    from safmn import networks
    from safmn.data import packed
    from safmn.errors import UserError
    from safmn.networks import mappings
    from safmn.quality import explain
    from safmn.quality.loading import choose_device, load_network, network_of
    from safmn.quality.progress import Progress

    if args.network is None and args.weights is None:
        raise UserError("neither WEIGHTS nor --network is given: say what is to be explained")
    explain.parse_printed(args.published)  # before anything slow
    name = args.network or network_of(args.weights)
    device = choose_device(args.device)
    network, choice = load_network(name, args.scale, args.weights, args.which)
    candidates = {"given": network.to(device)}
    for key in choice.others if choice else ():
        other_set = networks.load_weights(args.weights, name, args.scale, key or mappings.TOP)
        candidates[f"{args.weights}, {key or mappings.TOP}"] = other_set.to(device)
    for other in [*args.other_weights, *siblings(args.weights)]:
        candidates[str(other)] = load_network(name, args.scale, other)[0].to(device)
    sources = explain.read_sources(args.data, args.scale)
    opened = packed.open_pairs(args.data, args.scale)
    lr = opened.lr_summary
    measurement = explain.Measurement(candidates, networks.info(name).colour, args.scale, bicubic=name == "bicubic")
    doubts: list[str] = []
    with Progress(f"{name} x{args.scale} on {args.data}, {len(measurement.recipes)} ways") as progress:
        for done, read in enumerate(sources, start=1):
            source = read()
            measurement.add(source)
            if source.doubt:
                doubts.append(f"{source.name}: {source.doubt}")
            progress(done, len(sources))
    doubts += opened.remarks
    for doubt in doubts:
        print(f"safmn explain: warning: {doubt}", file=sys.stderr)
    explanation = measurement.explain(args.published, args.metric)
    if args.json:
        told = {"which": choice and choice.record, "lr": lr, "warnings": doubts}
        _print_json(explanation, name, args, device.type, told)
    else:
        _print_table(explanation, f"{name} x{args.scale} on {args.data} ({packed.describe_lr(lr)})")


def siblings(weights: str | None) -> list[str]:
    """What training leaves beside a file: best, last (averaged) and last_raw; empty for any other file."""
    from pathlib import Path

    names = ("best.safetensors", "last.safetensors", "last_raw.safetensors")
    if weights is None or Path(weights).name not in names:
        return []
    beside = (Path(weights).with_name(name) for name in names if name != Path(weights).name)
    return [str(path) for path in beside if path.is_file()]


def _print_table(explanation: "Explanation", title: str) -> None:
    import sys

    from rich.console import Console
    from rich.table import Table

    unit, digits = ("dB", 4) if explanation.metric == "psnr" else ("", 5)
    table = Table(title=f"{title}: published {explanation.published} {unit}".strip())
    table.add_column("")
    table.add_column("switch", no_wrap=True)
    for heading in ("measured", "effect", "left over"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("what")

    def add(name: str, what: str, value: float | None) -> None:
        if value is None:
            table.add_row("", name, "-", "-", "-", what)
            return
        figures = (
            f"{value:.{digits}f}",
            f"{value - explanation.standard:+.{digits}f}",
            f"{value - explanation.number:+.{digits}f}",
        )
        table.add_row("=" if explanation.equal(value) else "", name, *figures, what)

    add("(protocol)", "as the protocol says", explanation.standard)
    for row in explanation.rows:
        add(row.name, f"{row.what}; not possible: {row.obstacle}" if row.obstacle else row.what, row.value)
    # Into a file or a pipe nothing limits the width.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(table)
    console.print(explanation.verdict, soft_wrap=True, highlight=False)


def _print_json(
    explanation: "Explanation", name: str, args: argparse.Namespace, kind: str, told: dict[str, Any]
) -> None:
    import json
    import math

    from safmn.device.description import describe

    def number(value: float | None) -> float | None:
        return value if value is not None and math.isfinite(value) else None

    record = {
        "network": name,
        "scale": args.scale,
        "weights": args.weights,
        "data": args.data,
        **told,
        "metric": explanation.metric,
        "unit": "dB" if explanation.metric == "psnr" else "",
        "published": explanation.published,
        "measured": number(explanation.standard),
        "closing": list(explanation.closing),
        "verdict": explanation.verdict,
        "switches": [
            {
                "switch": row.name,
                "what": row.what,
                "measured": number(row.value),
                "closes": row.name in explanation.closing,
                "obstacle": row.obstacle,
            }
            for row in explanation.rows
        ],
        "device": describe(kind),
    }
    print(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False))
