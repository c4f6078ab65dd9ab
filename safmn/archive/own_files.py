"""A user's own files that a study names: variants, networks, losses and optimisers, and what they import and read.

An archive keeps them in the layout of a project of `safmn init`: `ablations/`, `networks/`, `config/`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from safmn import fingerprint, networks, paths
from safmn.study import Study
from safmn.training import own

PLACES = ("ablations", "networks", "config")
"""The folders of an archive with them."""


def collect(study: Study) -> tuple[dict[str, Path], list[str]]:
    """Return the files, and what cannot be taken along.

    What counts for the fingerprint of a network, a loss or an optimiser is taken, hidden files excepted.

    Returns:
        Name in the archive -> file; and the names of files that lie outside of the folders of variants, networks and
        studies, and of the present folder. What lies in the present folder alone gets into `config/`: there a class of
        a user's own is found as well.
    """
    folders: Mapping[str, list[Path | None]] = {
        "ablations": [paths.own_ablations(), paths.ablations()],
        "networks": [Path(study.own_networks)] if study.own_networks else [],
        "config": [(paths.project() or paths.ROOT) / "config", Path.cwd()],
    }
    bases = [(place, folder.resolve()) for place, all_of in folders.items() for folder in all_of if folder]
    found: dict[str, Path] = {}
    outside = []
    for file in _counting(study):
        real = file.resolve()
        base = next(((place, folder) for place, folder in bases if real.is_relative_to(folder)), None)
        if base is None:
            outside.append(file.name)
        elif not any(part.startswith(".") for part in real.relative_to(base[1]).parts):
            found[PurePosixPath(base[0], real.relative_to(base[1]).as_posix()).as_posix()] = real
    return dict(sorted(found.items())), sorted(set(outside))


def _counting(study: Study) -> Iterator[Path]:
    """Yield the files of variants and networks, and those that count for them and for own losses and optimisers."""
    for name in study.counted:
        network = networks.info(name)
        if network.file:
            yield network.file
            yield from fingerprint.network(network.code, dict(network.arguments), network.file.parent).files
    for run in study.runs():
        settings = study.specification(run)["training"]
        for key, path in own.classes(settings).items():
            named = {key: (path, *own.texts(settings, key))}
            yield from fingerprint.classes(named, own.beside(path)).files
