"""`safmn resolve`: a study with every default filled in."""

import argparse

from safmn.commands import output, studies

HELP = """Validate a study and write it as JSON with every default filled in, or print it.

Snakemake writes the same to results/<study>/study.json, with the overrides of --config, for its jobs to read."""

EXAMPLES = """examples:
  safmn resolve config/mini.yaml
  safmn resolve config/t291.yaml --out study.json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    studies.add_study(parser)
    parser.add_argument("--out", metavar="FILE", help="where to write it (default: print it)")


def run(args: argparse.Namespace) -> None:
    """Write or print the study."""
    from safmn.files import write_json
    from safmn.study import Study

    study = Study.load(studies.file_of(args))
    if args.out:
        write_json(args.out, study.content)
    else:
        output.print_json(study.content)
