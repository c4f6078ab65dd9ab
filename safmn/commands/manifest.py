"""`safmn manifest`: what data is packed, as one hash each, and whether it is the same as somebody else's."""

import argparse
from pathlib import Path
from typing import Any

HELP = """Print the data manifest hash of packed datasets, or compare them with somebody else's. It is a hash over
names and decoded HR and LR pixels, whatever the machine, the folder and the compression of the files.
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
    """Adds the arguments."""
    parser.add_argument("ours", metavar="OURS", help="manifest, packed dataset, or folder of them")
    parser.add_argument("theirs", metavar="THEIRS", nargs="?", help="likewise: compare with these")
    parser.add_argument("--verify", action="store_true", help="read all pixels of OURS and check them, too")
    parser.add_argument("--json", action="store_true", help="print hashes and differences as JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the hashes, or the differences."""
    import json

    from safmn.data import manifest

    ours = _read(args.ours)
    if args.verify:
        _verify(args.ours)
    if args.theirs is None:
        if args.json:
            print(json.dumps({name: _figures(each) for name, each in ours.items()}, indent=2, ensure_ascii=False))
        else:
            for name, each in ours.items():
                print(f"{each['digest']}  {name}, {len(each['images'])} images")
        return 0
    theirs = _read(args.theirs)
    if len(ours) == len(theirs) == 1:  # the same pictures may have two names
        (name, only), (other, second) = *ours.items(), *theirs.items()
        compared = {name if name == other else f"{name} and {other}": (only, second)}
    else:
        compared = {name: (ours.get(name), theirs.get(name)) for name in sorted({*ours, *theirs})}
    report = {}
    for name, (first, second) in compared.items():
        if first is None or second is None:
            where = args.ours if second is None else args.theirs
            report[name] = {"same": False, "differences": [f"only in {where}"], "remarks": []}
            continue
        report[name] = {
            "same": first["digest"] == second["digest"],
            "differences": manifest.differences(first, second),
            "remarks": manifest.remarks(first, second),
        }
    if args.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        for name, each in report.items():
            print(f"{name}: {'the same data' if each['same'] else 'other data'}", end="")
            told = [*each["differences"], *each["remarks"]]
            print(f": {'; '.join(told)}" if told else "")
    return 0 if all(each["same"] for each in report.values()) else 1


def _read(path: str) -> dict[str, dict[str, Any]]:
    """The manifests of a path, by dataset and scale; UserError where there is none."""
    from safmn import layout
    from safmn.data import manifest
    from safmn.errors import UserError

    found = {name: manifest.read(file) for name, file in manifest.files(path).items()}
    if not found:
        raise UserError(f"{path} holds no {layout.MANIFEST}: name a packed dataset, see `safmn pack`")
    return found


def _verify(path: str) -> None:
    """UserError where a packed dataset's pixels are not those of its manifest."""
    from safmn.data import manifest, packed
    from safmn.errors import UserError

    for file in manifest.files(path).values():
        dataset = packed.PackedPairs(Path(file).parent)
        dataset.verify()
        if dataset.fingerprint != manifest.digest(file):
            raise UserError(f"{file} does not describe the pixels beside it: pack the dataset again")


def _figures(content: dict[str, Any]) -> dict[str, Any]:
    return {"digest": content["digest"], "images": len(content["images"])}
