"""What one job does for many: networks counted in one process, commands run one after the other in one."""

import json
from pathlib import Path

import pytest

from safmn.cli import main
from safmn.cost import complexity
from safmn.networks import variants


@pytest.fixture
def count(tmp_path, monkeypatch):
    """Counts as the rule does; returns the exit status and the names of the networks that were traced."""
    monkeypatch.setenv("SAFMN_ABLATIONS", str(tmp_path / "ablations"))
    (tmp_path / "ablations").mkdir()
    (tmp_path / "ablations/mine.yaml").write_text('{title: "M", description: "m", network: {dim: 8, n_blocks: 1}}')

    def run(*names: str) -> tuple[int, set[str]]:
        variants._discover.cache_clear()
        traced, trace = set(), complexity.trace
        with monkeypatch.context() as patch:
            patch.setattr(complexity, "trace", lambda name, scale: traced.add(name) or trace(name, scale))
            arguments = ["--scale", "all", "--check", "--keep", "--out", str(tmp_path / "counts")]
            status = main(["complexity", *names, *arguments, "--record", str(tmp_path / "record.json")])
        return status, traced

    return run


def test_only_what_changed_is_counted_again(count, tmp_path):
    assert count("espcn", "mine") == (0, {"espcn", "mine"})
    record = (tmp_path / "record.json").read_bytes()
    assert json.loads(record).keys() == {"espcn", "mine"}
    files = {name: tmp_path / f"counts/{name}.json" for name in ("espcn", "mine")}
    assert {name: json.loads(file.read_text())["network"] for name, file in files.items()} == {
        "espcn": "espcn",
        "mine": "mine",
    }
    (tmp_path / "record.json").unlink()
    assert count("espcn", "mine") == (0, set())
    assert (tmp_path / "record.json").read_bytes() == record

    (tmp_path / "ablations/mine.yaml").write_text('{title: "M", description: "m", network: {dim: 12, n_blocks: 1}}')
    before = files["mine"].read_bytes()
    assert count("espcn", "mine") == (0, {"mine"})
    assert files["mine"].read_bytes() != before
    assert (tmp_path / "record.json").read_bytes() != record  # the tables are made again

    files["espcn"].write_text("{")
    assert count("espcn", "mine") == (0, {"espcn"})
    content = json.loads(files["espcn"].read_text())
    files["espcn"].write_text(json.dumps(content | {"scales": {"2": content["scales"]["2"]}}))
    assert count("espcn") == (0, {"espcn"})  # it was counted at one scale alone


def test_one_that_is_wrong_takes_none_along(count, tmp_path, capsys):
    """The others' counts stay, its own goes, and nothing says that all is counted."""
    (tmp_path / "ablations/no_fm.yaml").write_text(
        '{title: "x", description: "x", rows: {3: "(a): w/o FM"}, network: {dim: 8, n_blocks: 1}}'
    )
    (tmp_path / "ablations/odd.yaml").write_text('{title: "x", description: "x", network: {dim: 7, n_blocks: 1}}')
    (tmp_path / "counts").mkdir()
    (tmp_path / "counts/no_fm.json").write_text("{}")
    status, _ = count("odd", "no_fm", "mine")
    assert status == 2
    assert [file.name for file in (tmp_path / "counts").iterdir()] == ["mine.json"]
    assert not (tmp_path / "record.json").exists()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no_fm does not match" in said
    assert "odd.yaml" in said


def test_commands_in_one_process(capsys):
    """One after the other, until one fails; a word that happens to be `then` is no end of a command."""
    network = ["memory", "espcn", "--scale", "2", "--height", "8", "--width", "8"]
    assert main([*network, "then", "complexity", "espcn", "--scale", "2"]) == 0
    said = capsys.readouterr().out
    assert said.index("predicted") < said.index("params")
    assert main(["complexity", "then", "then", "complexity", "espcn"]) == 2
    told = capsys.readouterr()
    assert "there is no network 'then'" in told.err
    assert told.out == ""


def test_the_state_of_a_study_is_begun_and_ended(tmp_path, monkeypatch):
    """From the start of Snakemake until the tables are made, nothing says that they are those of a finished study."""
    from safmn.planning.jobs import Jobs
    from safmn.study import Study
    from tests.workflow.conftest import MICRO

    monkeypatch.chdir(tmp_path)
    jobs = Jobs(Study.from_content(MICRO, "micro.yaml"))
    folder = Path("results/micro")
    folder.mkdir(parents=True)
    (folder / "finished").touch()
    jobs.begin()
    assert [file.name for file in folder.iterdir()] == ["study.json"]
    assert json.loads((folder / "study.json").read_text()) == jobs.study.content
