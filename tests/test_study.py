"""Studies and variants: what is accepted, what each mistake is answered with, and what a run's specification holds."""

import copy
import datetime
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from safmn import networks, paths
from safmn.configuration import Section, as_plain, read_yaml
from safmn.errors import UserError
from safmn.files import digest
from safmn.networks import own, variants
from safmn.planning import preflight
from safmn.planning.jobs import Jobs
from safmn.schema import PAPER, Training
from safmn.study import Run, Study, differences_from_paper

STUDIES = sorted((paths.ROOT / "config").glob("*.yaml"))
MINIMAL = {
    "name": "small",
    "description": "as little as a study can say",
    "scales": [4],
    "seeds": [0],
    "data": {"train": ["T91"], "validation": ["BSDS200[:5]"], "test": ["Set5"]},
    "training": {"iterations": 100, "batch": 2, "patch": 16, "validate_every": 50},
}


def changed(path: str, value) -> dict:
    """The minimal study with one key, "training.batch" say, set; taken out where the value is `...`."""
    content = copy.deepcopy(MINIMAL)
    *parents, last = path.split(".")
    place = content
    for parent in parents:
        place = place.setdefault(parent, {})
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return content


def refused(content, *words):
    with pytest.raises(UserError) as caught:
        Study.from_content(content, "some where.yaml")
    message = str(caught.value)
    assert message.startswith("some where.yaml: ")
    assert "\n" not in message
    for word in words:
        assert word in message


# --- reading ---


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.name)
def test_the_projects_own_studies(file):
    study = Study.load(file)
    assert study.name == file.stem
    again = Study.from_content(json.loads(json.dumps(study.content, allow_nan=False)), "again")
    assert again.content == study.content


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1e-3", {"a": 0.001}),
        ("a: 1E5", {"a": 100000.0}),
        ("a: 1e-3x", {"a": "1e-3x"}),
        ("a: .5e-1", {"a": 0.05}),
        ('{"a": [1, null, true]}', {"a": [1, None, True]}),
        ("\ufeffa: 1", {"a": 1}),
        ("a: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
        ("a: größe 画像 🎉", {"a": "größe 画像 🎉"}),
        ("# nothing", None),
    ],
)
def test_yaml(tmp_path, text, expected):
    file = tmp_path / "file.yaml"
    file.write_bytes(text.encode())
    assert read_yaml(file) == expected


LAUGHS = "a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"a: 1\na: 2\n", "line 2: 'a' is given twice"),
        (b"a:\n  b: 1\n  b: 1\n", "line 3: 'b' is given twice"),
        (LAUGHS.encode(), "alias"),
        (b"a: &a\n  b: *a\n", "alias"),
        (b"a: 1\nb: 010\n", "line 2: 010 can be read as several numbers"),  # YAML 1.1: 8
        (b"a: [-007]\n", "-007 can be read as several numbers"),
        (b"0801: a\n017: b\n", "line 2: 017 can be read as several numbers"),  # 0801 is a word
        (b"a: 1:30\n", "1:30 can be read as several numbers"),  # 90
        (b"a: 0:0.5\n", "0:0.5 can be read as several numbers"),
        (b"<<: {a: 1}\n", "not valid YAML"),
        (b"a: 1\n---\nb: 2\n", "single document"),
        (b"a: [1, 2\n", "not valid YAML"),
        (b"\ta: 1\n", "not valid YAML"),
        (b"? [a, b]\n: 1\n", "a key must be a plain word"),
        (b"? {a: b}\n: 1\n", "a key must be a plain word"),
        (b"a: \xff\xfe\n", "cannot read"),
        (b"\xff\xfea\x00", "cannot read"),
        (b"a: \x07\n", "not valid YAML"),
        (b"a: !!python/object/apply:os.system ['touch harm']\n", "not valid YAML"),
        (b"a: !!python/name:os.system\n", "not valid YAML"),
        (b"a: !!timestamp soon\n", "does not fit"),
        (b"a: !!int ''\n", "does not fit"),
        (b"a: !!bool perhaps\n", "does not fit"),
        (b"a: 2020-13-45\n", "does not fit"),
        (b"a: " + b"9" * 5000 + b"\n", "does not fit"),
        (b"[" * 900_000, "nested"),
        (b"- " * 400_000, "nested"),
        (b"{a: " * 200_000, "nested"),
        (b"\n".join(b" " * n + b"a:" for n in range(1000)), "nested"),
        (b"a: " + b"x" * 1_000_001, "larger than 1000000 bytes"),
    ],
    ids=itertools.count(),
)
def test_yaml_that_is_refused(tmp_path, monkeypatch, data, says):
    """At once, and without running or building anything; the deep ones would otherwise end the process."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "file.yaml"
    file.write_bytes(data)
    with pytest.raises(UserError, match=says) as caught:
        read_yaml(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["file.yaml"]


def test_yaml_of_one_size_fits(tmp_path):
    """Up to the limit it is read, multi-byte characters and all."""
    file = tmp_path / "file.yaml"
    file.write_text("a: " + "é" * 400_000, encoding="utf-8")
    assert len(read_yaml(file)["a"]) == 400_000


def test_files_that_are_none(tmp_path):
    for file, reason in ((tmp_path, "directory"), (tmp_path / "none.yaml", "No such file"), ("a\0b", "null")):
        with pytest.raises(UserError, match=f"cannot read .*{reason}"):
            read_yaml(file)
    with pytest.raises(UserError, match="larger than"):
        read_yaml("/dev/zero")


def test_a_pipe(tmp_path):
    """`--study <(generate)`."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("a: 1",))
    writer.start()
    assert read_yaml(pipe) == {"a": 1}
    writer.join()


