"""What the demo compares, and what it verifies about itself. tests/test_cli.py runs it whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from torch import Tensor, nn

from fouriercache.models.demo import load_demo_model
from fouriercache.presets import FORA
from fouriercache.report import demo
from fouriercache.report.demo import Setting, check_finite, check_interval_one, check_start, choose_settings
from fouriercache.schedules import Interval
from tests.report.made_up_report import make_report


def test_the_settings_have_names_of_their_own_and_cover_both_methods_and_sites():
    settings = choose_settings(50)
    assert len({setting.label for setting in settings}) == len(settings)
    pairs = {(setting.method.name, setting.method.site) for setting in settings}
    assert pairs == {(name, site) for name in ("FORA", "TaylorSeer") for site in ("branch", "stack")} | {
        ("Tuned", "stack")
    }
    assert {len(setting.computed(50)) for setting in settings if setting.method.name != "Tuned"} == {8, 11, 18}
    assert [len(setting.computed(50)) for setting in settings if setting.method.name == "Tuned"] == [17, 10, 7]


@pytest.mark.parametrize("steps", [1, 2, 3, 50, 1000])
def test_every_setting_works_with_any_number_of_steps(steps: int):
    assert all(setting.computed(steps)[0] == 0 for setting in choose_settings(steps))


def test_a_schedule_that_decides_while_it_samples_is_refused():
    @dataclass(frozen=True)
    class Later(Interval):
        def steps(self, num_steps: int | None) -> None:
            return None

    with pytest.raises(ValueError, match="needs a schedule that is known in advance"):
        Setting(FORA(schedule=Later(3)), "later").computed(50)


def test_a_run_that_differs_before_its_first_reused_step_fails_the_check():
    runs = make_report().runs
    assert check_start(runs).passed
    wrong = replace(runs[1], drift=(0.0, 0.3, *runs[1].drift[2:]), schedule=(0, 1, 4, 6))
    found = check_start((*runs, wrong))
    assert not found.passed
    assert found.detail == "not so for FORA N=2, branch"


@pytest.mark.parametrize("start", [(float("nan"), 0.0), (0.0, float("nan"))])
def test_a_run_that_starts_with_nan_fails_the_check(start: tuple[float, float]):
    runs = make_report().runs
    wrong = replace(runs[1], drift=(*start, *runs[1].drift[2:]), schedule=(0, 1, 4, 6))
    assert not check_start((*runs, wrong)).passed


def test_an_image_with_nan_fails_the_check():
    runs = make_report().runs
    assert check_finite(runs).detail == "15 images"
    found = check_finite((*runs, replace(runs[2], errors=(0.1, float("nan"), 0.1))))
    assert (found.passed, found.detail) == (False, "not so for FORA N=4, branch")


@pytest.mark.parametrize(("factor", "passed"), [(1.0, True), (1.0 + 2**-20, False)])
def test_interval_one_must_be_exact(factor: float, passed: bool, monkeypatch: pytest.MonkeyPatch):
    class Scaled(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, hidden: Tensor, **conditioning: Tensor) -> Any:
            out = self.model(hidden, **conditioning)
            out.sample = out.sample * factor
            return out

    monkeypatch.setattr(demo, "optimize", lambda model, method, num_steps: Scaled(model))
    found = check_interval_one(load_demo_model(), 4)
    assert found.passed is passed
    assert found.detail.startswith("3 steps, largest difference")
