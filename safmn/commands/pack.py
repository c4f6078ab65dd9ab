"""`safmn pack`: decode a dataset into a packed dataset."""

import argparse

from safmn.commands import output
from safmn.data import packed, pairs, sources

HELP = """Decode a dataset once into a packed dataset (pixels.u8, index.json, manifest.json), from which training crops
its patches and evaluation takes its images. LR images are made by MATLAB's bicubic where the dataset has none."""

EXAMPLES = """examples:
  safmn pack photographs --scale 4 --out results/mini/data/photographs/x4
  safmn pack BSDS200 --scale 4 --data-root ~/datasets --out results/t291/data/BSDS200/x4
  safmn pack "DIV2K[:100]" --scale 2 --data-root ~/datasets --out /tmp/div2k_100 --json
  safmn pack Urban100 --scale 4 --data-root ~/datasets --border clamped --out /tmp/urban100

DATASET is photographs (it comes with scikit-image and scikit-learn), Set5, Set14, B100, Urban100, Manga109, T91,
BSDS200, DIV2K, DIV2K_val, Flickr2K, or the name of a folder of your own in the data root; [start:stop:step] takes a
part of its images, sorted by name. Sizes are printed in pixels and bytes."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("dataset", metavar="DATASET", help="name of a dataset, with [start:stop] for a part of it")
    parser.add_argument("--scale", type=int, required=True, choices=(2, 3, 4), help="HR size / LR size")
    parser.add_argument(
        "--data-root",
        metavar="DIR",
        action="append",
        help="folder that holds the datasets; may be repeated, then the first that has it; not needed for photographs",
    )
    parser.add_argument("--folder", metavar="DIR", help="folder of this dataset, if it is not in the data root")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder to pack into; what it held is replaced")
    parser.add_argument(
        "--border",
        choices=("symmetric", "clamped"),
        default="symmetric",
        help="where LR is made: HR is mirrored beyond its edge, or its edge repeated (default: symmetric)",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(args: argparse.Namespace) -> None:
    """Pack, and print what was packed."""
    folders = None if args.folder is None else {sources.parse_selection(args.dataset)[0]: args.folder}
    dataset = packed.pack(args.dataset, args.data_root, args.scale, args.out, folders, border=args.border)
    hr_pixels = sum(dataset.hr(index).size // 3 for index in range(len(dataset)))
    lr, warnings = dataset.lr_summary, dataset.warnings()
    figures = {
        "dataset": args.dataset,
        "scale": dataset.scale,
        "images": len(dataset),
        "lr_made": lr["made"],
        "lr": lr,
        "warnings": warnings,
        "hr_pixels": hr_pixels,
        "bytes": dataset.flat.size,
        "fingerprint": dataset.fingerprint,
        "out": str(args.out),
    }
    for line in pairs.warning_lines(warnings):
        output.warn("pack", f"{args.dataset}: {line}")
    if args.json:
        output.print_json(figures)
        return
    print(f"{args.dataset} x{dataset.scale}: {len(dataset)} images, {hr_pixels / 1e6:.2f} megapixels HR, ", end="")
    print(f"{dataset.flat.size / 1e6:.1f} MB in {args.out}")
    print(f"{pairs.describe_lr(lr)}; fingerprint {dataset.fingerprint[:16]}")
