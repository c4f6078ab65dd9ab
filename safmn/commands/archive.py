"""`safmn archive`: a study as an RO-Crate, to be kept or passed on."""

import argparse
from pathlib import Path
from typing import Any

from safmn.commands import studies

HELP = """Write a study with everything that it takes to understand and repeat it as an RO-Crate (Workflow Run Crate
0.5): the workflow and its code, the study, the variants, tables, figures, report, histories, and where every result
comes from. Folders and users of this machine are taken out. Works at any stage; what is missing is named in it."""

EXAMPLES = """examples:
  safmn archive --study config/mini.yaml --out mini.zip
  safmn archive --study results/t291/study.json --out t291.crate --weights best     # a folder
  safmn archive --study config/paper.yaml --out paper.zip --weights all --author "Ada Lovelace" --json

Not in it: images, other people's weights, saved states, logs. Sizes are printed in MB (10^6 bytes), in bytes in JSON.
The same results give the same bytes."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    studies.add_arguments(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="PATH", help="NAME.zip, or a new folder")
    parser.add_argument(
        "--weights", choices=("none", "best", "all"), default="none", help="of each run (default none); all: last, too"
    )
    parser.add_argument("--author", metavar="NAME", help="who ran the study, if that is to be named in it")
    parser.add_argument("--json", action="store_true", help="print what was written, and what is missing, as JSON")


def run(args: argparse.Namespace) -> None:
    """Gathers, writes, tells."""
    import json

    from safmn.archive import study as archive
    from safmn.commands.progress import Progress

    study, folder = studies.opened(args)
    with Progress(f"archiving {study.name}") as progress:
        told = archive.write(study, folder, args.out, args.weights, args.author, progress)
    told |= {"out": str(args.out)}
    print(json.dumps(told, indent=2, ensure_ascii=False)) if args.json else _print(told)


def _print(told: dict[str, Any]) -> None:
    print(f"{told['out']}: {told['files']} files, {told['bytes'] / 1e6:.1f} MB, {told['results']} results")
    for each in told["missing"][:10]:
        print(f"missing: {each['file']}: {each['reason']}")
    if len(told["missing"]) > 10:
        print(f"missing: {len(told['missing']) - 10} more, see provenance.json in it")
