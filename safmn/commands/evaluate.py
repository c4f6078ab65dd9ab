"""`safmn evaluate`: PSNR and SSIM on Y of a network on benchmarks."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from safmn.data.packed import Pairs
    from safmn.quality.evaluation import Evaluation

HELP = "PSNR (dB) and SSIM on the Y of MATLAB's YCbCr, border of `scale` pixels cropped, image by image and mean."
EXAMPLES = """\
examples:
  safmn evaluate --network bicubic --scale 4 --data datasets/Set5 --out set5.csv
  safmn evaluate --network safmn --weights best.safetensors --scale 4 --data Set5 --out s.csv --data B100 --out b.csv
  safmn evaluate --network bicubic --scale 4 --data Set5 --protocol legacy     # as Table 1's bicubic row was made

DIR holds HR/NAME.png and LR_bicubic/X4/NAMEx4.png (or LR under another usual name), or is a packed dataset. Where there
is no LR, it is made from HR by MATLAB's bicubic; what was done is printed. FILE.csv gets one line `image,psnr,ssim` an
image: PSNR in dB, SSIM from 0 to 1. The means printed are means over images. FILE.json says what was evaluated, on
which images, with which code, where and when.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--network", required=True, metavar="NAME", help="a name from `safmn list`")
    parser.add_argument("--scale", required=True, type=int, metavar="N", help="enlargement: 2, 3 or 4")
    parser.add_argument("--weights", metavar="FILE", help="trained weights; only bicubic needs none")
    parser.add_argument(
        "--which", metavar="raw|ema|KEY", help="of weights that a file holds twice: averaged (ema, the default) or raw"
    )
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
    parser.add_argument("--device", help="cpu, cuda or cuda:N; by default cuda where there is one")
    parser.add_argument("--json", action="store_true", help="print means and provenance as JSON")
    parser.add_argument("--record", metavar="FILE.json", help="write the same JSON here")


def run(args: argparse.Namespace) -> None:
    from safmn.device import lease

    with lease.share(args.device):
        _evaluate(args)


def _evaluate(args: argparse.Namespace) -> None:
    import json
    import sys

    from safmn import networks, provenance
    from safmn.data import packed
    from safmn.errors import UserError
    from safmn.files import write_json
    from safmn.quality import authors, evaluation
    from safmn.quality.loading import choose_device, load_network
    from safmn.quality.progress import Progress

    if args.out and len(args.out) != len(args.data):
        raise UserError(f"{len(args.data)} --data but {len(args.out)} --out: give one --out for each --data, or none")
    if len(set(args.out)) < len(args.out):
        raise UserError(f"--out names one file twice ({', '.join(args.out)}): give each --data a file of its own")
    if args.border and args.protocol == "legacy":
        raise UserError("--border is for LR images that are made: the legacy protocol has its own, leave it out")
    begun = provenance.begin()
    device = choose_device(args.device)
    network, choice = load_network(args.network, args.scale, args.weights, args.which)
    network = network.to(device)
    channels = networks.info(args.network).colour
    legacy_bicubic = args.protocol == "legacy" and args.network == "bicubic"
    # All are opened before the first is measured, so that a mistyped folder is heard of at once.
    benchmarks = [packed.open_pairs(Path(data), args.scale, args.border) for data in args.data]
    results = []
    for data, pairs, out in zip(args.data, benchmarks, args.out or [None] * len(args.data), strict=True):
        with Progress(f"{args.network} x{args.scale} on {data}") as progress:
            result = evaluation.evaluate(
                None if legacy_bicubic else network,
                pairs,
                args.scale,
                channels=channels,
                protocol=args.protocol,
                on_progress=progress,
            )
        if out:
            evaluation.write_csv(out, result)
        one = Result(data, pairs, out, result, args.protocol == "legacy")
        if args.protocol == "legacy":
            one.measure_grey(None if legacy_bicubic else network, args.scale)
        elif args.network in authors.METRICS:
            one.authors = authors.METRICS[args.network].measure(network, pairs, args.scale)
        results.append(one)
        if not args.json:
            print(one.line(args.scale))
        for line in packed.warning_lines(one.warnings):
            print(f"safmn evaluate: warning: {Path(data).resolve().name}: {line}", file=sys.stderr)
    if args.json or args.record:
        record = _record(args, choice, results, begun, device.type)
        if args.record:
            write_json(args.record, record)
        if args.json:
            print(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False))


