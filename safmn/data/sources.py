"""Find datasets by name: where their images are, and which of them a study selects.

`photographs` comes with installed packages. The other known datasets lie under a `data_root` that the user gives, or
in a folder named in `folders`; their licences do not allow this project to include them. Any other name is a folder of
the user's own.

A selection is a name with an optional Python slice of the dataset's sorted image names: `BSDS200[10:]`,
`photographs[:3]`, `DIV2K[::10]`.
"""

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safmn.data import layouts
from safmn.data.pairs import Found
from safmn.errors import UserError

# Natural colour photographs inside the wheels (scikit-image downloads others on demand). Left out: retina.jpg, so
# smooth that bicubic gives 43 dB and it would dominate a mean; hubble_deep_field.jpg and ihc.png (a tissue section),
# which add nothing. The two views of the motorcycle are one scene; sorted, they are neighbours for a slice.
PHOTOGRAPHS = {
    "scikit-image": (
        "skimage",
        "data",
        (
            "astronaut.png",
            "chelsea.png",
            "coffee.png",
            "motorcycle_left.png",
            "motorcycle_right.png",
            "rocket.jpg",
        ),
    ),
    "scikit-learn": ("sklearn", "datasets/images", ("china.jpg", "flower.jpg")),
}
"""Distribution -> its package, the folder in it, and the files."""

_EDSR_BENCHMARKS = "https://cv.snu.ac.kr/research/EDSR/benchmark.tar (250 MB) holds it"
_DIV2K = "https://data.vision.ee.ethz.ch/cvl/DIV2K/"


@dataclass(frozen=True)
class Dataset:
    """A known dataset.

    Attributes:
        images: number of its images.
        folders: where it may lie below the data root; the first one that exists is taken.
        obtain: where the user gets it.
        on_application: its licence lets nobody pass it on, so a study does without it where it is absent.
        numbers: first and last number of its images, where they are numbered and the folder may hold others, too.
    """

    images: int
    folders: tuple[str, ...]
    obtain: str
    numbers: tuple[int, int] | None = None
    on_application: bool = False

    def includes(self, stem: str) -> bool:
        """Return whether a file name without suffix, found in its folder, is one of its images."""
        if self.numbers is None or not stem.isascii() or not stem.isdigit():
            return True
        first, last = self.numbers
        return first <= int(stem) <= last


def _usual(name: str) -> tuple[str, ...]:
    return name, f"benchmark/{name}"


DATASETS = {
    "Set5": Dataset(5, _usual("Set5"), _EDSR_BENCHMARKS),
    "Set14": Dataset(14, _usual("Set14"), _EDSR_BENCHMARKS),
    "B100": Dataset(100, (*_usual("B100"), *_usual("BSDS100")), _EDSR_BENCHMARKS),
    "Urban100": Dataset(100, _usual("Urban100"), _EDSR_BENCHMARKS),
    "Manga109": Dataset(
        109,
        _usual("Manga109"),
        "its authors give it on application, for academic use: http://www.manga109.org",
        on_application=True,
    ),
    "T91": Dataset(91, _usual("T91"), "the 91 images of Yang et al., with the code of many papers; HR alone is enough"),
    "BSDS200": Dataset(
        200, _usual("BSDS200"), "the 200 training images of the Berkeley segmentation dataset; HR alone is enough"
    ),
    "DIV2K": Dataset(
        800,
        ("DIV2K/DIV2K_train_HR", "DIV2K_train_HR", "DIV2K/HR", "DIV2K"),
        f"{_DIV2K}DIV2K_train_HR.zip (3.5 GB) and DIV2K_train_LR_bicubic_X4.zip",
        (1, 800),
    ),
    # EDSR's own layout keeps the validation images with the training images.
    "DIV2K_val": Dataset(
        100,
        ("DIV2K/DIV2K_valid_HR", "DIV2K_valid_HR", "DIV2K_val", "DIV2K/DIV2K_train_HR", "DIV2K_train_HR", "DIV2K/HR"),
        f"{_DIV2K}DIV2K_valid_HR.zip (449 MB) and DIV2K_valid_LR_bicubic_X4.zip",
        (801, 900),
    ),
    "Flickr2K": Dataset(
        2650,
        ("Flickr2K/Flickr2K_HR", "Flickr2K_HR", "Flickr2K"),
        "https://cv.snu.ac.kr/research/EDSR/Flickr2K.tar (20 GB)",
    ),
}


