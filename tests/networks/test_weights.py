"""Weight files: what is read, what is refused, and in which words."""

import argparse
import datetime
import gzip
import io
import json
import os
import pickle
import re
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from safmn import networks
from safmn.errors import UserError
from safmn.networks import weights

# A small network, since the files matter here.
NAME, SCALE = "espcn", 2


def random_state(name: str = NAME, scale: int = SCALE) -> dict[str, Tensor]:
    """Values that differ from the initial ones of any other build."""
    return {
        key: torch.rand_like(tensor) if tensor.is_floating_point() else tensor
        for key, tensor in networks.build(name, scale).state_dict().items()
    }


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def torch_bytes(content: object, *, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def refusal(path: Path | str, name: str = NAME, scale: int = SCALE) -> str:
    """The message of the UserError that `load` must raise: one line that names the file."""
    with pytest.raises(UserError) as caught:
        networks.load_weights(path, name, scale)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1500
    return message


def assert_holds(module: nn.Module, state: dict[str, Tensor]) -> None:
    assert not module.training
    assert module.state_dict().keys() == state.keys()
    for key, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, state[key].to(tensor.dtype), rtol=0, atol=0)


# What is read


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {key: tensor.to(dtype) for key, tensor in random_state().items()}
    for path in (
        write(tmp_path / "it.pth", torch_bytes(state)),
        write(tmp_path / "it.safetensors", safetensors.torch.save(state)),
    ):
        module = networks.load_weights(path, NAME, SCALE)
        assert_holds(module, state)
        assert next(module.parameters()).dtype == torch.float32


@pytest.mark.parametrize(
    "name", ["a b.pth", "größe ×4.safetensors", "权重", "'quoted' $(x) #.pt", "-rf.pth", "x" * 200 + ".pth"]
)
def test_names_of_files_do_not_matter(tmp_path: Path, name: str) -> None:
    state = random_state()
    weights.save(state, tmp_path / name, {})
    assert_holds(networks.load_weights(tmp_path / name, NAME, SCALE), state)
    assert_holds(networks.load_weights(str(tmp_path / name), NAME, SCALE), state)


def test_the_content_tells_the_format_and_not_the_suffix(tmp_path: Path) -> None:
    state = random_state()
    assert_holds(networks.load_weights(write(tmp_path / "a.pth", safetensors.torch.save(state)), NAME, SCALE), state)
    assert_holds(networks.load_weights(write(tmp_path / "a.safetensors", torch_bytes(state)), NAME, SCALE), state)


def test_any_length_of_header_is_read(tmp_path: Path) -> None:
    """Its low byte stands first in the file: 0x80 is how a pickle begins as well."""
    state, first_bytes = random_state(), set()
    for length in range(0, 256, 8):
        path = tmp_path / f"{length}.safetensors"
        weights.save(state, path, {"note": "x" * length})
        first_bytes.add(path.read_bytes()[0])
        assert_holds(networks.load_weights(path, NAME, SCALE), state)
    assert 0x80 in first_bytes


def test_the_random_state_of_the_caller_is_left_alone(tmp_path: Path) -> None:
    weights.save(random_state(), tmp_path / "it.safetensors", {})
    before = torch.get_rng_state()
    networks.load_weights(tmp_path / "it.safetensors", NAME, SCALE)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("file", "name", "scale"), [("IMDN_x2.pth", "imdn", 2), ("IMDN_x4.pth", "imdn", 4), ("PANx4_DF2K.pth", "pan", 4)]
)
def test_published_weights_are_recognised_when_asked_for_as_something_else(
    checkpoints: Path, file: str, name: str, scale: int
) -> None:
    other = 2 if scale == 4 else 4
    assert f"seems to hold {name} x{scale};" in refusal(checkpoints / file, name, other)
    assert f"seems to hold {name} x{scale};" in refusal(checkpoints / file, "safmn", scale)


def test_second_stage_of_pan_is_named(checkpoints: Path) -> None:
    message = refusal(checkpoints / "PANx4_DF2K.pth", "pan", 2)
    assert "not part of it: upconv2.weight, upconv2.bias, att2." in message


# Averaged and raw weights


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in state.items()}


def averaged_model(state: dict[str, Tensor], name: str = NAME) -> dict[str, Tensor]:
    """What torch's own averaging wrapper saves."""
    model = torch.optim.swa_utils.AveragedModel(networks.build(name, SCALE))
    model.module.load_state_dict(state)
    return model.state_dict()