# --- the schema, and what it cannot say ---


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("name", ..., ("name", "required")),
        ("name", "", ("name",)),
        ("name", "../out", ("name",)),
        ("name", "a/b", ("name",)),
        ("name", ".", ("name",)),
        ("name", "-x", ("name",)),
        ("name", "a b", ("name",)),
        ("name", "$(touch x)", ("name",)),
        ("name", "größe", ("name",)),
        ("name", "x" * 65, ("name",)),
        ("name", "mini\n", ("name", "mini\\n")),
        ("name", 3, ("name", "string")),
        ("nam", "x", ("nam",)),
        ("scales", [], ("scales: should have at least 1 item, not 0",)),
        ("scales", [5], ("scales.0",)),
        ("scales", [4, 4.0], ("scales",)),
        ("scales", [True], ("scales.0",)),
        ("seeds", [-1], ("seeds.0",)),
        ("seeds", [2**32], ("seeds.0",)),
        ("seeds", [0.5], ("seeds.0",)),
        ("seeds", ["0"], ("seeds.0",)),
        ("seeds", [0, 0], ("seeds",)),
        ("variants", ["safmm"], ("variants", "'safmm'", "did you mean safmn")),
        ("variants", "safmn", ("variants",)),
        ("networks", ["imdnn"], ("networks", "'imdnn'")),
        ("extra_seeds", {"nobody": [1]}, ("extra_seeds", "'nobody'")),
        ("extra_seeds", {3: [1]}, ("extra_seeds", "'3'")),
        ("data", ..., ("data", "required")),
        ("data.test", ..., ("data", "test")),
        ("data.train", [], ("data.train", "at least one dataset")),
        ("data.train", ["T91[1]"], ("data.train", "T91[1]")),
        ("data.train", ["T91[::0]"], ("data.train", "T91[::0]")),
        ("data.train", ["T91["], ("data.train", "T91[")),
        ("data.train", ["../T91"], ("data.train",)),
        ("data.test", ["Set/5"], ("data.test",)),
        ("data.test", ["set5"], ("data.test", "write Set5")),
        ("data.test", ["my-set", "my_set"], ("data.test", "my-set, my_set would have the same columns")),
        ("data.test", ["mine", "MINE"], ("data.test", "the same columns")),
        ("data.test", ["mine", "mine"], ("data.test", "the same columns")),
        ("data.root", 3, ("data.root",)),
        ("data.root", "a\0b", ("data.root", "character")),
        ("data.root", "\ud800", ("data.root", "character")),
        ("data.folders", {"own": 3}, ("data.folders.own",)),
        ("training.iterations", 0, ("training.iterations",)),
        ("training.iterations", 1.5, ("training.iterations",)),
        ("training.iterations", "many", ("training.iterations",)),
        ("training.iterations", 10**30, ("training.iterations", "number")),
        ("training.iterations", 1 << 100_000, ("training.iterations", "number")),
        ("training.batch", None, ("training.batch",)),
        ("training.batch", 0, ("training.batch", "0")),
        ("training.patch", 7, ("training.patch",)),
        ("training.learning_rate", float("nan"), ("training.learning_rate", "number")),
        ("training.learning_rate", float("inf"), ("training.learning_rate", "number")),
        ("training.learning_rate", 0, ("training.learning_rate",)),
        ("training.learning_rate", 1e-6, ("training", "minimum_learning_rate", "above learning_rate")),
        ("training.betas", [0.9, 1], ("training.betas.1",)),
        ("training.betas", [0.9], ("training.betas",)),
        ("training.betas", [0.9, 0.9, 0.9], ("training.betas: should have at most 2 items, not 3",)),
        ("name", datetime.date(2024, 1, 1), ("name: 2024-01-01 is neither text nor a number: put it",)),
        ("description", {"a set"}, ("description: {'a set'} is neither",)),
        ("data.root", b"x", ("data.root: b'x' is neither",)),
        ("training.ema", 1, ("training.ema",)),
        ("training.precision", "fp16", ("training.precision",)),
        ("training.validate_every", 101, ("training", "validate_every", "above iterations")),
        ("training.threads", 10**9, ("training.threads",)),
        ("training.x", 1, ("training.x", "not a known key")),
        ("training.fft_wieght", 0.1, ("training.fft_wieght: is not a known key; did you mean fft_weight?",)),
        ("run.save_every", -1, ("run.save_every",)),
        ("run.log_every", 0, ("run.log_every",)),
        ("description", "x" * 5000, ("description", "4096")),
        ("\x1b[2J", 1, ("x1b",)),
    ],
    ids=itertools.count(),
)
def test_mistakes(path, value, words):
    refused(changed(path, value), *words)


@pytest.mark.parametrize("content", [None, 3, "text", [], [MINIMAL], True])
def test_what_is_no_study(content):
    refused(content, "the file as a whole")


@pytest.mark.parametrize("key", [None, True, 1.5, ("a", "b"), b"a"])
def test_keys_that_are_no_words(key):
    refused({**MINIMAL, key: 1}, "a key is not a word")


