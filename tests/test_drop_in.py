"""The optimised module in the model's place: in a parent, in a pipeline that is saved, as a session; what it holds."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from torch import nn

import fouriercache as fc
from fouriercache.runtime.module import OptimizedModule
from fouriercache.runtime.request import Request
from tests.tiny import METHOD, ROUNDING, TIMESTEPS, denoise, distance, is_same, labels, noise, tiny_dit


class Parent(nn.Module):
    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__()
        self.denoiser, self.other = denoiser, nn.Linear(2, 2)


def pipeline() -> Any:
    vae = AutoencoderKL(block_out_channels=(4,), norm_num_groups=4, latent_channels=3)
    return DiTPipeline(tiny_dit(), vae, DDIMScheduler())


def contents(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_parents_state_dict_is_that_of_the_plain_parent_and_loads_again():
    plain, parent = Parent(tiny_dit()), Parent(fc.optimize(tiny_dit(seed=1), METHOD))
    assert list(parent.state_dict()) == list(plain.state_dict())
    parent.load_state_dict(parent.state_dict())
    parent.load_state_dict(plain.state_dict())
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in parent.state_dict().items())
    plain.load_state_dict(parent.state_dict(), assign=True)


def test_a_parent_that_lacks_a_weight_says_so():
    parent = Parent(fc.optimize(tiny_dit(), METHOD))
    state = parent.state_dict()
    del state["denoiser.proj_out_2.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key.*denoiser\.(model\.)?proj_out_2\.weight"):
        parent.load_state_dict(state)


@pytest.mark.parametrize("take", [lambda fast: fast, lambda fast: fast.new_session()], ids=["module", "session"])
def test_a_pipeline_saves_what_it_saves_without_and_loads_it_again(tmp_path, take):
    plain = pipeline()
    plain.save_pretrained(tmp_path / "plain")
    plain.transformer = take(fc.optimize(plain.transformer, METHOD))
    plain.save_pretrained(tmp_path / "fast")
    assert contents(tmp_path / "fast") == contents(tmp_path / "plain")
    index = json.loads((tmp_path / "fast" / "model_index.json").read_text())
    assert index["transformer"] == ["diffusers", "DiTTransformer2DModel"]
    loaded = DiTPipeline.from_pretrained(tmp_path / "fast").transformer
    assert all(torch.equal(value, plain.transformer.state_dict()[key]) for key, value in loaded.state_dict().items())


@pytest.mark.parametrize("take", [lambda fast: fast, lambda fast: fast.new_session()], ids=["module", "session"])
def test_a_pipeline_runs_with_it_and_is_moved_with_it(take):
    pipe = pipeline()
    pipe.set_progress_bar_config(disable=True)

    def images():
        generator = torch.Generator().manual_seed(0)
        return pipe([1], num_inference_steps=3, guidance_scale=1.0, generator=generator, output_type="np").images

    wanted = images()
    pipe.transformer = take(fc.optimize(pipe.transformer, fc.FORA(1), num_steps=3))
    assert (images() == wanted).all()
    pipe.to(torch.float64)
    assert pipe.transformer.dtype == torch.float64


def test_it_is_of_the_models_class_and_of_its_own():
    fast = fc.optimize(tiny_dit(), METHOD)
    assert isinstance(fast, DiTTransformer2DModel)
    assert isinstance(fast, OptimizedModule)
    assert isinstance(fast.new_session(), Request)
    assert isinstance(fast.new_session(), DiTTransformer2DModel)
    assert repr(fast).startswith("OptimizedModule(")
    with pytest.raises(AttributeError, match="no attribute 'no_such_thing'"):
        fast.new_session().no_such_thing  # noqa: B018  # reading it is the test


@pytest.mark.parametrize("given", [50, None, "987", b"987", [object()], ["soon"], {"a": 1}])
def test_prepare_refuses_what_is_no_list_of_timesteps(fast, given):
    with pytest.raises(fc.TrajectoryError, match=r"(?s)prepare\(\) needs the timesteps.*set_timesteps"):
        fast.new_session().prepare(given)


def test_prepare_takes_any_iterable_of_numbers(fast):
    session = fast.new_session()
    session.prepare(value for value in TIMESTEPS)
    assert session.num_steps == len(TIMESTEPS)


def test_held_bytes_count_what_was_computed_ahead_beside_the_features(fast):
    session = fast.new_session()
    session.prepare(TIMESTEPS)
    assert session.held_bytes == session.cache_bytes == 0
    prepared = denoise(session)
    ahead = session.held_bytes - session.cache_bytes
    width, blocks, rows = 16, 2, 2 * 4
    # each mode's batch has at least the gates of every branch, for all of its steps and both samples
    assert ahead >= 2 * (2 * blocks * rows * width * 4)
    with torch.inference_mode():
        session.reset()
        x, classes = noise(), labels()
        assert distance(denoise(session, x=x, classes=classes), prepared) < ROUNDING
        copies = x.nbytes + 2 * classes.nbytes
        hoisted = sum(
            tensor.untyped_storage().nbytes()
            for state in session._trajectory.passes.values()
            for kept in state.hoisted.values()
            for tensor in kept.tensors()
        )
        assert session.cache_bytes + copies < session.held_bytes <= session.cache_bytes + copies + hoisted


@pytest.mark.slow
@pytest.mark.parametrize("take", [lambda fast: fast, lambda fast: fast.new_session()], ids=["module", "session"])
def test_compiled_by_torch_it_runs_as_it_does_without_and_is_not_traced(take):
    fast = fc.optimize(tiny_dit(), METHOD, num_steps=len(TIMESTEPS))
    want = denoise(fast.new_session())
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(take(fast))
    for _ in range(2):
        assert is_same(denoise(compiled), want)
    assert not torch._dynamo.utils.counters["stats"]["unique_graphs"]
