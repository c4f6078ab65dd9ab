"""The published networks are read from source text: what is read is what Python would make of it."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from safmn import networks
from safmn.errors import UserError
from safmn.networks import registry

PACKAGE = Path(registry.__file__).parent


def test_the_text_says_what_the_decorators_are_called_with(monkeypatch):
    """Every module is imported with a decorator that notes its arguments."""
    noted = {}

    def note(name, title, *, rows, reference, scales=(2, 3, 4), colour="RGB"):
        def keep(factory):
            code = f"{factory.__module__}:{factory.__qualname__}"
            noted[name] = (title, rows, reference, scales, colour, code)
            return factory

        return keep

    monkeypatch.setattr(registry, "published", note)
    for file in sorted(PACKAGE.glob("*.py")):
        if "@published(" in file.read_text(encoding="utf-8") and file.stem != "registry":
            name = f"safmn.networks.{file.stem}"
            monkeypatch.delitem(sys.modules, name, raising=False)
            importlib.import_module(name)
            monkeypatch.delitem(sys.modules, name)
    read = {
        name: (each.title, each.rows, each.reference, each.scales, each.colour, each.code)
        for name, each in registry.published_networks().items()
    }
    assert read == noted
    assert len(read) == 15


def test_lists_of_networks_do_not_wait_for_torch():
    command = "import sys; from safmn import networks; networks.info('imdn'); print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"


def test_a_network_is_built_by_what_is_read():
    module = networks.build("espcn", 2)
    assert f"{type(module).__module__}:{type(module).__qualname__}" == networks.info("espcn").code


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ('"x", "X", rows={1: "X"}, reference=title()', ("title() is not written out", "line 4")),
        ('"x", "X", rows={1: "X"}, reference=LATER', ("LATER is not written out",)),
        ('"x", rows={1: "X"}, reference="X"', ("title",)),
        ('"x", "X", rows={}, reference="X", color="Y"', ("color",)),
    ],
)
def test_what_cannot_be_read_is_told(arguments, words):
    text = f"OTHER = f(1)\n\n\n@published({arguments})\nclass X: ...\n"
    with pytest.raises(UserError) as told:
        registry._in_file(Path("some where.py"), ast.parse(text))
    assert all(word in str(told.value) for word in ("some where.py", *words)), told.value
    assert "\n" not in str(told.value)


def test_constants_of_the_same_file_are_read():
    text = (
        'REF = "one " "two"\n\n\n@published("x", "X", rows={1: "X"}, reference=REF, scales=(2,))\ndef x(scale): ...\n'
    )
    (found,) = registry._in_file(Path("x.py"), ast.parse(text))
    assert (found.name, found.reference, found.scales, found.code) == ("x", "one two", (2,), "safmn.networks.x:x")
