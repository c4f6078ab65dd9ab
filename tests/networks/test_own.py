"""A network of a user's own: tried before it is trained, built, counted, its weights read, its code fingerprinted."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from safmn import networks
from safmn.cost import complexity, memory
from safmn.errors import UserError
from safmn.networks import identity, own, trial, variants

NETS = """
import os
import sys

import torch
from torch import nn


class Tiny(nn.Module):
    def __init__(self, scale, dim=16, colours=3, factor=None, out=None):
        super().__init__()
        factor = factor or scale
        self.body = nn.Sequential(nn.Conv2d(colours, dim, 3, padding=1), nn.ReLU())
        self.tail = nn.Sequential(nn.Conv2d(dim, (out or colours) * factor**2, 3, padding=1), nn.PixelShuffle(factor))

    def forward(self, x):
        return self.tail(self.body(x))

    @staticmethod
    def convert_published(state, scale):
        return {key.replace("head.", "body."): value for key, value in state.items()}


class Exits(Tiny):
    def __init__(self, scale):
        sys.exit()


class ExitsLater(Tiny):
    def forward(self, x):
        sys.exit(3)


class Moves(Tiny):
    def __init__(self, scale):
        super().__init__(scale)
        os.chdir("/")


class Reads(Tiny):
    def __init__(self, scale):
        super().__init__(scale, dim=[int(x.item()) for x in torch.linspace(8, 8, 1)][0])


class NoGradient(Tiny):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)


class Windows(Tiny):
    def forward(self, x):
        return super().forward(x.unflatten(3, (-1, 8)).flatten(3))


class Frozen(Tiny):
    def __init__(self, scale):
        super().__init__(scale)
        self.requires_grad_(False)


class Listed(Tiny):
    def forward(self, x):
        return [super().forward(x)]


class Compiled(Tiny):
    def __init__(self, scale):
        super().__init__(scale)
        self.body = torch.compile(self.body)


class Hides(Tiny):
    def __init__(self, scale):
        super().__init__(scale)
        self.more = [nn.Conv2d(3, 3, 3, padding=1)]

    def forward(self, x):
        return super().forward(self.more[0].to(x.device)(x))


class MakesLater(Tiny):
    def __init__(self, scale):
        super().__init__(scale)
        self.more = None

    def forward(self, x):
        if self.more is None:
            self.more = nn.Conv2d(3, 3, 3, padding=1).to(x.device)
        return super().forward(self.more(x))


class WeightNorm(Tiny):
    def __init__(self, scale):
        super().__init__(scale)
        self.body[0] = nn.utils.weight_norm(self.body[0])


class Draws(Tiny):
    def forward(self, x):
        return super().forward(x + torch.randn_like(x))


class Centred(Tiny):
    def forward(self, x):
        return super().forward(x - x.mean())


class LessTheMean(nn.Module):
    # A mixer of SAFMN; before it stands a norm, which hides the statistics at first.
    def __init__(self, dim):
        super().__init__()
        self.c = nn.Conv2d(dim, dim, 1)

    def forward(self, x):
        return self.c(x) - x.mean()


class OverTheDeviation(LessTheMean):
    def forward(self, x):
        return self.c(x) / (x.std() + 1e-5)