def test_nested_too_deeply():
    content = []
    for _ in range(100):
        content = [content]
    refused(changed("seeds", content), "seeds", "nested")


def test_whole_numbers_are_int_however_they_are_written():
    """5e5 iterations; and 4 and 4.0 must not be two folders, nor 0 and 0.0 two specifications."""
    content = changed("training.iterations", 5e5)
    content |= {"scales": [4.0], "seeds": [1.0]}
    study = Study.from_content(content, "x")
    assert study.training.iterations == 500_000
    assert [run.folder for run in study.runs("safmn")] == ["safmn/x4_seed1"]
    assert all(type(value) is int for value in (study.training.iterations, *study.scales, *study.seeds))
    one, other = (Study.from_content(changed("training.minimum_learning_rate", zero), "x") for zero in (0, 0.0))
    assert digest(one.specification(Run("safmn", 4, 0))) == digest(other.specification(Run("safmn", 4, 0)))


def test_defaults():
    content = Study.from_content(MINIMAL, "x").content
    assert content["training"]["learning_rate"] == 1e-3
    assert content["training"]["minimum_learning_rate"] == 1e-5
    assert content["training"]["betas"] == [0.9, 0.99]
    assert content["training"]["fft_weight"] == 0.05
    assert content["training"]["ema"] == 0.999
    assert content["run"] == {"save_every": 60, "log_every": 100, "cuda_graph": False, "jobs_per_device": 1}
    assert content["data"]["root"] is None


def test_a_study_cannot_be_changed():
    study = Study.from_content(MINIMAL, "x")
    for section, key in ((study, "training"), (study.run, "save_every"), (study.training, "batch")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, key, 1)
    study.content["data"]["folders"]["own"] = "here"  # a copy
    assert study.content["data"]["folders"] == study.data.folders == {}


def test_the_content_given_is_left_alone():
    content = copy.deepcopy(MINIMAL)
    Study.from_content(content, "x")
    assert content == MINIMAL


def test_the_home_folder_in_every_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    places = {"root": "~/a", "download": "~/b", "folders": {"Set5": "~/c d", "own": "/e/~", "~": "f"}}
    content = {**MINIMAL, "data": MINIMAL["data"] | places, "weights": {"root": "~", "download": "~/g"}}
    study = Study.from_content(content, "x")
    assert study.roots == [Path("/home/somebody/a"), Path("/home/somebody/b")]
    assert study.data.folders == {"Set5": "/home/somebody/c d", "own": "/e/~", "~": "f"}
    assert study.weights_roots == [Path("/home/somebody"), Path("/home/somebody/g")]
    assert content["data"]["folders"]["Set5"] == "~/c d"  # what was given is left alone


def test_the_home_folder_of_nobody():
    refused(changed("data.folders", {"own": "~nobody_of_that_name/x"}), "data.folders.own", "nobody_of_that_name")


# --- what it asks for ---


def test_runs():
    study = Study.from_content(
        {**MINIMAL, "scales": [2, 4], "variants": ["no_fm", "safmn"], "extra_seeds": {"safmn": [1, 0]}}, "x"
    )
    assert [run.folder for run in study.runs()] == [
        "safmn/x2_seed0",
        "safmn/x2_seed1",
        "safmn/x4_seed0",
        "safmn/x4_seed1",
        "no_fm/x4_seed0",
    ]


def test_a_study_that_trains_nothing():
    study = Study.from_content({**MINIMAL, "training": None}, "x.yaml")
    assert study.runs() == []
    with pytest.raises(UserError, match=r"x\.yaml: training: .*give it a training section"):
        study.specification(Run("safmn", 4, 0))


def test_a_specification_is_what_determines_the_result():
    """Name, place and conduct of a study do not; seed, scale, data and training do."""
    base = digest(Study.from_content(MINIMAL, "x").specification(Run("safmn", 4, 0)))
    for path, value in (
        ("name", "other"),
        ("description", "other"),
        ("run.save_every", 1),
        ("run.log_every", 3),
        ("data.root", "/elsewhere"),
        ("data.test", ["Set14"]),
        ("seeds", [0, 1]),
        ("variants", ["safmn"]),
    ):
        assert digest(Study.from_content(changed(path, value), "y").specification(Run("safmn", 4, 0))) == base, path
    for path, value in (
        ("data.train", ["T91[1:]"]),
        ("data.validation", ["Set14"]),
        ("training.batch", 3),
        ("training.ema_buffers", "frozen"),
        ("training.threads", 2),
    ):
        assert digest(Study.from_content(changed(path, value), "x").specification(Run("safmn", 4, 0))) != base, path
    for run in (Run("safmn", 4, 1), Run("safmn", 2, 0), Run("no_fm", 4, 0)):
        assert digest(Study.from_content(MINIMAL, "x").specification(run)) != base


def test_a_variants_own_training(tmp_path, monkeypatch):
    """Its learning rate is the one that counts, also where the study's minimum would be above it."""
    variant = {"title": "slow", "description": "x", "training": {"learning_rate": 1e-6}}
    (tmp_path / "slow.yaml").write_text(json.dumps(variant))
    monkeypatch.setenv("SAFMN_ABLATIONS", str(tmp_path))
    with pytest.raises(
        UserError, match=r"slow\.yaml: with what x\.yaml says: training: minimum_learning_rate .* above"
    ):
        Study.from_content(MINIMAL, "x.yaml")
    study = Study.from_content(changed("training.minimum_learning_rate", 0), "x.yaml")
    assert study.specification(Run("slow", 4, 0))["training"]["learning_rate"] == 1e-6
    assert study.training.learning_rate == 1e-3


