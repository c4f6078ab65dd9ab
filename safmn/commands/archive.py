"""`safmn archive`: a study as an RO-Crate, to keep or to pass on."""

import argparse
from pathlib import Path
from typing import Any

from safmn.commands import output, studies

HELP = """Write a study with everything that is needed to understand and repeat it as an RO-Crate (Workflow Run Crate
0.5): the workflow and its code, the study, the variants, tables, figures, report, histories, and the provenance of
every result. Folders and users of this machine are taken out. Works at any stage; the archive names what is missing.
Needs `pip install safmn-harness[archive]`."""

EXAMPLES = """examples:
  safmn archive --study config/mini.yaml --out mini.zip
  safmn archive --study results/t291/study.json --out t291.crate --weights best     # a folder
  safmn archive --study config/paper.yaml --out paper.zip --weights all --author "Ada Lovelace" --json

It has no images, no weights of other people, no saved states and no logs. Sizes are printed in MB (10^6 bytes), in
JSON in bytes. The same results give the same bytes."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    studies.add_arguments(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="PATH", help="NAME.zip, or a new folder")
    parser.add_argument(
        "--weights", choices=("none", "best", "all"), default="none", help="of each run (default none); all: last, too"
    )
    parser.add_argument("--author", metavar="NAME", help="who ran the study, to be named in the archive")
    parser.add_argument("--json", action="store_true", help="print what was written, and what is missing, as JSON")


def run(args: argparse.Namespace) -> None:
    """Write the archive and print a summary."""
    study, folder = studies.opened(args)  # a mistake is told before pandas is imported
    from safmn.archive import study as archive
    from safmn.progress import Progress

    with Progress(f"archiving {study.name}", "files") as progress:
        summary = archive.write(study, folder, args.out, args.weights, args.author, progress)
    summary |= {"out": str(args.out)}
    output.print_json(summary) if args.json else _print(summary)


def _print(summary: dict[str, Any]) -> None:
    print(f"{summary['out']}: {summary['files']} files, {summary['bytes'] / 1e6:.1f} MB, {summary['results']} results")
    print(f"seal: {summary['seal']}")
    if summary["own"]:
        print(f"of your own, look through them before you pass it on: {', '.join(summary['own'])}")
    for result in summary["missing"][:10]:
        print(f"missing: {result['file']}: {result['reason']}")
    if len(summary["missing"]) > 10:
        print(f"missing: {len(summary['missing']) - 10} more, see provenance.json in it")
