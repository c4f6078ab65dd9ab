"""A user's own layers and the data that they read: what changes the fingerprint of a variant, and what does not.

Each case is a folder of a variant with a class `mine:Mine`; `before` and `after` are the files that differ.
"""

import itertools
import sys
from pathlib import Path

import pytest

from safmn import fingerprint
from safmn.errors import UserError

ROOT = "safmn.networks.safmn:SAFMN"
HEAD = "import json\nimport os\nfrom pathlib import Path\nimport numpy as np\nimport torch\nfrom torch import nn\n"
BODY = """
class Mine(nn.Module):
    def __init__(self, dim{arguments}):
        super().__init__()
        {constructor}

    def forward(self, x):
        {forward}
"""


def of(folder: Path, **switches: object) -> str:
    return fingerprint.network(ROOT, {"mixer": "mine:Mine"} | switches, folder)


def layers(top: str = "", constructor: str = "pass", forward: str = "return x", arguments: str = "") -> str:
    """A module with the class."""
    return HEAD + top + BODY.format(constructor=constructor, forward=forward, arguments=arguments)


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


HERE = "HERE = Path(__file__).parent\n"
HALVES = "def one(x):\n    return x * 1\n\n\ndef two(x):\n    return x * 2\n"
TABLE = f"{HALVES}\nTABLE = {{'one': one, 'two': two}}\n"
OTHER = "def two(x):\n    return x * 3\n"