def test_digest():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest({"a": "é"}) != digest({"a": "e"})


def test_differences_from_the_paper():
    assert differences_from_paper(Study.load(paths.ROOT / "config" / "paper.yaml")) == []
    found = differences_from_paper(Study.from_content(MINIMAL, "x"))
    assert any("T91" in phrase for phrase in found)
    assert any("iterations 100 instead of 500000" in phrase for phrase in found)


NEW = {
    "loss": ("my:Loss", "loss my:Loss instead of paper"),
    "optimiser": ({"name": "sgd", "momentum": 0.9}, "optimiser sgd (momentum 0.9) instead of adam"),
    "schedule": ("constant", "schedule constant instead of cosine"),
    "warm_up": (10, "warm up 10 instead of 0"),
    "gradient_clip": (0.5, "gradient clip 0.5 instead of none"),
    "weight_decay": (0.1, "weight decay 0.1 instead of none"),
    "augment": ([], "augment none instead of ['flip', 'rotate']"),
}


@pytest.mark.parametrize("key", NEW)
def test_each_new_key_makes_a_run_another_one(key):
    """Another specification, and not comparable with the paper's."""
    value, phrase = NEW[key]
    usual, study = (Study.from_content(content, "x") for content in (MINIMAL, changed(f"training.{key}", value)))
    assert phrase in differences_from_paper(study)
    assert digest(study.specification(Run("safmn", 4, 0))) != digest(usual.specification(Run("safmn", 4, 0)))
    again = Study.from_content(json.loads(json.dumps(study.content)), "again")
    assert again.content == study.content


def test_the_papers_values_are_left_out():
    """So a study that was made before these keys existed has the same specification."""
    paper = {"schedule": "cosine", "optimiser": {"name": "adam"}, "augment": ["rotate", "flip"], "warm_up": 0}
    paper |= {"loss": "paper", "gradient_clip": None, "weight_decay": None}
    study = Study.from_content({**MINIMAL, "training": MINIMAL["training"] | paper}, "x")
    assert study.content == Study.from_content(MINIMAL, "x").content
    assert PAPER.keys() == paper.keys()
    for key, value in PAPER.items():
        default = Training.model_fields[key].default
        plain = as_plain(default) if isinstance(default, Section) else default
        assert (list(plain) if isinstance(plain, tuple) else plain) == value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"optimiser": "adagrad"}, ("training.optimiser: 'adagrad' is not known: take adam, adamw or sgd",)),
        ({"optimiser": {"name": "sgd", "momentun": 1}}, ("training.optimiser.momentun: is not a known key",)),
        ({"optimiser": {"name": "sgd", "nesterov": True}}, ("training.optimiser", "needs a momentum")),
        ({"optimiser": {"name": "my:Class", "lr": 3}}, ("training.optimiser", "lr is training.learning_rate")),
        ({"optimiser": {"betas": [0.9, 0.9]}}, ("training.optimiser.name: is required",)),
        ({"optimiser": {"name": "my:Class", "more": {"a": 1}}}, ("training.optimiser.more",)),
        ({"optimiser": {"name": "adamw", "betas": [0.9, 0.98]}, "betas": [0.8, 0.9]}, ("betas is given twice",)),
        ({"optimiser": {"name": "adam", "weight_decay": 0.1}, "weight_decay": 0.2}, ("weight_decay is given twice",)),
        ({"schedule": "step"}, ("training.schedule: 'step' is not known: take cosine, constant or multistep",)),
        ({"schedule": "multistep"}, ("training.schedule.milestones: is required",)),
        ({"schedule": {"name": "multistep", "milestones": [5, 3]}}, ("training.schedule", "do not rise")),
        ({"schedule": {"name": "cosine", "gamma": 1}}, ("training.schedule.gamma: is not a known key",)),
        ({"augment": ["flop"]}, ("training.augment.0",)),
        ({"augment": ["flip", "flip"]}, ("training.augment", "twice")),
        ({"loss": "charbonnier"}, ("training.loss: 'charbonnier' is not known", "'module:Class'")),
        ({"gradient_clip": 0}, ("training.gradient_clip",)),
        ({"warm_up": -1}, ("training.warm_up",)),
        ({"warm_up": 100}, ("training.warm_up: 100 is not below the number of iterations, 100",)),
        (
            {"schedule": {"name": "multistep", "milestones": [50, 100]}},
            ("training.schedule.milestones: 100 is not below the number of iterations, 100",),
        ),
    ],
    ids=itertools.count(),
)
def test_mistakes_in_how_it_is_trained(value, words):
    refused({**MINIMAL, "training": MINIMAL["training"] | value}, *words)


