"""Sweeps: one file, many variants; their names and titles, and what is refused."""

import itertools
import string

import pytest
import yaml

from safmn import networks
from safmn.errors import UserError
from safmn.networks import sweeps, variants

SIZE = """
title: "N = {n_blocks}, C = {dim}"
description: "Depth and width."
sweep: {network.n_blocks: [4, 8, 12], network.dim: [24, 36, 48]}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFMN_ABLATIONS", str(tmp_path))
    return tmp_path


def write(folder, name, content=None, **keys):
    content = content or {"title": "x", "description": "x", **keys}
    (folder / f"{name}.yaml").write_text(
        content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
    )
    return folder / f"{name}.yaml"


def names(folder, **keys):
    return [variant.network.name for variant in variants.load_all(write(folder, "s", **keys))]


def test_the_sweep_of_the_issue(folder):
    write(folder, "size", SIZE)
    found = variants.discover()
    assert list(found) == [f"size_{n}_{c}" for n, c in itertools.product((4, 8, 12), (24, 36, 48))]
    point = found["size_4_24"]
    assert (point.network.title, point.switches, point.sweep) == ("N = 4, C = 24", {"n_blocks": 4, "dim": 24}, "size")
    # The same networks as one file each gives.
    write(folder, "one", network={"n_blocks": 12, "dim": 48})
    variants._discover.cache_clear()
    one, other = (networks.build(name, 4).state_dict() for name in ("one", "size_12_48"))
    assert {key: value.shape for key, value in one.items()} == {key: value.shape for key, value in other.items()}
    with pytest.raises(UserError, match="size is a sweep of 9 variants: name one of them, such as size_4_24"):
        networks.info("size")


@pytest.mark.parametrize(
    ("sweep", "expected"),
    [
        ({"training.learning_rate": [0.001, 5e-4, 1e-05]}, ["s_0p001", "s_0p0005", "s_1em05"]),
        ({"network.modulation": [True, False]}, ["s_true", "s_false"]),
        ({"network.pooling": ["max", "nearest"]}, ["s_max", "s_nearest"]),
        ({"network.mixer": ["my_nets:Gated", "safm"]}, ["s_my_nets_gated", "s_safm"]),
        ({"network.expansion": [1.5, 2.0]}, ["s_1p5", "s_2"]),
    ],
)
def test_values_in_names(folder, sweep, expected):
    assert names(folder, sweep=sweep) == expected
    assert all(variants.NAME.fullmatch(name) for name in expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(-1, "m1"), (None, "none"), ([0.9, 0.99], "0p9_0p99"), ({"name": "SGD", "lr": 0.1}, "sgd_0p1"), ([], "empty")],
)
def test_other_values_as_words(value, expected):
    assert sweeps.word(value) == expected
    assert set(sweeps.word(value)) <= {*string.ascii_lowercase, *string.digits, "_"}


def test_arguments_of_an_own_class_are_swept_and_sections_are_kept(folder):
    network = {"class": "nets:Tiny", "args": {"depth": 3}}
    keys = {"network": network, "training": {"learning_rate": 0.002}}
    found = variants.load_all(write(folder, "s", **keys, sweep={"network.args.dim": [8, 16]}))
    assert [variant.network.arguments for variant in found] == [{"depth": 3, "dim": 8}, {"depth": 3, "dim": 16}]
    assert all(variant.training == {"learning_rate": 0.002} for variant in found)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("C = {dim}", "C = 24 (n_blocks 4)"),
        ("{network.dim} wide", "24 wide (n_blocks 4)"),
        ("Size", "Size (n_blocks 4, dim 24)"),
        ("{{x}} {dim} {n_blocks}", "{x} 24 4"),
    ],
)
def test_titles_tell_all_points_apart(folder, title, expected):
    content = {"title": title, "description": "x", "sweep": {"network.n_blocks": [4, 8], "network.dim": [24, 36]}}
    found = variants.load_all(write(folder, "s", content))
    assert found[0].network.title == expected
    assert len({variant.network.title for variant in found}) == 4


DIM = {"network.dim": [24, 36]}


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"sweep": {}}, "sweep: names no key"),
        ({"sweep": {"network.width": [1]}}, "sweep of network.width: network.width: is not a known key"),
        ({"sweep": {"width": [1]}}, "'width' is not a key such as network.dim"),
        ({"sweep": {"title": ["a"]}}, "'title' is not a key such as network.dim"),
        ({"sweep": {"network": [{"dim": 4}]}}, "'network' is not a key such as network.dim"),
        ({"sweep": {"network.": [4]}}, "'network.' is not a key such as network.dim"),
        ({"sweep": {"network.dim": [24, 24]}}, "sweep.network.dim: lists 24 twice"),
        ({"sweep": {"network.dim": [24, 24.0]}}, "sweep.network.dim: lists 24 twice"),
        ({"sweep": {"network.dim": [24, 0]}}, "sweep of network.dim: network.dim: should be .* not 0"),
        ({"sweep": {"network.dim": []}}, "sweep.network.dim"),
        ({"sweep": {"network.dim": 24}}, "sweep.network.dim"),
        ({"sweep": {"network.dim": [*range(1, 401)], "network.n_blocks": [*range(1, 251)]}}, "gives 100,000 points"),
        ({"sweep": {"network.mixer": ["a:B", "a_b"]}}, "two points would both be called s_a_b"),
        ({"sweep": DIM, "rows": {"3": "Baseline"}}, "rows: the points of a sweep stand for no row"),
        ({"sweep": DIM, "title": "{width}"}, "title: {width} is not swept: write one of {network.dim}, {dim}"),
        ({"sweep": DIM, "title": "{"}, "title: .*brace"),
        ({"sweep": {"network.mixer": ["a" * 120]}}, "is a name of more than 100 letters"),
        ({"sweep": {"network.args": [{"a": 1}], "network.args.a": [1]}}, "one inside the other"),
    ],
)
def test_mistakes(folder, keys, says):
    file = write(folder, "s", {"title": "x", "description": "x", **keys})
    with pytest.raises(UserError, match=says) as caught:
        variants.load_all(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (("s", {"sweep": DIM}), ("s_24", {}), "s.yaml: its sweep gives s_24, and s_24.yaml has this name"),
        (("s", {"sweep": DIM}), ("s_x", {"sweep": DIM}), None),
        (("a", {"sweep": {"network.dim": [1], "network.n_blocks": [2]}}), ("a_1", {"sweep": {"network.dim": [2]}}),
         "its sweep gives a_1_2, and a"),
        (("carn", {"sweep": {"network.mixer": ["m"]}}), ("x", {}), "carn.yaml: a published network has this name"),
        (("imdn_retrained", {}), ("x", {}), "a published network that is trained here has this name"),
    ],
)  # fmt: skip
def test_two_files_that_give_one_name(folder, first, second, says):
    for name, keys in (first, second):
        write(folder, name, **keys)
    if says is None:
        assert len(variants.discover()) == 4
        return
    with pytest.raises(UserError, match=says):
        variants.discover()


def test_a_thousand_points_are_not_validated_one_by_one(folder, monkeypatch):
    checked = []
    check = variants.check
    monkeypatch.setattr(variants, "check", lambda *args: checked.append(args) or check(*args))
    sweep = {"network.n_blocks": [*range(1, 41)], "network.dim": [*range(4, 104, 4)]}
    assert len(names(folder, sweep=sweep)) == 1000
    assert len(checked) == 1 + 40 + 25
