"""The detector file: whole or refused, written in one piece, free of pickle."""

from __future__ import annotations

import io
import json
import os
import pickletools
import random
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from limits import no_room

from normbank import bundle as bundles
from normbank.bundle import Bundle, ensure_writable, read_bundle, write_atomically, write_bundle
from normbank.errors import BundleError

SMALL = Bundle({"versions": {"normbank": "9.9"}, "name": "ü"}, b"weights" * 20, bytes(range(256)))


@pytest.fixture
def path(tmp_path):
    write_bundle(tmp_path / "model.nbk", SMALL)
    return tmp_path / "model.nbk"


# ---------------------------------------------------------------- what is written is read


def test_round_trip(path):
    found = read_bundle(path)
    assert found == Bundle({"format_version": 1, **SMALL.manifest}, SMALL.weights, SMALL.graph)


def test_same_parts_same_bytes(path, tmp_path):
    write_bundle(tmp_path / "again.nbk", SMALL)
    assert (tmp_path / "again.nbk").read_bytes() == path.read_bytes()


def test_it_is_a_zip_archive_that_others_can_open(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["manifest.json", "weights.safetensors", "model.onnx"]
        assert archive.testzip() is None
        assert json.loads(archive.read("manifest.json"))["name"] == "ü"


def test_a_real_detector_holds_no_pickle(tiny_model):
    with zipfile.ZipFile(tiny_model) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            with pytest.raises((ValueError, EOFError, UnicodeDecodeError)):
                list(pickletools.genops(content))
        length = int.from_bytes(archive.read("weights.safetensors")[:8], "little")
        assert "__metadata__" not in json.loads(archive.read("weights.safetensors")[8 : 8 + length])


def test_numbers_that_json_does_not_know_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_bundle(tmp_path / "x.nbk", Bundle({"score": float("nan")}, b"", b""))
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- damage


def test_a_changed_byte_at_any_position_is_an_error(path):
    whole = path.read_bytes()
    rng = random.Random(0)
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= rng.randrange(1, 256)
        path.write_bytes(changed)
        with pytest.raises(BundleError, match=r"model\.nbk"):
            read_bundle(path)


def test_a_changed_byte_of_a_real_detector_is_an_error(tiny_model, tmp_path):
    whole, path = tiny_model.read_bytes(), tmp_path / "model.nbk"
    rng = random.Random(1)
    ends = [*range(0, 60, 7), *range(len(whole) - 300, len(whole), 11)]
    for place in [*ends, *(rng.randrange(len(whole)) for _ in range(60))]:
        changed = bytearray(whole)
        changed[place] ^= rng.randrange(1, 256)
        path.write_bytes(changed)
        with pytest.raises(BundleError, match=r"damaged: it is cut or changed \([\d,]+ bytes|is not a detector"):
            read_bundle(path)


def test_a_file_cut_anywhere_is_an_error(path):
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(BundleError, match=r"model\.nbk"):
            read_bundle(path)


def test_bytes_put_in_front_behind_or_between_are_an_error(path):
    whole = path.read_bytes()
    for changed in (whole + b"\0", b"\0" + whole, whole[:500] + b"\0" + whole[500:], whole + whole):
        path.write_bytes(changed)
        with pytest.raises(BundleError):
            read_bundle(path)


def test_the_words_for_a_damaged_file(path):
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"is damaged: it is cut or changed .* Copy it again from where it was made"):
        read_bundle(path)


# ---------------------------------------------------------------- not a detector


