"""`safmn upscale`: one's own pictures, enlarged by a trained network."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from safmn import networks
from safmn.commands import options, output
from safmn.data import bicubic, layouts, photo
from safmn.errors import UserError
from safmn.progress import Progress

HELP = "Enlarges one picture, or every picture of a folder, with a trained network."
EXAMPLES = """\
examples:
  safmn upscale small.png large.png --weights best.safetensors
  safmn upscale small.jpg large.png --network imdn --weights IMDN_x4.pth --scale 4
  safmn upscale photos/ enlarged/ --weights best.safetensors --tile 256

Reads PNG, JPEG, BMP and WebP of 8 bits a channel; turned as EXIF says, colour profile and transparency kept; what is
not kept is said. The suffix of OUT chooses the format: .png, .bmp (lossless), .jpg or .webp (quality 95). A folder
gives a folder of PNG files of the same names. --tile and --overlap are in pixels of IN. Tiles give the values of the
whole picture, but for a grey level or two where a network sees further than --overlap. A network that looks at the
whole picture at once (imdn, ccm_se, squeeze-and-excitation, statistics over the picture) computes something else in
tiles, by tens of grey levels in places: it is looked for, and a warning printed.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("input", metavar="IN", help="a picture or a folder of pictures")
    parser.add_argument("output", metavar="OUT", help="the picture, or folder of pictures, to write")
    options.add_network(parser, positional=False)
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


def run(args: argparse.Namespace) -> None:
    """Enlarge each picture and write it."""
    jobs = plan(Path(args.input), Path(args.output))
    options.settle(args)  # a mistake is told before torch is imported
    from safmn.device.memory import is_out_of_memory
    from safmn.quality import evaluation, tiling

    name = args.network
    network, _, _ = options.load_network(args, name)
    channels = networks.info(name).colour
    if args.tile is not None and (reason := tiling.sees_everything(network, channels)):
        output.warn(
            "upscale",
            f"{name} looks at the whole picture, or at a grid of its own ({reason}), so tiles change its values, by "
            "tens of grey levels in places: leave --tile out if memory allows, or take tiles as large as it allows",
        )

    def enlarge(lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return evaluation.super_resolve(network, lr, channels)

    with Progress(f"{name} x{args.scale}", "pictures" if len(jobs) > 1 else "tiles") as progress:
        for done, (source, target) in enumerate(jobs, start=1):
            picture = photo.read(source)
            lr, alpha = picture.pixels, picture.alpha
            for note in filter(None, (*picture.notes, photo.cannot_hold(target, picture))):
                print(f"safmn upscale: {source}: {note}", file=sys.stderr)
            try:
                if args.tile is None:
                    sr = enlarge(lr)
                else:
                    # Within one picture the tiles are the progress; within a folder, the pictures.
                    sr = tiling.enlarge(lr, args.tile, args.overlap, enlarge, progress if len(jobs) == 1 else None)
                alpha = None if alpha is None else bicubic.upscale(alpha, args.scale)
                photo.write(target, replace(picture, pixels=sr, alpha=alpha))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                advice = "try --tile 256" if args.tile is None else f"try a --tile smaller than {args.tile}"
                raise UserError(f"{source} needs more memory than there is: {advice}") from error
            except UserError as error:
                raise UserError(f"{source}: {error}") from error
            if len(jobs) == 1:
                print(f"{target}: {sr.shape[1]}x{sr.shape[0]} pixels, from {lr.shape[1]}x{lr.shape[0]} by {name}")
            progress(done, len(jobs))
    if len(jobs) > 1:
        print(f"{args.output}: {len(jobs)} pictures, x{args.scale} by {name}")


def plan(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Pair each picture with the file of its enlargement.

    Raises:
        UserError: a picture is missing, OUT has no known format, or a file would be overwritten that is read or that
            another picture is enlarged to.
    """
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
