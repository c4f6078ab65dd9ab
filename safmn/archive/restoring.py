"""Put a user's own files of an archive where they are found: to verify or import a study with networks of its own.

That lets the code of somebody else run, so it is done only if it is asked for.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safmn import __version__, paths
from safmn.archive.findings import listed
from safmn.archive.members import BESIDE_THE_CODE
from safmn.archive.opening import Opened
from safmn.archive.own_files import PLACES
from safmn.errors import UserError
from safmn.files import atomic
from safmn.networks import variants

_ENVIRONMENT = ("SAFMN_PROJECT", "SAFMN_ABLATIONS", paths.NETWORKS)


@contextmanager
def restored(archive: Opened, project: Path) -> Iterator[list[str]]:
    """Put the own files of an archive into a project, and make it this process's project meanwhile.

    Files that the harness here has, such as the paper's variants, are left out; see `hidden`. If an error leaves the
    context, the files are removed again.

    Args:
        archive: the archive.
        project: a folder as `safmn init` writes it, or an empty one.

    Yields:
        The names of the new files.

    Raises:
        UserError: the project has other files of these names; nothing is written.
    """
    new = {name: file for name, file in _own(archive) if not (paths.ROOT / name).exists()}
    here = {name: project / name for name in new if (project / name).exists()}
    other = [name for name, file in here.items() if not file.is_file() or file.read_bytes() != new[name].read_bytes()]
    if other:
        raise UserError(f"{project} has other files of these names: {listed(other)}: rename yours, or import elsewhere")
    written = [name for name in new if name not in here]
    before = {key: os.environ.pop(key, None) for key in _ENVIRONMENT}
    try:
        for name in written:
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            with atomic(project / name) as temporary:
                temporary.write_bytes(new[name].read_bytes())
        if project != paths.ROOT:
            (project / "ablations").mkdir(exist_ok=True)
            if not (project / paths.MADE_WITH).exists():
                (project / paths.MADE_WITH).write_text(f"{__version__}\n", encoding="utf-8")
            os.environ["SAFMN_PROJECT"] = str(project)
        elif (project / "networks").is_dir():  # a checkout is no project: its folder of networks has to be named
            os.environ[paths.NETWORKS] = str(project / "networks")
        variants.reread()
        yield written
    except BaseException:
        for name in written:
            (project / name).unlink(missing_ok=True)
        raise
    finally:
        for key, value in before.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value
        variants.reread()


def hidden(archive: Opened) -> list[str]:
    """Return the own files of an archive in whose place the harness here has another file, which is taken."""
    places = {name: (file, paths.ROOT / name) for name, file in _own(archive) if name not in BESIDE_THE_CODE}
    return [
        name
        for name, (theirs, ours) in places.items()
        if ours.exists() and not (ours.is_file() and ours.read_bytes() == theirs.read_bytes())
    ]


def _own(archive: Opened) -> Iterator[tuple[str, Path]]:
    return ((name, file) for name, file in archive.files.items() if name.partition("/")[0] in PLACES)