@dataclass
class Result:
    """The result of one benchmark.

    Attributes:
        data, pairs, out: as given, opened, and the CSV file or None.
        scores: of the protocol asked for.
        legacy: whether that is the legacy one, which makes LR itself.
        converted: in the legacy protocol, the scores with single-channel images converted to Y; None without any.
        grey: those images.
        authors: the scores by the metric of the network's authors, where that is another one.
    """

    data: str
    pairs: "Pairs"
    out: str | None
    scores: "Evaluation"
    legacy: bool
    converted: "Evaluation | None" = None
    grey: tuple[str, ...] = ()
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

    @property
    def warnings(self) -> list[dict[str, Any]]:
        """What may be wrong with HR and LR."""
        return [] if self.legacy else [{"dataset": self.name} | each for each in self.pairs.warnings()]

    def measure_grey(self, network: "nn.Module | None", scale: int) -> None:
        """Measures single-channel images once more, converted to Y, for the legacy protocol."""
        from dataclasses import replace

        from safmn.quality import evaluation

        indices = [index for index in range(len(self.pairs)) if self.pairs.channels(index) == 1]
        if not indices:
            return
        scores = list(self.scores.scores)
        for index in indices:
            one = self.pairs.select(slice(index, index + 1))
            again = evaluation.evaluate(network, one, scale, channels="Y", protocol="legacy", convert_grey=True)
            scores[index] = again.scores[0]
        self.converted = replace(self.scores, scores=tuple(scores))
        self.grey = tuple(self.pairs.names[index] for index in indices)

    def line(self, scale: int) -> str:
        """Return one line for the screen: mean PSNR (dB) and SSIM, where LR comes from, and what limits them."""
        from safmn.data.packed import describe_lr

        scores = self.scores
        origin = "LR made from HR's Y in floating point" if self.legacy else describe_lr(self.lr)
        found = [f"{len(self.pairs)} image{'s' * (len(self.pairs) > 1)}", origin]
        if self.converted is not None:
            found.append(
                f"single-channel files measured as they are ({', '.join(self.grey)}); converted to Y the means are "
                f"{self.converted.psnr:.3f} dB, {self.converted.ssim:.4f}"
            )
        if scores.infinite:
            others = scores.psnr_of_the_others
            found.append(
                f"SR equals HR in {', '.join(scores.infinite[:5])}, so PSNR is infinite there"
                + (f"; the others' mean is {others:.3f} dB" if others is not None else "")
            )
        if self.authors is not None:
            found.append(f"by its authors' own metric {self.authors.psnr:.3f} dB, {self.authors.ssim:.4f}")
        name = Path(self.data).resolve().name
        return f"{name} x{scale}: {scores.psnr:.3f} dB, SSIM {scores.ssim:.4f} ({'; '.join(found)})"

    def record(self) -> dict[str, Any]:
        """The entry in `datasets`."""
        from safmn.provenance import of_file, shown

        scores, out = self.scores, self.out
        found = {"data": shown(self.data), "out": out and shown(out), "sha256": out and of_file(out)}
        found |= {"images": len(scores.scores), "psnr": finite(scores.psnr), "ssim": finite(scores.ssim)}
        if scores.infinite:
            found |= {"infinite": list(scores.infinite), "psnr_of_the_others": scores.psnr_of_the_others}
        return found


def _record(args: argparse.Namespace, choice: Any, results: list[Result], begun: Any, kind: str) -> dict[str, Any]:
    from safmn.device.description import describe
    from safmn.provenance import of_file, seed_of, shown
    from safmn.quality import authors

    weights = None
    if args.weights:
        weights = {"file": shown(args.weights), "sha256": of_file(args.weights)} | choice.record
    asked = {"network": args.network, "scale": args.scale, "weights": weights, "protocol": args.protocol}
    keys = _keys(results)
    record = asked | {
        "convention": "PSNR in dB and SSIM on Y of MATLAB's YCbCr, border of scale pixels cropped, mean over images",
        "precision": "float32 network, float64 metrics",
        "datasets": [each.record() for each in results],
        "lr": {key: each.lr for key, each in keys.items()},
        "warnings": [warning for each in results for warning in each.warnings],
    }
    if any(each.grey for each in results):
        record["grey"] = {
            key: {
                "images": list(each.grey),
                "psnr": finite(each.scores.psnr),
                "ssim": each.scores.ssim,
                "psnr_converted": finite(each.converted.psnr),
                "ssim_converted": each.converted.ssim,
            }
            for key, each in keys.items()
            if each.converted is not None
        }
    if any(each.authors for each in results):
        text = authors.METRICS[args.network].text
        record["authors_metric"] = {
            key: {"psnr": finite(each.authors.psnr), "ssim": each.authors.ssim, "text": text}
            for key, each in keys.items()
            if each.authors is not None
        }
    return record | {
        "provenance": begun.result(
            describe(kind),
            specification=asked | {"weights": weights and [weights["sha256"], weights["key"]]},
            data={shown(each.data): each.pairs.fingerprint for each in results},
            seed=seed_of(args.weights),
        ),
    }


def _keys(results: list[Result]) -> dict[str, Result]:
    """The results by dataset; by path where two have one name."""
    names = [each.name for each in results]
    return {each.name if names.count(each.name) == 1 else each.data: each for each in results}


def finite(value: float) -> float | None:
    """The value, or None for the infinite PSNR of equal images, which JSON does not know."""
    import math

    return value if math.isfinite(value) else None
