"""What one study has packed serves another one, through Snakemake's cache between workflows."""

import yaml

from safmn.data import manifest
from tests.workflow.conftest import MICRO


def test_another_study_links_what_was_packed_before_and_scales_stay_apart(snakemake, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in ("one", "two"):
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(MICRO | {"name": name, "scales": [2, 4]}))
        targets = [f"results/{name}/data/photographs/x{scale}/index.json" for scale in (2, 4)]
        words = ("--configfile", file, "--cache", "pack", "--", *targets)
        told = snakemake(*words, SNAKEMAKE_OUTPUT_CACHE=str(cache))
        assert told.returncode == 0, told.stdout[-2000:] + told.stderr[-2000:]
    for name, packed in (("one", 2), ("two", 0)):  # the log of a job that was not run is empty
        logs = (tmp_path / f"results/{name}/logs/pack").glob("*.log")
        assert sum(bool(log.read_text()) for log in logs) == packed
    one, two = (manifest.digests(tmp_path / "results" / name) for name in ("one", "two"))
    assert one == two
    assert one["photographs/x2"] != one["photographs/x4"]
    assert len(list(cache.iterdir())) == 2 * 3
