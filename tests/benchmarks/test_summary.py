"""The page of all targets, and the runner that writes it."""

import json
import subprocess
import sys
from pathlib import Path

from summary import PAGE, as_page

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RESULTS = BENCHMARKS / "results"


def test_the_page_in_the_repository_is_that_of_the_results_beside_it():
    assert (RESULTS / PAGE).read_text() == as_page(RESULTS), "run `python benchmarks --summary`"


def test_every_target_of_every_result_is_on_the_page(tmp_path: Path):
    def check(value: float) -> dict[str, object]:
        return {"what": f"planted {value}", "value": value, "limit": 1.0, "met": value <= 1.0}

    when = {"began": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:03:00+00:00"}
    for name in ("loop", "no_such_benchmark"):
        result = {**when, "title": name, "commit": "a" * 40 + " with changes", "checks": [check(0.5), check(2.0)]}
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    page = as_page(tmp_path)
    assert page.count("| planted 0.5 | 0.5 | 1 | yes |") == 2
    assert page.count("| planted 2.0 | 2 | 1 | **no** |") == 2
    assert "2 of 4 targets are met" in page
    assert "3.0 minutes, commit aaaaaaa with changes" in page
    assert "`step_cost` has not been run." in page


def test_a_failing_benchmark_is_named_at_the_end_and_the_others_run(tmp_path: Path):
    for path in BENCHMARKS.glob("*.py"):
        if path.stem in ("__main__", "arguments", "summary"):
            (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "breaks.py").write_text('"""Breaks."""\nif __name__ == "__main__":\n    raise SystemExit(3)\n')
    (tmp_path / "works.py").write_text('"""Works."""\nif __name__ == "__main__":\n    print("it ran")\n')
    command = [sys.executable, str(tmp_path), "--out", str(tmp_path / "results")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "it ran" in done.stdout
    assert done.stderr == "failed: breaks\n"
