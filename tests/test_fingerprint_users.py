"""A user's own layers, and the data that they read: what changes the fingerprint of a variant, and what does not."""

import itertools
import sys
from pathlib import Path

import pytest

from safmn import fingerprint
from safmn.errors import UserError

ROOT = "safmn.networks.safmn:SAFMN"
MINE = """
import importlib
import json
import os
from pathlib import Path
import numpy as np
import torch
from torch import nn
{top}
HERE = Path(__file__).parent

class Mine(nn.Module):
    def __init__(self, dim, file="d.csv"):
        super().__init__()
        self.value = {value}

    def forward(self, x):
        return {result}
"""
TWO = "def one(x):\n    return x * 1\n\n\ndef two(x):\n    return x * 2\n"


def of(folder: Path, **switches: object) -> str:
    return fingerprint.network(ROOT, {"mixer": "mine:Mine"} | switches, folder).digest()


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def mine(value: str = "None", result: str = "x", top: str = "") -> str:
    """A module with the class `Mine`."""
    return MINE.format(value=value, result=result, top=top)


# How the code names a data file -> the expression, the file, and whether the file counts.
DATA = {
    "by division": ('np.loadtxt(HERE / "k.csv")', "k.csv", True),
    "in a folder": ('np.load(HERE / "a" / "k.npy")', "a/k.npy", True),
    "a folder": ('list((HERE / "a").glob("*"))', "a/k.npy", True),
    "by a pattern in a folder": ('sorted((HERE / "a").glob("*.txt"))', "a/l.txt", True),
    "joined": ('torch.load(os.path.join(os.path.dirname(__file__), "w.pt"))', "w.pt", True),
    "joined in a folder": ('torch.load(os.path.join(str(HERE), "a", "w.pt"))', "a/w.pt", True),
    "opened": ('json.load(open("k.json"))', "k.json", True),
    "with_name": ('Path(__file__).with_name("k.txt").read_text()', "k.txt", True),
    "with_suffix": ('Path(__file__).with_suffix(".txt").read_text()', "mine.txt", True),
    "by a default": ("np.loadtxt(file)", "d.csv", True),
    "by a formatted name": ('np.loadtxt(HERE / f"k{dim}.csv")', "k36.csv", True),
    "by a sum": ('np.loadtxt(str(dim) + ".csv")', "36.csv", True),
    "by a formatted path": ('open(f"{Path(__file__).parent}/data/t_{dim}.csv")', "data/t_36.csv", True),
    "by a formatted path beside it": ('open(f"{HERE}/t_{dim}.csv")', "t_36.csv", True),
    "by a formatted folder": ('open(f"data_{dim}/t.csv")', "data_36/t.csv", True),
    "by a list of all": ("os.listdir(Path(__file__).parent)", "k.csv", True),
    "a slash": ('"a/b".split("/")', "c/k.csv", False),
    "another file": ('np.loadtxt(HERE / "k.csv")', "l.csv", False),
    "another variant": ('list(HERE.glob("*"))', "other.yaml", False),
}


@pytest.mark.parametrize("case", DATA)
def test_data_that_the_code_may_read_counts(tmp_path, monkeypatch, case):
    value, file, counts = DATA[case]
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"mine.py": mine(value)})
    absent = of(tmp_path)
    write(tmp_path, {file: "1"})
    before = of(tmp_path)
    write(tmp_path, {file: "2"})
    assert len({absent, before, of(tmp_path)}) == (3 if counts else 1)


PACK = {"pack/__init__.py": "from .two import two\n", "pack/two.py": TWO}
# What the code says -> the files, of which the last one is edited (2 becomes 3), and whether that counts.
CODE = {
    "a constant with a name": ({"mine.py": mine("np.loadtxt(FILE)", top='FILE = "k.csv"'), "k.csv": "2"}, True),
    "read on import": ({"mine.py": mine(top='K = float(open("k.txt").read())', result="K * x"), "k.txt": "2"}, True),
    "read in another module": (
        {"mine.py": mine(top="import other"), "other.py": 'K = open("k.txt").read()\n', "k.txt": "2"},
        True,
    ),
    "named in a docstring": ({"mine.py": mine().replace("Module):", 'Module):\n    """k.csv"""'), "k.csv": "2"}, False),
    "another name for a function": ({"mine.py": mine(top=TWO + "\nK = two\n", result="K(x)")}, True),
    "a name looked up by text": ({"mine.py": mine('getattr(sys.modules[__name__], "t" + "wo")', top=TWO)}, True),
    "a module looked up by text": ({"mine.py": mine('sys.modules["other"].two'), "other.py": TWO}, True),
    "a module looked into by text": (
        {"mine.py": mine('getattr(other, "t" + "wo")', top="import other"), "other.py": TWO},
        True,
    ),
    "a module imported by text": ({"mine.py": mine('importlib.import_module("other").two'), "other.py": TWO}, True),
    "all names of a module": ({"mine.py": mine(result="two(x)", top="from other import *"), "other.py": TWO}, True),
    "one of two imports": (
        {
            "mine.py": mine(
                result="two(x)", top="try:\n    from fast import two\nexcept ImportError:\n    from other import two"
            ),
            "other.py": TWO,
            "fast.py": TWO,
        },
        True,
    ),
    "a package": ({"mine.py": mine(result="two(x)", top="from pack import two"), **PACK}, True),
    "what an import does": (
        {
            "mine.py": mine(result="other.one(x)", top="import other"),
            "other.py": "import torch\n\ndef one(x):\n    return x\n\ntorch.manual_seed(2)\n",
        },
        True,
    ),
    "an attribute set from outside": (
        {
            "mine.py": mine(result="other.K.f(x)", top="import other"),
            "other.py": f"{TWO}\nclass K:\n    pass\n\n\nK.f = two\n",
        },
        True,
    ),
    "what runs as a script": (
        {
            "mine.py": mine(result="other.one(x)", top="import other"),
            "other.py": 'def one(x):\n    return x\n\nif __name__ == "__main__":\n    print(2)\n',
        },
        False,
    ),
    "another function": ({"mine.py": mine(result="other.one(x)", top="import other"), "other.py": TWO}, True),
    "a module imported for what it does": ({"mine.py": mine(top="import other"), "other.py": "torch.set(2)\n"}, True),
    "its package": (
        {"mine.py": mine(top="import pack.two"), "pack/two.py": TWO, "pack/__init__.py": "torch.set(2)\n"},
        True,
    ),
    "a module imported for what it does in a function": (
        {"mine.py": mine(top="def two():\n    import pack.two"), "pack/__init__.py": "", "pack/two.py": TWO},
        True,
    ),
    "a subclass that registers itself": (
        {
            "mine.py": mine("other.Base.known[-1]()", top="import other"),
            "other.py": """
class Base:
    known = []
    def __init_subclass__(cls):
        Base.known.append(cls)

class Two(Base):
    K = 2
""",
        },
        True,
    ),
    "a class by its path": ({"mine.py": mine('"other:Two"'), "other.py": "class Two:\n    K = 2\n"}, True),
    "an entry of a table that is not chosen": (  # a user's code is not evaluated: all that it mentions counts
        {"mine.py": mine('TABLE["one"]', top=TWO + "\nTABLE = {'one': one, 'two': two}\n")},
        True,
    ),
}


