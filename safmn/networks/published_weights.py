"""The weights that the networks' authors published: where they are, how they are checked, and why some are missing.

Facts only; `safmn fetch` downloads them, `safmn.networks.load_weights` reads them.
"""

import csv
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from safmn.data.remote import Remote
from safmn.files import digest
from safmn.networks import own

SUFFIXES = (".safetensors", ".pth", ".pt")
MARK = 8  # letters
_LIMIT = 256 * 2**20  # bytes; the largest file is a tenth of that


@dataclass(frozen=True)
class Weights:
    """One published file.

    Attributes:
        network: the network's name.
        scales: the scales that the file serves.
        remote: file name, URL, size and checksum; the name is the authors' own where that says what it is.
        licence: as its repository says.
        loads: what `load_weights` finds in it.
        departs: how these weights differ from those that the paper measured, as a sentence without a full stop; ""
            where their authors say nothing of it.
    """

    network: str
    scales: tuple[int, ...]
    remote: Remote
    licence: str
    loads: str
    departs: str


def _read() -> tuple[Weights, ...]:
    # An empty size or checksum was not published. EDSR's file names likely end with the start of the sha256
    # (torch.hub's habit); as nobody says so, it is not relied upon. `departs` is from the READMEs of the repositories.
    with open(Path(__file__).with_name("published_weights.csv"), encoding="utf-8", newline="") as file:
        return tuple(
            Weights(
                line["network"],
                tuple(map(int, line["scales"].split())),
                Remote(
                    line["file"],
                    (line["url"],),
                    int(line["size"]) if line["size"] else None,
                    line["sha256"] or None,
                    limit=_LIMIT,
                ),
                line["licence"],
                line["loads"],
                line["departs"],
            )
            for line in csv.DictReader(file)
        )


WEIGHTS = _read()

_PICKLED = (
    "the file of its best known PyTorch version, github.com/twtygqyy/{repository}, is a pickled module, which runs "
    "code when it is loaded and is therefore refused"
)
_SHARED_DRIVE = "its authors publish them on a shared drive, without a checksum"
_NONE = "its authors published none in PyTorch"
WITHOUT = {
    "vdsr": _PICKLED.format(repository="pytorch-vdsr"),
    "lapsrn": _PICKLED.format(repository="pytorch-LapSRN"),
    "lapar_a": _SHARED_DRIVE,
    "shufflemixer": _SHARED_DRIVE,
    **dict.fromkeys(("ecbsr_m16c64", "srcnn", "fsrcnn", "espcn"), _NONE),
}
"""Network -> why its weights cannot be downloaded."""


def every() -> list[Weights]:
    """Return every file that can be downloaded: the authors', then those of a user's own networks."""
    return [*WEIGHTS, *(weights for name in own.networks() for weights in _own(name))]


def _own(name: str) -> list[Weights]:
    """Return the downloads of a user's own network; scales with one address share a file.

    Its name says from where, so that another address or checksum in the YAML file is another file, downloaded anew.
    """
    network = own.networks()[name]
    scales: dict[str, list[int]] = {}
    for scale, where in network.weights.items():
        if where.url:
            scales.setdefault(where.url, []).append(scale)
    files = []
    for url, served in scales.items():
        where = network.weights[served[0]]
        suffix = PurePosixPath(urlsplit(url).path).suffix
        mark = digest([url, where.sha256])[:MARK]
        file = f"{name}_x{served[0]}_{mark}{suffix if suffix in SUFFIXES else SUFFIXES[1]}"
        remote = Remote(file, (url,), where.size, where.sha256, limit=_LIMIT)
        files.append(Weights(name, tuple(served), remote, network.licence, f"as {network.network.file} says", ""))
    return files


def _own_file(network: str, scale: int) -> Path | None:
    """Return the local file that a user's own network names for its weights, None where it names none."""
    other = own.networks().get(network)
    where = other and other.weights.get(scale)
    if not other or not where or not where.file or not other.network.file:
        return None
    return other.network.file.parent / Path(where.file).expanduser()


def find(network: str, scale: int) -> Weights | None:
    """Return the published file of a network at a scale, None where there is none to download."""
    files = _own(network) if network in own.networks() else WEIGHTS
    return next((weights for weights in files if weights.network == network and scale in weights.scales), None)


def own_names(network: str, scale: int) -> tuple[str, ...]:
    """Return the names that a file from elsewhere may have: `lapar_a_x4.pth` or another suffix."""
    return tuple(f"{network}_x{scale}{suffix}" for suffix in SUFFIXES)


def at_hand(network: str, scale: int, *roots: str | Path | None) -> Path | None:
    """Find the weights of a network in the first of some folders that has them; None where none does.

    By the authors' file name, as `safmn fetch` leaves it, else by one of `own_names`. A file that a user's own network
    names may lie there, too. The content is not checked: `load_weights` does that.

    Args:
        network: the network's name.
        scale: its scale.
        roots: folders, None for one that is not set.
    """
    named = _own_file(network, scale)
    if named and named.is_file():
        return named
    weights = find(network, scale)
    first = [named.name] if named else [weights.remote.name] if weights else []
    names = (*first, *own_names(network, scale))
    folders = [Path(root).expanduser() for root in roots if root is not None]
    return next((path for folder in folders for name in names if (path := folder / name).is_file()), None)


def obtain(network: str, scale: int) -> str:
    """Say where the weights of a network could come from, or why there are none: half a sentence for a missing cell."""
    weights = find(network, scale)
    if weights is not None:
        size = "" if weights.remote.size is None else f" ({weights.remote.size / 1e6:.1f} MB)"
        return (
            f"`safmn fetch {network} --scale {scale} --to DIR` downloads {weights.remote.name}{size} from "
            f"{weights.remote.host}; then set weights.root to DIR"
        )
    if network == "bicubic":
        return "it has no parameters and needs none"
    if named := _own_file(network, scale):
        return f"{named} is missing: put it there, or correct weights.{scale}.file of the network"
    if network in own.networks():
        return f"{own.networks()[network].network.file} names none: add weights.{scale} there"
    other = sorted({served for weights in WEIGHTS if weights.network == network for served in weights.scales})
    if other:
        reason = f"its authors published x{', x'.join(map(str, other))} only"
    else:
        reason = WITHOUT.get(network, "nobody published any")
    return f"{reason}; whoever has a state dict puts it into weights.root as {own_names(network, scale)[1]}"
