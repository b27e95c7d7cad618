import errno
import hashlib
import http.server
import io
import json
import re
import shutil
import tarfile
import threading
from dataclasses import replace

import pytest

from normbank.data import download as module
from normbank.data import transfer
from normbank.data.download import DOWNLOADS, Remote, Source, download, unpack
from normbank.data.transfer import Patience, fetch
from normbank.errors import DataError, UserError

QUICK = Patience(timeout=5, retries=2, wait=0)
BODY = bytes(range(256)) * 1200  # 307,200 bytes
SUM = hashlib.sha256(BODY).hexdigest()


class Site:
    """What the server holds and how it behaves; `seen` records the headers of every request."""

    def __init__(self):
        self.files = {}
        self.ranges = True
        self.etag = '"one"'
        self.cuts = []  # bytes after which each of the next answers breaks off
        self.refusals = []  # statuses that each of the next requests gets
        self.retry_after = None
        self.content_type = "application/octet-stream"
        self.announce = True
        self.seen = []
        self.url = ""


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        site = self.server.site
        site.seen.append(dict(self.headers))
        if site.refusals:
            return self.refuse(site.refusals.pop(0))
        body = site.files.get(self.path.lstrip("/"))
        if body is None:
            return self.refuse(404)
        start = self.range_start(site)
        if start >= len(body):
            return self.refuse(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if site.etag:
            self.send_header("ETag", site.etag)
        if site.announce:
            self.send_header("Content-Length", str(len(body) - start))
        self.send_header("Content-Type", site.content_type)
        self.end_headers()
        end = start + site.cuts.pop(0) if site.cuts else len(body)
        self.wfile.write(body[start:end])
        return None

    def range_start(self, site):
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        stale = self.headers.get("If-Range") not in (None, site.etag)
        return int(asked[1]) if asked and site.ranges and not stale else 0

    def refuse(self, status):
        self.send_response(status)
        if self.server.site.retry_after:
            self.send_header("Retry-After", self.server.site.retry_after)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    site = Site()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.site = site
        site.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield site
        server.shutdown()
        thread.join()


def archive(entries, mode="w:xz"):
    """A tar archive's bytes: {name: bytes or TarInfo}."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in entries.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(content), 0o400
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def entry(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o555
    return info


BOTTLE = archive(
    {
        "bottle": entry("bottle", tarfile.DIRTYPE),
        "bottle/train/good/000.png": b"picture",
        "bottle/license.txt": b"terms",
    }
)


@pytest.fixture
def shop(site, monkeypatch):
    """A data set "shop" with category "bottle" and a plain file, in DOWNLOADS."""
    site.files.update({"bottle.tar.xz": BOTTLE, "notes.gz": BODY})
    bottle = Remote("https://official.invalid/1/bottle.tar.xz", hashlib.sha256(BOTTLE).hexdigest(), 1, ("bottle",))
    notes = Remote("https://official.invalid/2/notes.gz", SUM, 1, ("notes.gz",))
    both = (bottle, notes)
    source = Source("The Shop", "https://official.invalid", "Be kind", whole=both, categories={"bottle": bottle})
    monkeypatch.setitem(DOWNLOADS, "shop", source)
    return source


def yes(text):
    return True


def never(text):
    pytest.fail("asked although nothing is to be fetched")


def get(site, out, category="bottle", accept=yes, **more):
    return download("shop", out, category, site.url, accept=accept, patience=QUICK, **more)


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# one file


def test_a_whole_file(site, tmp_path):
    site.files["x"] = BODY
    calls = []
    fetch(f"{site.url}/x", tmp_path / "x", sha256=SUM.upper(), progress=lambda *now: calls.append(now), patience=QUICK)
    assert (tmp_path / "x").read_bytes() == BODY
    assert names(tmp_path) == {"x"}
    assert calls[0] == (0, len(BODY))
    assert calls[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert "Range" not in site.seen[0]


def test_a_cut_connection_is_resumed_at_once(site, tmp_path):
    site.files["x"], site.cuts = BODY, [100_000, 50_000]
    calls = []
    fetch(f"{site.url}/x", tmp_path / "x", sha256=SUM, progress=lambda *now: calls.append(now), patience=QUICK)
    assert (tmp_path / "x").read_bytes() == BODY
    assert [seen.get("Range") for seen in site.seen] == [None, "bytes=100000-", "bytes=150000-"]
    assert site.seen[1]["If-Range"] == '"one"'
    assert (150_000, len(BODY)) in calls


def test_every_new_byte_renews_the_patience(site, tmp_path):
    site.files["x"], site.cuts = BODY, [10_000] * 20
    fetch(f"{site.url}/x", tmp_path / "x", sha256=SUM, patience=QUICK)
    assert len(site.seen) == 21


def test_a_later_call_goes_on(site, tmp_path):
    site.files["x"], site.cuts = BODY, [100_000, 0, 0, 0]
    with pytest.raises(DataError, match=r"closed early \(3 times in a row\).*0\.1 MB of 0\.3 MB are kept in .*x\.part"):
        fetch(f"{site.url}/x", tmp_path / "x", sha256=SUM, patience=QUICK)
    assert names(tmp_path) == {"x.part", "x.part.json"}
    site.cuts = []
    site.seen.clear()
    fetch(f"{site.url}/x", tmp_path / "x", sha256=SUM, patience=QUICK)
    assert [seen["Range"] for seen in site.seen] == ["bytes=100000-"]
    assert (tmp_path / "x").read_bytes() == BODY


def test_a_server_without_ranges_starts_again(site, tmp_path):
    site.files["x"], site.cuts, site.ranges = BODY, [100_000], False
    fetch(f"{site.url}/x", tmp_path / "x", sha256=SUM, patience=QUICK)
    assert (tmp_path / "x").read_bytes() == BODY


def test_a_server_without_ranges_that_always_cuts_is_given_up(site, tmp_path):
    site.files["x"], site.cuts, site.ranges = BODY, [100_000] * 9, False
    with pytest.raises(DataError, match="closed early"):
        fetch(f"{site.url}/x", tmp_path / "x", sha256=SUM, patience=QUICK)
    assert len(site.seen) == 3


@pytest.mark.parametrize("etag", ['"two"', None])
def test_a_file_that_changed_meanwhile_is_fetched_from_its_start(site, tmp_path, etag):
    """With an ETag If-Range tells; without one, the length in Content-Range does."""
    site.files["x"], site.cuts = BODY, [100_000, 0, 0, 0]
    site.etag = etag and '"one"'
    with pytest.raises(DataError):
        fetch(f"{site.url}/x", tmp_path / "x", patience=QUICK)
    site.cuts, site.etag, site.files["x"] = [], etag, BODY[::-1] + b"more"
    fetch(f"{site.url}/x", tmp_path / "x", patience=QUICK)
    assert (tmp_path / "x").read_bytes() == BODY[::-1] + b"more"


def test_a_file_that_shrank_meanwhile(site, tmp_path):
    site.files["x"], site.cuts, site.etag = BODY, [100_000, 0, 0, 0], None
    with pytest.raises(DataError):
        fetch(f"{site.url}/x", tmp_path / "x", patience=QUICK)
    site.cuts, site.files["x"] = [], b"short"
    fetch(f"{site.url}/x", tmp_path / "x", patience=QUICK)
    assert (tmp_path / "x").read_bytes() == b"short"


def test_a_part_from_another_address_is_not_continued(site, tmp_path):
    (tmp_path / "x.part").write_bytes(b"something else")
    (tmp_path / "x.part.json").write_text(json.dumps({"url": "http://b.invalid/x", "size": 99, "validator": None}))
    site.files["x"] = BODY
    fetch(f"{site.url}/x", tmp_path / "x", sha256=SUM, patience=QUICK)
    assert "Range" not in site.seen[0]


@pytest.mark.parametrize("state", ["", "[]", '{"url": 3}'])
def test_a_damaged_note_beside_a_part(site, tmp_path, state):
    (tmp_path / "x.part").write_bytes(b"something else")
    (tmp_path / "x.part.json").write_text(state)
    site.files["x"] = BODY
    fetch(f"{site.url}/x", tmp_path / "x", sha256=SUM, patience=QUICK)
    assert (tmp_path / "x").read_bytes() == BODY


def test_a_whole_part_is_not_fetched_again(site, tmp_path):
    (tmp_path / "x.part").write_bytes(BODY)
    (tmp_path / "x.part.json").write_text(json.dumps({"url": f"{site.url}/x", "size": len(BODY), "validator": None}))
    fetch(f"{site.url}/x", tmp_path / "x", sha256=SUM, patience=QUICK)
    assert site.seen == []
    assert names(tmp_path) == {"x"}


def test_a_length_that_is_not_announced(site, tmp_path):
    site.files["x"], site.announce = BODY, False
    calls = []
    fetch(f"{site.url}/x", tmp_path / "x", sha256=SUM, progress=lambda *now: calls.append(now), patience=QUICK)
    assert (tmp_path / "x").read_bytes() == BODY
    assert calls[-1] == (len(BODY), None)


def test_a_wrong_checksum(site, tmp_path):
    site.files["x"] = BODY
    with pytest.raises(DataError) as caught:
        fetch(f"{site.url}/x", tmp_path / "x", sha256="0" * 64, patience=QUICK)
    assert f"{site.url}/x: expected SHA-256 {'0' * 64}, got {SUM} (307,200 bytes)" in str(caught.value)
    assert "What came was removed. Try again" in str(caught.value)
    assert names(tmp_path) == set()


def test_a_checksum_that_is_not_known_is_recorded_and_held_to(site, tmp_path):
    site.files["x"] = BODY
    fetch(f"{site.url}/x", tmp_path / "x", patience=QUICK)
    assert (tmp_path / "x.sha256").read_text() == f"{SUM}  x\n"
    (tmp_path / "x").unlink()
    site.files["x"] = BODY[1:]
    with pytest.raises(DataError, match=r"recorded at an earlier download, in x\.sha256"):
        fetch(f"{site.url}/x", tmp_path / "x", patience=QUICK)
    assert names(tmp_path) == {"x.sha256"}


def test_a_busy_server_is_asked_again_after_the_time_it_names(site, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(transfer.time, "sleep", waits.append)
    site.files["x"], site.refusals, site.retry_after = BODY, [503, 429], "7"
    fetch(f"{site.url}/x", tmp_path / "x", sha256=SUM, patience=QUICK)
    assert waits == [7.0, 7.0]


def test_a_time_that_is_no_number_is_none(site, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(transfer.time, "sleep", waits.append)
    site.files["x"], site.refusals, site.retry_after = BODY, [503], "\u00b2"
    fetch(f"{site.url}/x", tmp_path / "x", sha256=SUM, patience=QUICK)
    assert len(waits) == 1


@pytest.mark.parametrize(("text", "number"), [("12", 12), ("", None), (None, None), ("abc", None), ("\u00b2", None)])
def test_numbers_of_a_header(text, number):
    assert transfer._number(text) == number


def test_waits_double_and_end(site, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(transfer.time, "sleep", waits.append)
    site.refusals = [500] * 9
    with pytest.raises(DataError, match="the server answers 500"):
        fetch(f"{site.url}/x", tmp_path / "x", patience=Patience(timeout=5, retries=3, wait=1))
    assert waits == [1, 2, 4]


def test_not_found(site, tmp_path):
    with pytest.raises(DataError, match=r"/gone: expected the file, got 404 Not Found\. Its address may have changed"):
        fetch(f"{site.url}/gone", tmp_path / "gone", patience=QUICK)
    assert len(site.seen) == 1
    assert names(tmp_path) == set()


def test_a_web_page_instead_of_the_file(site, tmp_path):
    site.files["x"], site.content_type = b"<html>log in</html>", "text/html; charset=utf-8"
    with pytest.raises(DataError, match="expected the file, got a web page"):
        fetch(f"{site.url}/x", tmp_path / "x", patience=QUICK)
    assert names(tmp_path) == set()


def test_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(DataError, match=r"expected an answer from the network.*3 times in a row.*Check the connection"):
        fetch("http://127.0.0.1:1/x", tmp_path / "x", patience=QUICK)


def test_a_silent_server(tmp_path, monkeypatch):
    import socket

    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        with pytest.raises(DataError, match="timed out"):
            fetch(url, tmp_path / "x", patience=Patience(timeout=0.05, retries=1, wait=0))


def test_too_little_room_is_seen_before_anything_is_written(site, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 400_000))
    site.files["x"] = BODY
    with pytest.raises(DataError, match=r"expected 0\.6 MB free on the disk, got 0\.4 MB\. Make room"):
        fetch(f"{site.url}/x", tmp_path / "x", room_for_contents=1.0, patience=QUICK)
    assert names(tmp_path) == set()
    fetch(f"{site.url}/x", tmp_path / "x", sha256=SUM, patience=QUICK)


def test_a_disk_that_fills_up(site, tmp_path, monkeypatch):
    site.files["x"] = BODY

    def full(response, file, part):
        file.write(response.read(1000))
        file.flush()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(transfer, "_copy", full)
        with pytest.raises(DataError, match=r"x\.part: expected room for 0\.3 MB, got No space left.*goes on from"):
            fetch(f"{site.url}/x", tmp_path / "x", sha256=SUM, patience=QUICK)
    fetch(f"{site.url}/x", tmp_path / "x", sha256=SUM, patience=QUICK)
    assert [seen.get("Range") for seen in site.seen] == [None, "bytes=1000-"]


def test_a_place_that_cannot_be_written(site, tmp_path):
    site.files["x"] = BODY
    (tmp_path / "x.part").mkdir()
    with pytest.raises(DataError, match=r"x\.part: expected to write it, got .*Choose a folder that you may write to"):
        fetch(f"{site.url}/x", tmp_path / "x", patience=QUICK)


def test_ctrl_c_keeps_what_came(site, tmp_path):
    site.files["x"] = BODY

    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(f"{site.url}/x", tmp_path / "x", sha256=SUM, progress=stop, patience=QUICK)
    there = (tmp_path / "x.part").stat().st_size
    assert 0 < there <= len(BODY)
    fetch(f"{site.url}/x", tmp_path / "x", sha256=SUM, patience=QUICK)
    assert (tmp_path / "x").read_bytes() == BODY
    assert there == len(BODY) or site.seen[1]["Range"] == f"bytes={there}-"


# a data set


def test_a_category(site, shop, tmp_path):
    assert get(site, tmp_path / "data") == tmp_path / "data" / "bottle"
    assert names(tmp_path / "data") == {"bottle/train/good/000.png", "bottle/license.txt"}
    (tmp_path / "data" / "bottle" / "new").touch()  # the archive's own read-only folders are not kept so


def test_the_whole_set(site, shop, tmp_path):
    assert get(site, tmp_path, category=None) == tmp_path
    assert names(tmp_path) == {"bottle/train/good/000.png", "bottle/license.txt", "notes.gz"}
    site.seen.clear()
    get(site, tmp_path, category=None, accept=never)
    assert site.seen == []


def test_what_is_there_is_left_alone(site, shop, tmp_path):
    (tmp_path / "bottle" / "train").mkdir(parents=True)
    assert get(site, tmp_path, accept=never) == tmp_path / "bottle"
    assert site.seen == []


def test_a_link_of_the_name_is_someone_s_own_doing(site, shop, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "bottle").symlink_to(tmp_path / "elsewhere")
    assert get(site, tmp_path, accept=never) == tmp_path / "bottle"


def test_an_empty_folder_of_the_name_is_nothing(site, shop, tmp_path):
    (tmp_path / "bottle").mkdir()
    with pytest.raises(UserError, match="the licence was not accepted"):
        get(site, tmp_path, accept=lambda licence: False)
    assert any(get(site, tmp_path).iterdir())


def test_an_archive_that_is_there_is_checked_unpacked_and_kept(site, shop, tmp_path):
    (tmp_path / "bottle.tar.xz").write_bytes(BOTTLE)
    get(site, tmp_path, accept=never)
    assert site.seen == []
    assert (tmp_path / "bottle.tar.xz").exists()
    assert (tmp_path / "bottle" / "license.txt").read_bytes() == b"terms"


def test_archives_can_be_kept(site, shop, tmp_path):
    get(site, tmp_path, keep_archives=True)
    assert (tmp_path / "bottle.tar.xz").read_bytes() == BOTTLE


def test_a_damaged_archive_that_is_there_is_never_removed(site, shop, tmp_path):
    (tmp_path / "bottle.tar.xz").write_bytes(BOTTLE[:-1])
    with pytest.raises(DataError, match=r"bottle\.tar\.xz: expected SHA-256 .* Remove the file to have it"):
        get(site, tmp_path, accept=never)
    assert names(tmp_path) == {"bottle.tar.xz"}


def test_an_archive_whose_sum_was_recorded_is_held_to_it(site, shop, tmp_path, monkeypatch):
    bottle = replace(shop.categories["bottle"], sha256=None)
    monkeypatch.setitem(DOWNLOADS, "shop", replace(shop, categories={"bottle": bottle}))
    get(site, tmp_path, keep_archives=True)
    shutil.rmtree(tmp_path / "bottle")
    get(site, tmp_path, accept=never)
    shutil.rmtree(tmp_path / "bottle")
    (tmp_path / "bottle.tar.xz").write_bytes(BOTTLE + b"\0")
    with pytest.raises(DataError, match=r"bottle\.tar\.xz: expected SHA-256"):
        get(site, tmp_path, accept=never)


def test_the_licence_comes_before_any_byte(site, shop, tmp_path):
    shown = []

    def no(text):
        assert site.seen == []
        shown.append(text)
        return False

    with pytest.raises(UserError, match="the licence was not accepted, so nothing was fetched"):
        get(site, tmp_path / "data", accept=no)
    assert site.seen == []
    assert not (tmp_path / "data").exists()
    assert "The Shop\nLicence: Be kind\nTerms: https://official.invalid" in shown[0]
    assert f"{site.url}/bottle.tar.xz (about 1 MB)" in shown[0]


def test_without_base_url_the_official_address_is_shown(shop, tmp_path):
    shown = []
    with pytest.raises(UserError):
        download("shop", tmp_path, "bottle", accept=lambda text: bool(shown.append(text)))
    assert "https://official.invalid/1/bottle.tar.xz" in shown[0]


def test_a_wrong_checksum_is_seen_before_unpacking(site, shop, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "unpack", lambda *_: pytest.fail("unpacked"))
    site.files["bottle.tar.xz"] = BOTTLE + b"\0"
    with pytest.raises(DataError, match="expected SHA-256"):
        get(site, tmp_path)
    assert names(tmp_path) == set()


def test_no_two_at_once_fetch_the_same(site, shop, tmp_path):
    told = []

    def second(done, total):
        if not told:
            with pytest.raises(DataError, match=r"bottle\.tar\.xz: expected no one else to fetch it") as refused:
                get(site, tmp_path)
            told.append(refused)

    get(site, tmp_path, progress=second)
    assert told
    assert len(site.seen) == 1
    assert names(tmp_path) == {"bottle/train/good/000.png", "bottle/license.txt"}


def test_what_another_fetched_while_the_licence_was_read_is_not_fetched_again(site, shop, tmp_path):
    assert get(site, tmp_path, accept=lambda licence: bool(get(site, tmp_path))) == tmp_path / "bottle"
    assert len(site.seen) == 1
    assert names(tmp_path) == {"bottle/train/good/000.png", "bottle/license.txt"}


def test_an_archive_that_another_unpacks_is_left_to_it(site, shop, tmp_path, monkeypatch):
    (tmp_path / "bottle.tar.xz").write_bytes(BOTTLE)

    def unpack_twice(archive, out, makes):
        with pytest.raises(DataError, match="expected no one else to fetch it"):
            get(site, tmp_path)
        unpack(archive, out, makes)

    monkeypatch.setattr(module, "unpack", unpack_twice)
    get(site, tmp_path, accept=never)
    assert (tmp_path / "bottle" / "license.txt").read_bytes() == b"terms"


def test_what_is_there_and_needs_no_unpacking_is_checked_where_one_may_not_write(site, shop, tmp_path, monkeypatch):
    get(site, tmp_path, category=None)
    monkeypatch.setattr(module, "alone_by", lambda *_: pytest.fail("a lock was made"))
    assert get(site, tmp_path, category=None, accept=never) == tmp_path
    (tmp_path / "notes.gz").write_bytes(b"other")
    with pytest.raises(DataError, match=r"expected SHA-256 .* Remove the file to have it fetched again"):
        get(site, tmp_path, category=None, accept=never)


def test_a_lock_that_another_user_left_is_named(site, shop, tmp_path, monkeypatch):
    lock = tmp_path / ".bottle.tar.xz.lock"
    lock.touch()

    def refuse(file):
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(module, "alone_by", refuse)
    with pytest.raises(
        DataError, match=r"Permission denied.*where no one is fetching into it, remove .*bottle.*\.lock'"
    ):
        get(site, tmp_path)
    lock.unlink()
    with pytest.raises(DataError, match=r"Choose another folder\.$"):
        get(site, tmp_path)


def test_names_that_are_not_known(site, shop, tmp_path):
    with pytest.raises(DataError, match="unknown data set 'mvtec': the nearest there is is 'mvtec_ad'"):
        download("mvtec", tmp_path, accept=never)
    with pytest.raises(DataError, match="unknown category of shop 'botle': the nearest there is is 'bottle'"):
        get(site, tmp_path, category="botle", accept=never)
    with pytest.raises(DataError, match="mnist has no categories: leave out 'three'"):
        download("mnist", tmp_path, "three", accept=never)
    with pytest.raises(DataError, match=r"oct2017: its publisher offers no address.*data\.mendeley\.com"):
        download("oct2017", tmp_path, accept=never)
    for wrong in (
        "file:///etc",
        "http://[::1",
        "http://127.0.0.1:9/prüf",
        "http://h:x/",
        "http://",
        "http://h/a\nb",
        "http://h/a b",
    ):
        told = f"base_url: expected an http:// or https:// address, got {wrong!r}"
        with pytest.raises(DataError, match=re.escape(told)):
            download("shop", tmp_path, "bottle", wrong, accept=never)


def test_a_folder_that_cannot_be_made(site, shop, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="expected a folder to write to"):
        get(site, tmp_path / "file" / "data")


# unpacking


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        ("../evil", tarfile.REGTYPE, ""),
        ("bottle/../../evil", tarfile.REGTYPE, ""),
        ("/tmp/evil", tarfile.REGTYPE, ""),
        ("C:/evil", tarfile.REGTYPE, ""),
        ("bottle\\..\\evil", tarfile.REGTYPE, ""),
        ("../evil", tarfile.DIRTYPE, ""),
        ("bottle/link", tarfile.SYMTYPE, "/etc"),
        ("bottle/link", tarfile.SYMTYPE, "../.."),
        ("bottle/hard", tarfile.LNKTYPE, "../../secret"),
        ("bottle/pipe", tarfile.FIFOTYPE, ""),
        ("bottle/disk", tarfile.BLKTYPE, ""),
        ("bottle/tty", tarfile.CHRTYPE, ""),
    ],
)
def test_archives_that_reach_outside_are_refused_whole(tmp_path, name, kind, link):
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    path = tmp_path / "bottle.tar.xz"
    path.write_bytes(archive({"bottle/a": b"a", "evil": entry(name, kind, link)}))
    with pytest.raises(DataError, match=r"bottle\.tar\.xz: expected (names inside the|plain files and)"):
        unpack(path, out, ("bottle",))
    assert names(tmp_path) == {"bottle.tar.xz"}
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"no archive", *(BOTTLE[:n] for n in range(12, len(BOTTLE), 8))])
def test_damaged_archives(tmp_path, content):
    path = tmp_path / "bottle.tar.xz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bottle\.tar\.xz: expected a.* archive"):
        unpack(path, tmp_path, ("bottle",))
    assert names(tmp_path) == {"bottle.tar.xz"}


def test_an_archive_of_something_else(tmp_path):
    path = tmp_path / "cable.tar.xz"
    path.write_bytes(BOTTLE)
    with pytest.raises(DataError, match="expected an archive of cable, got bottle in it"):
        unpack(path, tmp_path, ("cable",))
    assert names(tmp_path) == {"cable.tar.xz"}


def test_what_an_interrupted_unpacking_left_is_replaced(tmp_path):
    (tmp_path / ".bottle.tar.gz.unpacking" / "bottle").mkdir(parents=True)
    (tmp_path / ".bottle.tar.gz.unpacking" / "bottle" / "half").touch()
    path = tmp_path / "bottle.tar.gz"
    path.write_bytes(archive({"bottle/a": b"a"}, "w:gz"))
    unpack(path, tmp_path, ("bottle",))
    assert names(tmp_path) == {"bottle.tar.gz", "bottle/a"}


def test_a_category_that_is_there_stays_when_the_rest_is_unpacked(tmp_path):
    (tmp_path / "bottle").mkdir()
    (tmp_path / "bottle" / "mine").touch()
    path = tmp_path / "all.tar.xz"
    path.write_bytes(archive({"bottle/a": b"a", "cable/a": b"a"}))
    unpack(path, tmp_path, ("bottle", "cable"))
    assert names(tmp_path) == {"all.tar.xz", "bottle/mine", "cable/a"}


# the table


def test_the_table_is_well_formed():
    for source in DOWNLOADS.values():
        assert source.page.startswith("https://")
        assert source.by_hand or source.whole
        for remote in (*source.whole, *source.categories.values()):
            assert remote.url.startswith("https://")
            assert re.fullmatch("[0-9a-f]{64}", remote.sha256)
            assert remote.is_archive == remote.name.endswith(".tar.xz")
    mvtec = DOWNLOADS["mvtec_ad"]
    assert len(mvtec.categories) == 15
    assert set(mvtec.whole[0].makes) == set(mvtec.categories)
    assert all(remote.makes == (name,) for name, remote in mvtec.categories.items())
    sums = [remote.sha256 for remote in (*mvtec.whole, *mvtec.categories.values())]
    assert len(set(sums)) == 16
