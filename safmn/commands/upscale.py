"""`safmn upscale`: one's own pictures, enlarged by a trained network."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from safmn.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from safmn.data.photo import Photo

HELP = "Enlarges one picture, or every picture of a folder, with a trained network."
EXAMPLES = """\
examples:
  safmn upscale small.png large.png --weights best.safetensors --scale 4
  safmn upscale small.jpg large.png --network imdn --weights IMDN_x4.pth --scale 4
  safmn upscale photos/ enlarged/ --weights best.safetensors --scale 4 --tile 256

Reads PNG, JPEG, BMP and WebP of 8 bits a channel; turned as EXIF says, colour profile and transparency kept; what is
not kept is said. The suffix of OUT chooses the format: .png, .bmp (lossless), .jpg or .webp (quality 95). A folder
gives a folder of PNG files of the same names. --tile and --overlap are in pixels of IN. Tiles give the values of the
whole picture, but for a grey level or two where a network sees further than --overlap. A network that looks at the
whole picture at once (imdn, ccm_se, squeeze-and-excitation, statistics over the picture) computes something else in
tiles, by tens of grey levels in places: it is looked for, and a warning printed.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="IN", help="a picture or a folder of pictures")
    parser.add_argument("output", metavar="OUT", help="the picture, or folder of pictures, to write")
    parser.add_argument(
        "--network", metavar="NAME", help="a name from `safmn list`; not needed where the weights say it"
    )
    parser.add_argument("--weights", metavar="FILE", help="trained weights; only bicubic needs none")
    parser.add_argument(
        "--which", metavar="raw|ema|KEY", help="of weights that a file holds twice: averaged (ema, the default) or raw"
    )
    parser.add_argument("--scale", required=True, type=int, metavar="N", help="enlargement: 2, 3 or 4")
    parser.add_argument(
        "--tile",
        type=int,
        metavar="PIXELS",
        help="enlarge in tiles of this side (from 16), where memory is short; changes what networks give that look at "
        "the whole picture",
    )
    parser.add_argument(
        "--overlap", type=int, default=32, metavar="PIXELS", help="surroundings that a tile sees (default: 32)"
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:N; by default cuda where there is one")


def run(args: argparse.Namespace) -> None:
    import sys

    from safmn import networks
    from safmn.data import photo
    from safmn.device.memory import is_out_of_memory
    from safmn.quality import evaluation, tiling
    from safmn.quality.loading import choose_device, load_network, network_of
    from safmn.quality.progress import Progress

    jobs = plan(Path(args.input), Path(args.output))
    if args.network is None and args.weights is None:
        raise UserError("neither --weights nor --network is given: say what is to enlarge the pictures")
    name = args.network or network_of(args.weights)
    device = choose_device(args.device)
    network = load_network(name, args.scale, args.weights, args.which)[0].to(device)
    channels = networks.info(name).colour
    if args.tile is not None and (reason := tiling.sees_everything(network, channels)):
        print(
            f"safmn upscale: warning: {name} looks at the whole picture ({reason}), so tiles change its values, by "
            "tens of grey levels in places: leave --tile out if memory allows, or take tiles as large as it allows",
            file=sys.stderr,
        )

    def enlarge(lr: "np.ndarray", progress: Callable[[int, int], None]) -> "np.ndarray":
        def one(piece: "np.ndarray") -> "np.ndarray":
            return evaluation.super_resolve(network, piece, channels)

        return one(lr) if args.tile is None else tiling.enlarge(lr, args.tile, args.overlap, one, progress)

    with Progress(f"{name} x{args.scale}") as progress:
        for done, (source, target) in enumerate(jobs, start=1):
            picture = photo.read(source)
            lr = picture.pixels
            for note in filter(None, (*picture.notes, photo.cannot_hold(target, picture))):
                print(f"safmn upscale: {source}: {note}", file=sys.stderr)
            try:
                # Within one picture the tiles are the progress; within a folder, the pictures.
                sr = enlarge(lr, progress if len(jobs) == 1 else lambda done, total: None)
                photo.write(target, _like(picture, sr, args.scale))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                raise UserError(_too_large(source, args.tile)) from error
            except UserError as error:
                raise UserError(f"{source}: {error}") from error
            if len(jobs) == 1:
                print(f"{target}: {sr.shape[1]}x{sr.shape[0]} pixels, from {lr.shape[1]}x{lr.shape[0]} by {name}")
            progress(done, len(jobs))
    if len(jobs) > 1:
        print(f"{args.output}: {len(jobs)} pictures, x{args.scale} by {name}")


def plan(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """(picture, where its enlargement goes); UserError where one would overwrite a picture that is read."""
    from safmn.data import layouts, photo

    if source.is_dir():
        if target.exists() and not target.is_dir():
            raise UserError(f"{source} is a folder but {target} is a file: let OUT be a folder")
        jobs = [(file, target / f"{file.stem}.png") for file in layouts.list_images(source)]
        taken: set[Path] = set()
        for _, path in jobs:
            if path in taken:
                raise UserError(f"two pictures of {source} would become {path}: rename one")
            taken.add(path)
    else:
        if not source.is_file():
            raise UserError(f"{source} is missing: give a picture or a folder of pictures")
        if target.is_dir():
            raise UserError(f"{target} is a folder: name the picture to write, such as {target / source.stem}.png")
        if target.suffix.lower() not in photo.SUFFIXES:
            raise UserError(f"{target}: the format {target.suffix!r} is not known, choose {', '.join(photo.SUFFIXES)}")
        jobs = [(source, target)]
    sources = {file.resolve() for file, _ in jobs}
    for _, path in jobs:
        if path.resolve() in sources:
            raise UserError(f"{path} is itself a picture to be enlarged and would be overwritten: choose another OUT")
    return jobs


def _like(picture: "Photo", sr: "np.ndarray", scale: int) -> "Photo":
    """The enlarged pixels with what else the picture has; transparency is enlarged bicubically."""
    from dataclasses import replace

    from safmn.data import bicubic

    alpha = None if picture.alpha is None else bicubic.upscale(picture.alpha, scale)
    return replace(picture, pixels=sr, alpha=alpha)


def _too_large(source: Path, tile: int | None) -> str:
    advice = "try --tile 256" if tile is None else f"try a --tile smaller than {tile}"
    return f"{source} needs more memory than there is: {advice}"