def dotless(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As LitEma names its buffers."""
    return {prefix + ("net." + key).replace(".", ""): tensor for key, tensor in state.items()}


def listed(state: dict[str, Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in state.values()]


DISCRIMINATOR = {"conv.weight": torch.rand(3, 3), "fc.weight": torch.rand(3, 3)}
# Title -> (a function of raw and averaged weights that gives what a program saves, keys of the raw and of the averaged)
TWO_SETS = {
    "BasicSR": (lambda raw, ema: {"params": raw, "params_ema": ema}, "params", "params_ema"),
    "BasicSR, turned": (lambda raw, ema: {"params_ema": ema, "params": raw}, "params", "params_ema"),
    "timm": (lambda raw, ema: {"state_dict": raw, "state_dict_ema": ema}, "state_dict", "state_dict_ema"),
    "model_ema": (lambda raw, ema: {"model_ema": ema, "model": raw, "epoch": 3}, "model", "model_ema"),
    "capitals": (lambda raw, ema: {"modelState": raw, "modelEMA": ema}, "modelState", "modelEMA"),
    "flat": (lambda raw, ema: raw | prefixed("ema.module.", ema), "", "ema.module"),
    "flat, two prefixes": (
        lambda raw, ema: prefixed("model.", raw) | prefixed("ema_model.", ema),
        "model",
        "ema_model",
    ),
    "ema-pytorch": (
        lambda raw, ema: (
            prefixed("online_model.", raw)
            | prefixed("ema_model.", ema)
            | {"initted": torch.tensor(True), "step": torch.tensor(7)}
        ),
        "online_model",
        "ema_model",
    ),
    "ema-pytorch below ema": (
        lambda raw, ema: {"ema": prefixed("online_model.", raw) | prefixed("ema_model.", ema)},
        "ema.online_model",
        "ema.ema_model",
    ),
    "GAN": (
        lambda raw, ema: prefixed("g.", raw) | prefixed("g_ema.", ema) | prefixed("d_ema.", DISCRIMINATOR),
        "g",
        "g_ema",
    ),
    "torch SWA": (lambda raw, ema: {"net": raw, "other": averaged_model(ema)}, "net", "other.module"),
    "Lightning SWA": (
        lambda raw, ema: {
            "state_dict": prefixed("net.", raw),
            "callbacks": {"StochasticWeightAveraging": {"average_model_state": prefixed("net.", ema)}},
        },
        "state_dict.net",
        "callbacks.StochasticWeightAveraging.average_model_state.net",
    ),
    "Lightning WeightAveraging": (
        lambda raw, ema: {
            "state_dict": prefixed("net.", ema),
            "current_model_state": prefixed("net.", raw),
            "averaging_state": {"n_averaged": torch.tensor(3)},
        },
        "current_model_state.net",
        "state_dict.net",
    ),
    "list": (
        lambda raw, ema: {"model": raw, "ema": {"decay": 0.9, "shadow_params": listed(ema), "collected_params": None}},
        "model",
        "ema.shadow_params",
    ),
    "list in an optimiser": (
        lambda raw, ema: {"state_dict": raw, "optimizer_states": [{"ema": tuple(listed(ema)), "state": {}}]},
        "state_dict",
        "optimizer_states.0.ema",
    ),
    "list in another order": (
        lambda raw, ema: {"model": dict(reversed(raw.items())), "ema": list(reversed(listed(ema)))},
        "model",
        "ema",
    ),
    "list and what it stands in for": (
        lambda raw, ema: {"model": raw, "ema": {"shadow_params": listed(ema), "collected_params": listed(raw)}},
        "model",
        "ema.shadow_params",
    ),
    "LitEma": (
        lambda raw, ema: (
            prefixed("model.net.", raw)
            | dotless("model_ema.", ema)
            | {"model_ema.decay": torch.tensor(0.9), "model_ema.num_updates": torch.tensor(3)}
        ),
        "model.net",
        "model_ema",
    ),
    "deep": (
        lambda raw, ema: {"a": [{"b": {"weights": raw, "weights_swa": ema}}]},
        "a.0.b.weights",
        "a.0.b.weights_swa",
    ),
}


@pytest.mark.parametrize("title", TWO_SETS)
def test_of_two_sets_the_averaged_one_is_taken_and_it_is_said(tmp_path: Path, title: str) -> None:
    make, raw_key, ema_key = TWO_SETS[title]
    raw, ema = random_state(), random_state()
    path = write(tmp_path / "it.pth", torch_bytes(make(raw, ema)))
    for which, state, key, kind in (
        (None, ema, ema_key, "ema"),
        ("ema", ema, ema_key, "ema"),
        ("raw", raw, raw_key, "raw"),
    ):
        module, choice = weights.load(path, NAME, SCALE, which)
        assert_holds(module, state)
        assert (choice.which, choice.key) == (kind, key)
        assert choice.record["others"] == [raw_key if kind == "ema" else ema_key]
        assert str(path) in choice.remark
        assert (key or "the top level") in choice.remark
        assert "\n" not in choice.remark
    assert_holds(networks.load_weights(path, NAME, SCALE), ema)
    assert_holds(networks.load_weights(path, NAME, SCALE, "raw"), raw)
    for key, state in ((raw_key, raw), (ema_key, ema)):
        assert_holds(networks.load_weights(path, NAME, SCALE, key or "the top level"), state)


@pytest.mark.parametrize("form", ["dictionary", "list", "flat", "LitEma"])
def test_averages_of_parameters_alone_get_the_raw_buffers(tmp_path: Path, form: str) -> None:
    """Common averages skip buffers, such as the statistics of batch normalisation."""
    raw, ema = random_state("ln_bn"), random_state("ln_bn")
    learnt = {key for key, _ in networks.build("ln_bn", SCALE).named_parameters()}
    assert learnt < raw.keys()
    kept = {key: tensor for key, tensor in ema.items() if key in learnt}
    content = {
        "dictionary": {"model": raw, "ema": {"shadow": kept}},
        "list": {"model": raw, "ema": {"shadow_params": listed(kept)}},
        "flat": raw | prefixed("ema.", kept) | {"ema.decay": torch.tensor(0.9)},
        "LitEma": prefixed("net.", raw) | dotless("net_ema.", kept),
    }[form]
    module, choice = weights.load(write(tmp_path / "it.pth", torch_bytes(content)), "ln_bn", SCALE)
    assert_holds(module, raw | kept)
    assert choice.which == "ema"
    assert "its buffers are those of" in choice.remark


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda one, two: {"best": one, "last": two}, "best and last"),
        (lambda one, two: prefixed("gen_a.", one) | prefixed("gen_b.", two), "gen_b and gen_a|gen_a and gen_b"),
        (lambda one, two: {"student": one, "teacher": two}, "student and teacher"),
        (lambda one, two: {"student": one, "momentum_encoder": two}, "student and momentum_encoder"),
        (lambda one, two: {"student": one, "other": {k: v.half() for k, v in two.items()}}, "student and other"),
        (lambda one, two: {"raw": one, "ema_0.9": two, "ema_0.99": one}, r"ema_0.9 \(averaged\) and ema_0.99"),
    ],
)
def test_what_cannot_be_told_apart_is_refused_with_both_names(tmp_path: Path, make, named: str) -> None:
    one, two = random_state(), random_state()
    path = write(tmp_path / "it.pth", torch_bytes(make(one, two)))
    message = refusal(path)
    assert re.search(named, message)
    assert "--which KEY" in message
    key = re.search(r"(best|gen_a|student|ema_0.99)\b", message)[0]
    assert_holds(networks.load_weights(path, NAME, SCALE, key), one)


def test_two_names_of_the_same_numbers_need_no_choice(tmp_path: Path) -> None:
    state = random_state()
    path = write(tmp_path / "it.pth", torch_bytes({"best": state, "last": {k: v.clone() for k, v in state.items()}}))
    module, choice = weights.load(path, NAME, SCALE)
    assert_holds(module, state)
    assert (choice.which, choice.remark) == ("only", "")


@pytest.mark.parametrize(
    ("make", "which", "expected"),
    [
        (lambda state: {"params": state}, "ema", "holds no averaged weights, only params"),
        (lambda state: state, "ema", "holds no averaged weights, only the top level"),
        (lambda state: {"params_ema": state}, "raw", "holds averaged weights only, params_ema"),
        (averaged_model, "raw", "holds averaged weights only, module"),
        (
            lambda state: {"params": state},
            "parms",
            "holds no such weights as 'parms': --which takes raw, ema or one of: params",
        ),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(tmp_path: Path, make, which: str, expected: str) -> None:
    state = random_state()
    path = write(tmp_path / "it.pth", torch_bytes(make(state)))
    with pytest.raises(UserError, match=re.escape(expected)):
        networks.load_weights(path, NAME, SCALE, which)
    module, choice = weights.load(path, NAME, SCALE)
    assert_holds(module, state)
    assert (choice.which, choice.remark) == ("only", "")


def test_averaged_weights_that_cannot_be_read_are_not_passed_over(tmp_path: Path) -> None:
    raw = random_state()
    ema = dict(list(random_state().items())[:-1])
    path = write(tmp_path / "it.pth", torch_bytes({"model": raw, "ema": ema}))
    message = refusal(path)
    assert "averaged weights under ema that do not fit the network, and others under model" in message
    module, choice = weights.load(path, NAME, SCALE, "raw")
    assert_holds(module, raw)
    assert (choice.which, choice.key) == ("raw", "model")


def test_averages_of_something_else_do_not_matter(tmp_path: Path) -> None:
    state = random_state()
    content = {"g": state, "d_ema": DISCRIMINATOR, "optimizer": {"exp_avg": random_state(), "momentum": random_state()}}
    module, choice = weights.load(write(tmp_path / "it.pth", torch_bytes(content)), NAME, SCALE)
    assert_holds(module, state)
    assert choice.which == "only"


@pytest.mark.parametrize(("which", "averaged"), [("best", True), ("last", True), ("last_raw", False)])
def test_files_of_this_project_say_which_they_are(tmp_path: Path, which: str, averaged: bool) -> None:
    path = tmp_path / f"{which}.safetensors"
    weights.save(random_state(), path, {"network": NAME, "scale": str(SCALE), "which": which})
    networks.load_weights(path, NAME, SCALE, "ema" if averaged else "raw")
    with pytest.raises(UserError, match=r"holds (no averaged|averaged weights only)"):
        networks.load_weights(path, NAME, SCALE, "raw" if averaged else "ema")


# Wrappers and prefixes


def profiled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What thop leaves in a network."""
    counters = {"total_ops": torch.zeros(1, dtype=torch.float64), "total_params": torch.zeros(1, dtype=torch.float64)}
    return state | counters | prefixed("first.", counters)


WRAPPED = {
    "nothing": lambda state: state,
    "OrderedDict": OrderedDict,
    "BasicSR": lambda state: {"params": state},
    "nested": lambda state: {"model": {"state_dict": state}},
    "DataParallel": lambda state: prefixed("module.", state),
    "compiled": lambda state: {"params": prefixed("_orig_mod.module.", state)},
    "a number among them": lambda state: {"epoch": 3, **state},
    "parameters": lambda state: {k: nn.Parameter(v) for k, v in state.items()},
    "training state": lambda state: {
        "state_dict": state,
        "epoch": 3,
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}},
    },
    "any key": lambda state: {"model_state_dict": state, "epoch": 1},
    "Lightning": lambda state: {"state_dict": prefixed("model.", state), "global_step": 10},
    "Lightning with a loss": lambda state: {
        "state_dict": prefixed("net.", state) | prefixed("loss.vgg.", DISCRIMINATOR)
    },
    "DeepSpeed": lambda state: {"module": state, "optimizer": None},
    "generator and discriminator": lambda state: (
        prefixed("generator.", state) | prefixed("discriminator.", DISCRIMINATOR)
    ),
    "below a part of the prefix": lambda state: prefixed("model.net.", state) | prefixed("model.loss.", DISCRIMINATOR),
    "all at once": lambda state: [{"a": {"b": ({"c": prefixed("_orig_mod.module.model.", state)},)}}],
    "thop": profiled,
    "averaged by torch": averaged_model,
    "FSDP": lambda state: {k.replace("first.", "first._fsdp_wrapped_module."): v for k, v in state.items()},
    "checkpointed": lambda state: {
        k.replace("first.", "first._checkpoint_wrapped_module."): v for k, v in state.items()
    },
    "one layer in DataParallel": lambda state: {k.replace("first.", "first.module."): v for k, v in state.items()},
    "counted norms": lambda state: state | {"norm.num_batches_tracked": torch.tensor(5)},
    "an optimiser beside": lambda state: {**state, "optimizer": {"state": {0: {"exp_avg": torch.rand(64, 3, 5, 5)}}}},
    "records beside": lambda state: {
        "net": state,
        "args": argparse.Namespace(lr=0.1, out=Path("x")),
        "best": np.float64(31.2),
        "numpy_rng": np.random.default_rng(0).integers(0, 9, 5),
        "when": datetime.datetime(2023, 1, 1),
    },
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("title", WRAPPED)
def test_wrappers_of_other_training_programs(tmp_path: Path, title: str, legacy: bool) -> None:
    state = random_state()
    path = write(tmp_path / "it.pth", torch_bytes(WRAPPED[title](state), legacy=legacy))
    module, choice = weights.load(path, NAME, SCALE)
    assert_holds(module, state)
    assert (choice.which, choice.remark) == ("only", "")


