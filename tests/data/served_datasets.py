"""Archives in exactly the layouts of their publishers, made from small images, and the corrections that say so."""

import contextlib
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from safmn.data import bicubic, catalogue

from .loopback import Site, serving
from .pictures import picture

COUNTS = {"DIV2K": 3, "DIV2K_val": 2, "Flickr2K": 4, "Set5": 5, "Set14": 2, "B100": 2, "Urban100": 2}
NAMES = {
    "DIV2K": ["0001", "0002", "0800"],
    "DIV2K_val": ["0801", "0900"],
    "Flickr2K": ["000001", "000002", "000003", "002650"],
    "Set5": ["baby", "bird", "butterfly", "head", "woman"],
    "Set14": ["baboon", "ppt3"],
    "B100": ["101085", "8023"],
    "Urban100": ["img_001", "img_100"],
}


def hr(dataset: str, index: int) -> np.ndarray:
    return picture(48, 60, seed=100 * len(dataset) + index)


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def kinds(dataset: str, folder_hr: str, folder_lr: str, scales: tuple[int, ...] = (2, 3, 4)) -> dict[str, bytes]:
    """Members `<folder_hr>/<name>.png` and `<folder_lr>/X4/<name>x4.png`; an empty folder leaves them out."""
    members = {}
    for index, name in enumerate(NAMES[dataset]):
        if folder_hr:
            members[f"{folder_hr}/{name}.png"] = png(hr(dataset, index))
        for scale in scales if folder_lr else ():
            members[f"{folder_lr}/X{scale}/{name}x{scale}.png"] = png(bicubic.downscale(hr(dataset, index), scale))
    return members


def layouts() -> dict[str, dict[str, bytes]]:
    """Archive's file name -> its members."""
    found = {}
    for part, dataset in (("train", "DIV2K"), ("valid", "DIV2K_val")):
        found[f"DIV2K_{part}_HR.zip"] = kinds(dataset, f"DIV2K_{part}_HR", "")
        for scale in (2, 3, 4):
            lr = f"DIV2K_{part}_LR_bicubic"
            found[f"{lr}_X{scale}.zip"] = kinds(dataset, "", lr, (scale,))
    found["Flickr2K.tar"] = kinds("Flickr2K", "Flickr2K/Flickr2K_HR", "Flickr2K/Flickr2K_LR_bicubic")
    found["Flickr2K.zip"] = kinds("Flickr2K", "Flickr2K", "")
    found["benchmark.tar"] = {"benchmark/README": b"text"}
    for dataset in catalogue.GROUPS["benchmark"]:
        found["benchmark.tar"] |= kinds(dataset, f"benchmark/{dataset}/HR", f"benchmark/{dataset}/LR_bicubic")
    members = {}
    top = "SelfExSR-8f6dd8c1d20cb7e8792a7177b4f6fd677633f598"
    for index, name in enumerate(NAMES["Urban100"]):
        for scale in (2, 4):
            stem = f"{top}/data/Urban100/image_SRF_{scale}/{name}_SRF_{scale}"
            # Its x2 HR images have half the right resolution.
            right = hr("Urban100", index) if scale == 4 else hr("Urban100", index)[::2, ::2]
            members[f"{stem}_HR.png"] = png(right)
            members[f"{stem}_LR.png"] = png(bicubic.downscale(right, scale))
    members[f"{top}/data/Set5/image_SRF_4/img_001_SRF_4_HR.png"] = png(hr("Set5", 0))
    found["SelfExSR-8f6dd8c.zip"] = members
    return found


def pack(name: str, members: dict[str, bytes]) -> bytes:
    """A zip or tar archive with these members, as its name says."""
    buffer = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(buffer, "w") as archive:
            for member, data in members.items():
                archive.writestr(member, data)
    else:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for member, data in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def paths() -> dict[str, str]:
    """Archive's file name -> path on its server, the mirror's too."""
    return {each.remote.name: urlsplit(each.remote.urls[0]).path for each in catalogue.ARCHIVES}


def serve_all(site: Site, file: Path) -> dict[str, bytes]:
    """Serves every archive of the catalogue and writes the corrections; returns file name -> content."""
    archives = {name: pack(name, members) for name, members in layouts().items()}
    for name, data in archives.items():
        site.files[paths()[name]] = data
    write_corrections(file, archives)
    return archives


@contextlib.contextmanager
def mirror(monkeypatch: pytest.MonkeyPatch, file: Path) -> Iterator[Site]:
    """Serves them all, and has this process and its children fetch from there alone; `file` gets the corrections."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving() as running:
        running.archives = serve_all(running, file)
        monkeypatch.setenv("SAFMN_MIRROR", running.base)
        monkeypatch.setenv("SAFMN_CORRECTIONS", str(file))
        yield running


def write_corrections(file: Path, archives: dict[str, bytes]) -> None:
    known = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in archives.items()
        if name != "SelfExSR-8f6dd8c.zip"  # nobody published a checksum of it
    }
    file.write_text(json.dumps({"files": known, "images": COUNTS}))
