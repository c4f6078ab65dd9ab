"""The arguments that name a study and its results, which several commands share."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from safmn.errors import UserError

if TYPE_CHECKING:
    from safmn.study import Study

_log = logging.getLogger(__name__)


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
    """Return the study that the arguments name, and the folder of its results.

    That is `--results`, else `results/<study>` here. If there is none here, it is the folder of a file
    `results/<study>/study.json`, or `results/<study>` beside the folder of the study's file.
    """
    from safmn import layout
    from safmn.study import Study

    file = Path(file_of(args))
    study = Study.load(file)
    folder = study.folder(args.results)
    if args.results is None and not folder.is_dir():
        around = (file.parent / study.results, file.parent.parent / study.results)
        for place in [file.parent] if file.name == layout.STUDY else around:
            if (place / layout.STUDY).is_file():
                _log.info("%s is not here: looking at %s", folder, place)
                return study, place
        _log.warning("there is no %s in %s: nothing was run here yet, or --results DIR names where", folder, Path.cwd())
    return study, folder
