"""`safmn evaluate`: PSNR and SSIM on Y and in RGB of a network on benchmarks."""

import argparse
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safmn import networks, provenance
from safmn.commands import options, output
from safmn.data import packed
from safmn.data.packed import PackedPairs
from safmn.data.pairs import FolderPairs, describe_lr, warning_lines
from safmn.device import lease
from safmn.errors import UserError
from safmn.files import write_json
from safmn.progress import Progress
from safmn.provenance import Begun, of_file, seed_of, shown

if TYPE_CHECKING:
    from safmn.networks.weights import Choice
    from safmn.quality.evaluation import Evaluation

HELP = (
    "PSNR (dB) and SSIM on the Y of MATLAB's YCbCr and in RGB, border of `scale` pixels cropped, image by image and "
    "mean. "
    "With the package lpips (pip install 'safmn-harness[lpips]') also LPIPS, of the whole image."
)
EXAMPLES = """\
examples:
  safmn evaluate --network bicubic --scale 4 --data datasets/Set5 --out set5.csv
  safmn evaluate --weights best.safetensors --data Set5 --out s.csv --data B100 --out b.csv
  safmn evaluate --network bicubic --scale 4 --data Set5 --protocol legacy     # as Table 1's bicubic row was made

DIR holds HR/NAME.png and LR_bicubic/X4/NAMEx4.png (or LR under another usual name), or is a packed dataset. Where there
is no LR, it is made from HR by MATLAB's bicubic; what was done is printed. FILE.csv gets one line an image,
`image,psnr,ssim,psnr_rgb,ssim_rgb`: PSNR in dB and SSIM, at most 1, on Y and in RGB (as the NTIRE challenges measure:
one PSNR of all channels, the mean SSIM of the channels); `lpips` where that package is installed (AlexNet, 0 for equal
images). The legacy protocol ends with `ssim`. The means printed are means over images. FILE.json says what was
evaluated, on which images, with which code, where and when.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    options.add_network(parser)
    parser.add_argument(
        "--data", required=True, action="extend", nargs="+", metavar="DIR", help="benchmarks; DIR[-2:] takes a part"
    )
    parser.add_argument(
        "--out", action="extend", nargs="+", default=[], metavar="FILE.csv", help="per-image figures; one for each DIR"
    )
    parser.add_argument(
        "--protocol",
        choices=("present", "legacy"),
        default="present",
        help="present: SR of the LR files. legacy: HR's Y, rounded to uint8, is reduced in floating point, and SR of "
        "that is rounded (bicubic and Y networks)",
    )
    parser.add_argument(
        "--border",
        choices=("symmetric", "clamped"),
        help="where LR is made: HR mirrored beyond its edge, or its edge repeated (default: symmetric, or as packed)",
    )
    parser.add_argument("--json", action="store_true", help="print means and provenance as JSON")
    parser.add_argument("--record", metavar="FILE.json", help="write the same JSON here")


def run(args: argparse.Namespace) -> None:
    """Evaluate on each benchmark, print and write."""
    options.settle(args)
    with lease.share(args.device):
        _evaluate(args)


def _evaluate(args: argparse.Namespace) -> None:
    from safmn.quality import authors, evaluation

    if args.out and len(args.out) != len(args.data):
        raise UserError(f"{len(args.data)} --data but {len(args.out)} --out: give one --out for each --data, or none")
    if len(set(args.out)) < len(args.out):
        raise UserError(f"--out names one file twice ({', '.join(args.out)}): give each --data a file of its own")
    if args.border and args.protocol == "legacy":
        raise UserError("--border is for LR images that are made: the legacy protocol has its own, leave it out")
    begun = provenance.begin()
    network, choice, device = options.load_network(args, args.network)
    channels = networks.info(args.network).colour
    legacy = args.protocol == "legacy"
    measured = None if legacy and args.network == "bicubic" else network
    # All are opened before the first is measured, so that a mistyped folder is noticed at once.
    benchmarks = [packed.open_pairs(Path(data), args.scale, args.border) for data in args.data]
    results = []
    for data, pairs, out in zip(args.data, benchmarks, args.out or [None] * len(args.data), strict=True):
        with Progress(f"{args.network} x{args.scale} on {data}", "images") as progress:
            scores = evaluation.evaluate(
                measured, pairs, args.scale, channels=channels, protocol=args.protocol, on_progress=progress
            )
        if out:
            evaluation.write_csv(out, scores)
        result = Result(data, pairs, out, scores, legacy)
        if legacy:
            result.converted = evaluation.convert_grey(scores, measured, pairs, args.scale)
        elif args.network in authors.METRICS:
            result.authors = authors.METRICS[args.network].measure(network, pairs, args.scale)
        results.append(result)
        if not args.json:
            print(result.line(args.scale))
        for line in warning_lines(result.warnings):
            output.warn("evaluate", f"{Path(data).resolve().name}: {line}")
    if args.json or args.record:
        record = _record(args, choice, results, begun, device.type)
        if args.record:
            write_json(args.record, record)
        if args.json:
            output.print_json(record)


@dataclass
class Result:
    """The result of one benchmark.

    Attributes:
        data: the benchmark as the user named it.
        pairs: the opened benchmark.
        out: the CSV file, or None.
        scores: by the protocol of the command.
        legacy: whether that is the legacy one, which makes LR itself.
        converted: in the legacy protocol, the scores with single-channel images converted to Y; None without any.
        authors: the scores by the metric of the network's authors, where that is another one.
    """

    data: str
    pairs: PackedPairs | FolderPairs
    out: str | None
    scores: "Evaluation"
    legacy: bool
    converted: "Evaluation | None" = None
    authors: "Evaluation | None" = None

    @property
    def name(self) -> str:
        """The dataset's name: that of a packed dataset without its slice, else the folder's."""
        return self.pairs.dataset.partition("[")[0]

    @property
    def lr(self) -> dict[str, Any]:
        """Where LR comes from."""
        if self.legacy:
            return {"origin": "made", "folder": "", "border": "symmetric", "made": len(self.pairs)}
        return self.pairs.lr_summary

    @cached_property
    def warnings(self) -> list[dict[str, Any]]:
        """What may be wrong with HR and LR."""
        return [] if self.legacy else [{"dataset": self.name} | warning for warning in self.pairs.warnings()]

    @property
    def grey(self) -> list[str]:
        """The images of single-channel files."""
        return [name for index, name in enumerate(self.pairs.names) if self.pairs.channels(index) == 1]

    def line(self, scale: int) -> str:
        """Return one line for the screen: mean PSNR (dB) and SSIM, where LR comes from, and what limits them."""
        scores = self.scores
        remarks = [
            f"{len(self.pairs)} image{'s' * (len(self.pairs) > 1)}",
            "LR made from HR's Y in floating point" if self.legacy else describe_lr(self.lr),
        ]
        if self.converted is not None:
            remarks.append(
                f"single-channel files measured as they are ({', '.join(self.grey)}); converted to Y the means are "
                f"{self.converted.psnr:.3f} dB, {self.converted.ssim:.4f}"
            )
        if scores.infinite:
            others = scores.psnr_of_the_others
            remarks.append(
                f"SR equals HR in {', '.join(scores.infinite[:5])}, so PSNR is infinite there"
                + (f"; the others' mean is {others:.3f} dB" if others is not None else "")
            )
        if self.authors is not None:
            remarks.append(f"by its authors' own metric {self.authors.psnr:.3f} dB, {self.authors.ssim:.4f}")
        name = Path(self.data).resolve().name
        rest = ""
        if "psnr_rgb" in scores.measured:
            rest = f", RGB {scores.mean('psnr_rgb'):.3f} dB, {scores.mean('ssim_rgb'):.4f}"
        if "lpips" in scores.measured:
            rest += f", LPIPS {scores.mean('lpips'):.4f}"
        return f"{name} x{scale}: {scores.psnr:.3f} dB, SSIM {scores.ssim:.4f}{rest} ({'; '.join(remarks)})"

    def record(self) -> dict[str, Any]:
        """Return the entry in `datasets`."""
        scores, out = self.scores, self.out
        record: dict[str, Any] = {"data": shown(self.data), "out": out and shown(out), "sha256": out and of_file(out)}
        record |= {"images": len(scores.scores)} | scores.means()
        if scores.infinite:
            record |= {"infinite": list(scores.infinite), "psnr_of_the_others": scores.psnr_of_the_others}
        return record


def _record(
    args: argparse.Namespace, choice: "Choice | None", results: list[Result], begun: Begun, kind: str
) -> dict[str, Any]:
    from safmn.device.description import describe
    from safmn.quality import authors

    weights = None
    if choice is not None:
        weights = {"file": shown(args.weights), "sha256": of_file(args.weights)} | choice.record
    request = {"network": args.network, "scale": args.scale, "weights": weights, "protocol": args.protocol}
    # By dataset; by path where two have one name.
    names = [result.name for result in results]
    by_name = {result.name if names.count(result.name) == 1 else result.data: result for result in results}
    record = request | {
        "convention": "PSNR in dB and SSIM on Y of MATLAB's YCbCr, and in RGB (psnr_rgb, ssim_rgb), border of scale "
        "pixels cropped, mean over images",
        "precision": "float32 network, float64 metrics",
        "datasets": [result.record() for result in results],
        "lr": {name: result.lr for name, result in by_name.items()},
        "warnings": [warning for result in results for warning in result.warnings],
    }
    grey = {
        name: {"images": result.grey, **result.scores.means(), **result.converted.means("_converted")}
        for name, result in by_name.items()
        if result.converted is not None
    }
    if grey:
        record["grey"] = grey
    by_authors = {
        name: {**result.authors.means(), "text": authors.METRICS[args.network].text}
        for name, result in by_name.items()
        if result.authors is not None
    }
    if by_authors:
        record["authors_metric"] = by_authors
    return record | {
        "provenance": begun.result(
            describe(kind),
            specification=request | {"weights": weights and [weights["sha256"], weights["key"]]},
            data={shown(result.data): result.pairs.fingerprint for result in results},
            seed=seed_of(args.weights),
        ),
    }
