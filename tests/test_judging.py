"""`evaluate` from data to files: where they go, and what is told beside them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny import make_tiny

import normbank
from normbank import judging
from normbank.bundle import Bundle, read_bundle
from normbank.data.open import open_dataset
from normbank.data.samples import Dataset
from normbank.detector import Detector
from normbank.errors import UserError
from normbank.judging import judge
from normbank.settings import Data


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    root = make_tiny(tmp_path / "data", train=1, test=2, each_kind=1)
    return open_dataset(root, Data(size=32))


def test_one_file_for_figures_and_report_is_refused_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "page")
    with pytest.raises(UserError, match="--json and --report: expected two files"):
        list(judge(None, None, json_file=tmp_path / "link" / "index.html", report=tmp_path / "page"))  # type: ignore[arg-type]


def test_figures_are_written_to_what_a_link_names(tiny_model: Path, dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "latest.json").symlink_to("today.json")
    list(judge(normbank.load(tiny_model), dataset, json_file=tmp_path / "latest.json", quiet=True))
    assert (tmp_path / "latest.json").is_symlink()
    assert json.loads((tmp_path / "today.json").read_text(encoding="utf-8"))["metrics"]


def test_the_report_is_coloured_by_the_detectors_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {}
    monkeypatch.setattr("normbank.report.page.write_report", lambda *_, **named: given.update(named))
    judging.write_page(SimpleNamespace(manifest={"map_scale": 0.25}), None, Path("page"))  # type: ignore[arg-type]
    assert given == {"scale": 0.25}


@pytest.mark.parametrize(("score", "count"), [(-1.0, 2), (1e9, 0)])
def test_false_alarms_and_finds_are_counted(tiny_model: Path, dataset: Dataset, score: float, count: int) -> None:
    made = read_bundle(tiny_model)
    known = {**made.manifest["calibration"], "scores": [score] * 12}
    detector = Detector(Bundle({**made.manifest, "calibration": known}, b"", made.graph))
    *_, counts = judge(detector, dataset, quiet=True)
    assert f"{count} of 2 good raise a false alarm, {count} of 2 anomalous are found" in counts
