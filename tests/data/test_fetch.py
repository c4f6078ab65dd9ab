"""`safmn fetch` from a server that holds the sources' archives, made from small images, and the authors' weights."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from safmn import cli, files, networks, progress
from safmn.data import bicubic, catalogue, fetching, images, sources
from safmn.networks import published_weights

from . import served_datasets
from .loopback import Answer
from .pictures import read_pair
from .served_datasets import COUNTS, NAMES, hr, layouts, pack, paths, write_corrections


@pytest.fixture
def site(monkeypatch, tmp_path):
    with served_datasets.mirror(monkeypatch, tmp_path / "corrections.json") as running:
        yield running


@pytest.fixture
def fetch(site, tmp_path, capsys):
    """Runs the command on `tmp_path/root`; returns (status, stdout, stderr)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(["fetch", *arguments, "--to", str(tmp_path / "root"), "--attempts", "1"])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def check(root: Path, dataset: str, scale: int, origin: str = "file") -> None:
    """Found by the rest of the project, complete, pixel for pixel what was served."""
    found = sources.select(dataset, scale, root).pairs
    assert [pair.name for pair in found] == NAMES[dataset]
    assert {pair.origin for pair in found} == {origin}
    for index, pair in enumerate(found):
        low, high = read_pair(pair, scale)
        np.testing.assert_array_equal(high, hr(dataset, index))
        np.testing.assert_array_equal(low, bicubic.downscale(hr(dataset, index), scale))


def asked(site) -> list[str]:
    """Names of the files that were asked for."""
    names = {path: name for name, path in paths().items()}
    return [names.get(path, path) for path, _ in site.log]


def leftovers(root: Path) -> list[str]:
    """What is in the folder of archives, locks aside."""
    folder = root / "archives"
    return sorted(file.name for file in folder.iterdir() if not file.name.endswith(".lock")) if folder.exists() else []


def test_everything_that_the_paper_needs(site, fetch, tmp_path):
    status, out, err = fetch("DF2K", "DIV2K_val", "benchmark")
    assert (status, err) == (0, "")
    for dataset in COUNTS:
        for scale in (2, 3, 4):
            check(tmp_path / "root", dataset, scale)
        assert f"{COUNTS[dataset]} HR images of {dataset}, LR x2, x3, x4" in out
    assert leftovers(tmp_path / "root") == []
    expected = {each.remote.name for each in catalogue.ARCHIVES} - {"Flickr2K.zip", "SelfExSR-8f6dd8c.zip"}
    assert sorted(asked(site)) == sorted(expected)  # each once
    site.log.clear()
    assert fetch("DF2K", "DIV2K_val", "benchmark") == (0, out, "")
    assert site.log == []


def test_one_scale_of_one_dataset(site, fetch, tmp_path):
    status, out, _ = fetch("div2k", "--scale", "4", "--json")
    assert status == 0
    assert sorted(asked(site)) == ["DIV2K_train_HR.zip", "DIV2K_train_LR_bicubic_X4.zip"]
    report = json.loads(out)
    folder = str(tmp_path / "root/DIV2K/DIV2K_train_HR")
    assert report["datasets"] == [{"name": "DIV2K", "folder": folder, "images": 3, "lr_scales": [4]}]
    assert report["failed"] == []
    check(tmp_path / "root", "DIV2K", 4)
    check(tmp_path / "root", "DIV2K", 2, "bicubic")
    assert fetch("DIV2K", "--scale", "2")[0] == 0
    assert asked(site)[2:] == ["DIV2K_train_LR_bicubic_X2.zip"]
    check(tmp_path / "root", "DIV2K", 2)


def test_only_what_is_asked_for_is_taken_out_of_an_archive(fetch, tmp_path):
    assert fetch("Set5", "--scale", "3")[0] == 0
    there = {file.relative_to(tmp_path / "root").parts[:4] for file in (tmp_path / "root").rglob("*.png")}
    assert {parts[1] for parts in there} == {"Set5"}
    check(tmp_path / "root", "Set5", 3)
    check(tmp_path / "root", "Set5", 4, "bicubic")


