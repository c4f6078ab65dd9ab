"""What records say beyond numbers stands at the cell: lower bounds, LR, weights, warnings, other ways of measuring."""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from safmn.files import read_json, write_json
from safmn.networks import published_weights
from safmn.paper import verdicts
from safmn.paper.cell import Cell
from safmn.report import cells, grids, measured, tables
from safmn.report.joined import Joined
from tests.report import fabricate
from tests.report.test_tables import entry, section

ONLY = {"training": None, "networks": ["bicubic", "imdn", "smsr", "carn_m"], "variants": ["safmn"]}


def evaluating(*datasets: str, **changes: Any) -> cells.Study:
    return fabricate.study(**ONLY | {"data": {"test": list(datasets or ("Set5",))}} | changes)


def found(folder, study, network: str, column: str, scale: int = 4, table: int = 1) -> Cell:
    return fabricate.cell(study, folder, network, column, table, scale)


# --- Counts ----------------------------------------------------------------------------------------------------------


def recounted(folder, **changes: Any) -> dict:
    """The cells by place after `changes` of the baseline's record at x4."""
    fabricate.complexity(folder, "safmn", 239_520, 13_550_000_000, 76_700_160)
    file = folder / "cost/complexity/safmn.json"
    record = read_json(file)
    record["scales"]["4"] |= changes
    write_json(file, record)
    return {each.place: each for each in Joined(fabricate.study(), folder).cells}


def test_a_lower_bound_is_said_at_the_cell_and_changes_no_verdict(tmp_path):
    before = recounted(tmp_path)
    uncounted = [{"operation": "aten::fft_rfft2", "calls": 3}, {"operation": "mine::conv", "calls": 1}]
    after = recounted(tmp_path, lower_bound=True, uncounted=uncounted)
    for place, each in after.items():
        assert (each.verdict, each.measured) == (before[place].verdict, before[place].measured)
    flops, params = after[3, "safmn", 4, "flops"], after[3, "safmn", 4, "params"]
    assert (flops.origin, params.origin) == ("counted (lower bound)", "counted")
    assert after[3, "safmn", 4, "activations"].origin == "counted (lower bound)"
    assert "aten::fft_rfft2 (3 calls), mine::conv (1 calls) could not be counted" in flops.note
    assert params.note == ""
    table = tables.build_all(Joined(fabricate.study(), tmp_path, list(after.values())))[2]
    shown = entry(section(table, "Complexity"), "-", "#FLOPs [G]", "measured")
    assert shown.text == "≥ 13.550"
    assert "fft_rfft2" in table.footnotes[shown.footnote - 1]
    assert ("≥", grids.AT_LEAST_MEANING) in table.legend


def test_a_count_of_one_random_image_says_so(tmp_path):
    found = recounted(tmp_path, value_reads=["mine.py, line 3"])
    assert "one random image" in found[3, "safmn", 4, "flops"].note
    assert "one random image" not in found[3, "safmn", 4, "params"].note


# --- LR, weights, warnings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lr", "said", "shown"),
    [
        ({"origin": "files", "folder": "/home/x/data/Set5/LR_bicubic/X4"}, "LR read from LR_bicubic/X4", False),
        ({"origin": "files", "folder": None, "made": 0}, "LR read from files", False),
        ({"origin": "made", "border": "clamped", "made": 5}, "LR made from HR, not read from files (clamped", True),
    ],
)
def test_where_lr_came_from_is_said_and_shown_where_it_was_made(tmp_path, lr, said, shown):
    fabricate.quality(tmp_path, "imdn", "published", "Set5", [32.21] * 5, 0.8948)
    fabricate.evaluation(tmp_path, "imdn", "published", lr={"Set5": lr, "Set14": {"origin": "made"}})
    study = evaluating()
    cell = found(tmp_path, study, "imdn", "set5_psnr")
    assert said in cell.note
    assert "/home/x" not in cell.note
    assert cell.verdict == verdicts.ROUNDING
    assert cell.device == "cpu"
    table = tables.build_all(Joined(study, tmp_path))[0]
    part = section(table, "PSNR")
    at_x4 = replace(part, rows=[row for row in part.rows if row[0].text == "x4"])
    field = entry(at_x4, "IMDN", "Set5", "measured")
    assert (field.footnote > 0) == shown
    assert not shown or said in table.footnotes[field.footnote - 1]