@pytest.mark.parametrize("case", CODE)
def test_code_that_is_mentioned_counts(tmp_path, monkeypatch, case):
    files, counts = CODE[case]
    monkeypatch.chdir(tmp_path)
    write(tmp_path, files)
    before = of(tmp_path)
    name, text = list(files.items())[-1]
    assert "2" in text
    write(tmp_path, {name: text.replace("2", "3")})
    assert (of(tmp_path) != before) == counts
    assert not {name.removesuffix(".py") for name in files} & set(sys.modules)  # nothing was imported


def test_unchanged_files_in_another_place_are_the_same(tmp_path):
    for name in ("one", "other place"):
        write(tmp_path / name, {"mine.py": mine('np.loadtxt(HERE / "k.csv")'), "k.csv": "1"})
    assert of(tmp_path / "one") == of(tmp_path / "other place")


@pytest.mark.parametrize("folder", ["site-packages/rich_layers", "dist-packages/rich_layers"])
def test_layers_of_an_installed_package_are_followed_and_its_other_needs_are_not(tmp_path, monkeypatch, folder):
    """A package that a layer comes from counts with all that is met of it, one that does not use torch does not."""
    package = tmp_path / folder
    rich = "from torch import nn\nfrom .helpers import two\n\n\nclass Rich(nn.Module):\n    f = two\n"
    write(package, {"__init__.py": "from .layers import Rich\n", "layers.py": rich, "helpers.py": TWO})
    write(package.parent, {"plain_tools.py": TWO})
    top = "import plain_tools\nimport rich_layers.helpers\nfrom rich_layers import Rich"
    write(tmp_path, {"mine.py": mine("Rich(plain_tools.two(dim))", top=top)})
    monkeypatch.syspath_prepend(str(package.parent))
    before, alone = of(tmp_path), of(tmp_path, mixer="rich_layers:Rich")
    write(package.parent, {"plain_tools.py": TWO.replace("2", "3")})
    assert of(tmp_path) == before
    write(package, {"helpers.py": TWO.replace("2", "3")})
    assert of(tmp_path) != before
    assert of(tmp_path, mixer="rich_layers:Rich") != alone


@pytest.mark.parametrize(
    ("mixer", "files", "words"),
    [
        ("nowhere:Mine", {}, ("nowhere:Mine", "cannot be imported")),
        ("mine:Yours", {"mine.py": "class Mine:\n    pass\n"}, ("mine:Yours", "mine.py has no Yours")),
        ("mine:Mine", {"mine.py": "def (\n"}, ("mine:Mine", "SyntaxError", "mine.py", "line 1")),
    ],
)
def test_a_class_that_cannot_be_found_is_an_error_at_once(tmp_path, mixer, files, words):
    write(tmp_path, files)
    with pytest.raises(UserError) as error:
        of(tmp_path, mixer=mixer)
    assert all(word in str(error.value) for word in ("mixer", *words))
    assert "\n" not in str(error.value)


def test_a_word_that_no_table_has_is_an_error(tmp_path):
    with pytest.raises(UserError, match="norm: 'layer_nrom' is not known"):
        of(tmp_path, mixer="safm", norm="layer_nrom")
    of(tmp_path, mixer="safm", norm="none")


def test_switches_choose_and_numbers_do_not():
    names = itertools.product(["layer_norm", "l2"], ["max", "average"])
    found = {names: fingerprint.network(ROOT, {"norm": names[0], "pooling": names[1]}).digest() for names in names}
    assert len(set(found.values())) == 4
    assert fingerprint.network(ROOT, {}).digest() == found["layer_norm", "max"]
    numbers = {"dim": 40, "n_blocks": 3, "expansion": 1.5}
    assert fingerprint.network(ROOT, numbers).digest() == fingerprint.network(ROOT, {}).digest()


def test_a_root_that_does_not_exist_is_an_error():
    with pytest.raises(UserError, match="metrics:psnr_z is not found"):
        fingerprint.code("safmn.quality.metrics:psnr_z")
