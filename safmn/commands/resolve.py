"""`safmn resolve`: a study with every default filled in."""

import argparse
import json

HELP = """Check a study and write it down as JSON with every default filled in, or print it.

What the DAG's jobs read is this file, so that command-line overrides reach them all."""

EXAMPLES = """examples:
  safmn resolve config/mini.yaml
  safmn resolve config/t291.yaml --out study.json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", nargs="?", metavar="FILE", help="the study (YAML or JSON)")
    parser.add_argument("--content", metavar="JSON", help="the study itself instead of a file")
    parser.add_argument("--out", metavar="FILE", help="where to write it (default: print it)")


def run(args: argparse.Namespace) -> None:
    from safmn.errors import UserError
    from safmn.files import write_json
    from safmn.study import Study

    if (args.study is None) == (args.content is None):
        raise UserError("give either a study's file or --content")
    study = Study.load(args.study) if args.study else Study(json.loads(args.content), "--content")
    if args.out:
        write_json(args.out, study.content)
    else:
        print(json.dumps(study.content, indent=2))
