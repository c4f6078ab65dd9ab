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
    assert list((tmp_path / "results/one/logs/pack").glob("*.log"))
    assert not list((tmp_path / "results/two/logs").rglob("*.log"))
    one, two = (manifest.digests(tmp_path / "results" / name) for name in ("one", "two"))
    assert one == two
    assert one["photographs/x2"] != one["photographs/x4"]
    assert len(list(cache.iterdir())) == 2 * 3
