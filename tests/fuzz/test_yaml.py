"""Studies and variants that nobody would write: each is accepted or answered with one line, whatever is in it.

Every test runs twice over: a few hundred inputs in all in CI, always the same ones, and more than ten thousand fresh
ones among the slow tests. Inputs that were once trouble are in tests/test_study.py.
"""

import contextlib
import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safmn import paths
from safmn.errors import UserError
from safmn.files import digest
from safmn.networks import variants
from safmn.study import Run, Study

STUDIES = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted((paths.ROOT / "config").glob("*.yaml"))]
ABLATIONS = [
    yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted((paths.ROOT / "ablations").glob("*.yaml"))
]

# What has meaning to YAML, to a path, to a shell or to whoever reads numbers.
SNIPPETS = (  # noqa: SIM905
    "&a *a <<: !! !!int !!python/object/apply:os.system !!binary !!timestamp !!set !!omap !!float --- ... ? : - , [ ] "
    "{ } | > %YAML @ ` # ' \" \\ \\x \\ud800 \\0 ../ / ~ $HOME $(x) ;ls && * .inf -.inf .nan 1e999 -0.0 0x 0b1 0o7 "
    "1:60:60 1_000 true no null 2020-01-01 999999999999999999999 -1 1e-3 [1] {a: b} \x85 \u2028 \ufeff \U0001f389"
).split(" ")


