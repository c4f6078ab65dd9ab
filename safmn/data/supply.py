"""Which of a study's datasets must be downloaded, and in which jobs.

A dataset that lies under the study's root, or in a folder of its own, is used in place. Any other one that some archive
of the catalogue holds is fetched into the study's download folder, if it has one. What is there is decided by folders
alone, so that a study of many datasets is planned in no time; the job that fetches looks at every image.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from safmn.data import catalogue, sources
from safmn.errors import UserError

Source = dict[str, list[int]]
"""Datasets of one source with the scales that are needed of each."""


def to_fetch(
    needed: Iterable[tuple[str, int]],
    root: Path | None,
    folders: Mapping[str, str],
    download: Path | None,
) -> dict[str, Source]:
    """What is to be fetched, by source: datasets that share an archive are one source's and one job's.

    Args:
        needed: (dataset, scale) of each packed dataset that is needed.
        root: the folder that holds datasets, None if there is none.
        folders: name -> folder, where a dataset lies elsewhere.
        download: the folder for downloads; None: nothing is fetched.

    Raises:
        UserError: a root that is no folder. All would be downloaded for a slip of the pen.
    """
    if download is None:
        return {}
    shared = root is not None and root.absolute() == download.absolute()
    if root is not None and not shared and not root.is_dir():
        raise UserError(f"{root} is said to hold datasets, but is no folder: correct data.root or leave it out")
    found: dict[str, Source] = {}
    for name, scale in needed:
        if name in folders or name not in catalogue.FOLDERS:
            continue
        # In a folder that is filled by downloads, the job completes what is not all there.
        if root is not None and not shared and is_in(name, root):
            continue
        scales = found.setdefault(catalogue.source_of(name), {}).setdefault(name, [])
        if scale not in scales:
            scales.append(scale)
    return {source: {name: sorted(scales) for name, scales in each.items()} for source, each in found.items()}


def is_in(name: str, root: Path) -> bool:
    """Whether a folder holds a dataset, or some of its images where they are numbered: DIV2K's two parts may share one.

    A dataset that is there but damaged counts as there: whoever packs it says what is wrong with it.
    """
    try:
        folder = sources.locate(name, root).folder
    except UserError:
        return False
    numbers = sources.DATASETS[name].numbers if name in sources.DATASETS else None
    if numbers is None or folder is None:
        return True
    folders = [each for each in (folder, folder / "HR", *folder.glob("*_HR")) if each.is_dir()]
    stems = (file.stem for each in folders for file in each.iterdir())
    return any(stem.isascii() and stem.isdigit() and numbers[0] <= int(stem) <= numbers[1] for stem in stems)


def marker(download: Path, study: str, dataset: str, scale: int) -> Path:
    """The file that says that a study's dataset has been fetched for a scale.

    It lies with the images, so that it goes with them, and belongs to one study, so that another one that asks for more
    scales makes nothing of this one's out of date.
    """
    return download / "fetched" / study / f"{dataset}_x{scale}.json"