def made(scale):
    return 3
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Writes `tiny.yaml` of a network section, beside `nets_of_mine.py`; it is the only variant."""
    monkeypatch.setenv("SAFMN_ABLATIONS", str(tmp_path))
    (tmp_path / "nets_of_mine.py").write_text(NETS)

    def write(network, **more) -> Path:
        content = {"title": "Tiny", "description": "x", "network": network, **more}
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(content))
        variants._discover.cache_clear()
        return tmp_path / "tiny.yaml"

    return write


def named(name="Tiny", **args):
    return {"class": f"nets_of_mine:{name}", "args": args}


def test_it_is_built_with_its_arguments(tiny):
    tiny(named(dim=24), scales=[2, 4])
    for scale in (2, 4):
        assert networks.build("tiny", scale)(torch.zeros(1, 3, 5, 7)).shape == (1, 3, 5 * scale, 7 * scale)
    counted = complexity.measure("tiny", 4)
    assert counted["params"] == 24 * 27 + 24 + 48 * 24 * 9 + 48
    assert counted["flops"] == (24 * 27 + 48 * 24 * 9) * 180 * 320
    assert memory.predict("tiny", 4, 180, 320) > 4 * 24 * 180 * 320
    with pytest.raises(UserError, match=r"tiny has no x3: .*tiny.yaml names x2, x4"):
        networks.build("tiny", 3)


def test_one_of_y(tiny):
    tiny(named(colours=1), colour="Y")
    trial.check("tiny", 4)
    assert complexity.measure("tiny", 4)["channels"] == 1


@pytest.mark.parametrize("name", ["Tiny", "Reads"])
def test_a_sound_one_passes_its_trial(tiny, name):
    """Also one that reads values while it is built, which the meta device cannot."""
    tiny(named(name))
    before = torch.random.get_rng_state()
    trial.check("tiny", 4)
    assert torch.equal(before, torch.random.get_rng_state())
    assert isinstance(trial.built("tiny", 4), nn.Module)


@pytest.mark.parametrize(
    ("network", "more", "says"),
    [
        (named("Other"), {}, "'nets_of_mine:Other' cannot be imported"),
        ({"class": "no_such_nets:Tiny"}, {}, "'no_such_nets:Tiny' cannot be imported"),
        (named("Exits"), {}, r"the network cannot be built: its class calls sys.exit\(\)"),
        (named("ExitsLater"), {}, r"the network does not run on 2x3x24x24 \(SystemExit: 3\)"),
        (named(width=3), {}, r"Tiny\(scale, width=3\) cannot be called: got an unexpected keyword argument 'width'"),
        (named("made"), {}, "gives a int, not a torch.nn.Module"),
        (named(dim="x"), {}, "cannot be built: TypeError"),
        (named(factor=2), {}, "tiny x4 makes 2x3x48x48 of 2x3x24x24, not 2x3x96x96"),
        (named(out=1), {}, "tiny x4 makes 2x1x96x96 of 2x3x24x24, not 2x3x96x96"),
        (named(), {"colour": "Y"}, "does not run on 2x1x24x24"),
        (named("Listed"), {}, "makes a list of 2x3x24x24"),
        (named("NoGradient"), {}, "no gradient reaches the parameters of tiny"),
        (named("Frozen"), {}, "tiny has no parameters to train"),
        (named("Windows"), {}, "does not run on 1x3x29x23"),
        (named("WeightNorm"), {}, "tiny cannot be copied.*parametrizations.weight_norm for"),
        (named("Draws"), {}, "tiny gives an image other values the second time"),
        (named("Centred"), {}, "tiny gives an image other values beside another image"),
        ({"mixer": "nets_of_mine:LessTheMean"}, {}, "tiny gives an image other values beside another image"),
        ({"mixer": "nets_of_mine:OverTheDeviation"}, {}, "tiny gives an image other values beside another image"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_what_cannot_be_trained_is_one_line(tiny, network, more, says):
    file = tiny(network, **more)
    with pytest.raises(UserError, match=says) as caught:
        trial.check("tiny", 4)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_another_size_factor_is_not_counted(tiny):
    tiny(named(factor=3))
    with pytest.raises(UserError, match="tiny x4 makes 1x3x540x960 of 1x3x180x320"):
        complexity.measure("tiny", 4)


@pytest.mark.parametrize("name", ["Hides", "MakesLater"])
def test_parameters_that_the_network_does_not_have_are_refused(tiny, name):
    """They would be neither counted nor trained nor saved, and evaluation would draw them anew."""
    file = tiny(named(name))
    with pytest.raises(UserError, match="uses parameters that the network does not have when it is built") as caught:
        complexity.measure("tiny", 4)
    assert str(caught.value).startswith(f"{file}: ")
    with pytest.raises(UserError, match="uses parameters"):
        complexity.measure(networks.build("tiny", 4), 4)


@pytest.mark.parametrize(
    ("network", "more", "says"),
    [
        ({**named(), "dim": 8}, {}, "network: 'dim' is a switch of SAFMN, which `class` replaces"),
        ({"args": {"dim": 8}}, {}, "network: `args` are for a class of your own"),
        ({"class": "Tiny"}, {}, "network.class"),
        ({"class": "my nets:Tiny"}, {}, "network.class"),
        ({"dim": 24}, {"colour": "Y"}, "colour: SAFMN takes RGB"),
        (named(), {"scales": [5]}, "scales.0"),
        (named(), {"scales": []}, "scales"),
    ],
)
def test_mistakes_in_its_file(tiny, network, more, says):
    with pytest.raises(UserError, match=says):
        variants.load(tiny(network, **more))


def test_a_module_that_another_one_hides_is_refused(tiny, tmp_path, monkeypatch):
    """Python takes the first of two modules of one name: the user must not train another class than the one beside."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/nets_of_mine.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    tiny(named())
    with pytest.raises(UserError, match=r"which Python finds before .*/nets_of_mine\.py: rename"):
        networks.build("tiny", 4)


