"""`safmn evaluate`: PSNR and SSIM on Y of a network on benchmarks."""

import argparse
from pathlib import Path
from typing import Any

HELP = "PSNR (dB) and SSIM on the Y of MATLAB's YCbCr, border of `scale` pixels cropped, image by image and mean."
EXAMPLES = """\
examples:
  safmn evaluate --network bicubic --scale 4 --data datasets/Set5 --out set5.csv
  safmn evaluate --network safmn --weights best.safetensors --scale 4 --data Set5 --out s.csv --data B100 --out b.csv
  safmn evaluate --network bicubic --scale 4 --data Set5 --protocol legacy     # as Table 1's bicubic row was made

DIR holds HR/NAME.png and LR_bicubic/X4/NAMEx4.png, or is a packed store. FILE.csv gets one line `image,psnr,ssim` an
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
        help="present: SR of the LR files. legacy: Y rounded to uint8, reduced and enlarged (bicubic and Y networks)",
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

    from safmn import networks, provenance
    from safmn.data import packed
    from safmn.errors import UserError
    from safmn.files import write_json
    from safmn.quality import evaluation
    from safmn.quality.loading import choose_device, load_network
    from safmn.quality.progress import Progress

    if args.out and len(args.out) != len(args.data):
        raise UserError(f"{len(args.data)} --data but {len(args.out)} --out: give one --out for each --data, or none")
    if len(set(args.out)) < len(args.out):
        raise UserError(f"--out names one file twice ({', '.join(args.out)}): give each --data a file of its own")
    begun = provenance.begin()
    device = choose_device(args.device)
    network, choice = load_network(args.network, args.scale, args.weights, args.which)
    network = network.to(device)
    channels = networks.info(args.network).colour
    legacy_bicubic = args.protocol == "legacy" and args.network == "bicubic"
    # All are opened before the first is measured, so that a mistyped folder is heard of at once.
    benchmarks = [(data, packed.open_pairs(Path(data), args.scale)) for data in args.data]
    results = []
    for (data, pairs), out in zip(benchmarks, args.out or [None] * len(args.data), strict=True):
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
        results.append((data, pairs, out, result))
        if not args.json:
            name = Path(data).resolve().name
            print(f"{name} x{args.scale}: {result.psnr:.3f} dB, SSIM {result.ssim:.4f} ({len(pairs)} images)")
    if args.json or args.record:
        record = _record(args, choice, results, begun, device.type)
        if args.record:
            write_json(args.record, record)
        if args.json:
            print(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False))


def _record(
    args: argparse.Namespace, choice: Any, results: list[tuple[str, Any, str | None, Any]], begun: Any, kind: str
) -> dict[str, Any]:
    from safmn.device.description import describe
    from safmn.provenance import of_file, seed_of, shown

    weights = None
    if args.weights:
        weights = {"file": shown(args.weights), "sha256": of_file(args.weights)} | choice.record
    asked = {"network": args.network, "scale": args.scale, "weights": weights, "protocol": args.protocol}
    return asked | {
        "convention": "PSNR in dB and SSIM on Y of MATLAB's YCbCr, border of scale pixels cropped, mean over images",
        "precision": "float32 network, float64 metrics",
        "datasets": [
            {"data": shown(data), "out": out and shown(out), "sha256": out and of_file(out)}
            | {"images": len(result.scores), "psnr": finite(result.psnr), "ssim": finite(result.ssim)}
            for data, _, out, result in results
        ],
        "provenance": begun.result(
            describe(kind),
            specification=asked | {"weights": weights and [weights["sha256"], weights["key"]]},
            data={shown(data): pairs.fingerprint for data, pairs, _, _ in results},
            seed=seed_of(args.weights),
        ),
    }


def finite(value: float) -> float | None:
    """The value, or None for the infinite PSNR of equal images, which JSON does not know."""
    import math

    return value if math.isfinite(value) else None
