"""`safmn pack`: one dataset into one packed store."""

import argparse
import json

HELP = """Decode a dataset once into a packed uint8 store (pixels.u8, index.json, manifest.json), from which training
crops its patches and evaluation takes its images. LR images are made by MATLAB's bicubic where the dataset has none."""

EXAMPLES = """examples:
  safmn pack photographs --scale 4 --out results/mini/data/photographs/x4
  safmn pack BSDS200 --scale 4 --data-root ~/datasets --out results/t291/data/BSDS200/x4
  safmn pack "DIV2K[:100]" --scale 2 --data-root ~/datasets --out /tmp/div2k_100 --json

DATASET is photographs (it comes with scikit-image and scikit-learn), Set5, Set14, B100, Urban100, Manga109, T91,
BSDS200, DIV2K, DIV2K_val, Flickr2K, or the name of a folder of your own in the data root; [start:stop:step] takes a
part of its images, sorted by name. Sizes are printed in pixels and bytes."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("dataset", metavar="DATASET", help="name of a dataset, with [start:stop] for a part of it")
    parser.add_argument("--scale", type=int, required=True, choices=(2, 3, 4), help="HR size / LR size")
    parser.add_argument(
        "--data-root",
        metavar="DIR",
        action="append",
        help="folder that holds the datasets; may be repeated, then the first that has it; not needed for photographs",
    )
    parser.add_argument("--folder", metavar="DIR", help="folder of this dataset, if it is not in the data root")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder of the store; what it held is replaced")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(args: argparse.Namespace) -> None:
    """Packs and prints what was packed."""
    from safmn.data import packed, sources

    folders = None if args.folder is None else {sources.parse_selection(args.dataset)[0]: args.folder}
    store = packed.pack(args.dataset, args.data_root, args.scale, args.out, folders)
    made = sum(store.origin(index) == "bicubic" for index in range(len(store)))
    hr_pixels = sum(store.hr(index).size // 3 for index in range(len(store)))
    figures = {
        "dataset": args.dataset,
        "scale": store.scale,
        "images": len(store),
        "lr_made": made,
        "hr_pixels": hr_pixels,
        "bytes": store.flat.size,
        "fingerprint": store.fingerprint,
        "out": str(args.out),
    }
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    print(f"{args.dataset} x{store.scale}: {len(store)} images, {hr_pixels / 1e6:.2f} megapixels HR, ", end="")
    print(f"{store.flat.size / 1e6:.1f} MB in {args.out}")
    print(f"LR: {len(store) - made} from files, {made} made by bicubic; fingerprint {store.fingerprint[:16]}")
