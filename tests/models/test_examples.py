"""Models by name: those of published size have the published number of weights, and a wrong name says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from fouriercache.errors import ModelSpecError
from fouriercache.models.examples import SPECS, Example, build_example
from fouriercache.models.full_size import FULL_SIZE, FullSize, Given, build_full_size

# In billions, as the model cards and publications round them. diffusers' DiT gives each block the timestep embedding
# of its own that the published one shares: 675 M and 27 x (256 + 1152) x 1152 and class tables of 1001 x 1152.
# Open-Sora's report says 1.1 B; the blocks alone of the released configuration have what stands here.
PUBLISHED = {
    "dit-xl-2": 0.675 + 27 * ((256 + 1152 + 1001) * 1152 + 2 * 1152) / 1e9,
    "pixart-xl-2": 0.61,
    "sd3-medium": 2.0,
    "sd3.5-large": 8.1,
    "flux-dev": 11.9,
    "wan-1.3b": 1.42,
    "wan-14b": 14.3,
    "hunyuan-video": 13.0,
    "opensora-stdit3-xl-2": 56 * 16 * 1152**2 / 1e9,
}


@pytest.mark.parametrize("name", list(FULL_SIZE))
def test_a_model_of_published_size_has_the_published_number_of_weights(name: str):
    model, call = build_full_size(name)
    count = sum(weight.numel() for weight in model.parameters())
    assert count / 1e9 == pytest.approx(PUBLISHED[name], rel=0.02)  # cards give two or three digits
    tensors = [value for value in call.values() if isinstance(value, torch.Tensor)]
    assert {tensor.device.type for tensor in [*tensors, *model.parameters(), *model.buffers()]} == {"meta"}
    assert not model.training


def test_keeps_in_float32_what_the_pipelines_keep():
    model, _ = build_full_size("wan-14b", depth=1)
    dtypes = {name: weight.dtype for name, weight in model.named_parameters()}
    assert dtypes["blocks.0.scale_shift_table"] == torch.float32
    assert dtypes["condition_embedder.time_embedder.linear_1.weight"] == torch.float32
    assert dtypes["blocks.0.attn1.to_q.weight"] == torch.bfloat16


def test_fewer_blocks_have_the_same_width():
    one, whole = build_example("flux-dev@1").model, build_example("flux-dev").model
    names = [name for name, _ in one.named_parameters()]
    blocks = {name.partition(".attn.")[0] for name in names if ".attn." in name}
    assert blocks == {"transformer_blocks.0", "single_transformer_blocks.0"}
    wide = dict(whole.named_parameters())
    assert all(wide[name].shape == weight.shape for name, weight in one.named_parameters())


def test_the_shipped_model_comes_with_its_weights():
    example = build_example("demo")
    assert next(example.model.parameters()).device.type == "cpu"
    assert set(example.inputs) == {"hidden_states", "timestep", "class_labels"}


def test_every_name_is_one_of_the_specs():
    assert set(SPECS) == {"demo", *FULL_SIZE}
    flux: FullSize = FULL_SIZE["flux-dev"]
    assert flux.call["timestep"] == Given((1,))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("dit-xl-3", "No model is called 'dit-xl-3'(.|\n)*Did you mean 'dit-xl-2'"),
        ("flux-dev@0", "No model is called 'flux-dev@0'"),
        ("demo@2", "No model is called 'demo'"),
        ("", "No model is called ''"),
        ("no_such_module:build", "cannot be built: ModuleNotFoundError"),
        ("math:nothing", "cannot be built: AttributeError"),
        ("models_of_mine:fails", "cannot be built: RuntimeError: out of luck"),
        ("models_of_mine:returns_three", "returned tuple, not a model"),
        ("models_of_mine:returns_a_pair_of_other_things", "returned tuple, not a model"),
        ("models_of_mine:returns_nothing", "returned NoneType, not a model"),
    ],
)
def test_refuses_what_names_no_model(spec: str, message: str, mine: None):
    with pytest.raises(ModelSpecError, match=message):
        build_example(spec)


def test_takes_a_function_that_returns_a_model_and_its_inputs(mine: None):
    example = build_example("models_of_mine:build")
    assert isinstance(example.model, nn.Identity)
    assert build_example("models_of_mine:build_whole") == Example(example.model, example.inputs)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "models_of_mine", raising=False)
    (tmp_path / "models_of_mine.py").write_text(
        """
from torch import nn
from fouriercache.models.examples import Example

MODEL, INPUTS = nn.Identity(), {"x": 1}

def build(): return MODEL, INPUTS
def build_whole(): return Example(MODEL, INPUTS)
def fails(): raise RuntimeError("out of luck")
def returns_three(): return MODEL, INPUTS, 3
def returns_a_pair_of_other_things(): return INPUTS, MODEL
def returns_nothing(): return None
"""
    )