@pytest.mark.parametrize(
    ("which", "said"), [("ema", "the averaged weights"), ("raw", "that are not averaged"), ("only", ""), (None, "")]
)
def test_which_weights_were_taken_is_said(tmp_path, which, said):
    fabricate.quality(tmp_path, "imdn", "published", "Set5", [32.21] * 5)
    fabricate.evaluation(tmp_path, "imdn", "published", weights={"file": "IMDN_x4.pth", "which": which})
    cell = found(tmp_path, evaluating(), "imdn", "set5_psnr")
    assert said in cell.note
    assert bool(cell.remarks) == bool(said)


def test_warnings_are_said_for_ones_own_networks_too(tmp_path):
    study = fabricate.study(seeds=[0, 1])
    text = "HR and LR do not belong together: a, b"
    for seed in (0, 1):
        fabricate.trained(tmp_path, study, "no_fm", [30.0] * 5, seed)
        warnings = [{"kind": "pairs", "images": ["a", "b"], "text": text}]
        fabricate.evaluation(tmp_path, "no_fm", f"seed{seed}_best", warnings=warnings, lr={"Set5": {"origin": "made"}})
    cell = found(tmp_path, study, "no_fm", "set5_psnr", table=3)
    assert cell.note.count(text) == 1
    assert set(cell.remarks) == {text, "LR made from HR, not read from files"}
    assert (cell.seeds, cell.std, cell.interval) == (2, 0.0, (30.0, 30.0))


@pytest.mark.parametrize("damaged", [[], {"lr": []}, {"lr": {"Set5": 1}}, {"weights": 3, "warnings": [1, None]}])
def test_a_record_of_another_form_says_nothing(tmp_path, damaged):
    fabricate.quality(tmp_path, "imdn", "published", "Set5", [32.21] * 5)
    file = tmp_path / "quality/imdn/x4/published/evaluation.json"
    write_json(file, damaged)
    assert found(tmp_path, evaluating(), "imdn", "set5_psnr").note == "published weights, 5 images"


def test_two_parts_of_one_dataset_are_told_apart(tmp_path):
    """Their evaluation names them by the path of the packed dataset, since they share a name."""
    parts = {"photographs[:2]": ("files", "read from files"), "photographs[2:4]": ("made", "made from HR")}
    study = evaluating(*parts)
    lr = {}
    for text, (origin, _) in parts.items():
        (own,) = [each for each in measured.benchmarks(study) if each.selection == text]
        fabricate.quality(tmp_path, "imdn", "published", own.id, [30.0, 31.0])
        lr[f"results/made/data/photographs/x4{text.removeprefix('photographs')}"] = {"origin": origin}
    fabricate.evaluation(tmp_path, "imdn", "published", lr=lr)
    for benchmark in measured.benchmarks(study):
        assert parts[benchmark.selection][1] in found(tmp_path, study, "imdn", f"{benchmark.id}_psnr").note


def test_an_image_that_is_met_exactly_is_said(tmp_path):
    fabricate.quality(tmp_path, "imdn", "published", "Set5", [float("inf"), 31.0, 32.0, 33.0, 34.0])
    psnr, ssim = (found(tmp_path, evaluating(), "imdn", f"set5_{each}") for each in ("psnr", "ssim"))
    assert psnr.measured == float("inf")
    assert psnr.verdict == "contradicted"
    assert psnr.remarks == ("PSNR of 1 image is infinite (SR equals HR); the mean of the others is 32.500 dB",)
    assert psnr.remarks[0] in psnr.note
    assert ssim.remarks == ()


