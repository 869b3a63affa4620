"""Models and methods for which tokens cannot be chosen are refused: what is wrong, where, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

import fouriercache as fc
from tests.test_bad_input import says
from tests.tiny import denoise, labels, noise, step_inputs, tiny_dit


class Mixer(nn.Module):
    """An MLP over tokens, as in MLP-Mixer, where the DiT's own is over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.tokens(x.transpose(1, 2))
        return mixed.transpose(1, 2)


@dataclass(frozen=True)
class Some:
    """Tokens from outside the package that do not say which they are."""

    name: ClassVar[str] = "some"
    is_partial: ClassVar[bool] = True


def example() -> dict[str, torch.Tensor]:
    return step_inputs(noise(), 900, labels())


def test_refuses_a_model_whose_mlps_mix_tokens():
    model = tiny_dit()
    for block in model.transformer_blocks:
        block.ff = Mixer()
    with pytest.raises(fc.UnsupportedModelError, match=says("no site of the model", "transpose.int", "tokens=All()")):
        fc.optimize(model, fc.ToCa(), num_steps=8, example_inputs=example())


def test_says_which_sites_are_not_cut_and_why():
    fast = fc.optimize(tiny_dit(), fc.ToCa(), num_steps=8, example_inputs=example())
    assert [refusal.reason for refusal in fast.report.refused["SelectTokens"]] == [
        f"transformer_blocks.{block}.attention: a site of kind attention mixes tokens" for block in range(2)
    ]


def test_refuses_more_tokens_than_the_model_has():
    tokens = fc.TopK(fc.Age(), fc.FixedCounts((4, 17)))
    with pytest.raises(fc.MethodError, match=says("17 tokens of a site that has 16", "at most 16")):
        fc.optimize(tiny_dit(), fc.ToCa(tokens=tokens), num_steps=8, example_inputs=example())


def test_refuses_a_grid_that_is_not_that_of_the_tokens():
    with pytest.raises(fc.UnsupportedModelError, match=says("1 x 3 x 3 has 9 tokens", "streams of 16 tokens")):
        fc.optimize(tiny_dit(), fc.ToCa(), num_steps=8, grid=fc.TokenGrid(1, 3, 3), example_inputs=example())


@pytest.mark.parametrize("site", ["block", "stack"])
def test_refuses_sites_that_hold_attention(site: str):
    with pytest.raises(fc.UnsupportedModelError, match=says(f"a site of kind {site} mixes tokens", "branch sites")):
        fc.optimize(tiny_dit(), fc.ToCa(site=site), num_steps=8, example_inputs=example())


def test_refuses_a_score_of_attention_that_the_model_does_not_have():
    tokens = fc.TopK(fc.AttentionEntropy(), 0.2)
    with pytest.raises(fc.UnsupportedModelError, match=says("transformer_blocks.0 has no cross-attention")):
        fc.optimize(tiny_dit(), fc.ToCa(tokens=tokens), num_steps=8, example_inputs=example())


def test_refuses_codecs_predictors_and_tokens_that_do_not_go_together():
    model = tiny_dit()
    with pytest.raises(fc.MethodError, match=says("'topk'", "not kept token by token", "Quantized", "Dense()")):
        fc.optimize(model, fc.ToCa(codec=fc.Quantized()), num_steps=8, example_inputs=example())
    with pytest.raises(fc.MethodError, match=says("'taylor' reads 3", "predictor=Reuse()")):
        fc.optimize(model, fc.TaylorSeer(tokens=fc.TopK(fc.Age())), num_steps=8)
    with pytest.raises(fc.MethodError, match=says("'some' are partial", "TopK(score, ratio)")):
        fc.optimize(model, fc.ToCa(tokens=Some()), num_steps=8)
    with pytest.raises(fc.MethodError, match=says("number of steps", "num_steps=")):
        fc.optimize(model, fc.ToCa())


def test_has_no_single_graph_and_says_so():
    fast = fc.optimize(tiny_dit(), fc.ToCa(), num_steps=8, example_inputs=example())
    with pytest.raises(fc.PreconditionError, match=says("no single graph", "program('partial')")):
        fast.program("cond")


def test_a_method_without_chosen_tokens_has_no_partial_program(fast):
    denoise(fast.new_session())
    with pytest.raises(fc.PreconditionError, match=says("no program called 'partial'", "compute, reuse")):
        fast.program("partial")


@pytest.mark.parametrize("changes", [{"ratio": 1.5}, {"ratio": -1}, {"scheduler": "linear"}, {"bonus": 0}, {"cell": 0}])
def test_refuses_options_that_make_no_sense(changes: dict[str, object]):
    with pytest.raises(fc.MethodError, match=r"\n  where: .*\n  "):
        fc.method_from_name("ToCa", **changes)
