"""The user's model: never changed, its weights shared, and what its owner does to it takes effect."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import fouriercache as fc
from tests.tiny import METHOD, ROUNDING, TIMESTEPS, BruteForce, denoise, distance, is_same, noise, tiny_dit

HALFWAY = 5  # a reuse step: the last computed one is 4, the next 6


@pytest.fixture(scope="module")
def optimized():
    """A model of this file's own, and its optimised module."""
    model = tiny_dit(seed=1)
    return model, fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))


@pytest.fixture
def model(optimized):
    model, _ = optimized
    state = copy.deepcopy(model.state_dict())
    yield model
    with torch.no_grad():
        model.load_state_dict(state)


@pytest.fixture(params=["as it comes", "prepared"])
def session(request, optimized, model):
    session = optimized[1].new_session()
    if request.param == "prepared":
        session.prepare(TIMESTEPS)
    return session


def same_as_brute_force(session, model, before_step=lambda _: None) -> bool:
    """Whether two runs in which the same is done to the weights before each step give the same."""
    state = copy.deepcopy(model.state_dict())
    have = denoise(session, before_step=before_step)
    changed = model.state_dict()
    with torch.no_grad():
        for name, saved in state.items():
            changed[name].copy_(saved)
    return distance(have, denoise(BruteForce(model), before_step=before_step)) < ROUNDING


def parts(model) -> dict[str, nn.Linear]:
    """A layer of each kind: one in what is hoisted, one in a cached branch, one that runs in every step."""
    block = model.transformer_blocks[1]
    return {"modulation": block.norm1.linear, "branch": block.ff.net[2], "output": model.proj_out_2}


PARTS = ["modulation", "branch", "output"]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("step", [0, 1, HALFWAY], ids=["first step", "computed step", "reuse step"])
def test_a_weight_changed_in_place_takes_effect_at_once(session, model, part, step):
    weight = parts(model)[part].weight
    unchanged = denoise(session)

    def change(now):
        if now == step:
            weight.mul_(1.5)

    assert same_as_brute_force(session, model, change)
    assert distance(denoise(session, before_step=change), unchanged) > 100 * ROUNDING


@pytest.mark.parametrize("part", PARTS)
def test_a_weight_changed_through_data_takes_effect_in_the_next_trajectory(session, model, part):
    unchanged = denoise(session)
    parts(model)[part].weight.data.mul_(1.5)
    changed = denoise(session)
    assert distance(changed, denoise(BruteForce(model))) < ROUNDING
    assert distance(changed, unchanged) > 100 * ROUNDING


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("step", [0, HALFWAY], ids=["between trajectories", "in mid-trajectory"])
def test_a_weight_replaced_by_another_takes_effect_at_once(session, model, part, step):
    layer = parts(model)[part]
    old, new = layer.weight, nn.Parameter(layer.weight.detach() * 1.5)
    denoise(session)

    def change(now):
        layer.weight = new if now >= step else old

    try:
        have = denoise(session, before_step=change)
        assert distance(have, denoise(BruteForce(model), before_step=change)) < ROUNDING
    finally:
        layer.weight = old


def test_loading_a_state_dict_takes_effect(session, optimized, model):
    denoise(session)
    optimized[1].load_state_dict(tiny_dit(seed=2).state_dict())
    assert distance(denoise(session), denoise(BruteForce(tiny_dit(seed=2)))) < ROUNDING


