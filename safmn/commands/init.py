"""`safmn init`: a project of your own, whose variants are added to the paper's."""

import argparse
import shutil
from pathlib import Path

from safmn import __version__, paths
from safmn.errors import UserError
from safmn.files import staging, sync_folder

HELP = """Write a project of your own into a new folder: a Snakefile that includes the workflow of this package, a small
study, and one variant with its class. `snakemake --cores all` in that folder trains it beside the paper's variants."""

EXAMPLES = """examples:
  safmn init my_variants
  cd my_variants && snakemake --cores all train_gated
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the argument."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder, or an empty one")


def run(args: argparse.Namespace) -> None:
    """Write the project under another name and rename it, so that it is complete or absent."""
    folder = args.folder.absolute()
    there = folder.exists()
    if there and (not folder.is_dir() or any(folder.iterdir())):
        what = "a folder with files in it" if folder.is_dir() else "a file"
        raise UserError(f"{args.folder} is {what}: name a new folder, or an empty one")
    with staging(folder if there else folder.parent, ".safmn-init.", args.folder) as staged:
        shutil.copytree(paths.ROOT / "workflow" / "template", staged, dirs_exist_ok=True, ignore=_ignored)
        (staged / "gitignore").rename(staged / ".gitignore")
        shutil.copytree(paths.ROOT / "profiles" / "default", staged / "profiles" / "default")
        (staged / paths.MADE_WITH).write_text(f"{__version__}\n", encoding="utf-8")
        if there:  # a shell may be in it, or it is a mount: keep and fill it, with the mark of a project last
            for file in sorted(staged.iterdir(), key=lambda file: file.name == paths.MADE_WITH):
                file.rename(folder / file.name)
        else:
            staged.chmod(0o755)
            staged.rename(folder)
        sync_folder(folder.parent)
    print(f"{args.folder} has a variant of its own, gated; continue with:")
    print(f"  cd {args.folder}\n  snakemake --cores all train_gated   # trains it alone, in a minute or two")
    print("  snakemake --cores all               # the whole study and its page: about five minutes on two cores")


_ignored = shutil.ignore_patterns("__pycache__")
