"""Classes of diffusers that no other test knows, captured with no word about any: exact, and cheap to cache.

One capture a class, of one block in each list. `make zoo` tries all classes, with more blocks and any batch size.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import fouriercache as fc
from fouriercache.calls import Binder, find_timestep
from fouriercache.capture import capture
from fouriercache.cost import block_flops
from fouriercache.models import zoo
from fouriercache.passes.match import is_attention
from fouriercache.passes.pipeline import build_steps
from fouriercache.program import NoMatch

pytestmark = [
    pytest.mark.slow,
    # diffusers' own, while it builds some of its classes
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Initializing zero-element tensors"),
]

NAMES = (
    "PixArtTransformer2DModel",
    "HunyuanDiT2DModel",
    "SanaTransformer2DModel",
    "LuminaNextDiT2DModel",
    "Lumina2Transformer2DModel",
    "CogView3PlusTransformer2DModel",
    "CogView4Transformer2DModel",
    "GlmImageTransformer2DModel",
    "PRXTransformer2DModel",
    "AllegroTransformer3DModel",
    "Flux3Transformer2DModel",
    "ChromaTransformer2DModel",
    "QwenImageTransformer2DModel",
    "NucleusMoEImageTransformer2DModel",
    "ZImageTransformer2DModel",
    "Ideogram4Transformer2DModel",
    "OmniGenTransformer2DModel",
    "QwenImage21Transformer2DModel",
    "JoyImageEditPlusTransformer3DModel",
    "CogVideoXTransformer3DModel",
    "LatteTransformer3DModel",
    "LTXVideoTransformer3DModel",
    "AnyFlowTransformer3DModel",
    "HunyuanVideo15Transformer3DModel",
    "MiniMaxH3Transformer3DModel",
    "RFD4ProteinaTransformer",
    "Cosmos3OmniTransformer",
    "SanaWMLTX2RefinerTransformer3DModel",
    "StableAudioDiTModel",
    "StableAudio3DiTModel",
    "MiniMaxMusic3Transformer1DModel",
    "T5FilmDecoder",
    "PriorTransformer",
)
EVERY_STEP = fc.TaylorSeer(interval=1, order=1)
EVERY_OTHER = fc.TaylorSeer(interval=2, order=1)
"""Methods of one form: they differ in when a step is computed alone, so one build serves both. FORA's form is that
of test_hard_models.py."""
# What merged and narrowed matrix products round otherwise, of the largest value.
ROUNDING = 1e-6

classes = pytest.mark.parametrize("name", NAMES)


@cache
def captured(name: str) -> Any:
    model, call = zoo.build(name, depth=1)
    call = Binder(model).example(call)  # in the order of the signature, as an optimised module has them
    return model, call, capture(model, call, fixed=NoMatch("one batch size is enough for a test"))


@cache
def built(name: str) -> Any:
    return build_steps(captured(name)[2], EVERY_OTHER)


def optimized(name: str, method: fc.Method) -> Any:
    """The class optimised for a method, by the capture that all tests share."""
    fast: Any = fc.optimize(captured(name)[0], method, num_steps=4)
    fast._build = lambda *_: built(name)
    return fast


@torch.no_grad()
def denoise(name: str, model: Any, steps: int) -> list[Tensor]:
    """The model's results at falling timesteps."""
    call = captured(name)[1]
    flat = Binder(captured(name)[0]).flatten(call)
    stamp = flat.paths[find_timestep(flat.paths, flat.tensors, None)]
    found: list[Tensor] = []
    for step in range(steps):
        output = model(**(call | {stamp: call[stamp] * (1 - step / 4)}))
        found += [leaf for leaf in torch.utils._pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
    return found


@classes
def test_computes_what_the_model_computes_when_every_step_is_computed(name: str):
    want = denoise(name, captured(name)[0], steps=2)
    have = denoise(name, optimized(name, EVERY_STEP), steps=2)
    assert len(have) == len(want)
    for one, other in zip(have, want, strict=True):
        assert one.shape == other.shape
        assert float((one.double() - other.double()).abs().amax()) <= ROUNDING * float(other.double().abs().amax())


@classes
def test_a_reuse_step_computes_no_attention_and_next_to_nothing_in_the_blocks(name: str):
    steps = built(name)
    reuse, compute = steps.modes["reuse"], steps.modes["compute"]
    blocks = [block.path for block in steps.canonical.blocks]
    each_step = [node for part in (reuse.timed, reuse.moving) for node in part.calls()]
    assert not is_attention(each_step)
    assert {site.kind for site in steps.canonical.found["branch"]} >= {"attention"}
    assert block_flops(blocks, reuse.timed, reuse.moving) < 0.05 * block_flops(blocks, compute.timed, compute.moving)


@classes
def test_a_cached_loop_stays_finite_and_near_the_model(name: str):
    fast = optimized(name, EVERY_OTHER)
    have = denoise(name, fast, steps=4)
    want = denoise(name, captured(name)[0], steps=4)
    assert all(bool(result.isfinite().all()) for result in have)
    assert fast.session.computed_steps[0] == (0, 1, 3)
    for one, other in zip(have, want, strict=True):
        assert float((one - other).norm()) < float(other.norm())
