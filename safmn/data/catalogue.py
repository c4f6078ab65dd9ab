"""Facts about the archives that can be downloaded: their images, sources, sizes and checksums.

`fetching` downloads them. The numbers of images are in `sources.DATASETS`.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from safmn.data.remote import Remote
from safmn.data.sources import DATASETS

HR = 1
"""The kind of an HR image; an LR image's kind is its scale."""


@dataclass(frozen=True)
class Archive:
    """An archive of images.

    Attributes:
        remote: the file.
        holds: dataset -> kinds (HR or scale) of which it has all images.
        pattern: regular expression for the whole name of a member that is an image. Groups: `image` (its name without
            `x4`), optionally `set` (the dataset; else the only one held), `scale` or `lr` (else the image is HR).
        licence: what its images may be used for.
        about: approximate size in bytes, for planning; None: unknown.
        remark: for `safmn fetch --list`.
    """

    remote: Remote
    holds: dict[str, tuple[int, ...]]
    pattern: str
    licence: str
    about: int | None = None
    remark: str = ""

    def kinds(self, dataset: str) -> tuple[int, ...]:
        """Return the kinds of a dataset's images that it holds."""
        return self.holds.get(dataset, ())

    def identify(self, member: PurePosixPath) -> tuple[str, int, str] | None:
        """Return (dataset, kind, image name) of a member; None if it is something else."""
        match = re.fullmatch(self.pattern, str(member))
        if match is None or match["image"].startswith("."):  # macOS puts ._baby.png beside baby.png
            return None
        groups = match.groupdict()
        dataset = groups.get("set") or next(iter(self.holds))
        kind = int(groups.get("scale") or HR)
        if groups.get("lr"):
            kind = max(self.holds[dataset])
        return (dataset, kind, match["image"]) if kind in self.kinds(dataset) else None


_DIV2K = "https://data.vision.ee.ethz.ch/cvl/DIV2K/"
_DIV2K_LICENCE = "academic use only"
_EDSR = "https://cv.snu.ac.kr/research/EDSR/"
_BELOW = "(?:[^/]+/)*"
"""Any folders: somebody who repacks an archive may put one around it."""


def _div2k(part: str, dataset: str, kind: int, size: int, sha256: str) -> Archive:
    if kind == HR:
        stem, pattern = f"DIV2K_{part}_HR", rf"{_BELOW}DIV2K_{part}_HR/(?P<image>\d{{4}})\.png"
    else:
        stem = f"DIV2K_{part}_LR_bicubic_X{kind}"
        pattern = rf"{_BELOW}DIV2K_{part}_LR_bicubic/X(?P<scale>{kind})/(?P<image>\d{{4}})x{kind}\.png"
    remote = Remote(f"{stem}.zip", (f"{_DIV2K}{stem}.zip",), size=size, sha256=sha256)
    return Archive(remote, {dataset: (kind,)}, pattern, _DIV2K_LICENCE, size)


