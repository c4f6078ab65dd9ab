"""The weights that the networks' authors published: where they are, what they must look like, and why some are not.

Facts only; `safmn fetch` downloads them, `safmn.networks.load_weights` reads them.
"""

from dataclasses import dataclass
from pathlib import Path

from safmn.data.remote import Remote

_LIMIT = 256 * 2**20  # bytes; the largest file is a tenth of that
SUFFIXES = (".safetensors", ".pth", ".pt")


@dataclass(frozen=True)
class Weights:
    """One published file.

    Attributes:
        network: the network's name.
        scales: those that the file serves.
        remote: file name, URL, size and checksum; the name is the authors' own where that says what it is.
        licence: as far as its repository says.
        loads: what `load_weights` finds in it.
        departs: how these weights differ from those that the paper's print was measured with, as a sentence without a
            full stop; only where their authors say so, else "".
    """

    network: str
    scales: tuple[int, ...]
    remote: Remote
    licence: str
    loads: str
    departs: str = ""


def _safmn(scale: int, size: int, sha256: str) -> Weights:
    name = f"SAFMN_DF2K_x{scale}.pth"
    url = f"https://huggingface.co/Meloo/SAFMN/resolve/adf5a33cea236d931fdeb2a9dd6b76955fbbb3ed/{name}"
    remote = Remote(name, (url,), size, sha256, limit=_LIMIT)
    return Weights("safmn", (scale,), remote, "see the repository", "state dict under `params`, this project's keys")


def _imdn(scale: int, size: int | None, sha256: str) -> Weights:
    name = f"IMDN_x{scale}.pth"
    url = f"https://github.com/Zheng222/IMDN/raw/8f158e6a5ac9db6e5857d9159fd4a6c4214da574/checkpoints/{name}"
    remote = Remote(name, (url,), size, sha256, limit=_LIMIT)
    return Weights("imdn", (scale,), remote, "see the repository", "state dict, `module.` before each of 92 keys")


def _pan(scale: int, size: int | None, sha256: str) -> Weights:
    name = f"PANx{scale}_DF2K.pth"
    folder = "4d045d18592c5771cd3990da88f292812774e538/experiments/pretrained_models"
    remote = Remote(name, (f"https://github.com/zhaohengyuan1/PAN/raw/{folder}/{name}",), size, sha256, limit=_LIMIT)
    tensors = "146 tensors, with the second upsampling stage" if scale == 4 else "140 tensors"
    return Weights("pan", (scale,), remote, "see the repository", f"state dict, {tensors}")


def _carn(network: str, size: int | None, sha256: str | None) -> Weights:
    name = f"{network}.pth"
    folder = "https://github.com/nmhkahn/CARN-pytorch/raw/40d3514f81cccd680d846cd5ab07af35f2c8e0e2/checkpoint"
    remote = Remote(name, (f"{folder}/{name}",), size, sha256, limit=_LIMIT)
    loads = "state dict, one file for all scales, mean-shift convolutions"
    return Weights(network, (2, 3, 4), remote, "MIT", loads, _CARN_DEPARTS[network])


def _edsr(scale: int, suffix: str) -> Weights:
    # The suffix is likely the start of the sha256 (torch.hub's habit); as nobody says so, it is not relied upon.
    name = f"edsr_baseline_x{scale}-{suffix}.pt"
    remote = Remote(name, (f"https://cv.snu.ac.kr/research/EDSR/models/{name}",), limit=_LIMIT)
    return Weights("edsr_baseline", (scale,), remote, "MIT", "state dict, range 0-255, mean-shift convolutions")


_CARN_ANEW = (
    "its authors write beside the file that it was trained anew after the paper, with batch and patch raised to 64{}, "
    "and that the Urban100 of their earlier results was wrong at x2 and x3 (HR of another resolution)"
)
_CARN_DEPARTS = {
    "carn": _CARN_ANEW.format(""),
    "carn_m": _CARN_ANEW.format(" and with grouped 3x3 convolutions in the upsampler instead of 1x1 ones"),
}
"""From "Training Models" and "Results" of the README of github.com/nmhkahn/CARN-pytorch."""

