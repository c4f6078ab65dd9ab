"""`safmn inspect`: what Figures 2, 5 and 6 show of one network."""

import argparse

HELP = """Looks into one network with its weights: the local attribution map and diffusion index of a window (Figure 2),
the features inside one SAFM (Figure 5), and its picture of each scene with PSNR (Figure 6)."""

EXAMPLES = """examples:
  safmn inspect --network imdn --scale 4 --weights IMDN_x4.pth --scene data/Set14 barbara --out imdn.json
  safmn inspect --network safmn --scale 4 --weights best.safetensors --scene data/Set5 --scene data/Set14 --json
  safmn inspect --network bicubic --scale 4 --scene data/Set14 barbara 400 200 --crop 64 --json

--scene DIR [IMAGE [X Y]]: an image of a benchmark (the first one) and the corner of a square in it in HR pixels (where
LR has most texture). The first scene serves Figures 2 and 5. --out writes the numbers as JSON and the
pictures as an NPZ of the same name beside it.

Units: --crop and --window in SR pixels, --patch and --sigma in LR pixels. The diffusion index runs from 0 (one LR pixel
does everything) to 100 (all contribute alike) and depends on the size of the patch. PSNR in dB on Y, of the whole image
(as `safmn evaluate`) and of the square."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("--network", required=True, metavar="NAME", help="a name from `safmn list`")
    parser.add_argument("--scale", required=True, type=int, metavar="N", help="enlargement: 2, 3 or 4")
    parser.add_argument("--weights", metavar="FILE", help="trained weights; only bicubic needs none")
    parser.add_argument(
        "--which", metavar="raw|ema|KEY", help="of weights that a file holds twice: averaged (ema, the default) or raw"
    )
    parser.add_argument(
        "--scene", required=True, action="append", nargs="+", metavar="DIR", help="DIR [IMAGE [X Y]], see below"
    )
    parser.add_argument("--crop", type=int, default=96, metavar="PIXELS", help="side of a scene's square (96)")
    parser.add_argument("--window", type=int, default=16, metavar="PIXELS", help="side of the window explained (16)")
    parser.add_argument("--patch", type=int, default=64, metavar="PIXELS", help="side of the LR image around it (64)")
    parser.add_argument("--sigma", type=float, default=1.2, metavar="PIXELS", help="blur at the path's start (1.2)")
    parser.add_argument("--steps", type=int, default=24, metavar="N", help="pieces of the path (24)")
    parser.add_argument("--block", type=int, default=0, metavar="N", help="which SAFM, from 1; 0 is the last (0)")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; by default cuda where there is one")
    parser.add_argument("--out", metavar="FILE.json", help="write numbers here and pictures beside it")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")


def run(args: argparse.Namespace) -> None:
    """Looks, writes, tells."""
    from safmn.device import lease
    from safmn.errors import UserError

    for name, least in (("crop", 24), ("window", 2), ("patch", 8), ("steps", 1), ("block", 0)):
        if getattr(args, name) < least:
            raise UserError(f"--{name} {getattr(args, name)} is too small: give at least {least}")
    if not 0 < args.sigma <= 16:
        raise UserError(f"--sigma {args.sigma} is out of range: give more than 0 and at most 16 LR pixels")
    if args.out and not args.out.endswith(".json"):
        raise UserError(f"--out {args.out} does not end with .json: name the file of the numbers")
    with lease.share(args.device):
        _inspect(args)


def _inspect(args: argparse.Namespace) -> None:
    import json
    from dataclasses import asdict

    from safmn import networks, provenance
    from safmn.device.description import describe
    from safmn.inspection import record, scenes
    from safmn.quality.loading import choose_device, load_network

    begun = provenance.begin()
    device = choose_device(args.device)
    network, choice = load_network(args.network, args.scale, args.weights, args.which)
    network = network.to(device)
    opened = [scenes.open_scene(*_scene(words, args.scale), args.crop) for words in args.scene]
    settings = record.Settings(args.window, args.patch, args.sigma, args.steps, args.block)
    found = record.inspect(network, opened, networks.info(args.network).colour, settings)
    named = {"network": args.network, "scale": args.scale, "weights": choice and choice.record}
    found.numbers = named | found.numbers
    asked = {"command": args.command, "settings": asdict(settings), "crop": args.crop}
    asked |= {"network": args.network, "scale": args.scale, "scenes": [words[1:] for words in args.scene]}
    asked |= {"weights": args.weights and [provenance.of_file(args.weights), choice.key]}
    found.numbers["provenance"] = begun.result(
        describe(device.type),
        specification=asked,
        data={f"{scene.dataset}, {scene.image}": scene.pairs.fingerprint for scene in opened},
        seed=provenance.seed_of(args.weights),
    )
    if args.out:
        record.write(args.out, found)
    if args.json:
        print(json.dumps(found.numbers, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _show(found.numbers)


def _scene(words: list[str], scale: int) -> tuple[str, int, str | None, tuple[int, int] | None]:
    from safmn.errors import UserError

    if len(words) not in (1, 2, 4) or not all(word.isascii() and word.isdigit() for word in words[2:]):
        raise UserError(f"--scene {' '.join(words)} is not DIR, DIR IMAGE or DIR IMAGE X Y: X and Y are whole numbers")
    corner = (int(words[2]), int(words[3])) if len(words) == 4 else None
    return words[0], scale, words[1] if len(words) > 1 else None, corner


def _show(numbers: dict) -> None:
    name, map_ = f"{numbers['network']} x{numbers['scale']}", numbers["attribution"]
    index = "not defined" if map_["diffusion_index"] is None else f"{map_['diffusion_index']:.2f}"
    print(f"{name}: diffusion index {index} on {map_['dataset']}/{map_['image']}")
    for crop in numbers["crops"]:
        psnr = ["inf" if crop[key] is None else f"{crop[key]:.2f}" for key in ("psnr", "psnr_crop")]
        at = f"{crop['left']},{crop['top']}"
        print(f"{name}: {crop['dataset']}/{crop['image']}: {psnr[0]} dB; {psnr[1]} dB in the square at {at}")
