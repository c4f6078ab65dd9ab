"""The arguments --study and --results, which several commands share."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from safmn.study import Study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --study and --results."""
    parser.add_argument("--study", required=True, metavar="FILE", help="the study (YAML, or results/NAME/study.json)")
    parser.add_argument("--results", metavar="DIR", help="the study's folder (default results/NAME)")


def opened(args: argparse.Namespace) -> "tuple[Study, Path]":
    """Return the study that the arguments name, and the folder of its results."""
    from safmn.study import Study

    study = Study.load(args.study)
    return study, study.folder(args.results)
