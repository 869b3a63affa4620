"""The evidence's own tools: pairs of runs, verdicts, the page; runs are kept and not sampled twice."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypotheses.finding import Finding, Table, judge
from hypotheses.lab import Images, Lab, relative_errors, uniform
from hypotheses.page import write_page
from hypotheses.pairs import Ratio, paired_ratio, t_95

import fouriercache as fc

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
def test_the_page_has_a_verdict_for_every_finding(tmp_path: Path):
    lab = Lab(tmp_path / "work", steps=3, images=FEW, notice=lambda text: None)
    table = Table("Two rows.", ("name", "error"), (("a", 0.25), ("b", None)), {"error": ".3f"})
    finding = Finding("H0", "the test is read", "nothing", "refuted", "0.9 [0.8, 1.1]", [table])
    write_page(tmp_path, [finding], lab)
    page = (tmp_path / "evidence.md").read_text()
    assert "| H0 | the test is read | refuted | 0.9 [0.8, 1.1] |" in page
    assert "| a | 0.250 |\n| b | - |" in page
    assert "- commit: " in page
