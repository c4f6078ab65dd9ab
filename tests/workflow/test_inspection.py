"""Networks are looked into as part of the DAG; tests/workflow/test_stale.py says when they are again."""

import pytest

from safmn import paths
from safmn.errors import UserError
from safmn.inspection import record, subjects
from safmn.study import Study
from tests.workflow.conftest import MICRO

TARGET = "results/micro/inspection/bicubic/x4/published.json"
UNTRAINED = {"training": None, "variants": ["safmn"], "data": {"test": ["photographs[1:2]"]}}


def test_a_network_is_looked_into(snakemake, micro, tmp_path):
    study = micro(**UNTRAINED)
    told = snakemake(TARGET, "--configfile", study)
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-3000:]
    found = record.read(tmp_path / TARGET)
    record.check(found)
    assert found.numbers["crops"][0]["image"] == "chelsea"
    assert found.arrays["crop0_sr"].shape == (48, 48, 3)


def test_what_the_study_trains_and_what_needs_no_weights_is_looked_into(snakemake, micro):
    told = snakemake("--dry-run", "--configfile", micro(networks=["bicubic", "imdn"]))
    looked = {line.split("Inspect ")[1].split(",")[0] for line in told.stdout.splitlines() if "Inspect " in line}
    assert looked == {"bicubic x4", "safmn x4", "no_fm x4"}  # IMDN's weights are not at hand


def test_mini_looks_into_few():
    """A few seconds a network are affordable, for all 25 variants they are not."""
    study = Study.load(paths.ROOT / "config" / "mini.yaml")
    found = subjects.subjects(study)
    assert [each.network for each in found] == ["bicubic", *study.figures.networks]
    assert len(found) <= 4
    assert [each["image"] for each in subjects.scenes(study, study.data.test)] == ["chelsea", "coffee"]


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"networks": ["safmnn"]}, ("figures.networks", "safmnn")),
        ({"scenes": [{"test": "Set5", "image": "baby"}]}, ("figures.scenes", "Set5", "data.test")),
        ({"scale": 3}, ("figures.scale", "3", "scales (4)")),
        ({"scenes": [{"image": "baby"}]}, ("figures.scenes.0", "test")),
        ({"steps": 0}, ("figures.steps",)),
    ],
)
def test_a_mistake_is_refused_by_name(figures, words):
    with pytest.raises(UserError) as told:
        Study.from_content(MICRO | {"figures": figures}, "micro.yaml")
    assert all(word in str(told.value) for word in ("micro.yaml", *words))
