"""A single target: what it leaves is said, not what it does not leave; names with spaces; the border of LR."""

from safmn.data import packed
from tests.data.pictures import edsr_folder


def test_one_packed_dataset_with_a_space_in_its_name(tmp_path, micro, snakemake):
    edsr_folder(tmp_path / "data sets" / "my photos", {"a 1": (96, 72), "b": (80, 80)})
    data = {"root": str(tmp_path / "data sets"), "border": "clamped", "test": ["my photos[:1]"]}
    file = micro(data={"train": ["photographs[:1]"], "validation": ["photographs[1:2]"]} | data)
    told = snakemake("results/micro/data/my photos/x4/index.json", "--configfile", file)
    assert told.returncode == 0, told.stdout + told.stderr
    dataset = packed.open_pairs(tmp_path / "results/micro/data/my photos/x4", 4)
    assert dataset.names == ["a 1", "b"]
    assert dataset.lr_summary == {"origin": "made", "folder": "", "border": "clamped", "made": 2}
    assert "report.html" not in told.stdout + told.stderr
    told = snakemake("results/micro/quality/bicubic/x4/published/my photos.csv", "--configfile", file)
    assert told.returncode == 0, told.stdout + told.stderr
    assert (tmp_path / "results/micro/quality/bicubic/x4/published/evaluation.json").is_file()
    assert not (tmp_path / "results/micro/report.html").exists()
    assert "report.html" not in told.stdout + told.stderr
