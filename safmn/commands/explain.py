"""`safmn explain`: which single deviation from the protocol gives the published number?"""

import argparse
import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safmn import networks
from safmn.commands import options, output
from safmn.data import packed
from safmn.data.pairs import describe_lr
from safmn.device import lease
from safmn.progress import Progress

if TYPE_CHECKING:
    from safmn.quality.explain import Explanation

_log = logging.getLogger(__name__)

HELP = "Measures a cell under one deviation from the protocol at a time: which closes the gap to a published number?"
EXAMPLES = """\
examples:
  safmn explain imdn --weights IMDN_x4.pth --scale 4 --data datasets/Set5 --published 32.21
  safmn explain --weights best.safetensors --data datasets/Set5 --published 0.8948 --metric ssim --json
  safmn explain bicubic --scale 4 --data datasets/Set5 --published 28.42

Give the number as printed: its last digit says how near is near enough. PSNR in dB. Files named best, last and last_raw
(.safetensors) beside the weights, and other sets in the file itself, are tried too: best or last, averaged or raw.
The benchmark goes through the network about twenty times; each way is printed as it comes, on stderr.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    options.add_network(parser)
    parser.add_argument("--data", required=True, metavar="DIR", help="the benchmark: HR/ and LR_bicubic/, or packed")
    parser.add_argument("--published", required=True, metavar="NUMBER", help="as printed: 32.21 (dB) or 0.8948")
    parser.add_argument("--metric", choices=("psnr", "ssim"), default="psnr", help="what NUMBER is (default: psnr)")
    parser.add_argument(
        "--other-weights", action="append", default=[], metavar="FILE", help="more weights to try; may be repeated"
    )
    parser.add_argument(
        "--budget",
        type=float,
        metavar="SECONDS",
        help="leave out ways that would take longer; the protocol is first",
    )
    parser.add_argument("--json", action="store_true", help="print the table, device and versions as JSON")


def run(args: argparse.Namespace) -> None:
    """Measure under each deviation, compare with the published number and print."""
    options.settle(args)
    with lease.share(args.device):
        _explain(args)


def _explain(args: argparse.Namespace) -> None:
    from safmn.device.description import describe
    from safmn.networks import mappings
    from safmn.quality import explain

    explain.parse_printed(args.published)  # before anything slow
    name = args.network
    network, choice, device = options.load_network(args, name)
    candidates = {"given": network}
    for key in choice.others if choice else ():
        other_set = networks.load_weights(args.weights, name, args.scale, key or mappings.TOP)
        candidates[f"{args.weights}, {key or mappings.TOP}"] = other_set.to(device)
    for other in [*args.other_weights, *siblings(args.weights)]:
        candidates[other] = options.load_network(args, name, other)[0]
    sources = explain.read_sources(args.data, args.scale)
    opened = packed.open_pairs(args.data, args.scale)
    lr = opened.lr_summary
    measurement = explain.Measurement(candidates, networks.info(name).colour, args.scale, bicubic=name == "bicubic")
    doubts: list[str] = []
    began, passes = time.monotonic(), measurement.passes
    with Progress(f"{name} x{args.scale} on {args.data}", "images") as progress:
        for number, ways in enumerate(passes):
            spent = time.monotonic() - began
            # The next pass is taken to last as long as those before it did on average.
            if number and args.budget is not None and spent * (number + 1) / number > args.budget:
                left = [way for later in passes[number:] for way in later]
                measurement.leave_out(left, f"the budget of {args.budget:g} s is used up")
                break
            for done, read in enumerate(sources, start=number * len(sources) + 1):
                source = read()
                measurement.add(source, ways)
                if source.doubt and not number:
                    doubts.append(f"{source.name}: {source.doubt}")
                progress(done, len(sources) * len(passes))
            for line in measurement.explain(args.published, args.metric).lines(ways):
                _log.info("%s", line)
    doubts += opened.remarks
    for doubt in doubts:
        output.warn("explain", doubt)
    explanation = measurement.explain(args.published, args.metric)
    if args.json:
        request = {"network": name, "scale": args.scale, "weights": args.weights, "data": args.data}
        facts = {"which": choice and choice.record, "lr": lr, "warnings": doubts}
        output.print_json(request | facts | _record(explanation) | {"device": describe(device.type)})
    else:
        _print(explanation, f"{name} x{args.scale} on {args.data} ({describe_lr(lr)})")


def siblings(weights: str | None) -> list[str]:
    """Return the files that training leaves beside one: best, last (averaged) and last_raw; none for other files."""
    names = ("best.safetensors", "last.safetensors", "last_raw.safetensors")
    if weights is None or Path(weights).name not in names:
        return []
    beside = (Path(weights).with_name(name) for name in names if name != Path(weights).name)
    return [str(path) for path in beside if path.is_file()]


def _print(explanation: "Explanation", title: str) -> None:
    unit, digits = (" dB", 4) if explanation.metric == "psnr" else ("", 5)

    def cells(name: str, value: float | None, what: str) -> list[str]:
        if value is None:
            return ["", name, "-", "-", "-", what]
        differences = (value - explanation.standard, value - explanation.number)
        figures = [f"{value:.{digits}f}", *(f"{difference:+.{digits}f}" for difference in differences)]
        return ["=" if explanation.equal(value) else "", name, *figures, what]

    rows = [cells("(protocol)", explanation.standard, "as the protocol says")]
    for row in explanation.rows:
        what = f"{row.what}; not possible: {row.obstacle}" if row.obstacle else row.what
        rows.append(cells(row.name, row.value, what))
    print(f"{title}: published {explanation.published}{unit}")
    numbers = ("measured", "effect", "left over")
    output.print_table(["", "switch", *numbers, "what"], rows, right=numbers)
    print(explanation.verdict)


def _record(explanation: "Explanation") -> dict[str, Any]:
    def number(value: float | None) -> float | None:
        return value if value is not None and math.isfinite(value) else None

    return {
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
    }