# --- Weights that are not the print's --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Departing:
    """Published weights of which their source says that they are others than the print's."""

    remote: Any
    departs: str = "trained anew after the paper"


@pytest.mark.parametrize(
    ("weights", "verdict"),
    [
        (None, "not comparable"),
        ({"file": "weights/CARN.pth", "sha256": "b"}, "not comparable"),
        ({"file": "weights/carn_m_x4.pth", "sha256": "a" * 64}, "not comparable"),  # the same file by another name
        ({"file": "weights/carn_m_x4.pth", "sha256": "b"}, "rounding"),  # the user's own
    ],
)
def test_weights_that_depart_from_the_print_are_not_comparable(tmp_path, monkeypatch, weights, verdict):
    remote = SimpleNamespace(name="CARN.pth", sha256="a" * 64, size=None, host="a host")
    monkeypatch.setattr(published_weights, "find", lambda network, scale: Departing(remote))
    fabricate.quality(tmp_path, "carn_m", "published", "Set5", [31.92] * 5)  # as printed
    if weights:
        fabricate.evaluation(tmp_path, "carn_m", "published", weights=weights)
    cell = found(tmp_path, evaluating(), "carn_m", "set5_psnr")
    assert cell.published == "31.92"
    assert cell.verdict == verdict
    assert ("trained anew after the paper" in cell.note) == (verdict == "not comparable")
    assert cell.origin == "published weights"


def test_carn_m_departs_by_what_its_authors_say(tmp_path):
    """The fact stands with the file; networks whose authors say nothing of the kind are judged."""
    for network, scores in (("carn_m", [31.92] * 5), ("imdn", [32.21] * 5)):
        fabricate.quality(tmp_path, network, "published", "Set5", scores)
    cells_found = {name: found(tmp_path, evaluating(), name, "set5_psnr") for name in ("carn_m", "imdn")}
    assert cells_found["carn_m"].verdict == "not comparable"
    assert published_weights.find("carn_m", 4).departs in cells_found["carn_m"].note
    assert cells_found["imdn"].verdict == "rounding"


# --- The older protocol ----------------------------------------------------------------------------------------------

SET14 = {  # scale -> printed, present protocol, legacy with bridge as it is, legacy with bridge converted
    2: (("30.24", "0.8688"), (30.327, 0.8700), (30.2318, 0.8687), (30.3259, 0.8694)),
    3: (("27.55", "0.7742"), (27.632, 0.7759), (27.5405, 0.7736), (27.6347, 0.7750)),
    4: (("26.00", "0.7027"), (26.090, 0.7049), (26.0001, 0.7019), (26.0944, 0.7037)),
}


@pytest.mark.parametrize("scale", SET14)
def test_the_bicubic_row_is_explained_by_single_channel_files(tmp_path, scale):
    """An independent computation in double precision; SSIM keeps a rest at x3 and x4."""
    printed, present, legacy, converted = SET14[scale]
    study = evaluating("Set14", scales=[2, 3, 4])
    fabricate.quality(tmp_path, "bicubic", "published", "Set14", [present[0]] * 14, present[1], scale)
    before = [found(tmp_path, study, "bicubic", f"set14_{metric}", scale) for metric in ("psnr", "ssim")]
    assert [(each.published, each.verdict) for each in before] == [(text, "contradicted") for text in printed]
    fabricate.quality(tmp_path, "bicubic", "legacy", "Set14", [legacy[0]] * 14, legacy[1], scale)
    grey = {"images": ["bridge"], "psnr": legacy[0], "ssim": legacy[1]}
    grey |= {"psnr_converted": converted[0], "ssim_converted": converted[1]}
    fabricate.evaluation(tmp_path, "bicubic", "legacy", scale, grey={"Set14": grey})
    psnr, ssim = (found(tmp_path, study, "bicubic", f"set14_{metric}", scale) for metric in ("psnr", "ssim"))
    assert (psnr.verdict, ssim.verdict, psnr.origin) == ("explained", "explained", "measured")
    assert psnr.measured == pytest.approx(present[0])  # the cell keeps the present protocol's number
    for part in (f"{legacy[0]:.3f} dB", "bridge", "0 to 255", f"{converted[0]:.3f} dB"):
        assert part in psnr.note
    for part in (f"{legacy[1]:.4f}", "bridge", f"{converted[1]:.4f}"):
        assert part in ssim.note
    rest = legacy[1] - float(printed[1])
    assert ("a difference of" in ssim.note) == (scale > 2)
    assert scale == 2 or f"a difference of {rest:+.4f} remains, while PSNR agrees" in ssim.note
    assert "a difference of" not in psnr.note