def test_a_variant_may_change_every_key(tmp_path, monkeypatch):
    """Of `training`, and the images that it is trained on; they are packed, and only its own run has them."""
    training = {"iterations": 30, "batch": 3, "patch": 8, "validate_every": 30, "threads": 2, "fft_weight": 0}
    training |= {"optimiser": "adamw", "schedule": {"name": "multistep", "milestones": [10]}, "precision": "bf16"}
    variant(tmp_path, "mine", {**PLAIN, "training": training, "data": {"train": ["BSDS200[10:]", "DIV2K"]}})
    variant(tmp_path, "plain", PLAIN)
    monkeypatch.setenv("SAFMN_ABLATIONS", str(tmp_path))
    study = Study.from_content(MINIMAL, "x")
    mine, plain = (study.specification(Run(name, 4, 0)) for name in ("mine", "plain"))
    assert mine["train"] == ["BSDS200[10:]", "DIV2K"]
    assert plain["train"] == ["T91"]
    assert mine["training"] == plain["training"] | training | {
        "optimiser": {"name": "adamw"},
        "schedule": {"name": "multistep", "milestones": [10], "gamma": 0.5},
    }
    assert study.packed_datasets() == [("BSDS200", 4), ("DIV2K", 4), ("T91", 4), ("Set5", 4)]
    jobs = Jobs(Study.from_content(MINIMAL | {"networks": []}, "x"))
    assert [jobs.study.training_of(name).threads for name in ("mine", "plain")] == [2, 1]
    needed = [file.split("/")[-3] for file in jobs.trained_on("mine", 4)]
    assert needed == ["BSDS200", "DIV2K"]  # validated on a slice of the first
    assert jobs.trained_on("plain", 4)[0].endswith("data/T91/x4/index.json")
    assert not jobs.needs_trial


def test_a_number_of_the_command_line_holds_for_a_variant_too(tmp_path, monkeypatch):
    """`safmn train mine --iterations 20`; what the study's file says does not."""
    variant(tmp_path, "mine", {**PLAIN, "training": {"iterations": 70, "validate_every": 70}})
    monkeypatch.setenv("SAFMN_ABLATIONS", str(tmp_path))
    file = tmp_path / "study.json"
    file.write_text(json.dumps(MINIMAL))
    found = Study.load(file, iterations=20).specification(Run("mine", 4, 0))["training"]
    assert (found["iterations"], found["validate_every"]) == (20, 20)
    found = Study.load(file).specification(Run("mine", 4, 0))["training"]
    assert (found["iterations"], found["validate_every"]) == (70, 70)


@pytest.mark.parametrize(("train", "says"), [([], "at least one dataset"), (["T91[1]"], "T91")])
def test_images_of_a_variant_that_are_none(tmp_path, monkeypatch, train, says):
    file = variant(tmp_path, "mine", {**PLAIN, "data": {"train": train}})
    monkeypatch.setenv("SAFMN_ABLATIONS", str(tmp_path))
    with pytest.raises(UserError) as caught:
        Study.from_content(MINIMAL, "x.yaml")
    assert str(caught.value).startswith(f"{file}: data.train: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("key", "training"),
    [
        ("warm_up", {"warm_up": 70}),
        ("schedule.milestones", {"schedule": {"name": "multistep", "milestones": [30, 70]}}),
    ],
)
def test_what_comes_after_the_end_of_a_variant(tmp_path, monkeypatch, key, training):
    """Too few iterations are those of the variant's file, the study's, or the command line's, which is then named."""
    monkeypatch.setenv("SAFMN_ABLATIONS", str(tmp_path))
    file = variant(tmp_path, "mine", {**PLAIN, "training": training})
    study = Study.from_snakemake(MINIMAL | {"iterations": 71}, ["a.yaml"], ["iterations"])
    assert study.training_of("mine").iterations == 71
    says = f"{file}: training.{key}: 70 is not below the number of iterations, 60"

    def told(content, *words):
        with pytest.raises(UserError) as caught:
            Study.from_snakemake(content, ["a.yaml"], words)
        return str(caught.value)

    assert told(MINIMAL | {"iterations": 60}, "iterations").startswith(f"--config: iterations: is too small: {says}: ")
    assert told(changed("training.iterations", 60)).startswith(says)
    own = {"iterations": 60, "validate_every": 60}
    variants._discover.cache_clear()
    variant(tmp_path, "mine", {**PLAIN, "training": training | own})
    assert told(MINIMAL | {"iterations": 80}, "iterations").startswith(says)


# --- as Snakemake hands it over ---


def test_overrides_of_snakemake():
    config = {
        **MINIMAL,
        "data_root": "/data",
        "iterations": 20,
        "variants": "no_fm,safmn",
        "networks": "",
        "scales": "[2, 4]",
        "seeds": 3,
    }
    before = copy.deepcopy(config)
    study = Study.from_snakemake(config, ["a.yaml", "b.yaml"])
    assert config == before
    assert study.data.root == "/data"
    assert (study.training.iterations, study.training.validate_every) == (20, 20)
    assert study.variants == ["safmn", "no_fm"]
    assert study.networks == []
    assert study.scales == (2, 4)
    assert study.seeds == (3,)


