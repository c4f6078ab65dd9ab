"""`safmn inspect`: what Figures 2, 5 and 6 show of one network."""

import argparse
from dataclasses import asdict
from typing import Any

from safmn import networks, provenance
from safmn.commands import options, output
from safmn.device import lease
from safmn.errors import UserError

HELP = """Looks into one network with its weights: the local attribution map and diffusion index of a window (Figure 2),
the features inside one SAFM (Figure 5), and its picture of each scene with PSNR (Figure 6)."""

EXAMPLES = """examples:
  safmn inspect --network imdn --scale 4 --weights IMDN_x4.pth --scene data/Set14 barbara --pictures imdn
  safmn inspect --network safmn --scale 4 --weights best.safetensors --scene data/Set5 --scene data/Set14 --json
  safmn inspect --network bicubic --scale 4 --scene data/Set14 barbara 400 200 --crop 64 --json

--scene DIR [IMAGE [X Y]]: an image of a benchmark (the first one) and the corner of a square in it in HR pixels (where
LR has most texture). The first scene serves Figures 2 and 5. --out writes the numbers as JSON and the
pictures as an NPZ of the same name beside it; --pictures writes them as PNG files.

Units: --crop and --window in SR pixels, --patch and --sigma in LR pixels. The diffusion index runs from 0 (one LR pixel
does everything) to 100 (all contribute alike) and depends on the size of the patch. PSNR in dB on Y, of the whole image
(as `safmn evaluate`) and of the square."""

MIN = {"crop": 24, "window": 2, "patch": 8, "steps": 1, "block": 0}
MAX_SIGMA = 16  # LR pixels


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    options.add_network(parser)
    parser.add_argument(
        "--scene", required=True, action="append", nargs="+", metavar="DIR", help="DIR [IMAGE [X Y]], see below"
    )
    parser.add_argument("--crop", type=int, default=96, metavar="PIXELS", help="side of a scene's square (96)")
    parser.add_argument("--window", type=int, default=16, metavar="PIXELS", help="side of the window explained (16)")
    parser.add_argument("--patch", type=int, default=64, metavar="PIXELS", help="side of the LR image around it (64)")
    parser.add_argument("--sigma", type=float, default=1.2, metavar="PIXELS", help="blur at the path's start (1.2)")
    parser.add_argument("--steps", type=int, default=24, metavar="N", help="pieces of the path (24)")
    parser.add_argument("--block", type=int, default=0, metavar="N", help="which SAFM, from 1; 0 is the last (0)")
    parser.add_argument("--out", metavar="FILE.json", help="write numbers here and pictures beside it")
    parser.add_argument("--pictures", metavar="DIR", help="write every map and crop as a PNG into this folder")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")


def run(args: argparse.Namespace) -> None:
    """Inspect the network, write and print."""
    options.settle(args)
    for name, smallest in MIN.items():
        if getattr(args, name) < smallest:
            raise UserError(f"--{name} {getattr(args, name)} is too small: give at least {smallest}")
    if not 0 < args.sigma <= MAX_SIGMA:
        raise UserError(f"--sigma {args.sigma} is out of range: give more than 0 and at most {MAX_SIGMA} LR pixels")
    if args.out and not args.out.endswith(".json"):
        raise UserError(f"--out {args.out} does not end with .json: name the file of the numbers")
    with lease.share(args.device):
        _inspect(args)


def _inspect(args: argparse.Namespace) -> None:
    from safmn.device.description import describe
    from safmn.inspection import record, scenes

    begun = provenance.begin()
    network, choice, device = options.load_network(args, args.network)
    opened = [scenes.open_scene(*_scene(words, args.scale), args.crop) for words in args.scene]
    settings = record.Settings(args.window, args.patch, args.sigma, args.steps, args.block)
    inspection = record.inspect(network, opened, networks.info(args.network).colour, settings)
    subject = {"network": args.network, "scale": args.scale}
    inspection.numbers = subject | {"weights": choice and choice.record} | inspection.numbers
    request = {"command": args.command, "settings": asdict(settings), "crop": args.crop}
    request |= subject | {"scenes": [words[1:] for words in args.scene]}
    request |= {"weights": choice and [provenance.of_file(args.weights), choice.key]}
    inspection.numbers["provenance"] = begun.result(
        describe(device.type),
        specification=request,
        data={f"{scene.dataset}, {scene.image}": scene.pairs.fingerprint for scene in opened},
        seed=provenance.seed_of(args.weights),
    )
    if args.out:
        record.write(args.out, inspection)
    if args.pictures:
        record.write_pictures(args.pictures, inspection)
    if args.json:
        output.print_json(inspection.numbers)
    else:
        _print(inspection.numbers)


def _scene(words: list[str], scale: int) -> tuple[str, int, str | None, tuple[int, int] | None]:
    if len(words) not in (1, 2, 4) or not all(word.isascii() and word.isdigit() for word in words[2:]):
        raise UserError(f"--scene {' '.join(words)} is not DIR, DIR IMAGE or DIR IMAGE X Y: X and Y are whole numbers")
    corner = (int(words[2]), int(words[3])) if len(words) == 4 else None
    return words[0], scale, words[1] if len(words) > 1 else None, corner


def _print(numbers: dict[str, Any]) -> None:
    name, attribution = f"{numbers['network']} x{numbers['scale']}", numbers["attribution"]
    index = "not defined" if attribution["diffusion_index"] is None else f"{attribution['diffusion_index']:.2f}"
    print(f"{name}: diffusion index {index} on {attribution['dataset']}/{attribution['image']}")
    for crop in numbers["crops"]:
        psnr = ["inf" if crop[key] is None else f"{crop[key]:.2f}" for key in ("psnr", "psnr_crop")]
        at = f"{crop['left']},{crop['top']}"
        print(f"{name}: {crop['dataset']}/{crop['image']}: {psnr[0]} dB; {psnr[1]} dB in the square at {at}")
