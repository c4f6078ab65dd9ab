"""What counts of the project's own code, by the kind of statement: a made-up package in the place of the project."""

import pytest

from safmn import fingerprint, syntax

NET = "class Net:\n    pass\n"
REGISTRY = "R = {}\ndef register(item):\n    R[1] = item\n    return item\n"
IMPORTING = "import safmn.pack\n\nclass Net:\n    f = safmn.pack.f\n"
TABLE = "T = {'a': 1, 'b': 2}\n\nclass Net:\n    def __init__(self, norm='a'):\n        self.norm = T[norm]\n"

# The files of the package, of which the last one is edited (2 becomes 3), and whether that changes the fingerprint of
# `safmn.net:Net` with its default switches.
CASES: dict[str, tuple[dict[str, str], bool]] = {
    # Statements that act on import and define names.
    "a loop": ({"net.py": "T = {}\nfor c in (1, 2):\n    T[c] = c\n\nclass Net:\n    k = T\n"}, True),
    "a loop that sets attributes": ({"net.py": NET + "for k in 'ab':\n    setattr(Net, k, 2)\n"}, True),
    "a comprehension": ({"net.py": NET + "[setattr(Net, k, 2) for k in 'ab']\n"}, True),
    "a context": ({"net.py": NET + "with open('a') as g:\n    Net.k = 2\n"}, True),
    "an attempt": ({"net.py": NET + "try:\n    Net.k = 2\n    ok = True\nexcept ValueError:\n    ok = False\n"}, True),
    "a call whose result is assigned": ({"net.py": NET + "def patch(k):\n    Net.k = k\n\n_ = patch(2)\n"}, True),
    "an attribute and a name": ({"net.py": NET + "Net.k = k = 2\n"}, True),
    "a registered function": (
        {"net.py": REGISTRY + "@register\ndef a():\n    return 2\n\nclass Net:\n    k = R\n"},
        True,
    ),
    "unless it is a script": ({"net.py": NET + 'if __name__ != "__main__":\n    Net.k = 2\n'}, True),
    "only if it is a script": ({"net.py": NET + 'if __name__ == "__main__":\n    Net.k = 2\n'}, False),
    "if it is no script": ({"net.py": NET + 'if __name__ == "__main__":\n    pass\nelse:\n    Net.k = 2\n'}, True),
    "the package of a module": (
        {"net.py": IMPORTING, "pack/__init__.py": "def f():\n    pass\n\nglobals()[1] = 2\n"},
        True,
    ),
    "the package of all": ({"net.py": NET, "__init__.py": "import net\n\nnet.Net.k = 2\n"}, True),
    "an unused function": ({"net.py": NET + "def f():\n    return 2\n"}, False),
    # Imports.
    "the origin of a name": ({"net.py": "from torch.nn import Act2 as Act\n\nclass Net:\n    f = Act()\n"}, True),
    "the origin of a module": ({"net.py": "import torch.nn2 as nn\n\nclass Net:\n    f = nn.GELU()\n"}, True),
    "the origin of a name in a function": (
        {"net.py": "class Net:\n    def f(self):\n        from math import log2 as f\n        return f(1)\n"},
        True,
    ),
    "the origin of an unused name": ({"net.py": "from torch.nn import Act2 as Act\n\nclass Net:\n    pass\n"}, False),
    "all names of a module in the place of one": (
        {
            "net.py": "def f():\n    pass\n\nfrom safmn.fast import *\n\nclass Net:\n    g = f\n",
            "fast.py": "def f():\n    return 2\n",
        },
        True,
    ),
    # Tables that switches look up.
    "an entry that is not chosen": ({"net.py": TABLE + "        assert norm in T, T.keys()\n"}, False),
    "an entry that is used otherwise": ({"net.py": TABLE + "        self.most = max(T.values())\n"}, True),
    "an entry that is got": ({"net.py": TABLE + "        self.other = T.get('b')\n"}, True),
    "an entry that another module uses": (
        {
            "other.py": "from safmn import net\n\ndef f():\n    return net.T\n",
            "net.py": TABLE + "        from safmn.other import f\n        self.other = f()\n",
        },
        True,
    ),
    "an entry, and the class is wrapped": ({"net.py": TABLE + "\nNet = print(Net)\n"}, False),
    "what wraps the class": ({"net.py": TABLE.replace("2", "0") + "\nNet = print(Net, 2)\n"}, True),
    "a class that is made": ({"net.py": "Net = type('Net', (), {'k': 2})\n"}, True),
    # Annotations that run.
    "a field of a dataclass": ({"net.py": "@dataclass\nclass Net:\n    k: int2\n"}, True),
    "a field of a model": ({"net.py": "class Net(Model):\n    k: int2\n"}, True),
    "a registered type": (
        {
            "net.py": "@singledispatch\ndef f(x):\n    pass\n\n@f.register\ndef _(x: int2):\n    pass\n\n"
            "class Net:\n    k = f\n"
        },
        True,
    ),
    "an argument of a method": (
        {"net.py": "class Net(Module):\n    def f(self, x: int2):\n        y: int2 = 0\n"},
        False,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_counts(tmp_path, monkeypatch, case):
    files, counts = CASES[case]
    monkeypatch.setattr(syntax, "__file__", str(tmp_path / "syntax.py"))
    (tmp_path / "__init__.py").touch()
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = fingerprint.network("safmn.net:Net", {}).digest()
    assert "2" in text
    (tmp_path / name).write_text(text.replace("2", "3"))
    assert (fingerprint.network("safmn.net:Net", {}).digest() != before) == counts