def test_a_file_that_snakemake_reads_otherwise(tmp_path):
    """Snakemake takes 1e-3 for text, 010 for 8, and the last of two equal keys."""
    file = tmp_path / "study.yaml"
    text = yaml.safe_dump(MINIMAL).replace("training:", "training:\n  learning_rate: 1e-3\n  betas: [9e-1, 0.99]")
    file.write_text(text)
    config = yaml.safe_load(text)
    assert config["training"]["learning_rate"] == "1e-3"
    study = Study.from_snakemake(config, [str(file)])
    assert study.content == Study.load(file).content
    assert study.training.learning_rate == 0.001
    for more, says in (("  batch: 010\n", "010 can be read"), ("  batch: 1\n  batch: 2\n", "'batch' is given twice")):
        file.write_text(re.sub("  batch: .*\n", more, text))
        with pytest.raises(UserError, match=says):
            Study.from_snakemake(yaml.safe_load(file.read_text()), [file])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scales": "²"}, "scales.0"),
        ({"scales": "4,x"}, "scales.1"),
        ({"seeds": "9" * 5000}, "seeds"),
        ({"variants": "no_fmm"}, "no_fmm"),
        ({"iterations": "many"}, "training.iterations"),
        ({"iterations": -5}, "training.iterations"),
        ({"when": {1, 2}}, "plain data"),
        ({"training": 3, "iterations": 5}, "training"),
        ({"data": [], "data_root": "x"}, "data"),
        ({"training": MINIMAL["training"] | {"validate_every": 101}, "data_root": "x"}, "above iterations"),
    ],
    ids=itertools.count(),
)
def test_overrides_that_are_refused(changes, words):
    with pytest.raises(UserError, match=words) as caught:
        Study.from_snakemake({**MINIMAL, **changes}, ["a.yaml"])
    assert str(caught.value).startswith("a.yaml: ")


@pytest.mark.parametrize("given", [{}, {"efficiency": {"cpu": True}}, {"cpu": "true"}, {"cpu": True}])
def test_a_study_that_times_a_cpu_keeps_the_content_that_it_had(given):
    study = Study.from_snakemake({**MINIMAL, **given}, ["a.yaml"])
    assert study.content == Study.from_content(MINIMAL, "x").content
    assert study.efficiency.reason_untimed == ""


@pytest.mark.parametrize("given", [{"efficiency": {"cpu": False}}, {"cpu": "false"}, {"cpu": False}])
def test_a_study_that_times_a_gpu_only_says_so(given):
    study = Study.from_snakemake({**MINIMAL, **given}, ["a.yaml"])
    assert study.content["efficiency"]["cpu"] is False
    assert "efficiency.cpu is false" in study.efficiency.reason_untimed


# --- variants ---


def variant(folder: Path, name: str, content) -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return file


PLAIN = {"title": "x", "description": "x"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "the file as a whole"),
        ({"title": "x"}, "description"),
        ({**PLAIN, "title": 1}, "title"),
        ({**PLAIN, "netwrok": {}}, "netwrok"),
        ({**PLAIN, "network": {"dims": 8}}, "dims"),
        ({**PLAIN, "network": {"dim": 0}}, "network.dim"),
        ({**PLAIN, "network": {"dim": 10**9}}, "network.dim"),
        ({**PLAIN, "network": {"dim": "8"}}, "network.dim"),
        ({**PLAIN, "network": {"pooling": "min"}}, "network.pooling"),
        ({**PLAIN, "rows": {"6": "x"}}, "rows"),
        ({**PLAIN, "rows": {None: "x"}}, "rows: a key is not a word"),
        ({**PLAIN, "rows": {99: "x"}}, "rows"),
        ("title: x\ndescription: x\nrows: {3: a, '3': b}\n", "'3' is given twice"),
        ({**PLAIN, "rows": [3]}, "rows"),
        ({**PLAIN, "training": {"steps": 5}}, "training.steps"),
        (
            {**PLAIN, "training": {"fft_wieght": 0.1}},
            r"training\.fft_wieght: is not a known key; did you mean fft_weight\?$",
        ),
        ({**PLAIN, "data": {"test": ["T91"]}}, "data.test"),
        ({**PLAIN, "training": {"learning_rate": -1}}, "training.learning_rate"),
    ],
)
def test_mistakes_in_a_variant(tmp_path, content, says):
    file = variant(tmp_path, "mine", content)
    with pytest.raises(UserError, match=says) as caught:
        variants.load(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["Upper", "two words", "it's", "größe", "$(touch x)", "-dash", "_x", "1st", "a.b", "a-b", "a;b", "a\nb"]
)
def test_names_that_are_no_variants(tmp_path, name):
    """A variant's name is a rule's, a folder's and a row's."""
    file = variant(tmp_path, name, PLAIN)
    with pytest.raises(UserError, match="a variant's name is its file's"):
        variants.load(file)


def test_a_published_networks_name(tmp_path):
    variant(tmp_path, "imdn", PLAIN)
    with pytest.raises(UserError, match=r"imdn\.yaml: a published network has this name: rename the file"):
        variants.discover(tmp_path)


@pytest.mark.parametrize("name", ["gated.yml", "gated.YAML", "gated.yaml"])
def test_either_suffix_of_yaml(tmp_path, name):
    (tmp_path / name).write_text(json.dumps(PLAIN))
    assert variants.discover(tmp_path)["gated"].file == tmp_path / name


def test_two_files_of_one_name(tmp_path):
    for name in ("gated.yml", "gated.yaml"):
        (tmp_path / name).write_text(json.dumps(PLAIN))
    with pytest.raises(UserError, match=r"gated\.yaml and gated\.yml beside it give one name: remove or rename one"):
        variants.discover(tmp_path)


def test_what_is_not_for_us_is_passed_over(tmp_path):
    """An editor's and a file system's own files beside the variants."""
    variant(tmp_path, "mine", PLAIN)
    variant(tmp_path, "._mine", "\0\0")
    variant(tmp_path, ".#mine", "")
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "layers.py").write_text("")
    assert list(variants.discover(tmp_path)) == ["mine"]