def parse_selection(text: str) -> tuple[str, slice]:
    """Split `"BSDS200[10:]"` into `("BSDS200", slice(10, None))`; without brackets, the slice takes all images.

    Raises:
        UserError: not a name with an optional slice, or a step below 1.
    """
    match = re.fullmatch(
        r"(?P<name>[A-Za-z0-9_](?:[A-Za-z0-9_.+ -]*[A-Za-z0-9_.+-])?)"
        r"(\[\s*(?P<start>-?[0-9]{1,9})?\s*:\s*(?P<stop>-?[0-9]{1,9})?\s*(:\s*(?P<step>[0-9]{1,9})?\s*)?\])?",
        text,
        flags=re.ASCII,
    )
    if match is None or (match["step"] is not None and int(match["step"]) == 0):
        raise UserError(f"{text!r} is not a selection of images: write a dataset's name, or Name[start:stop:step]")
    limits = (None if match[part] is None else int(match[part]) for part in ("start", "stop", "step"))
    return match["name"], slice(*limits)


Root = Path | str | Sequence[Path | str] | None
"""The folder that holds datasets, or several that are searched in turn."""


def locate(name: str, root: Root = None, folders: Mapping[str, str] | None = None) -> Path:
    """Return the folder of a dataset, in one of the layouts of `layouts`.

    Args:
        name: a name in DATASETS, or a folder of the user's own in `root` or `folders`.
        root: the folder that holds datasets (`data_root`), or several.
        folders: name -> folder, where a dataset lies elsewhere; searched first.

    Raises:
        UserError: not found; the message says where it was searched and where it can be obtained.
    """
    if folders and name in folders:
        folder = Path(folders[name])
        if not folder.is_dir():
            raise UserError(f"{name} is said to be in {folder}, which is not a folder: correct `folders`")
        return folder
    dataset = DATASETS.get(name)
    roots = [Path(path) for path in ([root] if isinstance(root, Path | str) else root or ())]
    known = f"photographs, {', '.join(DATASETS)}"
    if not roots:
        hint = f"; {dataset.obtain}" if dataset else f", or name one of {known}"
        raise UserError(f"{name} needs a data_root, the folder that holds datasets: give it{hint}")
    candidates = dataset.folders if dataset else _usual(name)
    for path in (folder / candidate for folder in roots for candidate in candidates):
        if path.is_dir():
            return path
    where = f"not in {' or '.join(map(str, roots))} (looked for {', '.join(candidates)}): put"
    if dataset:
        raise UserError(f"{name} is {where} it there; {dataset.obtain}")
    raise UserError(f"dataset {name} is unknown and {where} a folder of that name there, or use one of {known}")


def can_be_expected(text: str, root: Root = None, folders: Mapping[str, str] | None = None) -> bool:
    """Return whether a study needs a selection; not where the dataset is absent and given on application only."""
    name, _ = parse_selection(text)
    if name not in DATASETS or not DATASETS[name].on_application:
        return True
    try:
        locate(name, root, folders)
    except UserError:
        return False
    return True


def select(
    text: str, scale: int, root: Root = None, folders: Mapping[str, str] | None = None, border: str = "symmetric"
) -> Found:
    """Return the pairs of a selection; raise UserError where the dataset is absent or no image is selected.

    Args:
        text: the selection.
        scale: HR size / LR size.
        root: as for `locate`; not needed for `photographs`.
        folders: likewise.
        border: how a picture is continued beyond its edge where LR is made: "symmetric" or "clamped".
    """
    name, part = parse_selection(text)
    if name == "photographs" and name not in (folders or {}):
        found = layouts.of_files(photographs(), border)
    else:
        folder, dataset = locate(name, root, folders), DATASETS.get(name)
        found = layouts.survey(folder, scale, border)
        if dataset is not None and dataset.numbers is not None:
            found = replace(found, pairs=tuple(pair for pair in found.pairs if dataset.includes(pair.name)))
            if not found.pairs:
                first, last = dataset.numbers
                raise UserError(f"{folder} has none of the images {first:04}-{last:04} of {name}: add them")
    if not found.pairs[part]:
        raise UserError(f"{text} selects none of the {len(found.pairs)} images of {name}: widen it")
    return replace(found, pairs=found.pairs[part])


def photographs() -> list[Path]:
    """Return the files of `photographs`; raise UserError where a package or a file of it is not installed."""
    files = []
    for distribution, (package, folder, names) in PHOTOGRAPHS.items():
        spec = importlib.util.find_spec(package)  # finds without importing
        if spec is None or not spec.submodule_search_locations:
            raise UserError(f"photographs come with {distribution}, which is not installed: pip install {distribution}")
        for name in names:
            file = Path(next(iter(spec.submodule_search_locations))) / folder / name
            if not file.is_file():
                raise UserError(
                    f"{file} is missing from the installed {distribution}: install a version of pyproject.toml's range"
                )
            files.append(file)
    return files
