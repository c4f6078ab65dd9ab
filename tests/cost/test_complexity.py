"""Counts against the published figures, against fvcore run plainly, and the command that checks a variant."""

import inspect
import json
from types import SimpleNamespace

import pytest
import torch
from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis, parameter_count
from torch import nn

from safmn import cli, networks
from safmn.cost import complexity
from safmn.errors import UserError
from safmn.networks import acceleration
from safmn.networks.registry import Network


@pytest.fixture
def passes(monkeypatch):
    """The devices on which networks ran, one entry a pass."""
    devices = []
    original = complexity._run

    def counted(network, image, recorder):
        devices.append(image.device.type)
        return original(network, image, recorder)

    monkeypatch.setattr(complexity, "_run", counted)
    return devices


def test_record_says_how_it_was_counted():
    record = complexity.measure("safmn", 3)
    assert record["input"] == [240, 427]
    assert record["channels"] == 3
    assert {"fvcore", "torch"} <= record["versions"].keys()
    assert all(isinstance(record[column], int) for column in ("params", "flops", "activations"))
    assert (record["uncounted"], record["lower_bound"], record["value_reads"]) == ([], False, [])
    assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_input_gives_an_output_of_1280x720(scale):
    height, width = complexity.input_size(scale)
    assert (height * scale, width * scale) == (720, 1281 if scale == 3 else 1280)


def plainly(network: nn.Module, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Parameters, FLOPs and activations by fvcore as anyone would call it: real tensors, two traces."""
    image = torch.rand(shape)
    counted = []
    for analysis in (FlopCountAnalysis, ActivationCountAnalysis):
        counter = analysis(network.eval(), image).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        counted.append(int(counter.total()))
    return parameter_count(network)[""], *counted


@pytest.mark.parametrize("name", networks.names())
def test_equals_fvcore_called_plainly(name, passes):
    scale, size = networks.info(name).scales[-1], (25, 34)  # odd and even, neither a multiple of eight
    network = networks.build(name, scale)
    traced = complexity.trace(name, scale, size=size)
    params, flops, activations = plainly(network, traced.input)
    if name == "smsr":
        params -= 5 * 64 * 4 * 2  # the channel masks of five modules of four layers
    assert (traced.params, traced.flops, traced.activations) == (params, flops, activations)
    assert passes == ["meta"]


def test_fused_layer_norm_is_not_what_is_counted():
    network = acceleration.fuse(networks.build("safmn", 4))  # as it is trained
    _, fused, _ = plainly(network, (1, 3, 36, 64))
    written_out = complexity.trace("safmn", 4, size=(36, 64)).flops
    # 16 LayerNorms over 36 channels, 5 FLOPs an element: 13.72 G instead of 13.55 G at 1280x720.
    assert fused - written_out == 16 * 36 * 36 * 64 * 5


# --- Networks that are not in the registry ----------------------------------------------------------------------------


@pytest.fixture
def use(monkeypatch):
    """Lets `complexity` find a class of the test's under the name "own"."""

    def register(factory, colour="RGB"):
        own = Network("own", "own", lambda scale: factory(), colour=colour)
        found = SimpleNamespace(build=lambda name, scale: own.factory(scale), info=lambda name: own)
        monkeypatch.setattr(complexity, "networks", found)

    return register


class Odd(nn.Module):
    """Convolutions called in unusual ways, and what fvcore has rules for beside convolutions."""

    def __init__(self):
        super().__init__()
        self.strided = nn.Conv2d(3, 8, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2), bias=False)
        self.up = nn.ConvTranspose2d(8, 12, 3, stride=2, padding=1, output_padding=1, groups=4, dilation=2)
        self.norm = nn.BatchNorm2d(12)
        self.dense = nn.Linear(12, 6)
        self.reflecting = nn.Conv2d(12, 6, 3, padding=1, padding_mode="reflect")

    def forward(self, image):
        features = self.norm(self.up(self.strided(image)))
        gate = self.dense(nn.functional.adaptive_avg_pool2d(features, 1).flatten(1))
        padding = features.shape[-1] // features.shape[-1]  # a tensor, while tracing
        features = torch.conv2d(self.reflecting(features), torch.ones(6, 1, 3, 3).to(features), None, 1, padding, 1, 6)
        product = torch.einsum("nchw,nc->nhw", features, gate)
        return nn.functional.interpolate(product[:, None], scale_factor=2, mode="bilinear")


def test_convolutions_of_every_kind_equal_fvcore_called_plainly(use, passes):
    use(Odd)
    traced = complexity.trace("own", 4, size=(20, 31))
    assert passes == ["meta"]  # not once more on the CPU
    params, flops, activations = plainly(Odd(), traced.input)
    assert (traced.params, traced.activations) == (params, activations)
    (product,) = (each.flops for each in traced.operations if each.kind == "aten::einsum")
    # fvcore reads numpy's text, which has four digits.
    assert traced.flops - product == flops - float(f"{2 * product:.3e}") // 2