def test_hr_only_prefers_the_smaller_archive(site, fetch, tmp_path):
    assert fetch("Flickr2K", "--hr-only")[0] == 0
    assert asked(site) == ["Flickr2K.zip"]
    check(tmp_path / "root", "Flickr2K", 4, "bicubic")


def test_a_second_source_is_tried(site, fetch, tmp_path):
    for name in ("Flickr2K.tar", "benchmark.tar"):
        del site.files[paths()[name]]
    status, out, err = fetch("Flickr2K", "Urban100")
    assert status == 0
    assert "trying Flickr2K.zip from 127.0.0.1 instead" in err
    check(tmp_path / "root", "Flickr2K", 2, "bicubic")
    check(tmp_path / "root", "Urban100", 4)
    check(tmp_path / "root", "Urban100", 2, "bicubic")  # its x2 images are not right
    assert "2 HR images of Urban100, LR x4; other LR is made from HR" in out
    record = json.loads((tmp_path / "root/archives/checksums.json").read_text())
    assert record["SelfExSR-8f6dd8c.zip"]["sha256"] == (
        hashlib.sha256(site.archives["SelfExSR-8f6dd8c.zip"]).hexdigest()
    )


def test_where_no_source_is_left(site, fetch, tmp_path):
    for name in ("Flickr2K.tar", "Flickr2K.zip"):
        del site.files[paths()[name]]
    status, out, err = fetch("Flickr2K", "Set5", "--scale", "4")
    assert status == 2
    assert err.count("HTTP 404") == 2
    assert "Flickr2K" not in out
    check(tmp_path / "root", "Set5", 4)  # the others are there
    status, out, _ = fetch("Flickr2K", "--json")
    assert status == 2
    assert [each["name"] for each in json.loads(out)["failed"]] == ["Flickr2K.tar", "Flickr2K.zip"]


def serve_instead(site, tmp_path, name: str, data: bytes) -> None:
    """Another archive, with the checksum to match: what a careless or hostile publisher would do."""
    site.files[paths()[name]] = data
    write_corrections(tmp_path / "corrections.json", site.archives | {name: data})