def test_wrappers_as_torch_makes_them(tmp_path: Path) -> None:
    network = networks.build(NAME, SCALE)
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    for wrapped in (nn.DataParallel(network), torch.compile(network), torch.compile(nn.DataParallel(network))):
        assert not wrapped.state_dict().keys() & state.keys()
        path = write(tmp_path / "it.pth", torch_bytes(wrapped.state_dict()))
        assert_holds(networks.load_weights(path, NAME, SCALE), state)


@pytest.mark.parametrize("file", ["IMDN_x4.pth", "PANx4_DF2K.pth", "carn_m.pth"])
def test_wrapped_files_of_the_authors(tmp_path: Path, checkpoints: Path, file: str) -> None:
    """Their keys are not this project's in every case, so that a prefix is taken off before they are converted."""
    name = {"IMDN_x4.pth": "imdn", "PANx4_DF2K.pth": "pan", "carn_m.pth": "carn_m"}[file]
    theirs = torch.load(checkpoints / file, map_location="cpu", weights_only=True)
    path = write(tmp_path / "it.ckpt", torch_bytes({"state_dict": prefixed("net_g.", theirs), "epoch": 3}))
    assert_holds(networks.load_weights(path, name, 4), networks.load_weights(checkpoints / file, name, 4).state_dict())