class Same(nn.Module):
    """Looks at values, which do not exist on the meta device."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding="same")

    def forward(self, image):
        features = self.conv(image)
        return features if features.sum().item() > 0 else -features


def test_what_needs_values_runs_on_the_cpu_and_says_where_it_looks(use, passes):
    use(Same, colour="Y")
    traced = complexity.trace("own", 4, size=(9, 8))
    assert passes == ["meta", "cpu"]
    assert traced.input == (1, 1, 9, 8)
    assert (traced.params, traced.flops, traced.activations) == (40, 4 * 9 * 72, 4 * 72)
    line = inspect.getsourcelines(Same)[1] + inspect.getsource(Same).split("\n").index(
        "        return features if features.sum().item() > 0 else -features"
    )
    assert traced.value_reads == (f"the network, test_complexity.py line {line}",)
    (text,) = complexity.warnings(complexity.record(traced))
    assert f"test_complexity.py line {line} looks at values of a tensor" in text
    assert "counted on one random image" in text


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(5, 3, 3)

    def forward(self, image):
        return self.conv(image)


class Wordless(nn.Module):
    """Fails with a message that says nothing by itself."""

    def forward(self, image):
        return {}["weights"]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (Broken, r"module conv, test_complexity.py line \d+: RuntimeError: Given groups=1, .*"),
        (Wordless, r"the network, test_complexity.py line \d+: KeyError: 'weights'"),
    ],
)
def test_a_network_that_does_not_run_is_named(use, broken, reason):
    use(broken)
    start = "^own x4 does not run on an image of 320x180 pixels with 3 channels"
    with pytest.raises(UserError, match=rf"{start} \({reason}\): correct the net") as error:
        complexity.trace("own", 4)
    assert "\n" not in str(error.value)


class Parameters(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 2)
        self.again = self.first
        self.tied = nn.Parameter(torch.ones(5))
        self.alias = self.tied
        self.frozen = nn.Parameter(torch.ones(7), requires_grad=False)
        self.register_buffer("statistics", torch.ones(11))


def test_parameters_are_counted_once_frozen_ones_too_and_buffers_not():
    assert sum(torch.Size(shape).numel() for shape in complexity.parameters(Parameters()).values()) == 3 * 2 + 2 + 5 + 7


# --- The commands -----------------------------------------------------------------------------------------------------


@pytest.fixture
def ablations(tmp_path, monkeypatch):
    folder = tmp_path / "ablations"
    folder.mkdir()
    monkeypatch.setenv("SAFMN_ABLATIONS", str(folder))

    def add(name, text):
        (folder / f"{name}.yaml").write_text(f"title: own\ndescription: own\n{text}", encoding="utf-8")

    return add


def test_check_refuses_a_variant_that_is_not_its_row(ablations, tmp_path, capsys):
    """Without a file, nor an earlier one of that name, and in one line."""
    ablations("mine", 'rows: {"3": "(b): w/o MR"}\nnetwork: {aggregation: false}\n')
    out = tmp_path / "mine.json"
    out.write_text("an earlier count", encoding="utf-8")
    assert cli.main(["complexity", "mine", "--check", "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "mine" in message
    assert "Table 3, row '(b): w/o MR', params: counted 228.864 K, printed 239.52 K" in message
    assert "flops: counted 12.95771904 G, printed 13.64 G" in message
    assert not out.exists()


def test_check_does_not_excuse_a_wrong_variant_by_a_convention(ablations, capsys):
    # Train mode explains the row of BN. A network without BN, or with too few blocks, is not explained by it.
    ablations("mine", 'rows: {"3": "LN → BN"}\n')
    assert cli.main(["complexity", "mine", "--check"]) == 2
    assert "flops: counted 13.55491584 G, printed 13.72 G" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        'rows: {"3": "(b): w/o MR"}\nnetwork: {multi_scale: false}\n',
        'rows: {"4": 12}\nnetwork: {n_blocks: 12}\n',  # explained cells pass
        "network: {n_blocks: 3}\n",  # stands for no row of the paper
    ],
)
def test_check_accepts(ablations, tmp_path, text):
    ablations("mine", text)
    assert cli.main(["complexity", "mine", "--check", "--out", str(tmp_path / "mine.json")]) == 0
    assert json.loads((tmp_path / "mine.json").read_text())["scales"]["4"]["params"] > 0


def test_a_row_that_the_paper_does_not_have_is_refused(ablations, capsys):
    ablations("mine", 'rows: {"3": "w/o everything"}\n')
    assert cli.main(["complexity", "mine"]) == 2
    assert "Table 3 of the paper has no row 'w/o everything'" in capsys.readouterr().err


def test_json_has_exact_integers_and_alternatives(capsys):
    assert cli.main(["complexity", "safmn", "--scale", "4", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["params"], record["flops"], record["activations"]) == (239520, 13554915840, 76700160)
    assert [each["convention"] for each in record["alternatives"]["flops"]] == ["as_fvcore_prints"]
    assert cli.main(["complexity", "safmn", "espcn", "--scale", "all", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    expected = [("safmn", 2), ("safmn", 3), ("safmn", 4), ("espcn", 2), ("espcn", 4)]
    assert [(each["network"], each["scale"]) for each in records] == expected


def test_out_holds_every_scale(tmp_path):
    assert cli.main(["complexity", "ecbsr_m16c64", "--scale", "2", "4", "--out", str(tmp_path / "e.json")]) == 0
    document = json.loads((tmp_path / "e.json").read_text())
    assert document["network"] == "ecbsr_m16c64"
    assert document["versions"]["torch"] == torch.__version__
    assert {scale: entry["params"] for scale, entry in document["scales"].items()} == {"2": 594884, "4": 601808}
    assert document["scales"]["2"]["input"] == [360, 640]
    assert document["scales"]["2"]["alternatives"]["params"][0]["value"] == 594884 + 17 * 64


def test_table_shows_units_cells_and_verdicts(capsys):
    assert cli.main(["complexity", "safmn"]) == 0
    text = capsys.readouterr().out
    lines = {" ".join(line.split()) for line in text.splitlines()}
    assert "safmn x4 params 239.52 K 239,520 240 K Table 1, SAFMN rounding" in lines
    assert "239.52 K Table 3, - exact" in lines
    assert "13.56 G Table 3, - explained" in lines


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["complexity", "espcn", "--scale", "3"], "espcn has no x3"),
        (["complexity", "safmm"], "did you mean safmn"),
        (["complexity", "safmn", "espcn", "--out", "one.json"], "one.json is one file but 2 networks"),
    ],
)
def test_mistakes_are_one_line(arguments, said, capsys):
    assert cli.main(arguments) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1


def test_list_shows_rows_scales_and_parameters(capsys):
    assert cli.main(["list", "--json"]) == 0
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert list(found) == networks.names()
    assert found["ln_fbn"]["rows"] == {"3": "LN → FBN*"}
    assert found["espcn"]["scales"] == [2, 4]
    assert found["safmn"]["params"] == {"2": 227820, "3": 232695, "4": 239520}
    assert cli.main(["list"]) == 0
    assert "227.82 / 232.70 / 239.52" in capsys.readouterr().out


def test_a_module_of_ones_own_at_any_size() -> None:
    """Counted by hand; the module stays where it is, in the mode that it was in."""
    module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 9, 1, bias=False), nn.PixelShuffle(3))
    counted = complexity.measure(module, 3, 10, 20, channels=1)
    assert counted.params == counted["params"] == 4 * 9 + 4 + 36
    assert counted.flops == counted["flops"] == 200 * (36 + 36)
    assert counted.activations == counted["activations"] == 200 * (4 + 9)
    assert counted.convolutions == 2
    assert all(type(counted[key]) is int for key in ("params", "flops", "activations", "convolutions"))
    assert counted["input"] == [10, 20]
    assert "LR 20x10" in counted["convention"]
    assert "<td>14,400</td>" in counted._repr_html_()
    assert json.loads(json.dumps(counted)) == dict(counted)
    assert module.training
    assert {parameter.device.type for parameter in module.parameters()} == {"cpu"}
    name, own = complexity.measure("safmn", 4), complexity.measure(networks.build("safmn", 4), 4)
    assert dict(name) | {"network": ""} == dict(own) | {"network": ""}


def test_half_a_size_is_refused() -> None:
    with pytest.raises(UserError, match="height and width of the LR image together"):
        complexity.measure("safmn", 4, height=256)


def test_other_sizes_and_programs_on_the_command_line(capsys) -> None:
    assert cli.main(["complexity", "safmn_pp", "--height", "256", "--width", "256", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["params"], record["convolutions"], record["input"]) == (211_572, 32, [256, 256])
    assert cli.main(["complexity", "safmn", "--conventions", "--height", "32", "--width", "40"]) == 0
    shown = capsys.readouterr().out
    assert "thop: params: 238,368, fvcore 239,520 (layers that it has no rule for" in shown
    assert cli.main(["complexity", "safmn", "--conventions", "--height", "32", "--width", "40", "--json"]) == 0
    programs = json.loads(capsys.readouterr().out)["programs"]
    assert [program["program"] for program in programs] == ["fvcore", "thop", "ptflops", "NTIRE 2023", "NTIRE 2024"]
    assert all(sum(program["parts"].values()) == program["flops"] for program in programs)
    assert cli.main(["complexity", "safmn", "--height", "32", "--width", "40", "--check"]) != 0
    assert "leave out --height and --width" in capsys.readouterr().err
