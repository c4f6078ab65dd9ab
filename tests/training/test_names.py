"""Runs in folders, with studies and on data whose names hold spaces, quotes, unicode or what a shell would act on."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from safmn import cli
from safmn.networks import load_weights

from .workshop import FILES, contents

NAMES = [
    "two words",
    "it's",
    'say "cheese"',
    "größe 画像 🎉",
    "$(touch harm);`touch harm`&|*?[0]{a,b}~!#",
    "-dash",
    "--out",
    "100%",
    "a\\b",
    "a\nb\tc",
    "{wildcards.network}",
    "...",
    " ",
]


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder."""
    return {
        os.path.relpath(path, folder): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def trained(workshop, folder: Path, name: str) -> None:
    """A run all of whose paths hold the name; checks the files, and that nothing else was written."""
    place = folder / name
    place.mkdir()
    shutil.copytree(workshop.root, place / "images")
    study = workshop.study(place / f"{name}.yaml", iterations=2, validate_every=2)
    content = json.loads(study.read_text(encoding="utf-8"))
    content["data"]["folders"] = {"own": str(place / "images" / "own")}
    # YAML wants control characters escaped.
    text = re.sub("[\x7f-\x9f]", lambda match: f"\\u{ord(match[0]):04x}", json.dumps(content, ensure_ascii=False))
    study.write_text(text, encoding="utf-8")
    before = tree(folder)
    arguments = ["train", "tiny", f"--study={study}", "--scale=4", f"--out={place / 'out' / name}", "--no-check"]
    arguments += [f"--packs={place / 'packs'}", f"--data-root={place / 'images'}", "--device=cpu"]
    status = cli.main(arguments)
    assert status == 0
    after = tree(folder)
    assert {path: after[path] for path in before} == before
    inside = (os.path.join(name, "out"), os.path.join(name, "packs"))
    assert all(path.startswith(inside) for path in after.keys() - before.keys())
    assert set(FILES) < set(os.listdir(place / "out" / name))
    load_weights(place / "out" / name / "best.safetensors", "tiny", 4)


@pytest.fixture(scope="module")
def plain(_workshop, tmp_path_factory) -> dict[str, bytes]:
    """The files of a run under a plain name."""
    out = tmp_path_factory.mktemp("plain") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAFMN_ABLATIONS", str(_workshop.variants))
        _workshop.train(out, iterations=2, validate_every=2)
    return contents(out)


@pytest.mark.parametrize("name", NAMES)
def test_odd_names(workshop, tmp_path, monkeypatch, plain, name):
    """The same bytes as under a plain name."""
    monkeypatch.chdir(tmp_path)
    trained(workshop, tmp_path, name)
    assert contents(tmp_path / name / "out" / name) == plain


def test_any_name(workshop, tmp_path_factory, monkeypatch):
    characters = st.characters(exclude_characters="/\0", exclude_categories=["Cs", "Cn"])

    @settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.text(characters, min_size=1, max_size=20).filter(lambda name: name not in (".", "..")))
    @example("é" * 100)
    def check(name):
        folder = tmp_path_factory.mktemp("name")
        monkeypatch.chdir(folder)
        trained(workshop, folder, name)

    check()


CONTROLS = ["\x1b[31mred", "\x7fdelete", "\x9b1mbold", "next\x85line"]  # what a terminal obeys or does not show


@pytest.mark.parametrize("name", [*(name for name in NAMES if "\n" not in name), *CONTROLS])
def test_odd_names_in_messages(workshop, tmp_path, capsys, name):
    """A mistake is still told in one line, and the reason is kept for the tables."""
    out = tmp_path / name
    status = cli.main([*workshop.arguments(out, "tiny", tmp_path / f"{name} missing.yaml")])
    said = capsys.readouterr().err
    assert status == 2
    assert len(said.splitlines()) == 1
    assert said.rstrip("\n").isprintable()
    assert (out / "failure.txt").exists()