class Scaled(nn.Module):
    """What an adapter does: takes a layer's place and holds it."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def forward(self, x):
        return self.base(x) * 1.5


@pytest.mark.parametrize("replace", [Scaled, lambda layer: nn.Linear(layer.in_features, layer.out_features)])
def test_a_replaced_layer_is_noticed_in_the_next_trajectory(replace):
    model = tiny_dit()
    fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))
    denoise(fast)
    model.transformer_blocks[1].ff.net[2] = replace(model.transformer_blocks[1].ff.net[2])
    assert distance(denoise(fast), denoise(BruteForce(model))) < ROUNDING


@pytest.mark.parametrize("part", ["branch", "modulation", "output"])
def test_a_layer_replaced_in_mid_trajectory_is_refused_then_captured_anew(part):
    model = tiny_dit()
    fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))

    def change(step):
        if step == HALFWAY:
            block = model.transformer_blocks[1]
            if part == "branch":
                block.ff.net[2] = Scaled(block.ff.net[2])
            elif part == "modulation":
                block.norm1.linear = Scaled(block.norm1.linear)
            else:
                model.proj_out_2 = Scaled(model.proj_out_2)

    with pytest.raises(fc.CaptureError, match=r"(?s)structure.*changed.*mid-trajectory.*reset\(\)"):
        denoise(fast, before_step=change)
    assert distance(denoise(fast), denoise(BruteForce(model))) < ROUNDING


def test_a_hook_or_attention_processor_set_later_is_noticed_in_the_next_trajectory():
    model = tiny_dit()
    fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))
    denoise(fast)
    handle = model.transformer_blocks[1].ff.register_forward_hook(lambda module, inputs, output: output * 1.5)
    assert distance(denoise(fast), denoise(BruteForce(model))) < ROUNDING
    handle.remove()
    processor = model.transformer_blocks[0].attn1.processor
    model.transformer_blocks[0].attn1.processor = lambda *args, **kwargs: processor(*args, **kwargs) * 1.5
    assert distance(denoise(fast), denoise(BruteForce(model))) < ROUNDING


def test_a_pruned_block_is_noticed_in_the_next_trajectory():
    model = tiny_dit()
    fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))
    denoise(fast)
    assert len(fast.report.sites) == 4
    del model.transformer_blocks[1]
    assert distance(denoise(fast), denoise(BruteForce(model))) < ROUNDING
    assert len(fast.report.sites) == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_another_dtype_in_the_next_trajectory_is_captured_anew(dtype):
    model = tiny_dit()
    fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))
    denoise(fast)
    fast.to(dtype)
    have, want = denoise(fast, x=noise().to(dtype)), denoise(BruteForce(model), x=noise().to(dtype))
    assert have[0].dtype == dtype
    assert len(fast._steppers) == 1
    # a few roundings of the format in each of 8 denoising steps
    assert distance(have, want) < 32 * torch.finfo(dtype).eps


def test_the_model_is_never_changed():
    model = tiny_dit()
    before = copy.deepcopy(model.state_dict())
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    attributes = {name: set(vars(module)) for name, module in modules.items()}
    own = denoise(model)
    fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))
    fast.prepare(TIMESTEPS)
    for seed in range(2):
        denoise(fast, x=noise(seed=seed))
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert dict(model.named_modules()) == modules
    assert all(parameters[name] is parameter for name, parameter in model.named_parameters())
    assert {name: set(vars(module)) for name, module in modules.items()} == attributes
    assert not any(hooks for module in modules.values() for hooks in (module._forward_hooks, module._forward_pre_hooks))
    assert not any(module.training for module in modules.values())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in parameters.values())
    assert is_same(denoise(model), own)


def test_weights_are_shared_not_copied(optimized):
    model, fast = optimized
    denoise(fast.new_session())
    own = {weight.untyped_storage().data_ptr() for weight in [*model.parameters(), *model.buffers()]}
    size = sum(weight.nbytes for weight in model.parameters())
    others = {}
    for stepper in fast._steppers:
        for runner in stepper._runners.values():
            for part in (runner._moving, runner.conditioning._context, runner.conditioning._timed):
                for held in [*part._module.parameters(), *part._module.buffers()]:
                    storage = held.untyped_storage()
                    if storage.data_ptr() not in own:
                        others[storage.data_ptr()] = storage.nbytes()
    assert sum(others.values()) < size / 100  # the constants that a forward makes anew: frequencies of the timestep


def test_the_module_gives_what_the_model_has(optimized):
    model, fast = optimized
    assert fast.config is model.config
    assert fast.dtype == model.dtype
    assert fast.state_dict().keys() == model.state_dict().keys()
    assert {id(parameter) for parameter in fast.parameters()} == {id(parameter) for parameter in model.parameters()}


def test_weights_made_in_inference_mode_are_served():
    with torch.inference_mode():
        model = tiny_dit()
        fast = fc.optimize(model, METHOD, num_steps=len(TIMESTEPS))
        for _ in range(2):
            assert distance(denoise(fast), denoise(BruteForce(model))) < ROUNDING


def test_a_deep_copy_has_its_own_weights_and_computes_the_same():
    fast = fc.optimize(tiny_dit(), METHOD, num_steps=len(TIMESTEPS))
    other = copy.deepcopy(fast)
    call = {"timestep": torch.full((2,), TIMESTEPS[0]), "class_labels": torch.tensor([1, 2])}
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(fast(x, **call).sample, other(x, **call).sample)
    with torch.no_grad():
        other.get_parameter("model.proj_out_2.bias").add_(1)
    other.reset()
    fast.reset()
    assert not torch.equal(fast(x, **call).sample, other(x, **call).sample)