def test_no_folder(tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        variants.discover(tmp_path / "none")


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ({"mixer": "safmm"}, "mixer: 'safmm' is not known"),
        ({"mixer": "os:system"}, "is not a torch.nn.Module class"),
        ({"mixer": "no_such_package:Mixer"}, "cannot be imported"),
        ({"mixer": "torch.nn:NoSuch"}, "cannot be imported"),
        ({"mixer": ":"}, "cannot be built"),
        ({"mixer": "..a:B"}, "cannot be built"),
        ({"mixer": "a b;c:$(touch x)"}, "cannot be imported"),
        ({"mixer": "torch.nn:Module"}, "cannot be built: TypeError"),
        ({"norm": "torch.nn:Conv2d"}, "cannot be built: TypeError"),
        ({"channel_mixer": "torch.nn:Conv2d"}, "cannot be built: TypeError"),
        ({"mixer": "broken_layers:Mixer"}, "cannot be built: SyntaxError"),
        ({"mixer": "raising_layers:Mixer"}, "cannot be built: RuntimeError: two lines"),
        ({"dim": 7}, "7 is not a multiple"),
    ],
)
def test_variants_that_build_no_network(tmp_path, monkeypatch, network, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken_layers.py").write_text("def (\n")
    (tmp_path / "raising_layers.py").write_text("raise RuntimeError('two\\nlines')\n")
    file = variant(tmp_path, "mine", {**PLAIN, "network": network})
    before = os.listdir(tmp_path)
    with pytest.raises(UserError, match=says) as caught:
        variants.load(file).network.factory(4)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
    assert set(os.listdir(tmp_path)) - {"__pycache__"} == set(before)


def test_what_is_generated_from_the_models_is_committed():
    """The JSON schemas that editors read, and the tables of config/README.md."""
    told = subprocess.run([sys.executable, paths.ROOT / "scripts/reference", "--check"], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize("file", [*STUDIES, *(paths.ROOT / "ablations").glob("*.yaml")], ids=lambda file: file.name)
def test_editors_find_the_schema(file):
    schema = re.match(r"# yaml-language-server: \$schema=(\S+)\n", file.read_text(encoding="utf-8"))
    kind = "study" if file.parent.name == "config" else "variant"
    assert (file.parent / schema[1]).resolve() == paths.SCHEMAS / f"{kind}.schema.json"


# --- published networks that are trained here, and a user's own ---


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["imdnn"], ("retrain", "'imdnn' is not a known published network", "did you mean imdn?")),
        (["no_fm"], ("retrain", "'no_fm' is not a known published network")),
        (["imdn", "imdn"], ("retrain", "lists 'imdn' twice")),
        (["bicubic"], ("retrain", "no parameters to train")),
    ],
)
def test_what_cannot_be_trained_again(names, words):
    refused(changed("retrain", names), *words)


def test_published_networks_are_trained_at_all_their_scales():
    content = MINIMAL | {"scales": [2, 3, 4], "variants": ["safmn", "no_fm"], "networks": ["bicubic"]}
    study = Study.from_content(content | {"retrain": ["imdn", "pan"], "extra_seeds": {"pan": [7]}}, "x")
    folders = [run.folder for run in study.runs()]
    assert folders[-9:] == [
        *("imdn/x2_seed0", "imdn/x3_seed0", "imdn/x4_seed0"),
        *(f"pan/x{scale}_seed{seed}" for scale in (2, 3, 4) for seed in (0, 7)),
    ]
    assert {name: network.title for name, network in study.retrained.items()} == {
        "imdn_retrained": "IMDN, retrained",
        "pan_retrained": "PAN, retrained",
    }
    specification = study.specification(Run("imdn", 4, 0))
    assert specification["training"] == study.specification(Run("safmn", 4, 0))["training"]
    assert "retrain" not in Study.from_content(content, "x").content  # nor do other studies change


def test_a_sweep_is_chosen_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFMN_ABLATIONS", str(tmp_path))
    sweep = {"network.n_blocks": [4, 8, 12], "network.dim": [24, 36, 48]}
    variant(tmp_path, "size", json.dumps({**PLAIN, "sweep": sweep}))  # in this order
    variant(tmp_path, "other", {**PLAIN, "scales": [2, 3]})
    content = MINIMAL | {"scales": [2, 4], "variants": ["size"], "extra_seeds": {"size": [1], "size_8_36": [2]}}
    study = Study.from_content(content, "x")
    points = [f"size_{n}_{c}" for n in (4, 8, 12) for c in (24, 36, 48)]
    assert study.variants == points
    assert study.sweeps == {"size": points}
    assert len(study.runs()) == 19
    assert study.seeds_of("size_8_36") == [0, 2, 1]
    assert [point for point in study.timed if point != "safmn" and "size" in point] == points
    both = Study.from_content(content | {"variants": ["size_4_24", "other"], "extra_seeds": {}}, "x")
    assert [run.folder for run in both.runs()] == ["other/x2_seed0", "size_4_24/x4_seed0"]
    with pytest.raises(UserError, match="'sizes' is not a known variant"):
        Study.from_content(content | {"variants": ["sizes"]}, "x")


