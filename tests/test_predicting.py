"""Scoring many files: where their names come from, where the results go, and what is left when something fails."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hostile import BROKEN, make_hostile
from limits import no_room
from PIL import Image
from tiny import defective, save, weave

import normbank
from normbank import decoding, images
from normbank.bundle import Bundle, read_bundle
from normbank.data.files import DRAWN
from normbank.detector import Detector
from normbank.errors import BundleError, DataError, ImageError, UserError
from normbank.outlets import COLUMNS, HEADER, Outlets, Target
from normbank.predicting import Tally, find_targets, score_all
from normbank.report.overlays import overlay, to_original


@pytest.fixture(scope="module")
def detector(tiny_model):
    return normbank.load(tiny_model)


@pytest.fixture
def folder(tmp_path):
    """Two good images, a defective one, a broken one, in two levels."""
    root = tmp_path / "images"
    save(root / "a.png", weave(300))
    save(root / "sub" / "b.png", weave(301))
    save(root / "sub" / "spot.bmp", defective(302, "spot")[0])
    (root / "broken.png").write_text("no picture")
    return root


def rows_of(path):
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def names(targets):
    return [(target.name, str(target.relative)) for target in targets]


# ---------------------------------------------------------------- names


def test_a_folder_is_searched_and_its_results_are_filed_by_the_names_in_it(folder):
    (folder / "notes.txt").write_text("no image, and not called one")
    (folder / "folder.png").mkdir()
    found = names(find_targets([str(folder)]))
    assert [relative for _, relative in found] == [
        "a.png", "broken.png", "folder.png", "sub/b.png", "sub/spot.bmp"
    ]  # fmt: skip
    assert [path for path, _ in found] == [str(folder / relative) for _, relative in found]


def test_files_are_taken_whatever_their_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("")
    assert names(find_targets(["notes.txt", str(tmp_path / "notes.txt")])) == [
        ("notes.txt", "notes.txt"),
        (str(tmp_path / "notes.txt"), f"_{tmp_path / 'notes.txt'}"),
    ]


def test_several_folders_do_not_meet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind in "ab":
        save(tmp_path / kind / "x.png", weave(1))
    assert [relative for _, relative in names(find_targets(["a", "./b"]))] == ["a/x.png", "b/x.png"]


def test_what_is_not_there_and_what_is_empty_is_said_at_once(tmp_path):
    save(tmp_path / "a.png", weave(1))
    with pytest.raises(DataError, match=r"gone.png': there is no such file or folder\. Give image files, folders,"):
        find_targets([str(tmp_path / "a.png"), str(tmp_path / "gone.png")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty': no image in this folder\. Expected files ending in \.png, \.jpg"):
        find_targets([str(tmp_path / "empty")])
    with pytest.raises(DataError, match="'-': there is no such file"):
        find_targets(["-"])


def test_a_link_that_leads_nowhere_is_a_target(tmp_path):
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere")
    assert len(names(find_targets([str(tmp_path / "link.png")]))) == 1


@pytest.mark.parametrize(
    ("text", "null", "expected"),
    [
        (b"a.png\nb c.png\n", False, ["a.png", "b c.png"]),
        (b"a.png\r\nb.png", False, ["a.png", "b.png"]),
        (b"\n  \n\na.png\n", False, ["a.png"]),
        (b"two\nlines.png\0 b.png \0", True, ["two\nlines.png", " b.png "]),
        (b"\0\0a.png", True, ["a.png"]),
        ("検査 ü.png\n".encode() + b"latin_\xe9.png\n", False, ["検査 ü.png", "latin_\udce9.png"]),
        (b"", False, []),
        (b"", True, []),
    ],
)
def test_names_on_standard_input(text, null, expected):
    assert [path for path, _ in names(find_targets(["-"], io.BytesIO(text), null=null))] == expected


@pytest.mark.parametrize("null", [False, True])
def test_names_that_come_in_pieces_longer_than_any_chunk(null):
    wanted = [f"{number}_{'x' * 200}.png" for number in range(1000)]
    text = ("\0" if null else "\n").join(wanted).encode()
    assert [path for path, _ in names(find_targets(["-"], io.BytesIO(text), null=null))] == wanted


@pytest.mark.parametrize(("null", "end"), [(False, b"\n"), (True, b"\0")])
def test_a_name_is_answered_when_it_has_come_not_when_the_stream_ends(detector, tmp_path, null, end):
    path, shown, answered = save(tmp_path / "a.png", weave(1)), [], threading.Event()
    read, write = os.pipe()

    def answer(row):
        shown.append(row["path"])
        answered.set()

    with os.fdopen(read, "rb") as stream:
        targets = find_targets(["-"], stream, null=null)
        work = threading.Thread(target=score_all, args=(detector, targets, Outlets()), kwargs={
            "show": answer, "batch_size": 1
        })  # fmt: skip
        work.start()
        for number in range(1, 4):
            answered.clear()
            os.write(write, os.fsencode(path) + end)
            assert answered.wait(10)
            assert len(shown) == number
        os.close(write)
        work.join(10)
    assert not work.is_alive()


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("../../x.png", "_../_../x.png"),
        ("/etc/x.png", "_/etc/x.png"),
        ("a/../../x.png", "a/_../_../x.png"),
        ("./a//x.png", "a/x.png"),
        ("//x.png", "_/x.png"),
        ("..", "_.."),
        ("_../x.png", "__../x.png"),
        ("_/x.png", "__/x.png"),
        ("_a/x_.png", "_a/x_.png"),
        ("...png", "...png"),
    ],
)
def test_no_name_leads_out_of_the_output_folder(name, inside):
    ((path, relative),) = names(find_targets(["-"], io.BytesIO(name.encode())))
    assert relative == inside
    assert path == name


# ---------------------------------------------------------------- results


def test_csv_and_jsonl_hold_a_row_for_every_file(detector, folder, tmp_path):
    outlets = Outlets(csv=tmp_path / "new" / "o.csv", jsonl=tmp_path / "o.jsonl")
    tally = score_all(detector, find_targets([str(folder)]), outlets)
    rows, lines = rows_of(outlets.csv), lines_of(outlets.jsonl)
    assert tuple(rows[0]) == COLUMNS == tuple(lines[0])
    assert [row["path"] for row in rows] == [line["path"] for line in lines]
    for row, line in zip(rows, lines, strict=True):
        assert row == {name: "" if value is None else str(value) for name, value in line.items()}
        if line["error"] is None:
            found = detector.predict(line["path"])
            assert line["score"] == pytest.approx(found.score, rel=1e-6)
            assert (line["threshold"], line["p_value"]) == (found.threshold, found.p_value)
            assert line["is_anomalous"] is found.is_anomalous
    broken = lines[1]
    assert broken["error"].startswith("is not an image of a known format (PNG, ")
    assert [broken[name] for name in COLUMNS[1:5]] == [None] * 4
    assert tally == Tally(scored=3, anomalous=sum(bool(line["is_anomalous"]) for line in lines), broken=1)
    assert lines[-1]["is_anomalous"] is True


def test_maps_are_the_raw_numbers_and_overlays_the_originals_size(detector, folder, tmp_path):
    save(folder / "long.png", np.resize(weave(3), (20, 90, 3)))
    outlets = Outlets(maps=tmp_path / "maps", overlays=tmp_path / "heat")
    score_all(detector, find_targets([str(folder)]), outlets)
    expected = {"a.png", "long.png", "sub/b.png", "sub/spot.bmp"}
    for root, suffix in ((outlets.maps, ".npy"), (outlets.overlays, ".png")):
        assert {str(path.relative_to(root)) for path in root.rglob("*.*")} == {
            DRAWN, *(name + suffix for name in expected)
        }  # fmt: skip
    for name in expected:
        found = detector.predict(folder / name).anomaly_map
        kept = np.load(outlets.maps / f"{name}.npy", allow_pickle=False)
        assert kept.dtype == np.float32
        assert np.allclose(kept, found, rtol=0, atol=1e-6)
        original = np.asarray(Image.open(folder / name))
        drawn = np.asarray(Image.open(outlets.overlays / f"{name}.png"))
        at_size = to_original(found, original.shape[:2])
        expected_picture = overlay(original, at_size, detector.manifest["map_scale"])
        assert np.abs(drawn.astype(int) - expected_picture).max() <= 1


@pytest.mark.parametrize("fit", ["pad", "crop"])
def test_overlays_lie_where_the_model_looked(tiny_model, tmp_path, fit):
    made = read_bundle(tiny_model)
    detector = Detector(Bundle({**made.manifest, "image": {**made.manifest["image"], "fit": fit}}, b"", made.graph))
    wide = np.resize(weave(3), (24, 72, 3))
    path = save(tmp_path / "wide.png", wide)
    score_all(detector, find_targets([str(path)]), Outlets(overlays=tmp_path / "heat"))
    (drawn,) = (tmp_path / "heat").rglob("*.png")
    expected = overlay(wide, to_original(detector.predict(wide).anomaly_map, (24, 72), fit), made.manifest["map_scale"])
    assert np.abs(np.asarray(Image.open(drawn)).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("shape", "size"), [((3, 9000), (4096, 1)), ((8192, 64), (32, 4096)), ((64, 4096), (4096, 64))]
)
def test_overlays_of_very_large_images_are_smaller(detector, tmp_path, shape, size):
    path = save(tmp_path / "large.png", np.resize(weave(3), (*shape, 3)))
    score_all(detector, find_targets([str(path)]), Outlets(overlays=tmp_path / "heat"))
    (drawn,) = (tmp_path / "heat").rglob("*.png")
    with Image.open(drawn) as picture:
        assert picture.size == size


def test_the_same_stem_does_not_meet(detector, tmp_path):
    for suffix in ("png", "bmp", "tiff"):
        save(tmp_path / "in" / f"x.{suffix}", weave(len(suffix)))
    score_all(detector, find_targets([str(tmp_path / "in")]), Outlets(maps=tmp_path / "out"))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {DRAWN, "x.bmp.npy", "x.png.npy", "x.tiff.npy"}


def test_outputs_stay_in_their_folder(detector, tmp_path, monkeypatch):
    save(tmp_path / "x.png", weave(1))
    work = tmp_path / "work" / "deeper"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    listed = io.BytesIO(f"../../x.png\n{tmp_path}/x.png\n".encode())
    score_all(detector, find_targets(["-"], listed), Outlets(maps=Path("maps"), overlays=Path("heat")))
    assert sorted(str(path) for path in work.rglob("*.np?") if path.is_file()) == sorted(
        [str(work / "maps/_../_../x.png.npy"), f"{work}/maps/_{tmp_path}/x.png.npy"]
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["work", "x.png"]


def test_a_name_from_the_root_and_one_from_here_do_not_meet(detector, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = tmp_path / str(tmp_path)[1:] / "x.png"  # what a name without its root would be, from here
    paths = save(here, weave(1)).relative_to(tmp_path), save(tmp_path / "x.png", weave(2))
    score_all(detector, find_targets([*map(str, paths)]), Outlets(maps=Path("maps")))
    assert len([*Path("maps").rglob("*.npy")]) == 2


OWN = {"maps": "frame.npy", "overlays": "frame.png"}


@pytest.mark.parametrize("kind", OWN)
def test_in_a_folder_of_ones_own_nothing_but_earlier_drawings_is_replaced(detector, tmp_path, kind):
    before = save(tmp_path / "b.png", weave(2)).read_bytes()
    (own := tmp_path / "own" / OWN[kind]).parent.mkdir()
    own.write_bytes(before)
    outlets, target = Outlets(**{kind: own.parent}), Target(str(tmp_path / "b.png"), Path("frame"))
    with pytest.raises(UserError, match=rf"{own.name}': expected a new file, or earlier results of this kind, got ano"):
        score_all(detector, [target], outlets)
    assert own.read_bytes() == before
    drawn = set()
    for number in range(4):  # other images of other sizes under one name, as a camera writes them
        save(tmp_path / "b.png", weave(number, 32 + 7 * number))
        assert score_all(detector, [replace(target, relative=Path("other"))], outlets).scored == 1
        (made,) = (path for path in own.parent.iterdir() if path.name.startswith("other"))
        drawn.add(made.read_bytes())
    assert len(drawn) == 4


def test_a_map_of_another_size_is_an_earlier_map(detector, tmp_path):
    (own := tmp_path / "own").mkdir()
    (own / "notes.txt").write_text("mine")
    target = Target(str(save(tmp_path / "b.png", weave(2))), Path("b.png"))
    for earlier in (np.zeros((64, 64), np.float32), np.zeros((1000, 8), np.float32)):
        np.save(own / "b.png.npy", earlier)
        assert score_all(detector, [target], Outlets(maps=own)).scored == 1
    for mine in (np.zeros((32, 32)), np.zeros((32, 32), np.uint8), np.zeros((32, 32, 1), np.float32)):
        np.save(own / "b.png.npy", mine)
        with pytest.raises(UserError, match="expected a new file, or earlier results of this kind"):
            score_all(detector, [target], Outlets(maps=own))


def test_a_table_behind_something_else_has_its_header(tiny_model, tmp_path):
    save(tmp_path / "a.png", weave(1))
    one = f"{sys.executable} -m normbank predict {tiny_model} a.png --csv /dev/stdout"
    script = f"(echo '# night shift'; {one}) > x.csv"
    subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, timeout=120, check=True)
    first, header, *rows = (tmp_path / "x.csv").read_text(encoding="utf-8").splitlines()
    assert (first, header, len(rows)) == ("# night shift", ",".join(COLUMNS), 1)


@pytest.mark.parametrize(("option", "name"), [("--csv", "all.csv"), ("--jsonl", "all.jsonl")])
def test_a_table_on_standard_output_adds_to_what_it_leads_to(tiny_model, tmp_path, option, name):
    """Two runs into one redirect, and one that is appended: none takes away what another wrote."""
    save(tmp_path / "a.png", weave(1)), save(tmp_path / "b.png", weave(2))
    one = f"{sys.executable} -m normbank predict {tiny_model} $f.png {option} /dev/stdout"
    script = f"for f in a b; do {one}; done > {name}; f=a; {one} >> {name}"
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == ""
    read = rows_of if option == "--csv" else lines_of
    assert [row["path"] for row in read(tmp_path / name)] == ["a.png", "b.png", "a.png"]


def test_what_was_drawn_is_not_scored_next_time(detector, tmp_path):
    folder = tmp_path / "in"
    for name in ("x.png", "sub/y.png", "pictures/z.png"):
        save(folder / name, weave(1))
    outlets = Outlets(maps=folder / "heat" / "maps", overlays=folder / "heat")
    before = names(find_targets([str(folder)]))
    assert score_all(detector, find_targets([str(folder)]), outlets).scored == 3
    assert names(find_targets([str(folder)])) == before
    assert len(names(find_targets([str(folder / "heat")]))) == 3  # where they are asked for: without those of maps
    score_all(detector, find_targets([str(folder / "x.png")]), Outlets(overlays=folder / "pictures"))
    assert str(folder / "pictures" / "z.png") in dict(names(find_targets([str(folder)])))  # it had images of its own


def test_a_folder_one_may_not_look_into_is_told_and_the_rest_is_scored(detector, folder, tmp_path, monkeypatch):
    (folder / "closed").mkdir()
    stat, listdir = os.stat, os.listdir

    def refused(real):
        def call(path=".", *more, **named):
            if "closed" in Path(os.fspath(path)).parts[:-1] or (real is listdir and str(path).endswith("closed")):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *more, **named)

        return call

    monkeypatch.setattr(os, "stat", refused(stat))
    monkeypatch.setattr(os, "listdir", refused(listdir))
    found = names(find_targets([str(folder)]))
    assert len(found) == 5
    assert "closed" in dict(found).values()
    outlets = Outlets(jsonl=tmp_path / "o.jsonl")
    score_all(detector, find_targets([str(folder)]), outlets)
    errors = {Path(row["path"]).name: row["error"] for row in lines_of(outlets.jsonl)}
    assert errors["closed"] == "the folder cannot be listed: Permission denied"


def test_rows_have_the_names_that_were_given(detector, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("x.png", "sub/y.png"):
        save(tmp_path / name, weave(1))
    given = ["./x.png", "sub//y.png", ".//gone.png"]
    outlets = Outlets(jsonl=tmp_path / "o.jsonl")
    score_all(detector, find_targets(["-"], io.BytesIO("\n".join(given).encode())), outlets)
    assert [row["path"] for row in lines_of(outlets.jsonl)] == given
    score_all(detector, find_targets(given[:2]), outlets)
    assert [row["path"] for row in lines_of(outlets.jsonl)] == given[:2]


def test_a_link_among_the_outputs_is_replaced_not_followed(detector, tmp_path):
    save(tmp_path / "in" / "x.png", weave(1))
    (tmp_path / "precious").write_text("keep me")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.png.npy").symlink_to(tmp_path / "precious")
    outlets = Outlets(maps=tmp_path / "out")
    with pytest.raises(UserError, match=r"x\.png\.npy': expected a new file, or earlier results"):
        score_all(detector, find_targets([str(tmp_path / "in")]), outlets)  # a folder of someone's own
    (tmp_path / "out" / DRAWN).touch()
    score_all(detector, find_targets([str(tmp_path / "in")]), outlets)
    assert (tmp_path / "precious").read_text() == "keep me"
    assert np.load(tmp_path / "out" / "x.png.npy").shape == (32, 32)


def test_linked_images_are_scored(detector, tmp_path):
    real = save(tmp_path / "real" / "x.png", weave(1))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.png").symlink_to(real)
    (tmp_path / "in" / "folder").symlink_to(tmp_path / "real")
    (tmp_path / "in" / "lost.png").symlink_to(tmp_path / "nowhere")
    tally = score_all(detector, find_targets([str(tmp_path / "in")]), Outlets(csv=tmp_path / "o.csv"))
    assert (tally.scored, tally.broken) == (2, 1)
    rows = rows_of(tmp_path / "o.csv")
    assert [Path(row["path"]).name for row in rows] == ["x.png", "link.png", "lost.png"]
    assert len({row["score"] for row in rows[:2]}) == 1


def test_names_with_anything_in_them_are_kept_to_the_byte(detector, tmp_path):
    odd = ["two\nlines.png", "検査 🔧.png", 'quote" , comma.png', os.fsdecode(b"latin_\xe9.png"), "-dash.png"]
    odd.append("a\r.png")
    for name in odd:
        save(tmp_path / "in" / name, weave(1))
    outlets = Outlets(tmp_path / "o.csv", tmp_path / "o.jsonl", tmp_path / "maps", tmp_path / "heat")
    listed = b"\0".join(os.fsencode(tmp_path / "in" / name) for name in odd)
    assert score_all(detector, find_targets(["-"], io.BytesIO(listed), null=True), outlets).scored == len(odd)
    for rows in (rows_of(outlets.csv), lines_of(outlets.jsonl)):
        assert [Path(row["path"]).name for row in rows] == odd
    score_all(detector, find_targets([str(tmp_path / "in")]), Outlets(maps=tmp_path / "flat"))
    assert {path.name for path in (tmp_path / "flat").iterdir()} == {DRAWN, *(f"{name}.npy" for name in odd)}


def test_names_as_long_as_they_can_be(detector, tmp_path):
    long = ["x" * 251 + ".png", "x" * 250 + "y.png", "ü" * 125 + ".png"]
    for name in long:
        save(tmp_path / "in" / name, weave(1))
    outlets = Outlets(maps=tmp_path / "maps", overlays=tmp_path / "heat")
    assert score_all(detector, find_targets([str(tmp_path / "in")]), outlets).scored == 3
    assert len(list(outlets.maps.glob("*.npy"))) == len(list(outlets.overlays.glob("*.png"))) == 3
    (listed,) = names(find_targets(["-"], io.BytesIO(b"y" * 5000)))
    assert score_all(detector, [Target(listed[0], Path(listed[1]))], outlets).broken == 1


def test_a_hostile_folder_is_survived_and_each_fate_told(detector, tmp_path):
    fates = make_hostile(tmp_path / "hostile")
    outlets = Outlets(tmp_path / "o.csv", tmp_path / "o.jsonl", tmp_path / "maps", tmp_path / "heat")
    tally = score_all(detector, find_targets([str(tmp_path / "hostile")]), outlets)
    found = {Path(line["path"]).name: bool(line["error"]) for line in lines_of(outlets.jsonl)}
    assert found == {name: fate == BROKEN for name, fate in fates.items()}
    assert tally.broken == sum(found.values())
    assert len(list(outlets.overlays.glob("*.png"))) == tally.scored == len(found) - tally.broken


# ---------------------------------------------------------------- streams and failures


def test_names_are_not_taken_ahead(detector):
    taken, shown = [], []

    def ten_thousand():
        for number in range(10_000):
            taken.append(number)
            yield Target(f"/nowhere/{number}.png", Path(f"{number}.png"))

    class Enough(Exception):
        pass

    def show(row):
        shown.append(row)
        assert len(taken) - len(shown) < 16
        if len(shown) == 50:
            raise Enough

    with pytest.raises(Enough):
        score_all(detector, ten_thousand(), Outlets(), show=show)
    assert len(taken) == 64  # four batches of 16


def test_results_are_written_as_they_come(detector, folder, tmp_path):
    outlets, held = Outlets(tmp_path / "o.csv", tmp_path / "o.jsonl"), []

    def show(row):
        held.append((len(rows_of(outlets.csv)), len(lines_of(outlets.jsonl))))

    score_all(detector, find_targets([str(folder)]), outlets, show=show, batch_size=2)
    assert held == [(n, n) for n in range(1, 5)]


def test_what_has_a_score_is_watched_before_its_row_is_written(detector, folder):
    events = []
    score_all(
        detector,
        find_targets([str(folder)]),
        Outlets(),
        watch=lambda target: events.append(("watched", target.path.name)),
        show=lambda row: events.append(("shown", Path(row["path"]).name)),
    )
    assert ("shown", "broken.png") in events
    assert ("watched", "broken.png") not in events
    for name in ("a.png", "b.png"):
        assert events.index(("watched", name)) + 1 == events.index(("shown", name))


def test_strict_stops_at_the_first_broken_file_after_writing_what_came_before(detector, folder, tmp_path):
    outlets = Outlets(csv=tmp_path / "o.csv")
    with pytest.raises(ImageError, match=r"broken.png': is not an image"):
        score_all(detector, find_targets([str(folder)]), outlets, strict=True)
    assert [Path(row["path"]).name for row in rows_of(outlets.csv)] == ["a.png", "broken.png"]


def test_a_file_that_goes_while_it_is_scored_is_told(detector, folder, tmp_path, monkeypatch):
    read = decoding.read

    def gone(path, frame=None):
        Path(path).unlink()
        return read(path, frame)

    outlets = Outlets(csv=tmp_path / "o.csv", overlays=tmp_path / "heat")
    targets = list(find_targets([str(folder / "a.png"), str(folder / "sub" / "b.png")]))
    monkeypatch.setattr(images, "load", lambda *_: weave(1, 32))
    monkeypatch.setattr(decoding, "read", gone)
    tally = score_all(detector, targets, outlets)
    assert (tally.scored, tally.broken) == (0, 2)
    assert rows_of(outlets.csv)[0]["error"] == (
        "cannot be read: No such file or directory (it changed after it was scored)"
    )


def test_places_that_cannot_be_written_are_named_before_the_work(detector, folder, tmp_path):
    taken = tmp_path / "file"
    taken.write_text("mine")
    tables = Outlets(csv=taken / "o.csv"), Outlets(jsonl=tmp_path)
    for outlets in (*tables, Outlets(maps=taken), Outlets(overlays=taken)):
        with pytest.raises(UserError, match=r"cannot be (written|made): .*\. Name another"):
            score_all(detector, iter(lambda: pytest.fail("begun"), None), outlets)
    assert taken.read_text() == "mine"


@pytest.mark.parametrize("way", [".", "link"])
def test_one_file_for_both_tables_is_refused(detector, tmp_path, way):
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(UserError, match=r"--csv and --jsonl: expected two files, got '.*o.txt' for both"):
        score_all(detector, [], Outlets(csv=tmp_path / "o.txt", jsonl=tmp_path / way / "o.txt"))


def test_a_folder_that_is_written_into_is_not_searched(tmp_path):
    for name in ("x.png", "own/z.png"):
        save(tmp_path / name, weave(1))
    assert [str(target.relative) for target in find_targets([str(tmp_path)], without=[tmp_path / "own"])] == ["x.png"]
    (tmp_path / "link").symlink_to(tmp_path / "own")
    with pytest.raises(UserError, match="expected a folder that is only read"):
        find_targets([str(tmp_path / "link")], without=[tmp_path / "own"])


@pytest.mark.parametrize("option", ["csv", "jsonl"])
def test_an_image_or_a_model_is_not_written_over(detector, folder, tiny_model, option):
    for path in (folder / "a.png", tiny_model):
        before = path.read_bytes()
        with pytest.raises(
            UserError, match=r"expected a new file, or earlier results of this kind, got another file\. It"
        ):
            score_all(detector, [], Outlets(**{option: path}))
        assert path.read_bytes() == before


def test_a_table_of_ones_own_that_begins_like_ours_is_kept(detector, folder, tmp_path):
    more, labels, numbers = (tmp_path / name for name in ("more.csv", "labels.jsonl", "numbers.jsonl"))
    numbers.write_text("5\n", encoding="utf-8")
    more.write_bytes(",".join((*COLUMNS, "comment")).encode() + b"\r\n")
    labels.write_text('{"path": "a.png", "label": 1}\n', encoding="utf-8")
    for outlets in (Outlets(csv=more), Outlets(jsonl=labels), Outlets(jsonl=numbers)):
        with pytest.raises(UserError, match="expected a new file, or earlier results of this kind"):
            score_all(detector, [], outlets)


def test_earlier_rows_stay_until_the_first_new_one_or_an_end_without(detector, folder, tmp_path):
    outlets = Outlets(csv=tmp_path / "o.csv", jsonl=tmp_path / "o.jsonl")
    targets = list(find_targets([str(folder)]))
    score_all(detector, [], outlets)
    assert rows_of(outlets.csv) == lines_of(outlets.jsonl) == []
    assert outlets.csv.read_text(encoding="utf-8").startswith(",".join(COLUMNS))
    score_all(detector, targets, outlets)
    before = rows_of(outlets.csv), lines_of(outlets.jsonl)
    assert [len(one) for one in before] == [4, 4]

    def interrupted():
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        score_all(detector, interrupted(), outlets)
    assert (rows_of(outlets.csv), lines_of(outlets.jsonl)) == before
    score_all(detector, targets[:1], outlets)
    assert (rows_of(outlets.csv), lines_of(outlets.jsonl)) == (before[0][:1], before[1][:1])
    score_all(detector, [], outlets)  # what it says of is this run, not the one before
    assert rows_of(outlets.csv) == lines_of(outlets.jsonl) == []
    assert outlets.csv.read_text(encoding="utf-8").startswith(",".join(COLUMNS))


def test_a_full_disk_is_named(detector, folder, tmp_path):
    targets = list(find_targets([str(folder)]))
    for outlets in (Outlets(csv=Path("/dev/full")), Outlets(jsonl=Path("/dev/full"))):
        with pytest.raises(UserError, match=r"'/dev/full' cannot be written: No space left on device"):
            score_all(detector, targets, outlets)
    outlets = Outlets(csv=tmp_path / "o.csv", maps=tmp_path / "maps")
    with no_room(200), pytest.raises(BundleError, match=r"a.png.npy' cannot be written: File too large"):
        score_all(detector, targets, outlets)
    assert [path.name for path in outlets.maps.iterdir()] == [DRAWN]
    assert rows_of(outlets.csv) == []


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_disk_that_fills_up_cuts_no_row(detector, folder, tmp_path, suffix):
    """Half of a number would be read as another one."""
    targets, path = list(find_targets([str(folder)])), tmp_path / f"o.{suffix}"
    outlets = Outlets(**{suffix: path})
    score_all(detector, targets, outlets)
    whole = path.read_bytes()
    first = whole.index(b"\n", len(HEADER) if suffix == "csv" else 0) + 1
    for room in (first - 20, first + 10, len(whole) - 3):
        path.unlink()
        with no_room(room), pytest.raises(UserError, match=r"cannot be written: File too large"):
            score_all(detector, targets, outlets)
        left = path.read_bytes()
        assert whole.startswith(left)
        assert not left or left.endswith(b"\n")
        score_all(detector, targets, outlets)
        assert path.read_bytes() == whole


def test_without_a_threshold_there_is_no_verdict(tiny_model, folder, tmp_path):
    made = read_bundle(tiny_model)
    bare = {**made.manifest, "calibration": {"scores": [], "false_alarm_rate": 0.01}}
    detector = Detector(Bundle(bare, b"", made.graph))
    tally = score_all(detector, find_targets([str(folder)]), Outlets(jsonl=tmp_path / "o"))
    assert (tally.scored, tally.anomalous) == (3, 0)
    assert {line["is_anomalous"] for line in lines_of(tmp_path / "o")} == {None}