# What is told -> the files, those that then replace or join them, and whether the variant is another one.
CASES: dict[str, tuple[dict[str, str], dict[str, str], bool]] = {
    # Data beside the variant.
    "a file by division": (
        {"mine.py": layers(HERE, 'self.k = np.loadtxt(HERE / "k.csv")'), "k.csv": "1"},
        {"k.csv": "2"},
        True,
    ),
    "in a folder": (
        {"mine.py": layers(HERE, 'self.k = np.load(HERE / "a" / "k.npy")'), "a/k.npy": "1"},
        {"a/k.npy": "2"},
        True,
    ),
    "a folder": (
        {"mine.py": layers(HERE, 'self.k = list((HERE / "a").glob("*"))'), "a/k.npy": "1"},
        {"a/k.npy": "2"},
        True,
    ),
    "a file that joins a folder": (
        {"mine.py": layers(HERE, 'self.k = sorted((HERE / "a").glob("*.txt"))'), "a/k.txt": "1"},
        {"a/l.txt": "2"},
        True,
    ),
    "joined": (
        {"mine.py": layers("", 'self.k = torch.load(os.path.join(os.path.dirname(__file__), "w.pt"))'), "w.pt": "1"},
        {"w.pt": "2"},
        True,
    ),
    "opened": ({"mine.py": layers("", 'self.k = json.load(open("k.json"))'), "k.json": "1"}, {"k.json": "2"}, True),
    "with_name": (
        {"mine.py": layers("", 'self.k = Path(__file__).with_name("k.txt").read_text()'), "k.txt": "1"},
        {"k.txt": "2"},
        True,
    ),
    "with_suffix": (
        {"mine.py": layers("", 'self.k = Path(__file__).with_suffix(".txt").read_text()'), "mine.txt": "1"},
        {"mine.txt": "2"},
        True,
    ),
    "a constant": (
        {"mine.py": layers('FILE = "k.csv"\n', "self.k = np.loadtxt(FILE)"), "k.csv": "1"},
        {"k.csv": "2"},
        True,
    ),
    "read on import": (
        {
            "mine.py": layers('with open("k.txt") as file:\n    K = float(file.read())\n', forward="return K * x"),
            "k.txt": "1",
        },
        {"k.txt": "2"},
        True,
    ),
    "by a default": (
        {"mine.py": layers("", "self.k = np.loadtxt(f)", arguments=', f="k.csv"'), "k.csv": "1"},
        {"k.csv": "2"},
        True,
    ),
    "by a pattern": (
        {"mine.py": layers(HERE, 'self.k = np.loadtxt(HERE / f"k{dim}.csv")'), "k36.csv": "1"},
        {"k36.csv": "2"},
        True,
    ),
    "by a sum": (
        {"mine.py": layers("", 'self.k = np.loadtxt(str(dim) + ".csv")'), "36.csv": "1"},
        {"36.csv": "2"},
        True,
    ),
    "in another module": (
        {
            "mine.py": layers("from numbers_of import K\n", forward="return K * x"),
            "numbers_of.py": 'K = open("k.txt").read()\n',
            "k.txt": "1",
        },
        {"k.txt": "2"},
        True,
    ),
    "all that is there": (
        {"mine.py": layers("", "self.k = os.listdir(Path(__file__).parent)"), "k.csv": "1"},
        {"k.csv": "2"},
        True,
    ),
    "data that nobody reads": (
        {"mine.py": layers(HERE, 'self.k = np.loadtxt(HERE / "k.csv")'), "k.csv": "1", "l.csv": "1"},
        {"l.csv": "2"},
        False,
    ),
    "data named in a docstring": (
        {"mine.py": layers().replace("nn.Module):", 'nn.Module):\n    """k.csv"""'), "k.csv": "1"},
        {"k.csv": "2"},
        False,
    ),
    "another variant": (
        {"mine.py": layers(HERE, 'self.k = list(HERE.glob("*"))'), "mine.yaml": "1"},
        {"other.yaml": "2"},
        False,
    ),
    # Code.
    "a choice that is known": (
        {"mine.py": layers(f"{HALVES}\nK = two\n", forward="return K(x)")},
        {"mine.py": layers(HALVES.replace("2", "3") + "\nK = two\n", forward="return K(x)")},
        True,
    ),
    "a name looked up by text": (
        {"mine.py": layers(HALVES, 'self.f = globals()["t" + "wo"]')},
        {"mine.py": layers(HALVES.replace("2", "3"), 'self.f = globals()["t" + "wo"]')},
        True,
    ),
    "a module looked into by text": (
        {"mine.py": layers("import other\n", 'self.f = getattr(other, "t" + "wo")'), "other.py": HALVES},
        {"other.py": HALVES.replace("2", "3")},
        True,
    ),
    "a module imported by text": (
        {"mine.py": layers("import importlib\n", 'self.f = importlib.import_module("other").two'), "other.py": HALVES},
        {"other.py": HALVES.replace("2", "3")},
        True,
    ),
    "all names of a module": (
        {"mine.py": layers("from other import *\n", forward="return two(x)"), "other.py": HALVES},
        {"other.py": HALVES.replace("2", "3")},
        True,
    ),
    "one of two imports": (
        {
            "mine.py": layers(
                "try:\n    from fast import two\nexcept ImportError:\n    from other import two\n",
                forward="return two(x)",
            ),
            "fast.py": HALVES,
            "other.py": HALVES,
        },
        {"fast.py": HALVES.replace("2", "3")},
        True,
    ),
    "a package": (
        {
            "mine.py": layers("from pack import two\n", forward="return two(x)"),
            "pack/__init__.py": "from .a import two\n",
            "pack/a.py": HALVES,
        },
        {"pack/a.py": HALVES.replace("2", "3")},
        True,
    ),
    "what an import does": (
        {
            "mine.py": layers("import other\n", forward="return other.one(x)"),
            "other.py": HALVES + "\ntorch.manual_seed(1)\n",
        },
        {"other.py": HALVES + "\ntorch.manual_seed(2)\n"},
        True,
    ),
    "a class's attribute set from outside": (
        {
            "mine.py": layers("import other\n", forward="return other.K.f(x)"),
            "other.py": f"{HALVES}\nclass K:\n    pass\n\n\nK.f = two\n",
        },
        {"other.py": f"{HALVES.replace('2', '3')}\nclass K:\n    pass\n\n\nK.f = two\n"},
        True,
    ),
    "what runs as a script": (
        {
            "mine.py": layers("import other\n", forward="return other.one(x)"),
            "other.py": HALVES + '\nif __name__ == "__main__":\n    print(1)\n',
        },
        {"other.py": HALVES + '\nif __name__ == "__main__":\n    print(2)\n'},
        False,
    ),
    "another function": (
        {"mine.py": layers("import other\n", forward="return other.one(x)"), "other.py": HALVES},
        {"other.py": HALVES.replace("2", "3")},
        False,
    ),
    "a class by its path": (
        {"mine.py": layers("", 'self.path = "other:Two"'), "other.py": "class Two:\n    K = 2\n"},
        {"other.py": "class Two:\n    K = 3\n"},
        True,
    ),
    "an entry of a table that is not chosen": (  # user's code is not evaluated: all that it mentions counts
        {"mine.py": layers(TABLE, 'self.f = TABLE["one"]')},
        {"mine.py": layers(TABLE.replace("x * 2", "x * 3"), 'self.f = TABLE["one"]')},
        True,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_read_counts(tmp_path, monkeypatch, case):
    files, changes, differs = CASES[case]
    monkeypatch.chdir(tmp_path)
    write(tmp_path, files)
    before = of(tmp_path)
    write(tmp_path, changes)
    assert (of(tmp_path) != before) == differs
    assert not {name.removesuffix(".py") for name in files} & set(sys.modules)  # nothing was imported


def test_an_unchanged_file_in_another_place_is_the_same(tmp_path):
    files = CASES["a file by division"][0]
    for name in ("one", "other place"):
        write(tmp_path / name, files)
    assert of(tmp_path / "one") == of(tmp_path / "other place")


@pytest.mark.parametrize("folder", ["site-packages/rich_layers", "dist-packages/rich_layers"])
def test_layers_of_an_installed_package_are_followed_and_its_other_needs_are_not(tmp_path, monkeypatch, folder):
    """A package that a layer comes from counts with all that is met of it, one that knows nothing of torch does not."""
    package = tmp_path / folder
    write(package, {"__init__.py": "from .layers import Rich\n"})
    write(
        package,
        {"layers.py": "from torch import nn\nfrom .helpers import two\n\n\nclass Rich(nn.Module):\n    f = two\n"},
    )
    write(package, {"helpers.py": HALVES, "../plain_tools.py": HALVES})
    write(
        tmp_path,
        {
            "mine.py": layers(
                "import plain_tools\nfrom rich_layers import Rich\n", "self.r = Rich(plain_tools.two(dim))"
            )
        },
    )
    monkeypatch.syspath_prepend(str(package.parent))
    before, alone = of(tmp_path), of(tmp_path, mixer="rich_layers:Rich")
    write(package, {"../plain_tools.py": HALVES.replace("2", "3")})
    assert of(tmp_path) == before
    write(package, {"helpers.py": HALVES.replace("2", "3")})
    assert of(tmp_path) != before
    assert of(tmp_path, mixer="rich_layers:Rich") != alone


@pytest.mark.parametrize(
    ("mixer", "files", "words"),
    [
        ("nowhere:Mine", {}, ("nowhere:Mine", "cannot be imported")),
        ("mine:Yours", {"mine.py": layers()}, ("mine:Yours", "mine.py has no Yours")),
        ("mine:Mine", {"mine.py": "def (\n"}, ("mine:Mine", "SyntaxError", "mine.py", "line 1")),
    ],
)
def test_a_class_that_is_not_there_is_told_at_once(tmp_path, mixer, files, words):
    write(tmp_path, files)
    with pytest.raises(UserError) as told:
        of(tmp_path, mixer=mixer)
    assert all(word in str(told.value) for word in ("mixer", *words))
    assert "\n" not in str(told.value)


def test_a_word_that_no_table_knows_is_told(tmp_path):
    with pytest.raises(UserError, match="norm: 'layer_nrom' is not known"):
        fingerprint.network(ROOT, {"norm": "layer_nrom"}, tmp_path)
    fingerprint.network(ROOT, {"norm": "none"}, tmp_path)


def test_switches_choose_and_numbers_do_not():
    names = itertools.product(["layer_norm", "l2"], ["max", "average"])
    found = {names: fingerprint.network(ROOT, {"norm": names[0], "pooling": names[1]}) for names in names}
    assert len(set(found.values())) == 4
    assert fingerprint.network(ROOT, {}) == found["layer_norm", "max"]
    assert fingerprint.network(ROOT, {"dim": 40, "n_blocks": 3, "expansion": 1.5}) == fingerprint.network(
        ROOT, {"dim": 8}
    )


def test_a_root_that_is_gone_is_named():
    with pytest.raises(UserError, match="metrics:psnr_z is not found"):
        fingerprint.code("safmn.quality.metrics:psnr_z")
