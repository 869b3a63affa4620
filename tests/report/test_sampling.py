"""Denoising loops that take turns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fouriercache.models.demo import CLASS_NAMES, NULL_CLASS, load_demo_scheduler, sample
from fouriercache.report.sampling import Request, SamplingLoop, relative_error, take_turns


class Halves(nn.Module):
    """Answers with half of what it is given, shifted by the class, and remembers its calls."""

    def __init__(self, log: list[str] | None = None, name: str = "") -> None:
        super().__init__()
        self.labels: list[list[int]] = []
        self.log = [] if log is None else log
        self.name = name

    def forward(self, hidden: Tensor, timestep: Tensor, class_labels: Tensor) -> Any:
        assert timestep.shape == class_labels.shape == hidden.shape[:1]
        self.labels.append(class_labels.tolist())
        self.log.append(self.name)
        return SimpleNamespace(sample=0.5 * hidden + 0.01 * class_labels.view(-1, 1, 1, 1))


REQUEST = Request.draw(classes=3, seed=1, steps=7, guidance=1.5)


def test_stopping_between_steps_changes_nothing():
    whole, parts = SamplingLoop(Halves(), REQUEST), SamplingLoop(Halves(), REQUEST)
    whole.advance(7)
    for count in (1, 3, 2, 5):
        parts.advance(count)
    assert whole.is_done
    assert parts.is_done
    assert all(torch.equal(one, other) for one, other in zip(whole.latents, parts.latents, strict=True))


def test_the_loop_samples_what_the_plain_loop_of_the_demo_model_samples():
    loop = SamplingLoop(Halves(), REQUEST)
    loop.advance(7)
    plain = sample(Halves(), load_demo_scheduler(), REQUEST.labels, REQUEST.noise, num_steps=7, guidance=1.5)
    assert torch.equal(loop.latents[-1], plain)


def test_both_halves_of_the_guidance_go_in_one_batch():
    module = Halves()
    SamplingLoop(module, REQUEST).advance(1)
    assert module.labels == [[0, 1, 2, NULL_CLASS, NULL_CLASS, NULL_CLASS]]


def test_loops_take_turns_and_who_begins_moves_on():
    log: list[str] = []
    turns: list[int] = []
    loops = [SamplingLoop(Halves(log, name), REQUEST) for name in "abc"]
    take_turns(loops, turns.append)
    assert "".join(log) == "aaaaabbbbbccccc" + "bbccaa"
    assert turns == [0, 1, 2, 1, 2, 0]
    assert all(loop.seconds > 0 for loop in loops)


def test_a_seed_means_the_same_noise_and_every_class_comes_once():
    one, other = (Request.draw(classes=len(CLASS_NAMES), seed=3, steps=5, guidance=1.0) for _ in range(2))
    assert torch.equal(one.noise, other.noise)
    assert one.labels.tolist() == list(range(len(CLASS_NAMES)))
    assert not torch.equal(one.noise, Request.draw(classes=10, seed=4, steps=5, guidance=1.0).noise)


def test_the_error_is_relative_to_the_reference():
    assert relative_error(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 4.0])) == pytest.approx(0.75)
    assert relative_error(torch.ones(3), torch.ones(3)) == 0
