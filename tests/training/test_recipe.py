"""The run that both demo models are trained by: it is broken off and goes on, and keeps a moving average."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recipe import Run, learning_rate, silence_fast_timesteps, stratified
from torch import Tensor, nn


class Line(nn.Module):
    """A model with a matrix in a block and a bias outside."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.Linear(4, 4, bias=False)
        self.bias = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(x) + self.bias
        return out


def train(model: Line, folder: Path, steps: int) -> tuple[Run, list[dict[str, Any]]]:
    cards: list[dict[str, Any]] = []

    def save(weights: dict[str, Tensor], where: Path, card: dict[str, Any]) -> None:
        cards.append(card | {"weights": weights, "where": where})

    run = Run(model, folder, save, minutes=60, seed=3, save_every=0.0)
    for fraction in run:
        assert 0 <= fraction < 1
        x = torch.randn(8, 4, generator=run.generator)
        run.learn((model(x) - x).square().mean(), 8, lambda: None, "whole")
        if len(cards) == steps:
            break
    return run, cards


def test_a_run_goes_on_from_its_checkpoint(tmp_path: Path):
    first = Line()
    _, cards = train(first, tmp_path, 3)
    assert [card["step"] for card in cards] == [1, 2, 3][: len(cards)]
    second = Line()
    run, _ = train(second, tmp_path, 1)
    assert run.step == cards[-1]["step"] + 2  # the step whose saving was broken off, and one more
    assert run.seen == 8 * run.step
    assert cards[0]["where"] == tmp_path / "model"


def test_the_average_follows_the_weights(tmp_path: Path):
    model = Line()
    start = model.blocks.weight.detach().clone()
    _, cards = train(model, tmp_path, 2)
    average, now = cards[-1]["weights"]["blocks.weight"], model.blocks.weight
    assert not torch.equal(average, start)
    assert not torch.equal(average, now)


def test_the_learning_rate_rises_holds_and_falls_to_nothing():
    assert learning_rate(0.0, 0) == 1 / 200
    assert learning_rate(0.5, 1000) == 1.0
    assert learning_rate(0.85, 1000) == pytest.approx(0.5)
    assert learning_rate(1.0, 1000) == 0.0


def test_fast_timestep_sinusoids_lose_their_weights():
    weight = torch.ones(2, 64)
    silence_fast_timesteps(weight, shift=0)
    kept = weight[0].nonzero().flatten()
    frequencies = 10000 ** (-(kept % 32) / 32)
    assert frequencies.max() <= 0.03
    assert 10000 ** (-(kept.min() - 1) / 32) > 0.03
    assert torch.equal(weight[:, :32], weight[:, 32:])


def test_stratified_numbers_are_one_from_each_part():
    found = stratified(16, torch.Generator().manual_seed(0))
    assert sorted((found * 16).long().tolist()) == list(range(16))
    assert found.tolist() != sorted(found.tolist())
