"""A study as an RO-Crate: read back by the reader of the `rocrate` package, and file by file."""

import contextlib
import getpass
import hashlib
import html
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from rocrate.rocrate import ROCrate

from safmn import paths, provenance
from safmn.archive import crate
from safmn.archive import study as archive
from safmn.archive.redaction import redactor
from safmn.cli import main
from safmn.errors import UserError
from safmn.study import Study
from tests import small_study

CRATE = "https://w3id.org/ro/crate/1.1"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5",
    "https://w3id.org/ro/wfrun/workflow/0.5",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0",
}


@pytest.fixture
def made(small):
    """The folder in which a study was run; its tables are rendered."""
    return small


@pytest.fixture
def crate_folder(small):
    return small / "whole"


def archived(folder, out, *options):
    """The archive of the study that was run in `folder`."""
    with contextlib.chdir(folder):
        small_study.safmn("archive", "--study", "results/small/study.json", "--out", out, *options)
    return folder / out


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """A copy of the study's results as the present folder."""
    shutil.copytree(made / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def graph(folder):
    content = json.loads((folder / "ro-crate-metadata.json").read_text(encoding="utf-8"))
    return {entity["@id"]: entity for entity in content["@graph"]}


def types(entity):
    return set(entity["@type"]) if isinstance(entity["@type"], list) else {entity["@type"]}


def references(value):
    """The ids that a property refers to."""
    return [each["@id"] for each in (value if isinstance(value, list) else [value])]


# --- what the profile asks for ---


def test_the_crate_follows_its_profiles(crate_folder):
    entities = graph(crate_folder)
    descriptor, root = entities["ro-crate-metadata.json"], entities["./"]
    assert references(descriptor["about"]) == ["./"]
    assert CRATE in references(descriptor["conformsTo"])
    assert set(references(root["conformsTo"])) == PROFILES
    assert all(types(entities[url]) == {"CreativeWork"} and entities[url]["version"] for url in PROFILES)
    context = json.loads((crate_folder / "ro-crate-metadata.json").read_text())["@context"]
    assert context == [f"{CRATE}/context", "https://w3id.org/ro/terms/workflow-run/context"]
    assert types(root) == {"Dataset"}
    assert all(isinstance(root[key], str) and root[key] for key in ("name", "description", "datePublished"))
    assert references(root["license"]) == ["https://spdx.org/licenses/Apache-2.0"]
    assert references(root["mainEntity"]) == ["Snakefile"]
    assert references(root["mentions"]) == ["#run"]


def test_the_readers_own_reader_finds_workflow_and_run(crate_folder):
    crate = ROCrate(crate_folder)
    workflow = crate.mainEntity
    assert set(workflow.type) == {"File", "SoftwareSourceCode", "ComputationalWorkflow"}
    assert workflow["programmingLanguage"]["name"] == "Snakemake"
    assert workflow["license"].id == "https://spdx.org/licenses/Apache-2.0"
    (run,) = crate.get_by_type("CreateAction")
    assert run["instrument"] is workflow
    assert "results/small/study.json" in {each.id for each in run["object"]}
    assert "ablations/ccm_none.yaml" in {each.id for each in run["object"]}
    results = {each.id for each in run["result"]}
    for name in ("cells.csv", "report.html", "provenance.json", "tables/table3.tex", f"{small_study.RUN}/history.csv"):
        assert f"results/small/{name}" in results
    assert any(name.startswith("results/small/figures/") for name in results)
    assert run["actionStatus"] == "http://schema.org/CompletedActionStatus"
    parameters = {each["name"] for side in ("input", "output") for each in _as_list(workflow[side])}
    assert parameters == {"study", "variants", "images", "results"}
    assert {each["exampleOfWork"]["name"] for each in [*run["object"], *run["result"]]} == parameters


def _as_list(value):
    return value if isinstance(value, list) else [value]


def test_the_run_has_the_times_of_its_results(made, crate_folder):
    record = json.loads((made / "results/small/provenance.json").read_text())
    run = graph(crate_folder)["#run"]
    assert run["startTime"] == record["started"]
    assert run["startTime"] < run["endTime"]
    assert graph(crate_folder)["./"]["datePublished"] == run["endTime"]


def test_data_is_named_by_the_digest_of_its_manifest_and_not_passed_on(made, crate_folder):
    manifest = json.loads((made / "results/small/data/mine/x4/manifest.json").read_text())
    data = graph(crate_folder)["#data-mine-x4"]
    assert data["value"] == f"sha256:{manifest['digest']}"
    assert "#data-mine-x4" in references(graph(crate_folder)["#run"]["object"])
    assert not list(crate_folder.rglob("pixels.u8"))
    assert (crate_folder / "results/small/data/mine/x4/manifest.json").is_file()


def test_software_is_named_with_versions(crate_folder):
    import platform

    import torch

    entities = graph(crate_folder)
    named = [entities[each] for each in references(entities["Snakefile"]["softwareRequirements"])]
    versions = {each["name"]: each["softwareVersion"] for each in named}
    assert versions["PyTorch"] == torch.__version__
    assert versions["Python"] == platform.python_version()
    assert versions["Snakemake"]
    commit = provenance.code()["code_commit"]
    if commit:
        assert commit in entities["Snakefile"]["identifier"]


def test_every_reference_leads_somewhere(crate_folder):
    entities = graph(crate_folder)

    text = (crate_folder / "ro-crate-metadata.json").read_text(encoding="utf-8")
    referred = set(re.findall(r'\{\s*"@id": "([^"]*)"\s*\}', text))
    assert {name for name in referred if not name.startswith("http")} <= entities.keys()
    assert len(referred) > 50


# --- the files ---


def test_every_listed_file_is_there_with_its_size_and_hash_and_no_other(crate_folder):
    entities = graph(crate_folder)
    files = {name: entity for name, entity in entities.items() if "File" in types(entity)}
    for name, entity in files.items():
        data = (crate_folder / name).read_bytes()
        assert entity["contentSize"] == str(len(data)), name
        assert entity["sha256"] == hashlib.sha256(data).hexdigest(), name
        assert "/" in entity["encodingFormat"]
    there = {file.relative_to(crate_folder).as_posix() for file in crate_folder.rglob("*") if file.is_file()}
    assert there == set(files) | {"ro-crate-metadata.json"}
    assert set(references(entities["./"]["hasPart"])) == set(files)


def test_results_go_in_byte_for_byte(made, crate_folder):
    for file in (made / "results/small").rglob("*"):
        if file.suffix in (".csv", ".png", ".tex", ".safetensors") and file.is_file():
            copy = crate_folder / "results/small" / file.relative_to(made / "results/small")
            assert copy.read_bytes() == file.read_bytes()


def test_the_archive_can_be_run(crate_folder, tmp_path):
    """Its Snakefile, rules, code and variants are all that a dry run needs; the study is the one that was asked."""
    shutil.copytree(crate_folder, tmp_path / "crate")
    study = Study.load(tmp_path / "crate/results/small/study.json")
    assert study.variants == ["ccm_none"]
    assert study.training == Study.load(crate_folder.parent / "small.yaml").training
    for name, file in provenance.source_files().items():
        assert (tmp_path / "crate" / name).read_bytes() == file.read_bytes()
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1"]
    command += [
        "--configfile",
        "results/small/study.json",
        "--config",
        f"data_root={crate_folder.parent}/home/somebody",
    ]
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "SAFMN_ABLATIONS")}
    told = subprocess.run(
        command, cwd=tmp_path / "crate", env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "train" in told.stdout


@pytest.mark.parametrize(
    ("choice", "names"),
    [("none", set()), ("best", {"best"}), ("all", {"best", "last", "last_raw"})],
)
def test_weights_are_ones_own_choice(place, choice, names):
    archive.write(Study.load("results/small/study.json"), Path("results/small"), Path("x"), choice)
    assert {file.stem for file in Path("x").rglob("*.safetensors")} == names


def test_nothing_of_the_machine_or_its_users_is_inside(made, crate_folder):
    own = [str(made), str(Path.home()), str(paths.ROOT), "somebody", socket.gethostname(), getpass.getuser()]
    # Short names, such as root or vm, are ordinary words: they count as part of a path only.
    own = [word if len(word) > 6 or "/" in word else f"/{word}/" for word in own]
    for file in crate_folder.rglob("*"):
        if file.is_file():
            name = file.relative_to(crate_folder)
            if name.parts[0] == "results" or file.name == "ro-crate-metadata.json":
                data = file.read_bytes()
                assert not [word for word in own if word.encode() in data], name


def test_the_same_results_give_the_same_bytes(place):
    study, folder = Study.load("results/small/study.json"), Path("results/small")
    archive.write(study, folder, Path("first.zip"))
    shutil.copytree("results", "later/results")  # other times of files
    os.chdir("later")
    archive.write(study, folder, Path("second.zip"))
    assert Path("second.zip").read_bytes() == Path("../first.zip").read_bytes()


def test_zip_and_folder_hold_the_same(place, capsys):
    for out in ("x.zip", "x"):
        assert main(["archive", "--study", "results/small/study.json", "--out", out, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["missing"] == []
    with zipfile.ZipFile("x.zip") as packed:
        assert packed.testzip() is None
        names = packed.namelist()
        assert names[0] == "ro-crate-metadata.json"
        assert len(names) == told["files"]
        for name in names:
            assert packed.read(name) == (Path("x") / name).read_bytes()
    assert ROCrate("x.zip").mainEntity.id == "Snakefile"
    assert sorted(each.name for each in Path().iterdir()) == ["results", "x", "x.zip"]


def test_an_author_is_named_if_asked(place):
    archive.write(Study.load("results/small/study.json"), Path("results/small"), Path("x"), author="Ada Lovelace")
    entities = graph(Path("x"))
    assert references(entities["#run"]["agent"]) == ["#author"]
    assert entities["#author"] == {"@id": "#author", "@type": "Person", "name": "Ada Lovelace"}


# --- unfinished, damaged, refused ---


def test_an_unfinished_study_says_what_is_missing(place, capsys):
    shutil.rmtree("results/small/training")
    shutil.rmtree("results/small/tables")
    Path("results/small/cost/memory.json").unlink()
    assert main(["archive", "--study", "results/small/study.json", "--out", "x"]) == 0
    assert "missing: cost/memory.json: not measured yet" in capsys.readouterr().out
    entities = graph(Path("x"))
    for told in (entities["./"]["description"], entities["#run"]["description"]):
        assert told.count("UNFINISHED: 3 files") == 1
        assert all(name in told for name in (f"{small_study.RUN}/run.json", "cost/memory.json", "tables/table1.md"))
    assert "actionStatus" not in entities["#run"]
    record = json.loads(Path("x/results/small/provenance.json").read_text())
    assert {each["file"] for each in record["missing"]} == {f"{small_study.RUN}/run.json", "cost/memory.json"}


def test_a_failed_run_is_a_failed_action(place):
    run = Path("results/small") / small_study.RUN
    (run / "run.json").unlink()
    (run / "failure.txt").write_text("cannot read /home/grace/images/a.png\n")
    archive.write(Study.load("results/small/study.json"), Path("results/small"), Path("x"))
    action = graph(Path("x"))["#run"]
    assert action["actionStatus"] == "http://schema.org/FailedActionStatus"
    assert "cannot read" in action["error"]
    for file in Path("x").rglob("*"):
        assert not file.is_file() or b"grace" not in file.read_bytes(), file


def test_folders_are_taken_out_of_texts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = Study.from_content(small_study.content(Path("/data/of")), "small.yaml")
    redact = redactor(study, Path("/scratch/ada/results"))
    assert redact("cannot read /data/of/home/somebody/Set5/a.png") == "cannot read [data root]/Set5/a.png"
    assert redact("/scratch/ada/results/x.csv") == "[results]/x.csv"
    assert redact('"/home/grace/x", /Users/alan/y') == '"[home]/x", [home]/y'
    assert redact("file:///scratch/ada/results/x, file:///home/grace/x") == "file://[results]/x, file://[home]/x"
    assert redact(f"{paths.ROOT}/safmn") == "[project]/safmn"
    for harmless in ("results/data/of/home/somebody", "https://example.org/data/of/home/x", "a/b", "1/2"):
        assert redact(harmless) == harmless


DOWNLOADS = {
    "outside of home": "/mnt/ada/SR images",
    "in home": "~/ada/SR images",
    "relative": "../ada/SR_images",
    "relative, one name": "ada-downloads",
    "signs": '/mnt/Ada & André\'s "files"/été_1',
}


@pytest.mark.parametrize("spelled", DOWNLOADS.values(), ids=DOWNLOADS)
@pytest.mark.parametrize("section", ["data", "weights"])
def test_the_folder_of_downloads_gets_into_no_archive(place, monkeypatch, section, spelled):
    """Wherever a record may name it: as it was spelled or absolute, as plain text, JSON, HTML, TeX or an address."""
    monkeypatch.setenv("HOME", str(place / "home of ada"))
    content = json.loads(Path("results/small/study.json").read_text())
    content[section]["download"] = spelled
    given = Path(spelled).expanduser()
    folders = {spelled, str(given.absolute()), os.path.abspath(given), os.path.realpath(given)}
    texts = [f"cannot read {folder}/DIV2K/0001.png: it's gone" for folder in folders]
    texts += [f"first line\n{text}" for text in texts]
    (Path("results/small") / small_study.RUN / "run.json").unlink()
    (Path("results/small") / small_study.RUN / "failure.txt").write_text(" ; ".join(texts))
    for escaped in (True, False):
        file = Path(f"results/small/cost/said_{escaped}.json")
        file.write_text(json.dumps({"said": texts}, ensure_ascii=escaped), encoding="utf-8")
    page = "".join(f"<p>{html.escape(text)}</p>" for text in texts)
    page += "".join(f'<a href="file://{quote(str(Path(folder).absolute()))}/DIV2K">' for folder in folders)
    Path("results/small/report.html").write_text(page, encoding="utf-8")
    tex = " ".join(re.sub("([_&])", r"\\\1", text) for text in texts)
    Path("results/small/tables/table1.tex").write_text(tex, encoding="utf-8")
    archive.write(Study.from_content(content, "small.yaml"), Path("results/small"), Path("x"))
    told = 0
    for file in Path("x").rglob("*"):
        if file.is_file() and file.suffix != ".safetensors":
            text = file.read_bytes().decode("utf-8", "replace")
            for form in (text, html.unescape(text), unquote(text), text.replace("\\", ""), _decoded(text)):
                assert not re.search("ada[/-]|Ada &|SR.images|été", form), (file, form)
            told += len(re.findall(r"\[(?:downloads|downloaded weights)\]\\*/DIV2K", text))
    assert told >= 6 * len(folders)  # what was taken out is named, and what follows it is still there


def _decoded(text):
    try:
        return json.dumps(json.loads(text), ensure_ascii=False)
    except ValueError:
        return text


def test_words_that_are_no_folder_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = small_study.content(tmp_path)
    content["data"]["download"] = "data"
    redact = redactor(Study.from_content(content, "small.yaml"), Path("results/small"))
    for text in ("data/mine/x4/manifest.json", "figures/figure1.svg", "the data are there"):
        assert redact(text) == text
    content["data"]["download"] = "pictures"
    redact = redactor(Study.from_content(content, "small.yaml"), Path("results/small"))
    assert redact("pictures of pictures/DIV2K") == "pictures of [downloads]/DIV2K"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--study", "nowhere.yaml", "--out", "x"], ["nowhere.yaml"]),
        (["--study", "results/small/study.json", "--results", "empty", "--out", "x"], ["empty", "no result"]),
        (["--study", "results/small/study.json", "--out", "results"], ["results", "exists already"]),
        (["--study", "results/small/study.json", "--out", "folder.zip"], ["folder.zip", "is a folder"]),
        (["--study", "results/small/study.json", "--out", "file/x"], ["file/x", "cannot write"]),
        (["--study", "results/small/study.json", "--results", "file", "--out", "x"], ["file", "not a folder"]),
    ],
)
def test_mistakes_are_one_line(place, capsys, arguments, words):
    Path("empty").mkdir()
    Path("folder.zip").mkdir()
    Path("file").write_text("")
    assert main(["archive", *arguments]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert all(word in told[0] for word in words), told
    assert not Path("x").exists()
    assert not list(Path().glob(".*"))


def test_without_rocrate_a_line_says_what_to_install(place, capsys, monkeypatch):
    monkeypatch.setattr(crate, "find_spec", lambda name: None)
    assert main(["archive", "--study", "results/small/study.json", "--out", "x"]) == 2
    assert "pip install safmn-harness[archive]" in capsys.readouterr().err
    assert not Path("x").exists()


def test_what_cannot_be_finished_leaves_nothing(place, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive, "_zip", full)
    with pytest.raises(UserError, match=r"x\.zip: No space left"):
        archive.write(Study.load("results/small/study.json"), Path("results/small"), Path("x.zip"))
    assert sorted(each.name for each in Path().iterdir()) == ["results"]


def test_weights_that_are_gone_are_named(place):
    (Path("results/small") / small_study.RUN / "best.safetensors").unlink()
    told = archive.write(Study.load("results/small/study.json"), Path("results/small"), Path("x"), "best")
    assert [each["file"] for each in told["missing"]] == [f"{small_study.RUN}/best.safetensors"]