def test_a_variant_that_a_study_names_has_one_of_its_scales(tmp_path, monkeypatch):
    """It would be trained nowhere and stand in no table; "all" passes it over."""
    monkeypatch.setenv("SAFMN_ABLATIONS", str(tmp_path))
    variant(tmp_path, "safmn", PLAIN)
    variant(tmp_path, "threefold", PLAIN | {"scales": [3]})
    refused(MINIMAL | {"variants": ["threefold"]}, "variants", "threefold has none of the study's scales")
    assert {run.variant for run in Study.from_content(MINIMAL | {"variants": "all"}, "x").runs()} == {"safmn"}


def test_variants_that_config_does_not_change_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFMN_ABLATIONS", str(tmp_path))
    variant(tmp_path, "longer", PLAIN | {"training": {"iterations": 500, "validate_every": 100}})
    variant(tmp_path, "other", PLAIN)
    study = Study.from_content(MINIMAL, "x")
    (told,) = preflight.not_overridden(study, ["iterations", "batch", "data_root", "variants"])
    assert told.startswith("--config iterations does not change longer, whose files say iterations themselves")


def test_a_network_of_y_is_trained_as_well(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFMN_ABLATIONS", str(tmp_path))
    variant(tmp_path, "luma", {**PLAIN, "network": {"class": "nets:Luma"}, "colour": "Y"})
    study = Study.from_content(MINIMAL | {"retrain": ["espcn"]}, "x")
    assert [run.folder for run in study.runs()] == ["luma/x4_seed0", "espcn/x4_seed0"]
    assert study.counted[0] == "luma"


def test_a_folder_of_networks_belongs_to_its_study(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFMN_NETWORKS", "")
    theirs = {"title": "Theirs", "class": "nets:Net", "scales": [4], "weights": {"4": {"url": "https://a.org/b.pth"}}}
    (tmp_path / "theirs.yaml").write_text(json.dumps(theirs))
    content = MINIMAL | {
        "weights": {"download": str(tmp_path / "there")},
        "variants": ["safmn"],
        "networks": ["theirs"],
    }
    refused(content, "networks", "'theirs' is not a known published network")
    study = Study.from_content(content | {"own_networks": str(tmp_path)}, "x")
    assert study.networks == ["theirs"]
    (name,) = [file for file, of in study.weights_to_fetch().items() if of == ("theirs", 4)]
    assert study.published_weights("theirs", 4) == tmp_path / "there" / name
    assert study.shareable["own_networks"] == "networks"
    every = Study.from_content(content | {"own_networks": str(tmp_path), "networks": "all"}, "x")
    assert "theirs" in every.shareable["networks"]
    assert "theirs" not in Study.from_content(MINIMAL, "x").networks
    (tmp_path / "no_fm.yaml").write_text(json.dumps(theirs))
    own._networks.cache_clear()
    with pytest.raises(UserError, match=r"no_fm.yaml: a variant has this name: rename the file"):
        Study.from_content(content | {"own_networks": str(tmp_path)}, "x")
    own._networks.cache_clear()
    refused(MINIMAL | {"own_networks": str(tmp_path / "none")}, "own_networks", "is not a folder")


def test_two_studies_with_networks_of_their_own(tmp_path, monkeypatch):
    """The second one in a process changes nothing of the first: both are found, or a name of both is refused."""
    monkeypatch.setenv("SAFMN_NETWORKS", "")
    net = "from torch import nn\n\n\nclass Net(nn.Conv2d):\n"
    net += "    def __init__(self, scale):\n        super().__init__({0}, {0}, 1)\n"
    studies, jobs = {}, {}
    for name, channels in (("first", 3), ("second", 5)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"nets_of_{name}.py").write_text(net.format(channels))
        content = {"title": name, "class": f"nets_of_{name}:Net", "scales": [4]}
        (folder / f"of_{name}.yaml").write_text(json.dumps(content))
        study = Study.from_content(MINIMAL | {"own_networks": str(folder), "networks": [f"of_{name}"]}, "x")
        studies[name], jobs[name] = study, Jobs(study).counts[f"of_{name}"]
    for name, channels in (("first", 3), ("second", 5)):
        assert studies[name].networks == [f"of_{name}"]
        assert networks.build(f"of_{name}", 4).in_channels == channels
        assert networks.info(f"of_{name}").title == name
        assert Jobs(studies[name]).counts[f"of_{name}"] == jobs[name]
    assert studies["first"].timed == ["safmn", "of_first"]
    # Python is another process: it finds both.
    program = "from safmn import networks; print(networks.names()[-2:])"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "['of_first', 'of_second']"

    shutil.copytree(tmp_path / "first", tmp_path / "third")
    with pytest.raises(UserError) as caught:
        Study.from_content(MINIMAL | {"own_networks": str(tmp_path / "third")}, "x")
    third, first = (tmp_path / name / "of_first.yaml" for name in ("third", "first"))
    assert str(caught.value).startswith(f"{third}: {first}, which another study here names")
    assert networks.info("of_first").file == first
    # The same folder, as a user or a link may also write it, clashes with nothing.
    (tmp_path / "link").symlink_to("first")
    monkeypatch.chdir(tmp_path)
    for known in ("first", "link", "second/../first"):
        monkeypatch.setenv("SAFMN_NETWORKS", known)
        Study.from_content(MINIMAL | {"own_networks": "first", "networks": ["of_first"]}, "x")
    (tmp_path / "a:b").mkdir()
    with pytest.raises(UserError, match="':' in its name"):
        Study.from_content(MINIMAL | {"own_networks": str(tmp_path / "a:b")}, "x")