@pytest.mark.parametrize("content", [b"", b"P", b"text", b"\x89PNG\r\n\x1a\n" + bytes(200)])
def test_another_file_is_named_so(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(BundleError, match=r"x.png' is not a detector: expected a file written by `normbank train`"):
        read_bundle(tmp_path / "x.png")


def test_another_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("manifest.json", "{}" * 100)
    with pytest.raises(BundleError, match=r"x\.zip"):
        read_bundle(tmp_path / "x.zip")


def sealed(content):
    """The bytes with a true checksum, as only this package makes them."""
    import hashlib

    return content + b"normbank sha256 " + hashlib.sha256(content).hexdigest().encode()


def archive_of(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.comment = b" " * 80
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return buffer.getvalue()[:-80]


@pytest.mark.parametrize(
    "content",
    [b"PK" + bytes(100), archive_of(other="x"), archive_of(manifest__json="no json"), archive_of(manifest__json="[]")],
    ids=["no zip", "no manifest", "no json", "a list"],
)
def test_a_true_checksum_over_something_else(tmp_path, content):
    (tmp_path / "x.nbk").write_bytes(sealed(content))
    with pytest.raises(BundleError, match="does not hold what a detector holds"):
        read_bundle(tmp_path / "x.nbk")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_an_unknown_version_is_named(tmp_path, version):
    path = tmp_path / "model.nbk"
    write_bundle(path, Bundle({**SMALL.manifest, "format_version": version}, b"", b""))
    expected = rf"is of format version {version}; this normbank reads version 1. Use the normbank .* \(9\.9\)"
    with pytest.raises(BundleError, match=expected):
        read_bundle(path)


def test_a_missing_file_and_a_folder(path, tmp_path):
    with pytest.raises(BundleError, match=r"gone.nbk' cannot be read: No such file or directory. Expected a file"):
        read_bundle(tmp_path / "gone.nbk")
    with pytest.raises(BundleError, match=r"cannot be read: Is a directory. .* such as '.*model.nbk'"):
        read_bundle(tmp_path)


# ---------------------------------------------------------------- writing


def test_unwritable_places_are_named_and_nothing_is_left(path, tmp_path):
    (tmp_path / "folder").mkdir()
    for target in (path / "model.nbk", tmp_path / "folder", tmp_path / ("x" * 300)):
        with pytest.raises(BundleError, match=r"cannot be written: .*\. It is as it was\."):
            write_bundle(target, SMALL)
    assert {entry.name for entry in tmp_path.iterdir()} == {"folder", "model.nbk"}


def test_a_file_in_the_place_of_its_folder_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match=r"file.a' cannot be written: a file stands where its folder should be\. It"):
        write_atomically(tmp_path / "file" / "a", b"x")


def test_a_full_disk_leaves_the_old_file_whole(path):
    before = path.read_bytes()
    with no_room(), pytest.raises(BundleError, match=r"model.nbk' cannot be written: File too large"):
        write_bundle(path, Bundle({"other": 1}, b"", b""))
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["model.nbk"]


def test_of_a_link_what_it_leads_to_is_replaced_where_that_is_asked_for(path):
    link, lost = path.parent / "latest", path.parent / "to_come"
    link.symlink_to(path.name), lost.symlink_to("new")
    for one, target in ((link, path), (lost, path.parent / "new")):
        write_atomically(one, b"new", through_link=True)
        assert one.is_symlink()
        assert target.read_bytes() == b"new"
    (path.parent / "file").touch()
    (beyond := path.parent / "beyond").symlink_to("file/below")
    with pytest.raises(BundleError, match="beyond' cannot be written"):
        ensure_writable(beyond, through_link=True)
    ensure_writable(beyond)  # itself would be replaced
    write_atomically(link, b"newer")
    assert (link.is_symlink(), link.read_bytes(), path.read_bytes()) == (False, b"newer", b"new")


def test_the_file_appears_in_one_piece(path, monkeypatch):
    """Up to the rename the old file stands there; an interruption in between leaves it, and no rest."""
    before, renamed = path.read_bytes(), []

    def interrupted(source, target):
        renamed.append((Path(source).read_bytes(), path.read_bytes()))
        raise KeyboardInterrupt

    monkeypatch.setattr(bundles.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert renamed == [(b"new", before)]
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["model.nbk"]


def test_the_users_own_permissions_hold(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "x", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_folders_are_made_and_the_longest_name_works(tmp_path):
    target = tmp_path / "a" / "b" / ("x" * 255)
    write_atomically(target, b"1")
    assert target.read_bytes() == b"1"


def test_pipes_and_devices_are_written_to_not_replaced(tmp_path):
    code = "from pathlib import Path; from normbank.bundle import write_atomically as w; import sys; "
    code += "w(Path('/dev/stdout'), b'through'); w(Path(sys.argv[1]), b'piped')"
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "out", "wb") as out:
        run = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "pipe")], stdout=out)
        assert (tmp_path / "pipe").read_bytes() == b"piped"
        assert run.wait(30) == 0
    assert (tmp_path / "out").read_bytes() == b"through"
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    with pytest.raises(BundleError, match="'/dev/full' cannot be written: No space left on device"):
        write_atomically(Path("/dev/full"), b"x")


def test_of_several_files_a_pipe_is_written_to_as_well(tmp_path):
    code = "from pathlib import Path; from normbank.bundle import write_together as w; import sys; "
    code += "w({Path(name): name[-4:].encode() for name in sys.argv[1:]})"
    os.mkfifo(tmp_path / "pipe")
    run = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "file"), str(tmp_path / "pipe")])
    assert (tmp_path / "pipe").read_bytes() == b"pipe"
    assert run.wait(30) == 0
    assert (tmp_path / "file").read_bytes() == b"file"
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_what_is_printed_after_it_does_not_lie_over_it(tmp_path):
    code = "from pathlib import Path; from normbank.bundle import write_atomically as w; "
    code += "print('first'); w(Path('/dev/stdout'), b'second\\n'); print('third')"
    with open(tmp_path / "out", "wb") as out:
        assert subprocess.run([sys.executable, "-c", code], stdout=out, timeout=30).returncode == 0
    assert (tmp_path / "out").read_text() == "first\nsecond\nthird\n"


def test_ensure_writable_says_so_early_and_leaves_nothing(path, tmp_path):
    before = path.read_bytes()
    ensure_writable(path)
    ensure_writable(tmp_path / "new" / "x.json")
    ensure_writable(Path("/dev/null"))
    assert path.read_bytes() == before
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(BundleError, match="cannot be written: it is a folder"):
        ensure_writable(tmp_path)
    with pytest.raises(BundleError, match=r"model.nbk/x.json' cannot be written: "):
        ensure_writable(path / "x.json")