@pytest.mark.parametrize("half", [True, False], ids=["cut", "fewer images"])
def test_half_an_archive_makes_no_half_dataset(site, fetch, tmp_path, half):
    name = "DIV2K_train_HR.zip"
    members = layouts()[name]
    if half:
        serve_instead(site, tmp_path, name, site.archives[name][: len(site.archives[name]) // 2])
    else:
        members.pop("DIV2K_train_HR/0002.png")
        serve_instead(site, tmp_path, name, pack(name, members))
    status, _, err = fetch("DIV2K", "--scale", "4")
    assert status == 2
    assert ("damaged or cut short" if half else "holds 2 of the 3 HR images of DIV2K") in err
    assert not (tmp_path / "root/DIV2K/DIV2K_train_HR").exists()
    assert (tmp_path / "root/DIV2K/DIV2K_train_LR_bicubic/X4").exists()  # the good part is kept
    write_corrections(tmp_path / "corrections.json", site.archives)
    site.files[paths()[name]] = site.archives[name]
    status, _, err = fetch("DIV2K", "--scale", "4")
    assert status == 2
    assert "is there already" in err  # named, not destroyed
    (tmp_path / "root/archives" / name).unlink()
    assert fetch("DIV2K", "--scale", "4")[0] == 0
    check(tmp_path / "root", "DIV2K", 4)


def test_archives_that_are_at_hand_already(site, fetch, tmp_path):
    folder = tmp_path / "root/archives"
    folder.mkdir(parents=True)
    (folder / "benchmark.tar").write_bytes(site.archives["benchmark.tar"])
    assert fetch("Set14", "--keep-archives")[0] == 0
    assert site.log == []
    assert leftovers(tmp_path / "root") == ["benchmark.tar"]
    check(tmp_path / "root", "Set14", 2)
    assert fetch("B100")[0] == 0
    assert site.log == []
    check(tmp_path / "root", "B100", 2)
    assert leftovers(tmp_path / "root") == []


def test_a_fetch_stopped_while_unpacking_shows_no_half_dataset(site, fetch, tmp_path, monkeypatch):
    real, count = shutil.copyfileobj, []

    def copy(source, target) -> None:
        count.append(target)
        if len(count) == 9:
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfileobj", copy)
        assert fetch("Set5", "--keep-archives")[0] == 130
    assert not list((tmp_path / "root").rglob("*.png"))
    stage = tmp_path / "root/archives/.benchmark.tar.unpacked/Set5/x1"
    stage.mkdir(parents=True)
    (stage / "baby.png").write_bytes(b"left by a process that was killed")
    assert fetch("Set5")[0] == 0
    for scale in (2, 3, 4):
        check(tmp_path / "root", "Set5", scale)
    assert asked(site) == ["benchmark.tar"]


def test_hr_comes_into_place_last(fetch, tmp_path, monkeypatch):
    """A dataset is found by its HR folder; LR images that came later would be missed by who looks in between."""
    real, moved = fetching._move, []

    def move(source: Path, target: Path) -> None:
        if len(moved) == 3:
            raise KeyboardInterrupt
        moved.append(target.name)
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(fetching, "_move", move)
        assert fetch("Set5")[0] == 130
    assert moved == ["X4", "X3", "X2"]
    assert fetch("Set5")[0] == 0
    check(tmp_path / "root", "Set5", 2)


@pytest.mark.parametrize("folder", ["Set5", "benchmark/Set5"])
def test_images_that_are_there_are_used_and_completed(site, fetch, tmp_path, folder):
    place = tmp_path / "root" / folder
    for index, name in enumerate(NAMES["Set5"][:3]):
        images.write(place / "HR" / f"{name}.png", hr("Set5", index))
    own = (place / "HR/baby.png").stat()
    # As they are written here, the served ones are other files with the same pixels.
    same = pack(
        "benchmark.tar",
        layouts()["benchmark.tar"]
        | {f"benchmark/Set5/HR/{name}.png": (place / f"HR/{name}.png").read_bytes() for name in NAMES["Set5"][:3]},
    )
    serve_instead(site, tmp_path, "benchmark.tar", same)
    assert fetch("Set5")[0] == 0
    for scale in (2, 3, 4):
        check(tmp_path / "root", "Set5", scale)
    assert (place / "HR/baby.png").stat().st_mtime_ns == own.st_mtime_ns
    assert sources.locate("Set5", tmp_path / "root") == place


def test_a_complete_hr_folder_gets_its_lr_beside_it(site, fetch, tmp_path):
    place = tmp_path / "root/DIV2K_train_HR"  # a layout that is not the publisher's
    for index, name in enumerate(NAMES["DIV2K"]):
        images.write(place / f"{name}.png", hr("DIV2K", index))
    assert fetch("DIV2K", "--scale", "3")[0] == 0
    assert asked(site) == ["DIV2K_train_LR_bicubic_X3.zip"]
    check(tmp_path / "root", "DIV2K", 3)


def test_training_and_validation_images_in_one_folder(site, fetch, tmp_path):
    """EDSR keeps 0001-0900 together; then both are there."""
    for dataset in ("DIV2K", "DIV2K_val"):
        for index, name in enumerate(NAMES[dataset]):
            images.write(tmp_path / "root/DIV2K/DIV2K_train_HR" / f"{name}.png", hr(dataset, index))
    status, out, _ = fetch("DIV2K", "DIV2K_val", "--hr-only")
    assert status == 0
    assert site.log == []
    assert "3 HR images of DIV2K," in out
    assert "2 HR images of DIV2K_val," in out


def test_another_image_of_the_same_name_is_never_replaced(site, fetch, tmp_path):
    path = tmp_path / "root/benchmark/Set5/HR/bird.png"
    images.write(path, hr("Set14", 0))
    before = path.read_bytes()
    status, _, err = fetch("Set5")
    assert status == 2
    assert "bird.png is not the image of the archive" in err
    assert path.read_bytes() == before
    path.unlink()
    assert fetch("Set5")[0] == 0
    check(tmp_path / "root", "Set5", 4)


def test_strange_images_among_them(fetch, tmp_path):
    images.write(tmp_path / "root/Set5/HR/cat.png", hr("Set14", 0))
    status, _, err = fetch("Set5")
    assert status == 2
    assert "(cat)" in err
    assert [file.name for file in (tmp_path / "root/Set5").rglob("*.png")] == ["cat.png"]


def test_a_folder_that_would_hide_what_is_downloaded(site, fetch, tmp_path):
    images.write(tmp_path / "root/Set5/baby.png", hr("Set5", 0))
    status, _, err = fetch("Set5")
    assert status == 2
    assert "would hide the downloaded Set5, but holds 1 of its images" in err
    assert site.log == []


def test_a_dataset_on_another_disk_through_a_link(fetch, tmp_path, monkeypatch):
    """A rename across disks fails; the images come all the same."""
    other = tmp_path / "disk"
    other.mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root/DIV2K").symlink_to(other)
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if "archives" in self.parts:
            raise OSError(18, "Invalid cross-device link")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    assert fetch("DIV2K", "--scale", "2")[0] == 0
    check(tmp_path / "root", "DIV2K", 2)
    assert sorted(file.name for file in other.iterdir()) == ["DIV2K_train_HR", "DIV2K_train_LR_bicubic"]


def test_space_is_checked_for_all_before_the_first_byte(site, fetch, tmp_path, monkeypatch):
    names = [name for name in site.archives if name.startswith("DIV2K_train")]
    needed = 2 * sum(len(site.archives[name]) for name in names)  # the archives, and what is in them
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed + files.RESERVE - 1))
    status, _, err = fetch("DIV2K")
    assert status == 2
    assert "are free" in err
    assert site.log == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed + files.RESERVE))
    assert fetch("DIV2K")[0] == 0