def test_without_single_channel_files_none_is_named(tmp_path):
    fabricate.quality(tmp_path, "bicubic", "published", "Set5", [28.431] * 5, 0.8113)
    fabricate.quality(tmp_path, "bicubic", "legacy", "Set5", [28.4207] * 5, 0.81037)
    for facts in ({}, {"grey": {"Set5": {"images": []}}}, {"grey": {"Set14": {"images": ["bridge"]}}}):
        fabricate.evaluation(tmp_path, "bicubic", "legacy", **facts)
        for column in ("set5_psnr", "set5_ssim"):
            cell = found(tmp_path, evaluating(), "bicubic", column)
            assert cell.verdict == "explained"
            assert "channel" not in cell.note


@pytest.mark.parametrize(
    ("psnr", "ssim", "metric", "expected"),
    [
        (26.00, 0.70171, "ssim", "explained"),  # 0.001 to either side
        (26.00, 0.70169, "ssim", "contradicted"),
        (26.00, 0.70369, "ssim", "explained"),
        (26.00, 0.70371, "ssim", "contradicted"),
        (26.0101, 0.7020, "ssim", "contradicted"),  # PSNR of the row does not agree, so nothing is explained
        (26.0101, 0.7026, "ssim", "explained"),  # SSIM agrees by itself
        (26.01, 0.7027, "psnr", "explained"),  # PSNR may keep no rest
        (26.0101, 0.7027, "psnr", "contradicted"),
    ],
)
def test_how_much_the_older_protocol_may_leave(tmp_path, psnr, ssim, metric, expected):
    fabricate.quality(tmp_path, "bicubic", "published", "Set14", [26.09] * 14, 0.7049)
    fabricate.quality(tmp_path, "bicubic", "legacy", "Set14", [psnr] * 14, ssim)
    assert found(tmp_path, evaluating("Set14"), "bicubic", f"set14_{metric}").verdict == expected


# --- The authors' own metric -----------------------------------------------------------------------------------------


def test_smsr_is_explained_by_its_authors_metric(tmp_path):
    study = evaluating("Set14", scales=[2])
    fabricate.quality(tmp_path, "smsr", "published", "Set14", [33.6243] * 14, 0.91789, 2)
    assert found(tmp_path, study, "smsr", "set14_psnr", 2).verdict == "contradicted"
    text = "LR cropped to even sides, Y divided by 255"
    metric = {"Set14": {"psnr": 33.6232, "ssim": 0.91769, "text": text}}
    fabricate.evaluation(tmp_path, "smsr", "published", 2, authors_metric=metric)
    psnr, ssim = (found(tmp_path, study, "smsr", f"set14_{each}", 2) for each in ("psnr", "ssim"))
    assert (psnr.published, psnr.verdict, ssim.verdict) == ("33.64", "explained", "rounding")
    assert "33.623 dB, -0.0168 from the published value" in psnr.note
    assert text in psnr.note
    for value, expected in ((33.62, "explained"), (33.6199, "contradicted"), (None, "contradicted")):
        metric["Set14"]["psnr"] = value
        fabricate.evaluation(tmp_path, "smsr", "published", 2, authors_metric=metric)
        assert found(tmp_path, study, "smsr", "set14_psnr", 2).verdict == expected
