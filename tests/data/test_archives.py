"""Archives: honest ones come out as the standard tools unpack them, hostile ones write nothing outside, or nothing."""

import contextlib
import io
import os
import random
import shutil
import stat
import struct
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safmn.data import archives
from safmn.data.archives import BadArchive, extract
from safmn.data.download import Stopped
from safmn.errors import UserError

HONEST = {
    "set/HR/a.png": random.Random(1).randbytes(5000),
    "set/HR/größe 画像.png": b"x" * 3000,
    "set/LR/X4/ax4.png": b"",
    "top.txt": b"text",
}


def make_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, folders: bool = True) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        if folders:
            archive.mkdir("set")
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, files: dict[str, bytes], form: int = tarfile.GNU_FORMAT, prefix: str = "") -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        if prefix:
            folder = tarfile.TarInfo(prefix)
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
        for name, data in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def one_tar(path: Path, name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0, **fields) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.size = kind, link, size
        for field, value in fields.items():
            setattr(member, field, value)
        archive.addfile(member, io.BytesIO(bytes(size)))
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def nothing_outside(root: Path, archive: Path, folder: Path) -> None:
    """`root` holds the archive and the folder, no link and nothing else."""
    for place, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(place, name)
            assert not path.is_symlink()
            assert path in (archive, folder) or path.is_relative_to(folder), path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_honest_zip(tmp_path, method):
    archive = make_zip(tmp_path / "a.zip", HONEST, method)
    files = extract(archive, tmp_path / "out")
    assert [str(file) for file in files] == list(HONEST)
    with zipfile.ZipFile(archive) as reference:
        reference.extractall(tmp_path / "reference")
    assert tree(tmp_path / "out") == tree(tmp_path / "reference") == HONEST


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_an_honest_tar(tmp_path, form, prefix):
    archive = make_tar(tmp_path / "a.tar", HONEST, form, prefix)
    assert [str(file) for file in extract(archive, tmp_path / "out")] == list(HONEST)
    with tarfile.open(archive) as reference:
        reference.extractall(tmp_path / "reference", filter="data")
    assert tree(tmp_path / "out") == tree(tmp_path / "reference") == HONEST


@pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not installed")
def test_a_tar_of_the_tool_that_people_use(tmp_path):
    import subprocess

    make_zip(tmp_path / "a.zip", HONEST)
    extract(tmp_path / "a.zip", tmp_path / "in")
    long = "n" * 150 + ".png"
    (tmp_path / "in" / long).write_bytes(b"long")
    for command in (
        ["tar", "cf", "a.tar", "-C", "in", "."],
        ["tar", "cf", "a.tar", "-C", "in", "set", "top.txt", long],
    ):
        subprocess.run(command, cwd=tmp_path, check=True)
        extract(tmp_path / "a.tar", tmp_path / "out")
        assert tree(tmp_path / "out") == HONEST | {long: b"long"}
        shutil.rmtree(tmp_path / "out")


def test_an_empty_archive(tmp_path):
    assert extract(make_zip(tmp_path / "a.zip", {}, folders=False), tmp_path / "out") == []
    assert extract(make_tar(tmp_path / "a.tar", {}), tmp_path / "out") == []


def test_members_are_chosen_and_renamed(tmp_path):
    def place(path: PurePosixPath) -> PurePosixPath | None:
        return PurePosixPath("images", path.name) if path.suffix == ".png" else None

    for archive in (make_zip(tmp_path / "a.zip", HONEST), make_tar(tmp_path / "a.tar", HONEST)):
        extract(archive, tmp_path / "out", place)
        assert set(tree(tmp_path / "out")) == {"images/a.png", "images/größe 画像.png", "images/ax4.png"}
        shutil.rmtree(tmp_path / "out")
    with pytest.raises(BadArchive, match="two members for one file"):
        extract(tmp_path / "a.zip", tmp_path / "out", lambda _: PurePosixPath("same"))
    assert not (tmp_path / "out").exists()


def test_a_folder_with_anything_in_it_is_refused(tmp_path):
    """A link in it would be followed outside."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/set").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is not empty"):
        extract(make_zip(tmp_path / "a.zip", HONEST), tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


NAMES = [
    "../evil",
    "set/../../evil",
    "set/..",
    "..",
    "/evil",
    "//evil",
    "/",
    "..\\evil",
    "C:\\evil",
    "C:evil",
    "set\\..\\evil",
    "a\0b",
    "a\nb",
    "\x1b[31m",
    "a/" * 1500 + "b",
    "n" * 256,
    "é" * 128,
    ".",
    "",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_outside_refuse_the_whole_archive(tmp_path, name, kind):
    archive = tmp_path / "archive"
    if kind == "zip":
        make_zip(archive, HONEST)
        with zipfile.ZipFile(archive, "a") as more:
            more.writestr(raw_zip_name(name), b"evil")
    else:
        if name in ("", "a\0b"):
            pytest.skip("a tar header cannot hold it")
        with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as more:
            for each in ("good.png", name):
                member = tarfile.TarInfo(each)
                member.size = 4
                more.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(BadArchive) as caught:
        extract(archive, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    nothing_outside(tmp_path, archive, tmp_path / "out")


def raw_zip_name(name: str) -> zipfile.ZipInfo:
    """An entry with just this name, which ZipInfo's constructor would cut at a NUL."""
    info = zipfile.ZipInfo("x")
    info.filename = info.orig_filename = name
    return info


