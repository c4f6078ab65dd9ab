"""`safmn manifest`: print the hashes of packed data, or compare it with somebody else's."""

import argparse

from safmn.commands import output
from safmn.data import manifest, packed
from safmn.data.manifest import Manifest
from safmn.errors import UserError
from safmn.layout import MANIFEST

HELP = """Print the data manifest hash of packed datasets, or compare them with somebody else's. It is a hash over
names and decoded HR and LR pixels; machine, folder and compression of the files do not matter.
Exit status: 0 the same data, 1 other data, 2 a mistake."""

EXAMPLES = """examples:
  safmn manifest results/paper                          every dataset that the study has packed
  safmn manifest results/paper theirs/data              ours and theirs: what differs, image by image
  safmn manifest results/t291/data/Set5/x4 their_manifest.json
  safmn manifest results/t291/data/Set5/x4 --verify     read the packed pixels and compare them with the hashes

OURS and THEIRS are a manifest.json, the folder of a packed dataset, or a folder of them such as results/<study>. One
file is all that has to be sent to somebody who wants to compare. The hash of an image is that of its PPM file:
`magick baby.png -depth 8 ppm:- | sha256sum`."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("ours", metavar="OURS", help="manifest, packed dataset, or folder of them")
    parser.add_argument("theirs", metavar="THEIRS", nargs="?", help="likewise: compare with these")
    parser.add_argument("--verify", action="store_true", help="read all pixels of OURS and check them, too")
    parser.add_argument("--json", action="store_true", help="print hashes and differences as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the hashes, or the differences; return 0 for the same data, 1 for other data."""
    ours = _read(args.ours)
    if args.verify:
        _verify(args.ours)
    if args.theirs is None:
        if args.json:
            figures = {
                name: {"digest": content.digest, "images": len(content.images)} for name, content in ours.items()
            }
            output.print_json(figures)
        else:
            for name, content in ours.items():
                print(f"{content.digest}  {name}, {len(content.images)} images")
        return 0
    theirs = _read(args.theirs)
    pairs: dict[str, tuple[Manifest | None, Manifest | None]]
    if len(ours) == len(theirs) == 1:  # the same pictures may have two names
        (name, first), (other, second) = *ours.items(), *theirs.items()
        pairs = {name if name == other else f"{name} and {other}": (first, second)}
    else:
        pairs = {name: (ours.get(name), theirs.get(name)) for name in sorted({*ours, *theirs})}
    report: dict[str, dict[str, list[str]]] = {}
    same = {}
    for name, (mine, yours) in pairs.items():
        if mine is None or yours is None:
            where = args.ours if yours is None else args.theirs
            same[name], differences, remarks = False, [f"only in {where}"], []
        else:
            same[name] = mine.digest == yours.digest
            differences, remarks = manifest.differences(mine, yours), manifest.remarks(mine, yours)
        report[name] = {"differences": differences, "remarks": remarks}
    if args.json:
        results = {name: {"same": same[name], **texts} for name, texts in report.items()}
        output.print_json(results)
    else:
        for name, texts in report.items():
            details = "; ".join([*texts["differences"], *texts["remarks"]])
            print(f"{name}: {'the same' if same[name] else 'other'} data{f': {details}' if details else ''}")
    return 0 if all(same.values()) else 1


def _read(path: str) -> dict[str, Manifest]:
    """Read the manifests of a path, by dataset and scale; raise UserError where there is none."""
    manifests = {name: content for name, (_, content) in manifest.find(path).items()}
    if not manifests:
        raise UserError(f"{path} holds no {MANIFEST}: name a packed dataset, see `safmn pack`")
    return manifests


def _verify(path: str) -> None:
    """Raise UserError where a packed dataset's pixels are not those of its manifest."""
    for file, content in manifest.find(path).values():
        dataset = packed.PackedPairs(file.parent)
        dataset.verify()
        if dataset.fingerprint != content.digest:
            raise UserError(f"{file} does not describe the pixels beside it: pack the dataset again")