def test_so_is_one_that_replaces_a_part_of_safmn(tiny, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    for folder in (tmp_path, tmp_path / "elsewhere"):
        (folder / "parts_of_mine.py").write_text(NETS + "\n\nclass Part(nn.Identity):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    file = tiny({"dim": 8, "n_blocks": 1, "mixer": "parts_of_mine:Part"})
    with pytest.raises(UserError, match=r"which Python finds before .*/parts_of_mine\.py: rename") as caught:
        networks.build("tiny", 4)
    assert str(caught.value).startswith(f"{file}: 'parts_of_mine:Part'")


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"params_ema": state}])
@pytest.mark.parametrize("prefix", ["", "module.", "model.generator."])
@pytest.mark.parametrize("head", ["body.", "head."])
def test_weights_of_its_own_training_program_are_read(tiny, tmp_path, wrap, prefix, head):
    tiny(named(dim=8))
    state = networks.build("tiny", 4).state_dict()
    foreign = {prefix + key.replace("body.", head): value for key, value in state.items()}
    torch.save(wrap(foreign), tmp_path / "x.pth")
    read = networks.load_weights(tmp_path / "x.pth", "tiny", 4)
    assert all(torch.equal(value, state[key]) for key, value in read.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_weights_of_one_that_is_compiled_inside_are_read(tiny, tmp_path, prefix):
    """Its own keys hold `_orig_mod`, which is taken off elsewhere."""
    tiny(named("Compiled"))
    network = networks.build("tiny", 4)
    assert any("_orig_mod" in key for key in network.state_dict())
    torch.save({prefix + key: tensor for key, tensor in network.state_dict().items()}, tmp_path / "w.pth")
    loaded = networks.load_weights(tmp_path / "w.pth", "tiny", 4)
    assert all(torch.equal(tensor, loaded.state_dict()[key]) for key, tensor in network.state_dict().items())


def test_its_code_counts_and_its_numbers_do_not(tiny, tmp_path):
    def fingerprint(*network, text=NETS):
        (tmp_path / "nets_of_mine.py").write_text(text)
        tiny(*network)
        identity._fingerprint.cache_clear()
        return identity.of_network("tiny")

    first = fingerprint(named(dim=8))
    assert fingerprint(named(dim=16)) == first
    assert fingerprint(named(dim=8), text=NETS + "# a comment\n") == first
    assert fingerprint(named(dim=8), text=NETS.replace("nn.ReLU()", "nn.GELU()")) != first
    with pytest.raises(UserError, match=r"tiny.yaml: class: 'nets_of_mine:Tinny' cannot be imported: .* has no Tinny"):
        fingerprint(named("Tinny"))


def test_a_class_or_module_that_changes_the_current_folder_changes_nothing(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny(named("Moves"))
    trial.check("tiny", 4)
    assert Path.cwd() == tmp_path
    (tmp_path / "moving_nets.py").write_text("import os\nos.chdir('/')\nfrom nets_of_mine import *\n")
    tiny({"class": "moving_nets:Tiny"})
    trial.check("tiny", 4)
    assert Path.cwd() == tmp_path
    (tmp_path / "exiting_nets.py").write_text("raise SystemExit('no licence')\n")
    tiny({"class": "exiting_nets:Tiny"})
    with pytest.raises(UserError, match=r"cannot be imported \(SystemExit: no licence\)"):
        trial.check("tiny", 4)


# --- networks with published weights ---


@pytest.fixture
def folder(tiny, tmp_path, monkeypatch):
    """A folder of such networks, as a study names it."""
    place = tmp_path / "theirs"
    place.mkdir()
    (place / "nets_of_mine.py").write_text(NETS)
    monkeypatch.setenv("SAFMN_NETWORKS", str(place))
    own._networks.cache_clear()

    def write(name="theirs", **more) -> Path:
        content = {"title": "Theirs", "class": "nets_of_mine:Tiny", "args": {"dim": 8}, **more}
        (place / f"{name}.yaml").write_text(yaml.safe_dump(content))
        own._networks.cache_clear()
        return place / f"{name}.yaml"

    (tmp_path / "nets_of_mine.py").unlink()
    return write


def test_a_published_style_network_is_built_and_its_weights_found(folder):
    from safmn.networks import published_weights

    url = "https://example.org/files/net.pth?download=1"
    file = folder(scales=[2, 4], weights={2: {"url": url, "sha256": "0" * 64, "size": 5}, 4: {"file": "x4.pth"}})
    assert networks.build("theirs", 2)(torch.zeros(1, 3, 4, 4)).shape == (1, 3, 8, 8)
    known = published_weights.find("theirs", 2)
    assert (known.remote.urls, known.remote.size) == ((url,), 5)
    assert re.fullmatch(r"theirs_x2_[0-9a-f]{8}\.pth", known.remote.name)
    assert published_weights.find("theirs", 4) is None
    assert published_weights.at_hand("theirs", 4) is None
    assert str(file.parent / "x4.pth") in published_weights.obtain("theirs", 4)
    (file.parent / "x4.pth").write_bytes(b"x")
    assert published_weights.at_hand("theirs", 4) == file.parent / "x4.pth"


def test_another_address_or_checksum_is_another_file(folder):
    """Else the earlier download would be evaluated."""
    from safmn.networks import published_weights

    names = set()
    for where in ({"url": "https://a.org/n.pth"}, {"url": "https://b.org/n.pth"}):
        for sha256 in ({}, {"sha256": "0" * 64}):
            folder(scales=[4], weights={4: where | sha256})
            own._networks.cache_clear()
            names.add(published_weights.find("theirs", 4).remote.name)
    assert len(names) == 4


@pytest.mark.parametrize(
    ("name", "more", "says"),
    [
        ("imdn", {}, "a published network has this name"),
        ("theirs", {"weights": {4: {}}}, "weights.4: give either `url` or `file`"),
        ("theirs", {"weights": {4: {"url": "ftp://x/y"}}}, "weights.4.url"),
        ("theirs", {"weights": {3: {"file": "x"}}, "scales": [4]}, "weights.3: scales does not have x3"),
        ("theirs", {"clas": "x:Y"}, "clas: is not a known key"),
    ],
)
def test_mistakes_in_the_file_of_a_published_style_network(folder, name, more, says):
    with pytest.raises(UserError, match=says):
        own.load(folder(name, **more))