def test_space_for_archives_whose_size_nobody_published(site, fetch, monkeypatch, tmp_path):
    """Flickr2K.tar is known to be about 20 GB: that much twice is asked for."""
    monkeypatch.delenv("SAFMN_CORRECTIONS")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=39 * 10**9))
    status, _, err = fetch("Flickr2K")
    assert status == 2
    assert "needs 40,000.0 MB" in err
    assert site.log == []


def test_two_fetches_at_once(site, tmp_path):
    """Two processes: one downloads, the other waits and finds it done."""
    site.answers[paths()["benchmark.tar"]] = [Answer(pause=0.02)]
    command = [sys.executable, "-m", "safmn", "fetch", "Set5", "Set14", "--to", str(tmp_path / "root")]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(2)]
    outputs = [child.communicate(timeout=60)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert outputs[0] == outputs[1]
    assert asked(site) == ["benchmark.tar"]
    check(tmp_path / "root", "Set5", 4)


def test_a_dataset_that_may_not_be_redistributed(site, fetch, tmp_path):
    status, _, err = fetch("Manga109", "Set5")
    assert status == 2
    assert "http://www.manga109.org" in err
    assert "courtesy of" in err
    assert site.log == []
    assert not (tmp_path / "root").exists()
    images.write(tmp_path / "root/Manga109/HR/ARMS.png", hr("Set5", 0))
    assert fetch("Manga109", "Set5")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Set6"], "did you mean Set5"),
        (["xyzzy"], "safmn fetch --list"),
        (["no_fm"], "has no published weights: train it"),
        (["vdsr"], "pickled module"),
        (["lapar_a"], "shared drive"),
        (["smsr", "--scale", "4"], "published x2 only"),
        (["bicubic"], "needs none"),
        (["imdn", "--data"], "imdn is no dataset: leave out --data"),
        (["Set5", "--weights"], "Set5 is no network: leave out --weights"),
        ([], "nothing is asked for"),
        (["imdn", "--jobs", "0"], "1 or more"),
        (["imdn", "--base-url", "ftp://x"], "base URL"),
        (["T91"], "91 images of Yang"),
    ],
)
def test_what_cannot_be_fetched(site, fetch, tmp_path, arguments, message):
    status, out, err = fetch(*arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert site.log == []
    assert not (tmp_path / "root").exists()


def test_without_curl_one_line_says_so(site, fetch, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    status, out, err = fetch("DIV2K", "Set5")
    assert (status, out) == (2, "")
    assert "downloads need curl, which is not installed: install it" in err
    assert len(err.splitlines()) == 1
    # What needs no download needs no curl.
    (tmp_path / "root/archives").mkdir(parents=True)
    (tmp_path / "root/archives/benchmark.tar").write_bytes(site.archives["benchmark.tar"])
    assert fetch("Set5")[0] == 0
    assert site.log == []


def test_no_folder_is_named(site, capsys):
    assert cli.main(["fetch", "imdn"]) == 2
    assert "--to is missing" in capsys.readouterr().err


def serve_weights(site, checkpoints: Path) -> dict[str, published_weights.Weights]:
    served = {}
    for weights in published_weights.WEIGHTS:
        file = checkpoints / weights.remote.name
        if file.is_file():
            site.files[urlsplit(weights.remote.urls[0]).path] = file.read_bytes()
            served[weights.remote.name] = weights
    return served


def test_the_authors_weights_arrive_and_load(site, fetch, tmp_path, checkpoints):
    """The real files under their real paths, against the real checksums; then into the networks."""
    served = serve_weights(site, checkpoints)
    assert {"IMDN_x4.pth", "PANx4_DF2K.pth", "carn_m.pth"} <= set(served)
    status, out, err = fetch("imdn", "pan", "carn_m", "--scale", "4", "--json")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert [each["name"] for each in report["files"]] == ["IMDN_x4.pth", "PANx4_DF2K.pth", "carn_m.pth"]
    for each in report["files"]:
        assert each["bytes"] == (checkpoints / each["name"]).stat().st_size
        assert each["sha256"] == served[each["name"]].remote.sha256
    for network in ("imdn", "pan", "carn_m"):
        path = published_weights.at_hand(network, 4, tmp_path / "root")
        assert path is not None
        networks.load_weights(path, network, 4)
    assert not (tmp_path / "root/checksums.json").exists()
    requests = len(site.log)
    assert fetch("imdn", "pan", "carn_m", "--scale", "4")[0] == 0
    assert len(site.log) == requests


def test_one_bad_file_does_not_stop_the_others(site, fetch, tmp_path, checkpoints):
    serve_weights(site, checkpoints)
    site.files[urlsplit(published_weights.find("imdn", 4).remote.urls[0]).path] = b"wrong"
    status, out, err = fetch("imdn", "pan", "--scale", "4")
    assert status == 2
    assert "IMDN_x4.pth" in err
    assert "PANx4_DF2K.pth: 1.1 MB" in out
    assert published_weights.at_hand("imdn", 4, tmp_path / "root") is None


def test_the_list(site, capsys, monkeypatch):
    monkeypatch.delenv("SAFMN_CORRECTIONS")
    monkeypatch.delenv("SAFMN_MIRROR")
    assert cli.main(["fetch", "--list"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"DIV2K +HR +DIV2K_train_HR\.zip +3,530\.6 +sha256", text)
    assert re.search(r"Flickr2K +HR x2 x3 x4 +Flickr2K\.tar +about 20,000\.0 +md5", text)
    assert cli.main(["fetch", "--list", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    named = {entry["name"] for entry in entries}
    assert set(sources.DATASETS) <= named
    assert {network for network in networks.published_networks() if network != "bicubic"} <= named
    for entry in entries:
        assert entry["file"] is None or all(url.startswith("https://") for url in entry["urls"])
    assert site.log == []


def test_a_record_of_what_is_there(site, fetch, tmp_path):
    """For the workflow: a file for each dataset and scale, once all of it is there."""
    record = tmp_path / "record"
    for name in ("Flickr2K.tar", "benchmark.tar"):
        del site.files[paths()[name]]
    arguments = ("Urban100", "Flickr2K", "--scale", "2", "--scale", "4", "--record", str(record))
    assert fetch("Set5", *arguments)[0] == 2
    assert not record.exists()
    assert fetch(*arguments)[0] == 0
    found = {file.name: json.loads(file.read_text()) for file in record.iterdir()}
    assert {name: each["lr"] for name, each in found.items()} == {
        "Urban100_x2.json": "bicubic",
        "Urban100_x4.json": "file",
        "Flickr2K_x2.json": "bicubic",
        "Flickr2K_x4.json": "bicubic",
    }
    assert found["Flickr2K_x2.json"]["folder"] == "Flickr2K/Flickr2K_HR"
    assert found["Flickr2K_x2.json"]["images"] == 4
    assert str(tmp_path) not in json.dumps(found)


def test_room_for_what_others_fetch_is_wanted_before_the_first_byte(site, fetch, tmp_path):
    known = json.loads((tmp_path / "corrections.json").read_text())
    known["files"]["Flickr2K.tar"]["size"] = 10**18
    (tmp_path / "corrections.json").write_text(json.dumps(known))
    status, _, err = fetch("Set5", "--room-for", "Set5", "Flickr2K")
    assert status == 2
    assert re.search(r"benchmark\.tar, Flickr2K\.tar needs 2,000,0\S+ MB in .*root, where \S+ MB are free", err)
    assert len(err.splitlines()) == 1
    assert site.log == []
    assert fetch("Set5", "--room-for", "Set5", "B100")[0] == 0


def test_patterns_of_the_catalogue():
    """Every image of a served layout is taken for what it is, and nothing else is."""
    for archive in catalogue.ARCHIVES:
        members = layouts()[archive.remote.name]
        taken = [archive.identify(Path(name)) for name in members]
        found = {each for each in taken if each}
        expected = {
            (name, kind, image) for name, kinds in archive.holds.items() for kind in kinds for image in NAMES[name]
        }
        assert found == expected
        assert len([each for each in taken if each]) == len(found)
    for strange in (
        "__MACOSX/benchmark/Set5/HR/._baby.png",
        "benchmark/Set5/LR_bicubic/X8/babyx8.png",
        "Set5/baby.png",
    ):
        assert not any(archive.identify(Path(strange)) for archive in catalogue.ARCHIVES)


def test_the_publishers_folders_are_where_datasets_are_looked_for():
    for dataset, folder in catalogue.FOLDERS.items():
        assert {folder, str(Path(folder).parent)} & set(sources.DATASETS[dataset].folders)
    assert set(catalogue.FOLDERS) == set(catalogue.downloadable())


def test_progress_in_a_log(site, fetch, monkeypatch):
    """Lines now and then: what, how much of how much, how fast, how long still."""
    monkeypatch.setattr(progress, "PATIENCE", 0.05)
    site.answers[paths()["benchmark.tar"]] = [Answer(pause=0.05)]
    status, _, err = fetch("Set5")
    assert status == 0
    assert re.search(r"benchmark\.tar: 0\.\d/0\.\d  \d+\.\d\d MB/s  ETA 0:00:\d\d", err)


def test_progress_on_a_terminal(site, tmp_path):
    """Bars on a pseudo-terminal, gone when all is done."""
    site.answers[paths()["benchmark.tar"]] = [Answer(pause=0.15)]
    master, slave = os.openpty()
    command = [sys.executable, "-m", "safmn", "fetch", "Set5", "--to", str(tmp_path / "root")]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave, env=environment)
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # Linux ends a terminal that nobody holds any more so
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    assert child.wait() == 0
    assert b"benchmark.tar" in shown
    assert b"MB/s" in shown