WEIGHTS = (
    _safmn(2, 958105, "baee9b5d24fd718065ca9bbcc88bb32a8e302c9ef00bae7afac48466a4d6dfa7"),
    _safmn(3, 977561, "0d0c8961fbee1af6f55214d78d9363d0e52fbc9499645df701c068a56783e936"),
    _safmn(4, 1004953, "fe4f38fd6c1e3692bfbc6ab94f44adb815bfb54984b8886547657727af67f49d"),
    _imdn(2, 2796052, "740b39653592bd3f49955a21cd9e16f2d37f2c413368cc09327601b8fbe42ce1"),
    _imdn(3, None, "11b1716a19bc16e5e353e1db798d476169338e631eb170c82d765559888cb028"),
    _imdn(4, 2879112, "e660c38221147217a136debeb99eb304d62d9c0f73ac421ed66281b619719714"),
    _pan(2, None, "fcf8ed48656abbaae46309ee91745684b80235a9c8b37a2d8fb0715a3ad3f00f"),
    _pan(3, None, "86491751d73645a8816a0d6ec62ccde6b22ce5da930e36b3b87f5437167fbc89"),
    _pan(4, 1121681, "739fab99ee7b7058dab4d1b84aa2869bb9fc3995a1c08789c20355bee943833c"),
    _carn("carn_m", 1670695, "d48a759a84509351facb6b7c6d5bd6edec98b98519b8c464ee4ab44d2ba964ff"),
    _carn("carn", None, None),
    _edsr(2, "1bc95232"),
    _edsr(3, "abf2a44e"),
    _edsr(4, "6b446fab"),
    Weights(
        "smsr",
        (2,),
        Remote(
            # The authors call it model_1000.pt, which many files are called.
            "SMSR_x2_model_1000.pt",
            (
                "https://github.com/The-Learning-And-Vision-Atelier-LAVA/SMSR/raw/"
                "daac49c9a107778c95e11a16fd5b4a8b45513678/experiment/SMSR_X2/model/model_1000.pt",
            ),
            sha256="fe2a9ea09595e1ee3288d5543a22802ead716bdd0b4df9a5af373eb943eced0a",
            limit=_LIMIT,
        ),
        "see the repository",
        "state dict of 99 tensors, range 0-255, masks of the channels",
    ),
)

_PICKLED = (
    "the file of its best known PyTorch version, github.com/twtygqyy/{repository}, is a pickled module, which runs "
    "code when it is loaded and is therefore refused"
)
_NONE = "its authors published none in PyTorch"
WITHOUT = {
    "vdsr": _PICKLED.format(repository="pytorch-vdsr"),
    "lapsrn": _PICKLED.format(repository="pytorch-LapSRN"),
    "lapar_a": "its authors publish them on a shared drive, without a checksum",
    "shufflemixer": "its authors publish them on a shared drive, without a checksum",
    "ecbsr_m16c64": _NONE,
    "srcnn": _NONE,
    "fsrcnn": _NONE,
    "espcn": _NONE,
}
"""Network -> why its weights cannot be downloaded."""


def find(network: str, scale: int) -> Weights | None:
    """The published file of a network at a scale, None where there is none to download."""
    return next((each for each in WEIGHTS if each.network == network and scale in each.scales), None)


def own_names(network: str, scale: int) -> tuple[str, ...]:
    """What a file that the user got elsewhere may be called: `lapar_a_x4.pth` or another suffix."""
    return tuple(f"{network}_x{scale}{suffix}" for suffix in SUFFIXES)


def at_hand(network: str, scale: int, *roots: str | Path | None) -> Path | None:
    """The weights of a network in the first folder that has them, None where none does; a folder may be None.

    By the authors' file name, as `safmn fetch` leaves it, else by one of `own_names`. Only looks whether the file is
    there: `load_weights` judges what is in it.
    """
    weights = find(network, scale)
    names = (*((weights.remote.name,) if weights else ()), *own_names(network, scale))
    folders = [Path(root).expanduser() for root in roots if root is not None]
    return next((path for folder in folders for name in names if (path := folder / name).is_file()), None)


def obtain(network: str, scale: int) -> str:
    """Where the weights of a network could come from, or why there are none: half a sentence for a missing cell."""
    weights = find(network, scale)
    if weights is not None:
        size = "" if weights.remote.size is None else f" ({weights.remote.size / 1e6:.1f} MB)"
        return (
            f"`safmn fetch {network} --scale {scale} --to DIR` downloads {weights.remote.name}{size} from "
            f"{weights.remote.host}; then set weights.root to DIR"
        )
    if network == "bicubic":
        return "it has no parameters and needs none"
    other = sorted({each for weights in WEIGHTS if weights.network == network for each in weights.scales})
    if other:
        reason = f"its authors published x{', x'.join(map(str, other))} only"
    else:
        reason = WITHOUT.get(network, "nobody published any")
    return f"{reason}; whoever has a state dict puts it into weights.root as {own_names(network, scale)[1]}"
