"""What is read, set, deleted and walked on the optimised module by the model's names is the model's."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module  # type: ignore[import-untyped]
from diffusers import FasterCacheConfig, FluxTransformer2DModel
from diffusers.loaders.lora_pipeline import FluxLoraLoaderMixin
from torch import Tensor, nn

import fouriercache as fc
from fouriercache.runtime.module import OptimizedModule
from tests.test_drop_in import Parent
from tests.tiny import TIMESTEPS, denoise, is_same, labels, noise, step_inputs, tiny_dit

ALL = fc.FORA(interval=1)


class Switched(nn.Module):
    """A DiT with attributes of many kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.dit, self.scale, self._secret = tiny_dit(), 1.0, 1.0
        self.gain = nn.Parameter(torch.ones(()))
        self.shift: Tensor
        self.register_buffer("shift", torch.zeros(()), persistent=False)

    def forward(self, hidden_states: Tensor, timestep: Tensor, class_labels: Tensor) -> Any:
        x = hidden_states * (self.scale * self._secret) * self.gain + self.shift
        return self.dit(x, timestep, class_labels)


def tiny_flux() -> Any:
    torch.manual_seed(0)
    model: Any = FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=[4, 4, 8],
    )  # fmt: skip
    return model.eval()


def flux_inputs(channels: int = 4) -> dict[str, Tensor]:
    return {
        "hidden_states": torch.randn(1, 16, channels), "encoder_hidden_states": torch.randn(1, 4, 32),
        "pooled_projections": torch.randn(1, 32), "img_ids": torch.zeros(16, 3), "txt_ids": torch.zeros(4, 3),
        "timestep": torch.ones(1),
    }  # fmt: skip


@pytest.fixture
def model():
    return Switched().eval()


@pytest.fixture
def fast(model):
    return fc.optimize(model, ALL, num_steps=len(TIMESTEPS))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale", 3.0),
        ("_secret", 3.0),
        ("gain", nn.Parameter(torch.tensor(3.0))),
        ("shift", torch.tensor(3.0)),
        ("dit", tiny_dit(seed=1)),
    ],
)
def test_what_is_set_by_a_name_of_the_model_takes_effect_as_if_set_on_it(fast, model, name, value):
    before = denoise(fast)
    setattr(fast, name, value)
    assert getattr(model, name) is getattr(fast, name) is value
    after = denoise(fast)
    assert is_same(after, denoise(model))
    assert not is_same(after, before)


def test_what_is_deleted_is_gone_from_the_model(fast, model):
    fast.note = "new names are the model's"
    assert model.note == "new names are the model's"
    del fast.note, fast.scale, fast.gain
    assert not {"note", "scale", "gain"} & {*vars(model), *model._parameters}
    with pytest.raises(AttributeError, match=r"Switched.*scale"):
        del fast.scale


def test_what_is_set_on_a_session_is_the_models_too(fast, model):
    session = fast.new_session()
    before = denoise(session)
    session.scale = 3.0
    assert model.scale == session.scale == 3.0
    after = denoise(session)
    assert is_same(after, denoise(model))
    assert not is_same(after, before)
    with pytest.raises(AttributeError, match="num_steps"):
        session.num_steps = 3
    del session.scale
    assert not hasattr(model, "scale")


def test_its_own_names_stay_its_own(fast, model):
    fast._note, fast.check_finite = 1, False
    assert not {"_note", "check_finite"} & vars(model).keys()
    del fast._note
    assert not hasattr(fast, "_note")
    with pytest.raises(AttributeError, match=r"(?s)stays with its model.*fc.optimize"):
        fast.model = tiny_dit()
    assert fast.model is model


def test_it_walks_as_the_model_does_by_the_models_names(fast, model):
    for walk in ("named_parameters", "named_buffers", "named_children"):
        mine, its = dict(getattr(fast, walk)()), dict(getattr(model, walk)())
        assert list(mine) == list(its)
        assert all(mine[name] is its[name] for name in its)
    modules = dict(fast.named_modules())
    assert modules.pop("") is fast
    assert list(modules.items()) == list(model.named_modules())[1:]
    assert fast.get_submodule("dit.pos_embed") is model.dit.pos_embed
    assert fast.get_parameter("gain") is model.gain
    assert fast.get_buffer("shift") is model.shift
    assert list(fast.state_dict()) == list(model.state_dict()) == list(dict(fast.named_parameters()))
    assert {"dit", "scale", "report", "model"} <= set(dir(fast))


