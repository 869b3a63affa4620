"""The evidence's own tools: pairs of runs, verdicts, the page; runs are kept and not sampled twice."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypotheses.exchange import Exchange
from hypotheses.finding import Finding, Picture, Table, judge
from hypotheses.h7_spectral_difference import steps_by_change
from hypotheses.lab import Lab, Trial, relative_errors, uniform
from hypotheses.own_guidance import _limit, _Row
from hypotheses.own_method import BANDS, FITTED, TABLE, neighbours
from hypotheses.page import Found, read_results, write_method_rows, write_page, write_results
from hypotheses.pairs import Ratio, paired_ratio, t_95
from hypotheses.subjects import CALIBRATION, IMAGE_MODEL, Images
from hypotheses.thresholds import tuned
from hypotheses.video_kernels import check_kernels

import fouriercache as fc
from tests.tiny import TIMESTEPS, denoise, is_same, tiny_dit

FEW = Images(seeds=(1,), classes=(0, 3, 4, 7, 9))


def test_ratio_is_the_geometric_mean_with_a_student_interval():
    ratio = paired_ratio([1.0, 2.0, 4.0, 8.0, 16.0], [1.0] * 5)
    # logarithms 0, l, 2l, 3l, 4l with l = ln 2: mean 2l, standard deviation l * sqrt(2.5), t(4) = 2.776
    half = 2.776 * math.sqrt(2.5) / math.sqrt(5) * math.log(2)
    assert ratio.mean == pytest.approx(4.0)
    assert ratio.low == pytest.approx(4 * math.exp(-half), rel=5e-3)
    assert ratio.high == pytest.approx(4 * math.exp(half), rel=5e-3)
    assert ratio.is_larger
    assert not ratio.is_smaller
    assert not paired_ratio([0.5, 2.0, 1.0, 1.0, 1.5], [1.0] * 5).is_larger


def test_ratio_of_equal_shifts_is_certain():
    errors = [0.1, 0.3, 0.2, 0.5, 0.4]
    ratio = paired_ratio([2 * error for error in errors], errors)
    assert (ratio.mean, ratio.low, ratio.high) == pytest.approx((2, 2, 2))
    assert ratio.is_larger
    assert paired_ratio(errors, [2 * error for error in errors]).is_smaller


@pytest.mark.parametrize(("errors", "control"), [([1.0] * 4, [1.0] * 4), ([1.0] * 6, [1.0] * 5)])
def test_refuses_pairs_that_are_none_or_too_few(errors: list[float], control: list[float]):
    with pytest.raises(ValueError, match="at least 5"):
        paired_ratio(errors, control)


def test_student_factor_is_never_below_the_true_one():
    assert t_95(4) == 2.78
    assert t_95(8) == 2.78  # the table has no 8: the larger factor of fewer degrees
    assert t_95(1000) == 2.0


def test_verdict_follows_from_the_interval_and_the_default():
    better, equal = Ratio(0.8, 0.7, 0.9), Ratio(1.0, 0.9, 1.1)
    assert judge(better, is_default=True) == "adopted"
    assert judge(better, is_default=False) == "optional"
    assert judge(equal, is_default=False) == "refuted"
    with pytest.raises(ValueError, match="a default that does not help"):
        judge(equal, is_default=True)


def test_uniform_steps_begin_and_end_the_trajectory():
    assert uniform(50, 1) == (0,)
    assert uniform(50, 3) == (0, 24, 49)
    assert all(len(set(uniform(50, m))) == m for m in range(2, 51))


def test_errors_are_those_of_each_image_alone():
    reference = torch.ones(2, 3, 4, 4)
    images = reference.clone()
    images[1] *= 1.5
    assert relative_errors(images, reference) == pytest.approx([0.0, 0.5])


@pytest.mark.slow
def test_a_run_is_kept_and_not_sampled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lab = Lab(tmp_path, steps=3, images=FEW, notice=lambda text: None)
    method = fc.FORA(2, site="stack")
    first = lab.measure(method)
    assert len(first.errors) == 5
    assert first.computed == 2  # steps 0 and 2 of 3
    assert first.cache_bytes == 2 * 256 * 128 * 4  # one residual, float32, for both halves of the guidance
    assert all(error > 0 for error in first.errors)

    def refuse(*_: object) -> torch.Tensor:
        raise AssertionError("sampled again")

    monkeypatch.setattr(lab, "_sample", refuse)
    assert lab.measure(method) == first
    assert torch.equal(first.images(), lab.measure(method).images())
    with pytest.raises(AssertionError, match="sampled again"):
        lab.measure(fc.FORA(3, site="stack"))


@pytest.mark.slow
def test_fewer_images_are_read_from_a_run_of_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    more = Images(seeds=(1, 2), classes=FEW.classes)
    lab = Lab(tmp_path, steps=3, images=FEW, more=more, notice=lambda text: None)
    whole = lab.measure(fc.FORA(2, site="stack"), more)
    lab.uncached(FEW)
    monkeypatch.setattr(lab, "_sample", lambda *_: pytest.fail("sampled again"))
    part = lab.measure(fc.FORA(2, site="stack"))
    assert part.errors == whole.errors[:5]
    assert torch.equal(part.images(), whole.images()[:5])


def test_methods_of_one_form_share_a_module_and_run_as_they_would_alone():
    model = tiny_dit()
    exchange = Exchange(model, len(TIMESTEPS))
    seen = []
    for method in (
        fc.TaylorSeer(3, 1),
        fc.Method("own", "branch", fc.Table((0, 1, 5)), fc.Newton(1)),
        fc.TaylorSeer(3),
    ):
        shared = exchange.module_for(method)
        seen.append(shared)
        assert is_same(denoise(shared), denoise(fc.optimize(model, method, num_steps=len(TIMESTEPS))))
    assert seen[0] is seen[1]
    assert seen[2] is not seen[0]  # it keeps a feature more


def test_a_threshold_is_found_that_computes_as_many_steps():
    def measure(method: fc.Method, images: Images) -> Any:
        assert images is CALIBRATION
        schedule: Any = method.schedule
        return SimpleNamespace(computed=round(6 / schedule.threshold))

    lab: Any = SimpleNamespace(measure=measure, subject=IMAGE_MODEL)
    found: Any = tuned(lab, lambda threshold: fc.TeaCache(threshold), 10).schedule
    assert 8 <= round(6 / found.threshold) <= 10
    lab.measure = lambda *_: SimpleNamespace(computed=50)
    with pytest.raises(ValueError, match="computes as few as 10"):
        tuned(lab, lambda threshold: fc.TeaCache(threshold), 10)


def test_the_limit_is_what_the_best_recipe_has_at_its_worst_weight():
    def row(weight: float, words: str, error: float) -> _Row:
        return _Row(weight, words, *(Trial((size,), 7, 1, Path("none")) for size in (error, 1.0)))

    said = _limit([row(1.5, "near", 0.25), row(1.5, "far", 0.5), row(4, "near", 0.75), row(4, "far", 0.375)])
    assert "best over all weights (far) has 0.500" in said
    assert "at guidance 1.5 near, 0.250; at guidance 4 far, 0.375" in said


def test_neighbours_move_one_step_by_one_and_stay_a_table():
    assert neighbours((0, 1, 4), 5) == [(0, 2, 4), (0, 1, 3)]


def test_steps_by_change_are_computed_where_it_comes_together():
    changes = [0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.9, 0.1, 0.1]  # of steps 1 to 9
    assert steps_by_change(changes, 4) == (0, 3, 7, 9)  # the last step is always computed
    assert steps_by_change(changes, 10) == tuple(range(10))
    with pytest.raises(ValueError, match="no threshold computes 1 steps"):
        steps_by_change(changes, 1)


def test_kernels_on_video_grids_agree_with_torch_fft():
    for _, transform, filtered, work in check_kernels().rows:
        assert transform < 1e-5
        assert filtered < 1e-5
        assert work >= 1


def test_the_page_the_pictures_and_the_json_have_every_finding(tmp_path: Path):
    lab: Any = SimpleNamespace(steps=3, held_out=FEW, more=FEW)
    table = Table("Two rows.", ("name", "error"), (("a", 0.25), ("b", None)), {"error": ".3f"})
    picture = Picture("p.png", "Lines", "x", "y", (("a", [1.0, 2.0], [0.1, 0.01]),), is_logarithmic=True)
    ratio = Ratio(0.9, 0.8, 1.1)
    finding = Finding("H0", "the test is read", "nothing", "refuted", str(ratio), [table], [picture], commits="abc")
    write_page(tmp_path, Found([finding], table, "def"), lab)
    page = (tmp_path / "evidence.md").read_text()
    assert "| H0 | the test is read | refuted | 0.900 [0.800, 1.100] |" in page
    assert "| a | 0.250 |\n| b | - |" in page
    assert "![Lines](images/evidence/p.png)" in page
    assert "- package at commit of the runs of H0: abc\n- package at commit of the runs of every preset: def" in page
    assert (tmp_path / "images" / "evidence" / "p.png").read_bytes().startswith(b"\x89PNG")
    rows = Table("", ("name", "ratio"), (("a", ratio),), {"ratio": ".3f"})
    write_results(tmp_path, Found([finding], rows, "def"), lab)
    found = json.loads((tmp_path / "evidence.json").read_text())
    assert found["findings"][0]["tables"][0]["rows"] == [["a", 0.25], ["b", None]]
    assert found["presets"]["rows"] == [["a", {"mean": 0.9, "low": 0.8, "high": 1.1}]]
    assert found["findings"][0]["commits"] == "abc"


def test_what_calibration_gives_stands_before_what_fourier_adds(tmp_path: Path):
    lab: Any = SimpleNamespace(steps=3, held_out=FEW, more=FEW)
    ratios = [Ratio(mean, mean - 0.1, mean + 0.1) for mean in (0.3, 1.0, 0.9)]
    rows = tuple((10, part, 0.02, ratio, 768) for part, ratio in zip((TABLE, FITTED, BANDS), ratios, strict=True))
    parts = Table("Parts.", ("computed", "method", "error", "ratio to above", "cache, KiB"), rows)
    write_page(tmp_path, Found([Finding("Tuned", "-", "-", "adopted", "-", [parts])]), lab)
    said, verdicts, _ = (tmp_path / "evidence.md").read_text().partition("## Verdicts")
    assert verdicts
    assert f"At 10 computed steps the calibrated step table has {ratios[0]} times" in said
    assert said.index(str(ratios[0])) < said.index(str(ratios[1])) < said.index(str(ratios[2]))


def test_what_is_measured_anew_takes_the_place_of_what_was_written(tmp_path: Path):
    lab: Any = SimpleNamespace(steps=3, held_out=FEW, more=FEW)
    steps = Table("Steps.", ("table", "ratio"), (((0, 2), Ratio(0.5, 0.4, 0.6)),))
    picture = Picture("p.png", "Lines", "x", "y", (("a", [1.0], [0.1]),))
    first = Finding("H0", "old", "nothing", "open", "-", [steps], [picture], commits="abc")
    second = Finding("H1", "kept", "nothing", "open", "-", [steps], [picture], ["A note."], commits="abc")
    write_results(tmp_path, Found([first, second], steps, "abc"), lab)
    whole = read_results(tmp_path)
    assert [finding.markdown() for finding in whole.findings] == [first.markdown(), second.markdown()]
    assert "| (0, 2) | 0.500 [0.400, 0.600] |" in second.markdown()
    newer = Found([replace(first, claim="new", commits="def"), replace(first, name="H2", claim="more")])
    merged = whole.with_newer(newer, ("H0", "H2", "H3", "H1"))
    assert [finding.claim for finding in merged.findings] == ["new", "more", "kept"]
    assert [finding.commits for finding in merged.findings] == ["def", "abc", "abc"]
    assert (merged.presets, merged.presets_commits) == (whole.presets, "abc")
    write_page(tmp_path, merged, lab)
    assert "## H0: new" in (tmp_path / "evidence.md").read_text()


def test_each_method_has_its_own_rows_for_its_page(tmp_path: Path):
    presets = Table("All.", ("method", "error"), (("none", 0.0), ("FORA", 0.25), ("Tuned", 0.5), ("FORA", 1.0)), {})
    rows = (("control", "order 2", 1.0), ("bands", "order 2, damped", 2.0), ("fitted scalars", "no bands", 3.0))
    table = Table("Predictors.", ("kind", "predictor", "error"), rows, {"error": ".1f"})
    finding = Finding("H3", "-", "-", "open", "-", [table])
    write_method_rows(tmp_path, Found([finding], presets))
    written = {path.stem: path.read_text() for path in (tmp_path / "methods" / "measured").iterdir()}
    assert written.keys() == {"fora", "tuned", "prony", "calibrated"}
    assert written["fora"] == "| error |\n| :-- |\n| 0.25 |\n| 1.0 |\n"
    assert written["prony"].endswith("| :-- | :-- | --: |\n| control | order 2 | 1.0 |\n")
    assert "damped" not in written["calibrated"]
    with pytest.raises(ValueError, match="no row has one of"):
        table.of("predictor", "nothing")
