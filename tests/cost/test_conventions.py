"""Every printed count of Tables 1, 3 and 4 has its verdict, and every explanation is computed and needed."""

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
import torch
from fvcore.nn import FlopCountAnalysis

from safmn import networks
from safmn.cost import complexity, conventions
from safmn.paper import published, verdicts
from safmn.paper.published import PrintedCell as Cell


@cache
def trace(name: str, scale: int) -> complexity.Trace:
    return complexity.trace(name, scale)


def cell(table: int, label: str, column: str, scale: int = 4) -> Cell:
    return next(
        each for each in published.printed(table) if (each.label, each.column, each.scale) == (label, column, scale)
    )


def computed(name: str, wanted: Cell, scale: int = 4) -> dict:
    """The one alternative of a cell."""
    (found,) = conventions.explanations(trace(name, scale), wanted)
    return found


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (1, {"rounding": 101, "explained": 22}),
        (3, {"exact": 11, "rounding": 44, "explained": 8}),
        (4, {"exact": 1, "rounding": 7, "explained": 4}),
    ],
)
def test_every_printed_count_follows_or_is_explained(table, expected):
    # The paper's own variants only: someone who adds a variant to ablations/ may claim a row too.
    found = Counter()
    for each in published.printed(table):
        if each.is_count:
            name = next(name for name, info in networks.all_networks().items() if info.rows.get(table) == each.label)
            traced = trace(name, each.scale)
            others = conventions.alternatives(traced, [each]).get(each.column, ())
            verdict = verdicts.count(each.printed, each.unit, getattr(traced, each.column), others)
            found[verdict.verdict] += 1
            assert bool(verdict.note) == (verdict.verdict == "explained")
    assert found == expected


def test_conventions_are_only_for_cells_that_need_them():
    for each in conventions.CONVENTIONS:
        for table, label, scales in each.rows:
            name = next(name for name, info in networks.all_networks().items() if info.rows.get(table) == label)
            covered = [one for one in published.printed(table) if one.label == label and each.covers(one)]
            assert covered, (each.name, label)
            for one in covered:
                assert scales is None or one.scale in scales
                plain = verdicts.count(one.printed, one.unit, getattr(trace(name, one.scale), one.column))
                assert plain.verdict == verdicts.CONTRADICTED, (each.name, one)


def test_lapsrn_x2_is_one_level_on_the_input_of_x4():
    found = computed("lapsrn", cell(1, "LapSRN", "flops", 2), scale=2)
    height, width = 180, 320
    features, image = 3 * 3 * 64 * 64, 4 * 4  # the two transposed convolutions, kernel by channels
    level = height * width * (9 * 64 + 10 * features) + 4 * height * width * (features + 9 * 64 + image)
    assert found["value"] == level


def test_batch_norm_is_really_traced_in_train_mode():
    training = complexity.trace("ln_bn", 4, training=True)
    kinds = Counter(each.kind for each in training.operations)
    assert kinds["aten::batch_norm"] == 16
    elements = 16 * 36 * 180 * 320
    assert training.flops - trace("ln_bn", 4).flops == 3 * elements  # 5 an element instead of 2


def test_smsr_lies_between_all_masked_and_dense():
    network = networks.build("smsr", 4).eval()
    with torch.no_grad():
        for module in network.body:
            module.body.ch_mask[..., 0], module.body.ch_mask[..., 1] = 0.0, 1.0  # every channel is sparse
            module.spa_mask[-1].weight.zero_()
            module.spa_mask[-1].bias.copy_(torch.tensor([1.0, 0.0]))  # and no pixel is important
    image = torch.rand(1, 3, 24, 32)
    (found,) = conventions.explanations(complexity.trace("smsr", 4, size=(24, 32)), cell(1, "SMSR", "flops", 4))
    network.sparse = True
    with torch.no_grad():
        assert found["low"] == FlopCountAnalysis(network, image).unsupported_ops_warnings(False).total()
    found = computed("smsr", cell(1, "SMSR", "flops", 2), scale=2)
    # What the authors' weights take on Set5, scaled to 720p, lies inside too.
    assert found["low"] < 78e9 < found["value"] == 132 * 10**9 < 158e9 < found["high"] == trace("smsr", 2).flops
    assert "51% of the maskable work" in found["sentence"]


def test_nothing_is_traced_again_where_the_print_follows(monkeypatch):
    traced = trace("lapsrn", 4)
    monkeypatch.setattr(complexity, "trace", lambda *_, **__: pytest.fail("traced once more"))
    cells = [each for each in published.of(networks.info("lapsrn")) if each.column != "flops"]
    assert conventions.alternatives(traced, cells) == {}


def test_a_wrong_network_is_not_excused():
    # The row of FSRCNN for a network that is not FSRCNN: the same convention gives another number.
    impostor = trace("espcn", 4)
    wanted = cell(1, "FSRCNN", "params")
    others = conventions.explanations(impostor, wanted)
    assert verdicts.count(wanted.printed, wanted.unit, impostor.params, others).verdict == "contradicted"
    # A row without conventions has no alternatives at all.
    assert conventions.explanations(trace("blocks_4", 4), cell(4, "4", "flops")) == []


def test_one_digit_rule_needs_neighbours_that_agree():
    wanted = cell(4, "6", "activations")
    found = computed("blocks_6", wanted)
    assert found["rule"] == "one digit"
    wrong = replace(wanted, printed="58.65")  # two digits away from 58.74
    assert verdicts.count(wrong.printed, "M", trace("blocks_6", 4).activations, [found]).verdict == "contradicted"