def test_folders_that_lead_outside_refuse_it_too(tmp_path):
    with pytest.raises(BadArchive, match="outside the folder"):
        extract(one_tar(tmp_path / "a.tar", "../evil", tarfile.DIRTYPE), tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(raw_zip_name("../evil/"), b"")
    with pytest.raises(BadArchive, match="outside the folder"):
        extract(tmp_path / "a.zip", tmp_path / "out")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.tar", "a.zip"]


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.GNUTYPE_SPARSE,
        b"Z",
    ],
)
def test_links_and_devices_in_a_tar(tmp_path, kind):
    with pytest.raises(BadArchive, match=r"link, a device|damaged"):
        extract(one_tar(tmp_path / "a.tar", "x", kind, "/etc/passwd"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip(tmp_path, kind):
    info = zipfile.ZipInfo("x")
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(BadArchive, match="link or a device"):
        extract(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_encrypted_members(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"x.png": b"data"}, folders=False)
    data = bytearray(archive.read_bytes())
    data[6] |= 1  # general purpose flags of the local header
    data[data.index(b"PK\x01\x02") + 8] |= 1  # and of the central one
    archive.write_bytes(data)
    with pytest.raises(BadArchive, match=r"'x\.png' is encrypted"):
        extract(archive, tmp_path / "out")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_of_packing(tmp_path, method):
    with pytest.raises(BadArchive, match="packed by a method"):
        extract(make_zip(tmp_path / "a.zip", {"x": b"data"}, method), tmp_path / "out")


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_compressed_tars_are_not_taken(tmp_path, mode):
    with tarfile.open(tmp_path / "a.tar", f"w:{mode}") as archive:
        archive.addfile(tarfile.TarInfo("x"))
    with pytest.raises(BadArchive, match="decompress it first"):
        extract(tmp_path / "a.tar", tmp_path / "out")


@pytest.mark.parametrize(
    "names",
    [("a.png", "a.png"), ("a.png", "A.PNG"), ("\u00e9.png", "e\u0301.png"), ("a/./b", "a/b"), ("ß", "SS")],
)
@pytest.mark.parametrize("make", ["zip", "tar"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_for_one_file(tmp_path, names, make):
    if make == "zip":
        with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
            for name in names:
                archive.writestr(name, name)
    else:
        with tarfile.open(tmp_path / "archive", "w") as archive:
            for name in names:
                archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(BadArchive, match="two members for one file"):
        extract(tmp_path / "archive", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_also_a_folder(tmp_path):
    for files in ({"a": b"1", "a/b": b"2"}, {"a/b/c": b"2", "A": b"1"}):
        with pytest.raises(BadArchive, match="as a file and as a folder"):
            extract(make_tar(tmp_path / "a.tar", files), tmp_path / "out")


def test_a_zip_bomb_is_refused_before_a_byte_is_unpacked(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for number in range(3):
            with archive.open(f"{number}.png", "w") as member:
                for _ in range(32):
                    member.write(bytes(2**20))
    assert (tmp_path / "a.zip").stat().st_size < 200_000
    with pytest.raises(BadArchive, match="out of all proportion"):
        extract(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(archives, "ALLOWANCE", 2**27)
    assert len(extract(tmp_path / "a.zip", tmp_path / "out")) == 3


def test_a_bomb_that_lies_about_its_size(tmp_path):
    """The directory says 10 bytes, the stream holds a million: no more than was said is written."""
    archive = make_zip(tmp_path / "a.zip", {"x.png": bytes(10**6)}, folders=False)
    data = archive.read_bytes()
    lie = data.replace(struct.pack("<L", 10**6), struct.pack("<L", 10))
    assert lie != data
    archive.write_bytes(lie)
    with pytest.raises(BadArchive):
        extract(archive, tmp_path / "out")
    assert len(tree(tmp_path / "out")["x.png"]) <= 10


def test_a_tar_that_claims_to_be_huge(tmp_path):
    archive = one_tar(tmp_path / "a.tar", "x", size=10)
    data = bytearray(archive.read_bytes())
    header = data[:512]
    header[124:136] = b"\x80" + (10**15).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    archive.write_bytes(header + data[512:])
    with pytest.raises(BadArchive, match="out of all proportion"):
        extract(archive, tmp_path / "out")


def test_a_tar_whose_header_claims_memory(tmp_path):
    """A pax header of 8 GB by its own word; the sparse file behind it takes no space."""
    member = tarfile.TarInfo("././@PaxHeader")
    member.type, member.size = tarfile.XHDTYPE, 8 * 2**30
    archive = tmp_path / "a.tar"
    archive.write_bytes(member.tobuf(tarfile.GNU_FORMAT))
    os.truncate(archive, 9 * 2**30)
    with pytest.raises(BadArchive, match="a header of"):
        extract(archive, tmp_path / "out")


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize(
    ("limit", "refused", "allowed", "message"),
    [("MAX_MEMBERS", 3, 5, "more than 3 members"), ("MAX_BYTES", 8003, 8004, "more than 8,003 bytes")],
)
def test_limits_of_members_and_total(tmp_path, monkeypatch, make, limit, refused, allowed, message):
    archive = make(tmp_path / "archive", HONEST)
    monkeypatch.setattr(archives, limit, refused)
    with pytest.raises(BadArchive, match=message):
        extract(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(archives, limit, allowed)
    assert len(extract(archive, tmp_path / "out")) == 4


def test_an_archive_cut_anywhere(tmp_path):
    """No cut goes unnoticed; what is there of it is right."""
    for make in (make_zip, make_tar):
        data = make(tmp_path / "whole", HONEST).read_bytes()
        meant = len(data.rstrip(b"\0")) + 512 if make is make_tar else len(data)
        for end in {*range(0, meant, 509), meant - 1}:
            (tmp_path / "cut").write_bytes(data[:end])
            with pytest.raises(BadArchive):
                extract(tmp_path / "cut", tmp_path / "out")
            assert tree(tmp_path / "out").items() <= HONEST.items() if (tmp_path / "out").exists() else True


def test_a_tar_cut_between_members_is_noticed(tmp_path):
    """The standard library takes this for a whole archive."""
    data = make_tar(tmp_path / "a.tar", {"a": b"1", "b": b"2"}).read_bytes()
    (tmp_path / "a.tar").write_bytes(data[:1024])
    with tarfile.open(tmp_path / "a.tar") as library:
        assert library.getnames() == ["a"]
    with pytest.raises(BadArchive, match="cut short"):
        extract(tmp_path / "a.tar", tmp_path / "out")


def test_a_damaged_member_is_found_by_its_checksum(tmp_path):
    archive = make_zip(tmp_path / "a.zip", HONEST, zipfile.ZIP_STORED)
    data = bytearray(archive.read_bytes())
    data[data.index(b"x" * 3000) + 17] ^= 1
    archive.write_bytes(data)
    with pytest.raises(BadArchive, match="CRC"):
        extract(archive, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04", b"\x89PNG\r\n", b"<html>", bytes(511)])
def test_what_is_no_archive(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(BadArchive, match=r"a\.zip"):
        extract(tmp_path / "a.zip", tmp_path / "out")


def test_space_is_checked_first(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "a.zip", HONEST)
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match="are free"):
        extract(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_stop_and_progress(tmp_path):
    archive = make_zip(tmp_path / "a.zip", HONEST)
    seen = []

    def watch(stage: str, done: int, total: int | None) -> None:
        seen.append((stage, done, total))
        raise Stopped

    with pytest.raises(Stopped):
        extract(archive, tmp_path / "out", watch=watch)
    assert seen == [("unpack", 5000, 8004)]
    assert set(tree(tmp_path / "out")) == {"set/HR/a.png"}


SEVERAL = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
hostile = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(["..", ".", "a", "", "C:", "\\", "b.png", "/", "~", "-"]), max_size=6).map("/".join),
)


@SEVERAL
@given(st.lists(hostile, min_size=1, max_size=4), st.booleans())
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_no_name_writes_outside(tmp_path_factory, names, as_zip):
    root = tmp_path_factory.mktemp("names")
    archive, folder = root / "archive", root / "deep"
    with contextlib.suppress(ValueError, UnicodeError, IndexError):
        if as_zip:
            with zipfile.ZipFile(archive, "w") as made:
                for name in names:
                    made.writestr(raw_zip_name(name), b"data")
        else:
            with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as made:
                for name in names:
                    made.addfile(tarfile.TarInfo(name))
    if archive.exists():
        with contextlib.suppress(BadArchive):
            files = extract(archive, folder)
            assert all((folder / file).is_file() for file in files)
        nothing_outside(root, archive, folder)
    shutil.rmtree(root)


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_damaged_bytes_raise_nothing_else(tmp_path, make, monkeypatch):
    """250 archives with a few bytes changed, each: unpacked, or refused with one message, and nothing outside."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # a thousand files on a busy disk take long
    data = make(tmp_path / "whole", HONEST).read_bytes()
    data = data[: len(data.rstrip(b"\0")) + 1024] if make is make_tar else data
    (tmp_path / "whole").unlink()
    draw, messages = random.Random(3), []
    for _ in range(250):
        damaged = bytearray(data)
        for _ in range(draw.randrange(1, 6)):
            damaged[draw.randrange(len(damaged))] = draw.choice([0, 1, 0x2E, 0x2F, 0x80, 0xFF, draw.randrange(256)])
        archive, folder = tmp_path / "archive", tmp_path / "out"
        archive.write_bytes(damaged)
        try:
            extract(archive, folder)
        except UserError as error:
            messages.append(str(error))
        nothing_outside(tmp_path, archive, folder)
        shutil.rmtree(folder, ignore_errors=True)
    assert len(messages) > 10
    assert not any("\n" in message for message in messages)
