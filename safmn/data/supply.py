"""Decide which datasets of a study must be downloaded, and in which jobs.

A dataset under the study's root or in a folder of its own is used where it is. Any other one in the catalogue is
fetched into the study's download folder, if it has one. Only folders are looked at here, so that planning takes no
time; the job that fetches checks every image.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from safmn.data import catalogue, sources
from safmn.errors import UserError

Source = dict[str, list[int]]
"""The datasets of one source and the scales that are needed of each."""


def to_fetch(
    needed: Iterable[tuple[str, int]],
    root: Path | None,
    folders: Mapping[str, str],
    download: Path | None,
) -> dict[str, Source]:
    """Return what must be fetched, by source; datasets that share an archive have one source and one job.

    Args:
        needed: (dataset, scale) of each packed dataset that is needed.
        root: the folder that holds datasets; None: there is none.
        folders: name -> folder, where a dataset lies elsewhere.
        download: the folder for downloads; None: nothing is fetched.

    Raises:
        UserError: the root is not a folder: a typing error would make everything be downloaded.
    """
    if download is None:
        return {}
    shared = root is not None and root.absolute() == download.absolute()
    if root is not None and not shared and not root.is_dir():
        raise UserError(f"{root} is said to hold datasets, but is no folder: correct data.root or leave it out")
    wanted: dict[str, Source] = {}
    for name, scale in needed:
        if name in folders or name not in catalogue.FOLDERS:
            continue
        # In a folder that is filled by downloads, the job completes what is not all there.
        if root is not None and not shared and is_in(name, root):
            continue
        scales = wanted.setdefault(catalogue.source_of(name), {}).setdefault(name, [])
        scales[:] = sorted({*scales, scale})
    return wanted


def is_in(name: str, root: Path) -> bool:
    """Return whether a folder holds a dataset, complete or not.

    Where images are numbered, one of them must be there: the two parts of DIV2K may share a folder.
    """
    try:
        folder = sources.locate(name, root)
    except UserError:
        return False
    dataset = sources.DATASETS.get(name)
    if dataset is None or dataset.numbers is None:
        return True
    folders = [path for path in (folder, folder / "HR", *folder.glob("*_HR")) if path.is_dir()]
    stems = (file.stem for path in folders for file in path.iterdir())
    return any(stem.isascii() and stem.isdigit() and dataset.includes(stem) for stem in stems)


def marker(download: Path, study: str, dataset: str, scale: int) -> Path:
    """Return the path of the file that says that a study's dataset has been fetched for a scale.

    It lies with the images, so that it is removed with them. It belongs to one study, so that another study that needs
    more scales makes nothing of this one out of date.
    """
    return download / "fetched" / study / f"{dataset}_x{scale}.json"
