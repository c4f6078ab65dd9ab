"""The paper's cells as they are read, against the files read by hand."""

import csv
import subprocess
import sys
from collections import Counter

import pytest

from safmn import networks
from safmn.errors import UserError
from safmn.networks.registry import Network
from safmn.paper import NUMBERS, published

ALL = networks.all_networks().values()


def own(rows, name="mine"):
    return Network(name, name, lambda scale: None, rows=rows)


@pytest.mark.parametrize(("table", "labels"), [(1, 2), (2, 1), (3, 2), (4, 1), (5, 1)])
def test_every_number_of_the_files_is_a_cell(table, labels):
    with open(NUMBERS / f"table{table}.csv", encoding="utf-8", newline="") as handle:
        _, *lines = csv.reader(handle)
    assert len(published.printed(table)) == sum(bool(field) for line in lines for field in line[labels:])


def test_prints_keep_their_digits():
    cells = {(each.table, each.label, each.scale, each.column): each for each in published.cells(ALL)}
    residual = cells[3, "CCM → Inverted residual block", 4, "activations"]
    assert (residual.printed, residual.unit, residual.value, residual.network) == (
        "110.00",
        "M",
        110.0,
        "inverted_residual",
    )
    assert cells[3, "-", 4, "div2k_val_ssim"].printed == "0.8372"
    assert cells[1, "IMDN", 2, "params"].printed == "694"
    assert cells[2, "SAFMN", 4, "gpu_memory"].unit == "MiB"
    assert cells[2, "LAPAR-A", 4, "runtime"].printed == "24.91"
    assert (cells[4, "12", 4, "manga109_psnr"].network, cells[4, "12", 4, "manga109_psnr"].unit) == ("blocks_12", "dB")


def test_table_5_is_one_row_of_operations():
    cells = published.cells(ALL, (5,))
    assert {each.network for each in cells if networks.info(each.network).rows.get(3) == "-"} == {"safmn"}
    found = {each.column: each.printed for each in published.printed(5)}
    assert found == {
        "layernorm": "46.5",
        "channel_splitting": "133",
        "adaptive_maxpool": "85",
        "nearest_interpolation": "24",
        "elementwise_product": "156",
        "elementwise_addition": "193",
    }


def test_every_row_of_the_paper_has_a_network():
    claimed = {(each.table, each.label) for each in published.cells(ALL)}
    assert {(table, each.label) for table in published.TABLES for each in published.printed(table)} == claimed


def test_cells_come_in_the_order_of_print():
    order = list(dict.fromkeys(each.label for each in published.printed(3)))
    labels = list(dict.fromkeys(each.label for each in published.cells(ALL, (3,))))
    assert labels == order
    assert [each.table for each in published.cells(ALL)] == sorted(each.table for each in published.cells(ALL))


def test_counts_are_told_from_measurements():
    found = Counter(each.is_count for each in published.printed(1))
    assert found[True] == 123
    assert not any(each.is_count for table in (2, 5) for each in published.printed(table))


def test_a_row_can_have_several_networks_or_none():
    first, second = own({4: "6"}, "first"), own({4: "6"}, "second")
    assert {each.network for each in published.cells([first, second])} == {"first", "second"}
    assert published.cells([own({})]) == []


@pytest.mark.parametrize(
    ("rows", "said"), [({3: "w/o all"}, "Table 3 of the paper has no row 'w/o all'"), ({7: "SAFMN"}, "Tables 1 to 5")]
)
def test_claims_that_the_paper_does_not_have(rows, said):
    with pytest.raises(UserError, match=said):
        published.of(own(rows))


def test_a_damaged_number_is_named(tmp_path, monkeypatch):
    (tmp_path / "table4.csv").write_text("n_blocks,params_k\n4,128.06\n6,18x.79\n", encoding="utf-8")
    monkeypatch.setattr(published, "NUMBERS", tmp_path)
    with pytest.raises(UserError, match=r"table4.csv, line 3, params_k: '18x.79' is not a number"):
        published.printed(4)
    with pytest.raises(UserError, match=r"table2.csv is not readable"):
        published.printed(2)


def test_the_paper_needs_no_other_room():
    """Neither networks nor a study, nor the packages that they bring along."""
    read = "import sys; from safmn.paper import cell, claims, published, statistics, verdicts; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    rooms = {name for name in loaded if name.startswith("safmn.") and not name.startswith("safmn.paper")}
    assert rooms <= {"safmn.errors", "safmn.files", "safmn.paths", "safmn.configuration"}
    assert not {"torch", "matplotlib", "pandas"} & loaded