def test_what_changes_a_module_and_all_below_changes_the_model(fast, model):
    fast.train()
    assert model.training is fast.training is fast.dit.training is True
    model.eval()
    assert fast.training is False
    fast.training = True
    assert model.training
    fast.eval()
    seen: list[nn.Module] = []
    assert fast.apply(seen.append) is fast
    assert set(seen) == set(model.modules())
    assert len(seen) == len(set(seen))
    assert fast.to(torch.float64) is fast
    assert model.gain.dtype == model.shift.dtype == torch.float64
    fast.half().float().requires_grad_(False)
    assert model.gain.dtype == torch.float32
    assert not model.gain.requires_grad
    fast.register_buffer("more", torch.ones(1), persistent=False)
    fast.register_parameter("another", nn.Parameter(torch.ones(1)))
    fast.add_module("third", nn.Linear(1, 1))
    assert "more" not in model.state_dict()
    assert {"another", "third.weight"} <= model.state_dict().keys()


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda fast: pickle.loads(pickle.dumps(fast))])
def test_a_copy_has_names_of_its_own_model(fast, model, copied):
    other = copied(fast)
    assert isinstance(other, OptimizedModule)
    other.scale = 2.0
    assert other.model.scale == 2.0
    assert (model.scale == 2.0) == (other.model is model) == (copied is copy.copy)
    assert other.get_parameter("gain") is other.model.gain


def test_a_parent_moves_it_and_loads_it_with_the_models_own_hooks(fast, model):
    parent, seen = Parent(fast), []
    fast.register_state_dict_pre_hook(lambda module, *_: seen.append(("save", module)))
    model.register_load_state_dict_post_hook(lambda module, _: seen.append(("load", module)))
    fast.register_load_state_dict_pre_hook(lambda module, *_: seen.append(("before", module)))
    state = {name: value * 2 for name, value in parent.state_dict().items()}
    assert "denoiser.gain" in state
    parent.load_state_dict(state)
    assert model.gain == 2
    assert [kind for kind, _ in seen] == ["save", "before", "load"]
    parent.to(torch.float64).train()
    assert model.gain.dtype == torch.float64
    assert model.training


def test_forward_hooks_run_around_its_own_forward(fast):
    seen: list[Any] = []
    pre = fast.register_forward_pre_hook(
        lambda module, args, kwargs: (args, {**kwargs, "hidden_states": kwargs["hidden_states"] * 2}), with_kwargs=True
    )
    post = fast.register_forward_hook(lambda module, args, output: seen.append(module))
    x = noise()
    doubled = fast(**step_inputs(x, 900, labels())).sample
    assert seen == [fast]
    pre.remove()
    post.remove()
    fast.reset()
    assert is_same([fast(**step_inputs(x * 2, 900, labels())).sample], [doubled])
    assert len(seen) == 1


def test_a_hook_of_accelerate_is_put_around_it_and_taken_off(fast, model):
    class Counting(ModelHook):  # type: ignore[misc]  # accelerate has no types
        calls = 0

        def pre_forward(self, module, *args, **kwargs):
            self.calls += 1
            return args, kwargs

    hook, inputs = Counting(), step_inputs(noise(), 900, labels())
    want = fast(**inputs).sample
    add_hook_to_module(fast, hook)
    assert "forward" not in vars(model)
    assert not hasattr(model, "_hf_hook")
    fast.reset()
    assert is_same([fast(**inputs).sample], [want])
    assert hook.calls == 1
    remove_hook_from_module(fast)
    fast.reset()
    assert is_same([fast(**inputs).sample], [want])
    assert hook.calls == 1


def test_diffusers_own_cache_is_refused_where_it_is_switched_on():
    fast = fc.optimize(tiny_flux(), ALL, num_steps=1)
    for it in (fast, fast.new_session()):
        with pytest.raises(fc.CaptureError, match=r"(?s)keeps features itself.*fc.optimize.*fast.model.enable_cache"):
            it.enable_cache(FasterCacheConfig())
    assert not fast.is_cache_enabled
    fast.disable_cache()
    assert fast(**flux_inputs()).sample.isfinite().all()


def test_a_lora_that_widens_a_layer_is_loaded_into_it_by_diffusers():
    """As FLUX's control LoRAs are: diffusers looks for the layer among the modules, and puts a wider one there."""
    model = tiny_flux()
    fast = fc.optimize(model, ALL, num_steps=1)
    down, up = torch.randn(2, 8), torch.randn(32, 2)
    lora = {"transformer.x_embedder.lora_A.weight": down, "transformer.x_embedder.lora_B.weight": up}
    FluxLoraLoaderMixin._maybe_expand_transformer_param_shape_or_error_(fast, dict(lora), {}, prefix="transformer")
    FluxLoraLoaderMixin.load_lora_into_transformer(lora, network_alphas=None, transformer=fast)
    assert model.x_embedder.in_features == 8
    inputs = flux_inputs(channels=8)
    with torch.no_grad():
        assert is_same([fast(**inputs).sample], [model(**inputs).sample])