def test_converted_weights_below_a_prefix(tmp_path: Path) -> None:
    state = random_state("edsr_baseline", 2)
    theirs = {key: tensor for key, tensor in state.items() if key != "shift.mean"}
    for side, sign in (("sub", -1), ("add", 1)):
        theirs[f"{side}_mean.weight"] = torch.eye(3).view(3, 3, 1, 1)
        theirs[f"{side}_mean.bias"] = sign * 255 * state["shift.mean"].flatten()
    learnt = {key: 2 * tensor for key, tensor in theirs.items() if "_mean." not in key}
    content = {"state_dict": prefixed("model.", theirs), "ema": prefixed("model.", learnt)}
    path = write(tmp_path / "it.ckpt", torch_bytes(content))
    found = networks.load_weights(path, "edsr_baseline", 2).state_dict()
    raw = networks.load_weights(path, "edsr_baseline", 2, "raw").state_dict()
    for key in state:
        torch.testing.assert_close(raw[key], state[key])
        torch.testing.assert_close(found[key], state[key] if key == "shift.mean" else 2 * state[key])


def test_a_refusal_names_keys_and_prefix(tmp_path: Path) -> None:
    state = random_state()
    del state["last.bias"]
    content = {"epoch": 3, "model": prefixed("net.", state) | {"net.more.weight": torch.zeros(2)}, "hyper": {}}
    message = refusal(write(tmp_path / "it.pth", torch_bytes(content)))
    assert "the file's keys: epoch, model, hyper" in message
    assert "under model.net; missing: last.bias; not part of it: more.weight" in message
    message = refusal(write(tmp_path / "it.pth", torch_bytes({"epoch": 3, "optimizer": {"lr": 1}})))
    assert "holds no weights (keys: epoch, optimizer)" in message


def test_a_layer_too_many_is_no_wrapper(tmp_path: Path) -> None:
    """Twelve blocks hold all keys of four, and a counter's name does not make a whole tensor a counter."""
    path = write(tmp_path / "it.pth", torch_bytes(prefixed("net.", random_state("blocks_12"))))
    assert "seems to hold blocks_12 x2" in refusal(path, "blocks_4")
    path = write(tmp_path / "it.pth", torch_bytes(random_state() | {"first.total_ops": torch.zeros(7)}))
    assert "not part of it: first.total_ops" in refusal(path)


