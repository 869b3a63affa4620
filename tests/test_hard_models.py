"""What is no diffusion transformer, or one in an unusual state: cached rightly, or refused in words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import fouriercache as fc
from tests.tiny import TIMESTEPS, denoise, distance, is_same, noise, tiny_dit

ROUNDING = 1e-6


def run(model, **call):
    with torch.no_grad():
        return model(**call)


def test_the_residual_blocks_of_a_u_net_are_cached_rightly():
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    model: Any = UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    model.eval()
    for interval, is_equal in ((1, True), (2, False)):
        fast = fc.optimize(model, fc.FORA(interval=interval), num_steps=4)
        for timestep in (900.0, 700.0, 500.0, 300.0):
            call = {"sample": noise(seed=int(timestep)), "timestep": torch.full((2,), timestep)}
            have, want = run(fast, **call).sample, run(model, **call).sample
            error = float((have - want).abs().amax() / want.abs().amax())
            assert error < ROUNDING or (not is_equal and error < 1)
        assert fast.session.computed_steps[0] == ((0, 1, 2, 3) if is_equal else (0, 1, 3))


def test_blocks_that_share_their_weights_keep_them():
    model = tiny_dit(seed=2)
    first, second = model.transformer_blocks
    for name in ("to_q", "to_k", "to_v"):
        getattr(second.attn1, name).weight = getattr(first.attn1, name).weight
    fast = fc.optimize(model, fc.FORA(interval=1), num_steps=len(TIMESTEPS))
    assert is_same(denoise(fast), denoise(model))
    with torch.no_grad():
        first.attn1.to_v.weight.mul_(2)
    assert is_same(denoise(fast), denoise(model))


def test_a_block_that_is_run_twice_is_right():
    model = tiny_dit(seed=2)
    model.transformer_blocks[1] = model.transformer_blocks[0]
    want = denoise(model)
    assert is_same(denoise(fc.optimize(model, fc.FORA(interval=1), num_steps=len(TIMESTEPS))), want)
    cached = denoise(fc.optimize(model, fc.FORA(interval=2), num_steps=len(TIMESTEPS)))
    assert 0 < distance(cached, want) < 1


def test_a_part_that_is_compiled_is_captured_through():
    model = tiny_dit(seed=2)
    want = denoise(model)
    model.transformer_blocks[0] = torch.compile(model.transformer_blocks[0], backend="eager")
    fast = fc.optimize(model, fc.FORA(interval=1), num_steps=len(TIMESTEPS))
    assert distance(denoise(fast), want) < ROUNDING


def test_hooks_that_are_there_already_are_part_of_the_graph():
    model = tiny_dit(seed=2)
    model.transformer_blocks[0].ff.register_forward_hook(lambda module, args, output: output * 3)
    model.transformer_blocks[1].register_forward_pre_hook(lambda module, args: (args[0] + 1, *args[1:]))
    fast = fc.optimize(model, fc.FORA(interval=1), num_steps=len(TIMESTEPS))
    assert is_same(denoise(fast), denoise(model))


class Int8Weight(torch.Tensor):
    """A weight kept as int8 with a scale for each row, as quantisation libraries keep theirs: a tensor subclass."""

    @staticmethod
    def __new__(cls, whole: torch.Tensor, scale: torch.Tensor) -> Any:
        return torch.Tensor._make_wrapper_subclass(cls, whole.shape, dtype=scale.dtype, device=whole.device)

    def __init__(self, whole: torch.Tensor, scale: torch.Tensor) -> None:
        self.whole, self.scale = whole, scale

    def __tensor_flatten__(self):
        return ["whole", "scale"], None

    @classmethod
    def __tensor_unflatten__(cls, inner, meta, outer_size, outer_stride):
        return cls(inner["whole"], inner["scale"])

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # type: ignore[override]
        if func is torch.ops.aten.detach.default:
            return cls(args[0].whole, args[0].scale)
        plain = torch.utils._pytree.tree_map_only(cls, lambda weight: weight.whole * weight.scale, (args, kwargs or {}))
        return func(*plain[0], **plain[1])

    @classmethod
    def of(cls, weight):
        scale = weight.detach().abs().amax(1, keepdim=True) / 127
        return nn.Parameter(cls((weight.detach() / scale).round().to(torch.int8), scale), requires_grad=False)


class Int8Linear(Int8Weight):
    """The same with a linear layer of its own, as torchao's weights have."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is nn.functional.linear:
            x, weight, bias = args
            return nn.functional.linear(x, weight.whole.to(x.dtype) * weight.scale, bias)
        return super().__torch_function__(func, types, args, kwargs or {})


def test_parts_of_a_tensor_subclass_are_weights_of_the_model():
    model = tiny_dit(seed=2)
    for block in model.transformer_blocks:
        block.ff.net[2].weight = Int8Linear.of(block.ff.net[2].weight)
    want = denoise(model)
    fast = fc.optimize(model, fc.FORA(interval=1), num_steps=len(TIMESTEPS))
    assert is_same(denoise(fast), want)
    for block in model.transformer_blocks:
        block.ff.net[2].weight = Int8Linear.of(3 * block.ff.net[2].weight.whole * block.ff.net[2].weight.scale)
    changed = denoise(model)
    assert distance(changed, want) > 0.01
    assert is_same(denoise(fast), changed)


def test_weights_of_a_tensor_subclass_are_computed_with():
    model = tiny_dit(seed=2)
    for block in model.transformer_blocks:
        for layer in (block.attn1.to_q, block.ff.net[2]):
            layer.weight = Int8Weight.of(layer.weight)
    want = denoise(model)
    fast = fc.optimize(model, fc.FORA(interval=1), num_steps=len(TIMESTEPS))
    assert distance(denoise(fast), want) < ROUNDING


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_layers_with_packed_weights_are_refused():
    model = tiny_dit(seed=2)
    model.transformer_blocks = torch.ao.quantization.quantize_dynamic(model.transformer_blocks, {nn.Linear})
    fast = fc.optimize(model, fc.FORA(interval=1), num_steps=len(TIMESTEPS))
    with pytest.raises(fc.CaptureError, match=r"(?s)cannot trace DiTTransformer2DModel.*LinearPackedParams"):
        denoise(fast)
