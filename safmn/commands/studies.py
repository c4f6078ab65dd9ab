"""The arguments that name a study and its results, which several commands share."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from safmn.errors import UserError

if TYPE_CHECKING:
    from safmn.study import Study


def add_study(parser: argparse.ArgumentParser) -> None:
    """Add the study: `STUDY` or `--study STUDY`."""
    parser.add_argument("file", nargs="?", metavar="STUDY", help="the study (YAML, or results/NAME/study.json)")
    parser.add_argument("--study", metavar="STUDY", help="likewise")


def file_of(args: argparse.Namespace) -> str:
    """Return the file that the arguments of `add_study` name; UserError unless it is one."""
    if (args.file is None) == (args.study is None):
        raise UserError("give the study once, as STUDY or with --study STUDY, e.g. config/mini.yaml")
    return str(args.study or args.file)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the study and --results."""
    add_study(parser)
    parser.add_argument("--results", metavar="DIR", help="the study's folder (default results/NAME)")


def opened(args: argparse.Namespace) -> "tuple[Study, Path]":
    """Return the study that the arguments name, and the folder of its results: `safmn.study.opened`."""
    from safmn import study

    return study.opened(file_of(args), args.results)
