"""Where the demo may write, and how."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fouriercache.report.files import prepare_folder, write_report
from tests.report.made_up_report import make_report


def test_makes_the_folder_with_its_parents(tmp_path: Path):
    prepare_folder(tmp_path / "a" / "b")
    prepare_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("below", ["", "deeper", "deeper/still"])
def test_a_file_in_the_way_is_named(tmp_path: Path, below: str):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(NotADirectoryError, match=r"taken is a file, not a folder\. Give --out another folder"):
        prepare_folder(tmp_path / "taken" / below)
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(PermissionError, match=r"Cannot write into .*closed"):
        prepare_folder(tmp_path / "closed")


def test_a_full_disk_is_said_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(PermissionError, match="No space left on device"):
        prepare_folder(tmp_path)


def test_writes_a_page_and_a_result_and_nothing_else(tmp_path: Path):
    page = write_report(make_report(), tmp_path)
    assert page == tmp_path / "report.html"
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "results.json"}
    assert json.loads((tmp_path / "results.json").read_text())["seed"] == 7


def test_a_failed_write_leaves_the_old_page_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_report(make_report(), tmp_path)
    old = (tmp_path / "report.html").read_text()

    def fail(self: Path, text: str, encoding: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="No space left"):
        write_report(make_report(passed=False), tmp_path)
    assert (tmp_path / "report.html").read_text() == old
    assert len(list(tmp_path.iterdir())) == 2