# What is refused


def test_pickled_module_is_refused_and_never_run(checkpoints: Path) -> None:
    message = refusal(checkpoints / "vdsr_pickled_module.pth", "vdsr", 4)
    assert "pickled Python object (vdsr.Net)" in message
    assert "run code" in message


class Trap:
    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.sprung),)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("form", ["pickle", "legacy", "zip", "inside"])
def test_code_in_a_file_is_not_run(tmp_path: Path, form: str, protocol: int) -> None:
    sprung = tmp_path / "sprung"
    content = {**random_state(), "trap": Trap(sprung)} if form == "inside" else Trap(sprung)
    buffer = io.BytesIO()
    if form == "pickle":
        pickle.dump(content, buffer, protocol)
    else:
        zipped = form != "legacy"
        torch.save(content, buffer, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    message = refusal(write(tmp_path / "it.pth", buffer.getvalue()))
    assert not sprung.exists()
    assert "mkdir" in message or protocol == 4  # torch's safe reader knows protocol 2 only
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()  # the trap works where code is run


class Call:
    """Pickles as a call of a function with arguments."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


def test_records_are_passed_over_and_never_made(tmp_path: Path) -> None:
    """A function of a package whose records are passed over is not called either."""
    state, sprung = random_state(), tmp_path / "sprung.npy"
    content = {"model": state, "trap": Call(np.save, str(sprung), [1])}
    assert_holds(networks.load_weights(write(tmp_path / "it.pth", torch_bytes(content)), NAME, SCALE), state)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(content["trap"]))
    assert sprung.exists()  # the trap works where code is run


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def tarred(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        entry = tarfile.TarInfo("it.pth")
        entry.size = len(content)
        file.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def written(write_to: object) -> bytes:
    """What a function writes into a file that it is given."""
    buffer = io.BytesIO()
    write_to(buffer)
    return buffer.getvalue()


ARRAYS = {"first.weight": np.zeros((64, 1, 5, 5), np.float32)}
OTHER_FORMATS = {
    "npz": (lambda: written(lambda file: np.savez(file, **ARRAYS)), "a NumPy archive (.npz)"),
    "npz, compressed": (lambda: written(lambda file: np.savez_compressed(file, **ARRAYS)), "a NumPy archive (.npz)"),
    "npy": (lambda: written(lambda file: np.save(file, ARRAYS["first.weight"])), "a NumPy array (.npy)"),
    **{
        f"arrays, pickle protocol {protocol}": (
            lambda protocol=protocol: pickle.dumps(ARRAYS, protocol),
            "holds pickled NumPy arrays, not tensors",
        )
        for protocol in range(6)
    },
    "arrays by torch.save": (lambda: torch_bytes(ARRAYS), "holds pickled NumPy arrays, not tensors"),
    "tensors by pickle.dump": (lambda: pickle.dumps(random_state()), "a bare pickle of tensors"),
    "a bare pickle": (lambda: pickle.dumps({"a": [1, 2]}), "a Python pickle, not a PyTorch weight file"),
    "TorchScript": (
        lambda: written(
            lambda file: torch.jit.save(torch.jit.trace(nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 2, 2)), file)
        ),
        "a TorchScript program",
    ),
    "torch.export": (
        lambda: written(
            lambda file: torch.export.save(torch.export.export(nn.Conv2d(1, 1, 1), (torch.zeros(1, 1, 2, 2),)), file)
        ),
        "a program of torch.export (.pt2)",
    ),
    "lazy": (lambda: torch_bytes(nn.LazyConv2d(3, 3).state_dict()), "parameters of a lazy module that never ran"),
    # As their specifications say that they begin; the programs that write them are not needed for these tests.
    "ONNX": (lambda: b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\xb4\x01" + bytes(99), "an ONNX model"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file (Keras, TensorFlow, h5py or MATLAB)"),
    "TFLite": (lambda: b"\x1c\0\0\0TFL3" + bytes(99), "a TensorFlow Lite model"),
    "GGUF": (lambda: b"GGUF\x03\0\0\0" + bytes(99), "a GGUF file"),
    "Keras": (lambda: archive(metadata=b"{}", **{"model.weights.h5": b""}), "a Keras model"),
    "gzip": (lambda: gzip.compress(torch_bytes(random_state())), "packed with gzip: unpack it"),
    "tar": (lambda: tarred(torch_bytes(random_state())), "a tar archive: unpack it"),
    "zip": (lambda: archive(**{"a__it.pth": torch_bytes(random_state())}), "a zip archive with 'a/it.pth' in it"),
    "another zip": (lambda: archive(a=b"", b=b""), "a zip archive without PyTorch weights, with 'a', 'b' in it"),
    "text": (lambda: json.dumps({"weight_map": {"a": "b"}}).encode(), "a text file, not weights"),
}


@pytest.mark.parametrize("title", OTHER_FORMATS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_other_formats_are_called_what_they_are(tmp_path: Path, title: str) -> None:
    make, expected = OTHER_FORMATS[title]
    message = refusal(write(tmp_path / "it.pth", make()))
    assert expected in message
    assert "damaged" not in message


def test_folders_are_called_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "__0_0.distcp").write_bytes(b"")
    assert "is a distributed checkpoint: join it" in refusal(tmp_path)
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "model.safetensors").write_bytes(b"")
    assert "is a folder with 'model.safetensors' in it" in refusal(tmp_path / "hub")


def test_missing_file_folder_and_empty_file(tmp_path: Path) -> None:
    assert "there is no file" in refusal(tmp_path / "no such file.pth")
    assert "directory" in refusal(tmp_path)
    assert "null" in refusal(str(tmp_path / "a\0b"))
    assert "is empty" in refusal(write(tmp_path / "empty.pth", b""))
    assert "'" in refusal(write(tmp_path / "two\nlines.pth", b""))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "neither"),
        (bytes(1000), "neither"),
        (b"\x80", "damaged"),
        (b"PK\x03\x04", "damaged"),
        ((100).to_bytes(8, "little") + b"{", "damaged"),
        (torch_bytes([1, 2, 3]), "holds a list"),
        (torch_bytes(torch.zeros(3)), "holds a Tensor"),
        (torch_bytes({"epoch": 3}), "no weights"),
        (torch_bytes({1: torch.zeros(3)}), "not part of it: 1"),
        (torch_bytes({"a": torch.zeros(3).to_sparse()}), "sparse"),
        (torch_bytes({"a": torch.zeros(3, dtype=torch.complex64)}), "complex"),
        (torch_bytes({"a": torch.zeros(3, device="meta")}), "absent"),
        (safetensors.torch.save({}), "no weights"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, content: bytes, expected: str) -> None:
    assert expected in refusal(write(tmp_path / "it.pth", content))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("serialise", [torch_bytes, safetensors.torch.save])
def test_nan_and_infinity_are_refused(tmp_path: Path, serialise, value: float) -> None:
    state = random_state()
    state["second.weight"][3, 2, 1, 0] = value
    message = refusal(write(tmp_path / "it.pth", serialise(state)))
    assert "NaN or infinity in 1 of 18432 values of second.weight" in message


def test_numbers_too_large_for_float32_are_refused(tmp_path: Path) -> None:
    state = {key: tensor.double() for key, tensor in random_state().items()}
    state["first.bias"][0] = 1e300
    assert "infinity in 1 of 64 values of first.bias" in refusal(write(tmp_path / "it.pth", torch_bytes(state)))


def test_differences_are_named(tmp_path: Path) -> None:
    state = random_state()
    del state["first.bias"]
    state["second.weight"] = state["second.weight"][:, :7]
    state["last.bias"] = torch.ones(4, dtype=torch.int64)
    state["extra\nline"] = torch.zeros(1)
    message = refusal(write(tmp_path / "it.pth", torch_bytes(state)))
    assert "missing: first.bias;" in message
    assert "second.weight (32x7x3x3 instead of 32x64x3x3), last.bias (4 integers instead of 4)" in message
    assert "not part of it: 'extra\\nline'" in message
    assert "no network of this project has such keys and shapes" in message


@pytest.mark.parametrize(
    ("held", "asked", "expected"),
    [
        (("espcn", 4), ("espcn", 2), "seems to hold espcn x4;"),
        (("carn", 3), ("carn_m", 3), "seems to hold carn x2 or carn x3 or carn x4;"),
        (("edsr_baseline", 2), ("fsrcnn", 2), "seems to hold edsr_baseline x2;"),
        (("lapsrn", 2), ("lapsrn", 4), "seems to hold lapsrn x2;"),
        (("blocks_6", 3), ("safmn", 3), "seems to hold blocks_6 x3;"),
    ],
)
def test_wrong_network_or_scale_is_named(tmp_path: Path, held, asked, expected: str) -> None:
    path = write(tmp_path / "it.pth", torch_bytes({"params": random_state(*held)}))
    assert expected in refusal(path, *asked)


def test_metadata_tells_what_shapes_do_not(tmp_path: Path) -> None:
    """SAFMN without modulation has the baseline's keys and shapes, SRCNN the same ones at every scale."""
    state = random_state("safmn", 4)
    weights.save(state, tmp_path / "it.safetensors", {"network": "safmn", "scale": "4"})
    assert "holds safmn x4 (its metadata says so), not no_fm x4" in refusal(tmp_path / "it.safetensors", "no_fm", 4)
    weights.save(random_state("srcnn", 2), tmp_path / "it.safetensors", {"network": "srcnn", "scale": "2"})
    assert "holds srcnn x2 (its metadata says so), not srcnn x3" in refusal(tmp_path / "it.safetensors", "srcnn", 3)
    weights.save(state, tmp_path / "bare.safetensors", {})
    assert_holds(networks.load_weights(tmp_path / "bare.safetensors", "no_fm", 4), state)


def test_edsr_whose_mean_shift_does_more_is_refused(tmp_path: Path) -> None:
    state = {key: tensor for key, tensor in random_state("edsr_baseline", 2).items() if key != "shift.mean"}
    for side, sign in (("sub", -1), ("add", 1)):
        state[f"{side}_mean.weight"] = torch.eye(3).view(3, 3, 1, 1) / 2
        state[f"{side}_mean.bias"] = sign * torch.tensor([114.0, 111.0, 103.0])
    path = write(tmp_path / "it.pt", torch_bytes(state))
    assert "sub_mean.weight or add_mean.weight is not the identity" in refusal(path, "edsr_baseline", 2)


# Claims larger than the file


def test_larger_files_than_the_network_can_need_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.pth"
    with open(path, "wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(2**40)  # a sparse file: takes no room
    assert "far more than this network's weights take" in refusal(path)


def test_views_that_repeat_one_number_are_not_spread_out(tmp_path: Path) -> None:
    state = {**random_state(), "first.weight": torch.zeros(1).expand(2**20, 2**20)}
    for legacy in (False, True):
        message = refusal(write(tmp_path / "it.pth", torch_bytes(state, legacy=legacy)))
        assert "claims tensors of more than" in message


def test_safetensors_header_that_claims_more_than_there_is(tmp_path: Path) -> None:
    header = json.dumps({"first.weight": {"dtype": "F32", "shape": [2**36], "data_offsets": [0, 2**38]}}).encode()
    assert "damaged" in refusal(
        write(tmp_path / "it.safetensors", len(header).to_bytes(8, "little") + header + bytes(64))
    )
    # The length of the header itself, in eight bytes.
    assert "damaged" in refusal(write(tmp_path / "it.safetensors", (2**63).to_bytes(8, "little") + b"{" + bytes(64)))


def repacked(data: bytes, compression: int, change=lambda name, content: content) -> bytes:
    """A zip archive again, entry by entry."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        for entry in old.namelist():
            new.writestr(entry, change(entry, old.read(entry)))
    return buffer.getvalue()


def test_zip_whose_pickle_claims_a_larger_storage(tmp_path: Path) -> None:
    data = torch_bytes({"a": torch.zeros(30_000)})
    short, long = b"M" + (30_000).to_bytes(2, "little"), b"J" + (2**31 - 1).to_bytes(4, "little")
    lying = repacked(data, zipfile.ZIP_STORED, lambda name, text: text.replace(short, long))
    assert len(lying) > len(data) - 3000
    assert "claims more numbers than it holds" in refusal(write(tmp_path / "it.pth", lying))


def test_zip_bombs(tmp_path: Path) -> None:
    bomb = repacked(torch_bytes({"a": torch.zeros(3_000_000)}), zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    assert "claims more numbers than it holds" in refusal(write(tmp_path / "it.pth", bomb))
    worse = repacked(torch_bytes({}), zipfile.ZIP_DEFLATED, lambda name, text: text + bytes(40_000_000))
    assert len(worse) < 1_000_000
    assert "decompression bomb" in refusal(write(tmp_path / "it.pth", worse))


def test_containers_within_containers_are_bounded(tmp_path: Path) -> None:
    """A few hundred bytes that hold one another 2^60 times."""
    item: object = {"a": torch.zeros(1)}
    for _ in range(40):
        item = [item, item]
    assert "without end" in refusal(write(tmp_path / "it.pth", torch_bytes(item)))


def test_tensors_as_keys_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "it.pth", torch_bytes(random_state() | {torch.zeros(3): 1}))
    assert "a tensor where a key should be" in refusal(path)


def test_container_that_contains_itself_ends(tmp_path: Path) -> None:
    endless: dict = {}
    endless["params"] = endless
    assert "no weights" in refusal(write(tmp_path / "it.pth", torch_bytes(endless)))


# Saving


def test_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    state, metadata = random_state(), {f"key {i}": "größe" for i in range(20)}
    weights.save(state, tmp_path / "a.safetensors", metadata)
    weights.save(dict(reversed(state.items())), tmp_path / "b.safetensors", dict(reversed(metadata.items())))
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_other_tools_read_what_is_saved(tmp_path: Path) -> None:
    state = random_state()
    weights.save(state, tmp_path / "it.safetensors", {"network": NAME, "scale": "2"})
    with safetensors.safe_open(tmp_path / "it.safetensors", "pt") as file:
        assert file.metadata() == {"network": NAME, "scale": "2"}
        assert set(file.keys()) == set(state)
        assert all(torch.equal(file.get_tensor(key), state[key]) for key in state)


def test_modules_in_any_memory_format_or_with_shared_weights_are_saved(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)).to(memory_format=torch.channels_last)
    module[1].weight = module[0].weight
    weights.save(module, tmp_path / "it.safetensors", {})
    read = safetensors.torch.load_file(tmp_path / "it.safetensors")
    assert all(torch.equal(read[key], tensor) for key, tensor in module.state_dict().items())


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "it.safetensors"
    weights.save(random_state(), path, {})
    before = path.read_bytes()
    with (
        mock.patch("os.fsync", side_effect=OSError(28, "No space left on device")),
        pytest.raises(UserError, match="space"),
    ):
        weights.save(random_state(), path, {})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["it.safetensors"]


# Damaged bytes: whatever they are, either sound weights come out or one line of words


GOOD = {
    "safetensors": safetensors.torch.save(random_state(), {"network": NAME}),
    "zip": torch_bytes({"params": random_state()}),
    "legacy": torch_bytes(random_state(), legacy=True),
}


def load_or_refuse(path: Path, data: bytes) -> str | None:
    """None where `data` loads; the message where it is refused. Anything else is a failure of the test."""
    path.write_bytes(data)
    # To look through every network at each of hundreds of examples would take minutes.
    with mock.patch.object(networks, "names", return_value=["espcn", "fsrcnn"]):
        try:
            module = networks.load_weights(path, NAME, SCALE)
        except UserError as error:
            message = str(error)
            assert "\n" not in message
            assert str(path) in message
            return message
    assert all(tensor.isfinite().all() for tensor in module.state_dict().values())
    return None


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "it.pth"


MAGIC = st.sampled_from(
    [
        b"",
        b"PK\x03\x04",
        b"\x80\x02",
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
        b"\x10\0\0\0\0\0\0\0{",
        b"\x80\x04\x95",
    ]
)
quick = settings(max_examples=150, deadline=None)


@quick
@given(magic=MAGIC, tail=st.binary(max_size=200))
def test_random_bytes_are_refused(scratch: Path, magic: bytes, tail: bytes) -> None:
    assert load_or_refuse(scratch, magic + tail) is not None


@quick
@given(form=st.sampled_from(sorted(GOOD)), cut=st.floats(0, 1, exclude_max=True))
def test_truncated_files_are_refused(scratch: Path, form: str, cut: float) -> None:
    data = GOOD[form]
    assert load_or_refuse(scratch, data[: int(cut * len(data))]) is not None


@quick
@given(
    form=st.sampled_from(sorted(GOOD)),
    changes=st.lists(st.tuples(st.integers(0, 3000), st.booleans(), st.integers(1, 255)), min_size=1, max_size=4),
)
def test_changed_bytes_never_crash(scratch: Path, form: str, changes: list[tuple[int, bool, int]]) -> None:
    """Near both ends, where headers and directories are; a changed weight may well load."""
    data = bytearray(GOOD[form])
    for place, from_end, change in changes:
        data[-1 - place if from_end else place] ^= change
    load_or_refuse(scratch, bytes(data))


@quick
@given(
    entries=st.dictionaries(
        st.sampled_from(["first.weight", "first.bias", "__metadata__", "x", "last.bias"]) | st.text(max_size=5),
        st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(
                    ["F32", "F16", "BF16", "F64", "I64", "U8", "BOOL", "F8_E4M3", "C64", "F4", ""]
                ),
                "shape": st.lists(st.integers(-1, 2**40), max_size=3) | st.just([64]),
                "data_offsets": st.lists(st.integers(-1, 2**40) | st.integers(0, 256), min_size=1, max_size=3),
            }
        )
        | st.none()
        | st.integers(),
        max_size=4,
    ),
    data=st.binary(max_size=300),
    lie=st.integers(-3, 3),
)
def test_headers_that_lie_are_refused(scratch: Path, entries: dict, data: bytes, lie: int) -> None:
    header = json.dumps(entries).encode()
    content = max(0, len(header) + lie).to_bytes(8, "little") + header + data
    assert load_or_refuse(scratch, content) is not None


LEAVES = (
    st.none()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(
        [
            torch.zeros(64),
            torch.zeros(()),
            torch.zeros(0),
            torch.tensor([float("nan")]),
            torch.zeros(2, dtype=torch.bool),
        ]
    )
)
KEYS = st.sampled_from(
    ["params", "params_ema", "state_dict", "model", "module.first.bias", "first.bias", "residual_layer."]
)


@quick
@given(
    st.recursive(
        LEAVES,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3) | st.integers(), inner, max_size=4)
        ),
        max_leaves=8,
    )
)
def test_other_structures_are_refused(scratch: Path, content: object) -> None:
    assert load_or_refuse(scratch, torch_bytes(content)) is not None


@quick
@given(
    st.dictionaries(
        st.sampled_from(
            ["sub_mean.weight", "sub_mean.bias", "add_mean.weight", "add_mean.bias", "residual_layer.", "shift.mean"]
        )
        | st.text(max_size=5),
        st.sampled_from([torch.zeros(64), torch.zeros(()), torch.zeros(0), torch.eye(3), torch.zeros(3)]),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["vdsr", "edsr_baseline"]),
)
def test_converters_survive_any_state(scratch: Path, state: dict[str, Tensor], name: str) -> None:
    scratch.write_bytes(torch_bytes(state))
    with mock.patch.object(networks, "names", return_value=[NAME]), pytest.raises(UserError):
        networks.load_weights(scratch, name, 2)


@pytest.mark.parametrize("key", ["masks", "weight_mask", "delta", "fisher", "variance", "sq_mean"])
def test_what_has_the_shapes_of_weights_and_is_none(tmp_path, key):
    """Masks of pruning, differences to a base, moments of SWAG: alone in a file or beside the weights."""
    state = networks.build("blocks_4", 4).state_dict()
    torch.save({key: {name: torch.ones_like(tensor) for name, tensor in state.items()}}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="does not fit blocks_4 x4"):
        networks.load_weights(tmp_path / "a.pth", "blocks_4", 4)
    torch.save(
        {key: {name: torch.ones_like(tensor) for name, tensor in state.items()}, "net": state}, tmp_path / "b.pth"
    )
    loaded = networks.load_weights(tmp_path / "b.pth", "blocks_4", 4)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in state.items())


@pytest.mark.parametrize(
    ("file", "warned"),
    [("FSRCNN_x2.pth", True), ("fsrcnn-2X.pth", True), ("FSRCNN_x4.pth", False), ("x2x4.pth", False)],
)
def test_weights_of_another_scale_by_their_name(tmp_path, caplog, file, warned):
    """FSRCNN has the same shapes at every scale, so nothing but the file's name tells."""
    torch.save(networks.build("fsrcnn", 2).state_dict(), tmp_path / file)
    networks.load_weights(tmp_path / file, "fsrcnn", 4)
    assert ("is of x2 by its name, and is used for x4" in caplog.text) is warned