ARCHIVES = (
    _div2k("train", "DIV2K", HR, 3530603713, "9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335"),
    _div2k("train", "DIV2K", 2, 925390592, "a53a424317575838dadce4bcd97cf7b744d6855f43740ed5f0245af3cf4bd850"),
    _div2k("train", "DIV2K", 3, 427847282, "ad5c8e5507e2765823d3c2c5bd0934842efcd487c5370604c224090898b3163a"),
    _div2k("train", "DIV2K", 4, 246914039, "f006b837f4eb52b82909aa01478e6d6d199eefce932179491d0c9dbb706dde3a"),
    _div2k("valid", "DIV2K_val", HR, 448993893, "20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc"),
    _div2k("valid", "DIV2K_val", 2, 117763600, "60eed9875c697df51204aa579e2a699e1d5215095788a097ff54dd17e2664d57"),
    _div2k("valid", "DIV2K_val", 3, 54513392, "04b9a2ed3b4a0715d3924d3ae8514830c3328fac8d30512ce716d6f419e052a3"),
    _div2k("valid", "DIV2K_val", 4, 31505881, "a50a5d1c4b88de4e8d300d8fb2b904c52fe93b2b298a4899697760d7cbb6d553"),
    Archive(
        Remote("Flickr2K.tar", (f"{_EDSR}Flickr2K.tar",), md5="5d3f39443d5e9489bff8963f8f26cb03", limit=40 * 2**30),
        {"Flickr2K": (HR, 2, 3, 4)},
        rf"{_BELOW}Flickr2K_(?:HR|LR_bicubic/X(?P<scale>[234]))/(?P<image>\d{{6}})(?(scale)x(?P=scale))\.png",
        "see the publisher",
        20 * 10**9,
    ),
    Archive(
        Remote(
            "Flickr2K.zip",
            ("https://huggingface.co/datasets/goodfellowliu/Flickr2K/resolve/main/Flickr2K.zip",),
            sha256="401a5b1d247d18d1114b77b069e3c7bf235c80f06b8b9caaef0086d07f1d42a3",
            limit=20 * 2**30,
        ),
        {"Flickr2K": (HR,)},
        rf"{_BELOW}(?P<image>\d{{6}})\.png",
        "see the publisher",
        11_600 * 10**6,
        "mirror, HR only: LR images are made",
    ),
    Archive(
        Remote("benchmark.tar", (f"{_EDSR}benchmark.tar",), md5="4ace41d33c2384b97e6b320cd0afd6ba", limit=2 * 2**30),
        dict.fromkeys(("Set5", "Set14", "B100", "Urban100"), (HR, 2, 3, 4)),
        rf"{_BELOW}(?P<set>Set5|Set14|B100|Urban100)/(?:HR|LR_bicubic/X(?P<scale>[234]))/"
        r"(?P<image>[^/]+?)(?(scale)x(?P=scale))\.png",
        "see the publisher",
        250 * 10**6,
    ),
    # Its x2 HR images have half the right resolution, so x2 and x3 LR are made from the x4 HR ones.
    Archive(
        Remote(
            "SelfExSR-8f6dd8c.zip",
            ("https://github.com/jbhuang0604/SelfExSR/archive/8f6dd8c1d20cb7e8792a7177b4f6fd677633f598.zip",),
            limit=8 * 2**30,
        ),
        {"Urban100": (HR, 4)},
        rf"{_BELOW}Urban100/image_SRF_4/(?P<image>img_\d{{3}})_SRF_4_(?:HR|(?P<lr>LR))\.png",
        "see the publisher",
        remark="second source, of Urban100 alone; no published checksum",
    ),
)

GROUPS = {
    "benchmark": ("Set5", "Set14", "B100", "Urban100"),
    "DF2K": ("DIV2K", "Flickr2K"),
}

FOLDERS = {
    "DIV2K": "DIV2K/DIV2K_train_HR",
    "DIV2K_val": "DIV2K/DIV2K_valid_HR",
    "Flickr2K": "Flickr2K/Flickr2K_HR",
    **{name: f"benchmark/{name}/HR" for name in GROUPS["benchmark"]},
}
"""Dataset -> folder of its HR images below the data root, as its publishers have it."""

LICENSED = {
    "Manga109": "it may not be redistributed, and only academic use is allowed: apply for it at "
    "http://www.manga109.org, put the HR images into Manga109/HR below the data root (LR ones are made), and credit "
    'images that you show "courtesy of" their authors',
}


def downloadable() -> list[str]:
    """Return the datasets that can be downloaded, in the order of `sources.DATASETS`."""
    return [name for name in DATASETS if any(name in archive.holds for archive in ARCHIVES)]


def archives_of(dataset: str, kinds: set[int]) -> list[Archive]:
    """Return the archives with any of these kinds of a dataset: those with most of them first, then the smallest."""

    def rank(archive: Archive) -> tuple[int, int]:
        return -len(kinds & set(archive.kinds(dataset))), archive.about or 10**12

    return sorted((archive for archive in ARCHIVES if kinds & set(archive.kinds(dataset))), key=rank)


def source_of(dataset: str) -> str:
    """Return a name for the source of a downloadable dataset, the same for all datasets that share an archive."""
    archive = max((archive for archive in ARCHIVES if dataset in archive.holds), key=lambda archive: len(archive.holds))
    return archive.remote.name.partition(".")[0] if len(archive.holds) > 1 else dataset


def why_not(dataset: str) -> str:
    """Say why a dataset of `sources.DATASETS` cannot be downloaded, and how to get it."""
    return LICENSED.get(dataset) or DATASETS[dataset].obtain