def tried(examples: int, *strategies: st.SearchStrategy, **named: st.SearchStrategy) -> Callable[..., Any]:
    """Runs a function on that many inputs: few, always the same; many, always new ones."""
    chosen = settings(
        max_examples=examples,
        derandomize=examples < 1000,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    return lambda function: chosen(given(*strategies, **named)(function))()


def few_and_many(few: int, many: int) -> pytest.MarkDecorator:
    """The number of inputs of a test, in CI and among the slow tests."""
    return pytest.mark.parametrize("examples", [few, pytest.param(many, marks=pytest.mark.slow)])


texts = st.one_of(st.sampled_from(SNIPPETS), st.text(max_size=30))
ODD = [0, -0.0, 1.0, 4.0, 5e5, 2**31, 2**32, 2**63, 10**400, math.nan, math.inf, -math.inf, 1e-320, True, -1]
numbers = st.one_of(st.sampled_from(ODD), st.integers(-(2**70), 2**70), st.floats())
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.one_of(texts, numbers), inner, max_size=4)),
    max_leaves=8,
)


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """The paths of everything inside plain data."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        found += places(each, (*path, key))
    return found


@st.composite
def edited(draw: st.DrawFn, originals: list[dict]) -> Any:
    """A valid configuration in which one to three things are replaced, taken away or added."""
    content = copy.deepcopy(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from(places(content) or [("name",)]))
        place = content
        for parent in parents:
            place = place[parent]
        action = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add", "rename"]))
        if action == "replace":
            # Mostly by something of its own kind, which gets further than the schema.
            kind = numbers if isinstance(place[last], int | float) else texts
            place[last] = draw(st.one_of(kind, kind, values))
        elif action == "remove":
            del place[last]
        elif isinstance(place, list):
            place.insert(last, draw(values))
        elif action == "add":
            place[draw(texts)] = draw(values)
        else:
            place[draw(st.one_of(texts, numbers))] = place.pop(last)
    return content


@st.composite
def scribbled(draw: st.DrawFn, originals: list[dict]) -> str:
    """The text of a valid configuration with pieces put in, cut out and doubled."""
    text = yaml.safe_dump(draw(st.sampled_from(originals)), allow_unicode=True, sort_keys=False)
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 40)))
        piece = draw(st.one_of(texts, st.just(text[start:end] * 2), st.sampled_from(["\n", "\t", "  ", "\n  "])))
        text = text[:start] + piece + text[end:]
    return text


def written(file: Path, content: Any) -> None:
    """As YAML or, where YAML cannot hold it, as JSON; keys of JSON are text."""
    try:
        text = yaml.safe_dump(content, allow_unicode=True)
        file.write_text(text, encoding="utf-8")
    except (yaml.YAMLError, UnicodeEncodeError, ValueError):
        with contextlib.suppress(ValueError):  # an int of more digits than Python writes
            file.write_text(json.dumps(content))


def answered(load: Callable[[], Any], where: str) -> Any:
    """What it gives, or None where it refuses in one printable line that begins with the file."""
    try:
        return load()
    except UserError as error:
        message = str(error)
        assert where in message
        assert "\n" not in message
        assert "\r" not in message
        assert len(message) < 2000
        return None


def usable(study: Study) -> None:
    """An accepted study can be written down, read again, and says what its runs are."""
    text = json.dumps(study.content, allow_nan=False)
    text.encode()
    assert Study.from_content(json.loads(text), "again").content == study.content
    inside = (paths.ROOT / study.results).resolve()
    assert inside.parent == (paths.ROOT / "results").resolve()
    if study.training is not None:
        for name in study.variants[:2]:
            for run in study.runs(name)[:3]:
                assert type(run.scale) is type(run.seed) is int
                assert len(digest(study.specification(run))) == 64
        assert study.specification(Run("imdn", study.scales[0], 0))["switches"] == {}


@few_and_many(150, 3000)
def test_edited_studies(tmp_path, examples):
    file, accepted = tmp_path / "study.yaml", []

    @tried(examples, edited(STUDIES))
    def check(content):
        written(file, content)
        study = answered(lambda: Study.load(file), str(file))
        if study is not None:
            usable(study)
            accepted.append(study)

    assert accepted  # both answers occur
    assert len(accepted) < examples


@few_and_many(100, 3000)
def test_scribbled_studies(tmp_path, examples):
    file = tmp_path / "study.yaml"

    @tried(examples, scribbled(STUDIES))
    def check(text):
        file.write_text(text, encoding="utf-8", errors="replace")
        study = answered(lambda: Study.load(file), str(file))
        if study is not None:
            usable(study)


@few_and_many(100, 1500)
def test_any_bytes(tmp_path, examples):
    file = tmp_path / "study.yaml"

    tags = st.sampled_from(["", "!!int", "!!float", "!!bool", "!!timestamp", "!!binary", "!!set", "!!null", "!!x"])
    tagged = st.tuples(texts, tags, texts).map(lambda parts: f"{parts[0]}: {parts[1]} {parts[2]}")
    lines = st.lists(st.one_of(texts, tagged, tagged), max_size=8).map(" ".join)
    lines = st.one_of(lines, tagged).map(lambda text: text.encode(errors="replace"))

    @tried(examples, st.one_of(lines, lines, st.binary(max_size=200)))
    def check(data):
        file.write_bytes(data)
        assert answered(lambda: Study.load(file), str(file)) is None


@few_and_many(60, 1000)
def test_what_snakemake_may_hand_over(examples):
    """Overrides of any kind on the command line."""
    keys = st.sampled_from(
        ["data_root", "iterations", "variants", "networks", "scales", "seeds", "name", "data", "run"]
    )

    @tried(examples, st.sampled_from(STUDIES), st.dictionaries(st.one_of(keys, texts), values, max_size=3))
    def check(study, changes):
        found = answered(lambda: Study.from_snakemake(study | changes, ["study.yaml"]), "study.yaml")
        if found is not None:
            usable(found)


@few_and_many(100, 2000)
def test_edited_variants(tmp_path, examples):
    file = tmp_path / "mine.yaml"

    @tried(examples, edited(ABLATIONS))
    def check(content):
        written(file, content)
        found = answered(lambda: variants.load(file), str(file))
        if found is not None:
            json.dumps([found.switches, found.training, found.network.rows], allow_nan=False).encode()
            assert all(1 <= table <= 5 for table in found.network.rows)
            found.network.title.encode()


@few_and_many(60, 1500)
def test_scribbled_variants(tmp_path, examples):
    file = tmp_path / "mine.yaml"

    @tried(examples, scribbled(ABLATIONS))
    def check(text):
        file.write_text(text, encoding="utf-8", errors="replace")
        answered(lambda: variants.load(file), str(file))


@few_and_many(40, 400)
def test_classes_that_a_variant_may_name(tmp_path, examples):
    """Built or refused, and nothing is run but an import."""
    file = tmp_path / "mine.yaml"
    names = st.one_of(texts, st.tuples(texts, texts).map(":".join), st.sampled_from(["torch.nn:Identity", "os:system"]))

    @tried(examples, st.sampled_from(["norm", "mixer", "channel_mixer"]), names)
    def check(switch, name):
        content = {"title": "x", "description": "x", "network": {"dim": 4, "n_blocks": 1, switch: name}}
        file.write_text(json.dumps(content), encoding="utf-8")
        answered(lambda: variants.load(file).network.factory(2), str(file))
