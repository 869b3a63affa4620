"""Peers of benchmarks/peers.py compute at the steps they say, and what they reuse there is what it should be."""

import pytest
import torch
from common import QUICK, Inputs, Loop, Model, build_model, share_weights
from hand_written import HandWritten
from launches import CountCalls
from peers import by_hand, cache_dit_block, nothing, pyramid_attention_broadcast, sea_cache
from thresholds import Recorded, find_sea_threshold

import fouriercache as fc

STEPS = 12
INPUTS = Inputs.draw(QUICK, STEPS)


@pytest.fixture(scope="module")
def model() -> Model:
    return build_model(QUICK)


@pytest.mark.parametrize("asked", [3, 5])
def test_sea_cache_computes_as_many_steps_as_asked_and_reuses_the_whole_stack(model: Model, asked: int):
    recorded = Recorded.of(model, lambda: Loop(model, INPUTS, nothing).advance(STEPS))
    peer = sea_cache(model, find_sea_threshold(recorded, asked), STEPS, order=0)
    for _ in range(2):  # the second trajectory begins like the first
        loop = Loop(peer.model, INPUTS, peer.begin)
        computed = []
        for step in range(STEPS):
            with CountCalls() as calls:
                loop.advance(1)
            computed += [step] * ("gelu" in calls.targets)
    assert len(computed) == asked
    hand = by_hand(model, computed)
    reference = Loop(hand.model, INPUTS, hand.begin)
    reference.advance(STEPS)
    torch.testing.assert_close(loop.latents, reference.latents)


@pytest.mark.parametrize("taylor", [False, True])
def test_cache_dit_computes_the_given_steps_in_every_run(model: Model, taylor: bool):
    pytest.importorskip("cache_dit")
    given = (0, 2, 6, 10)
    peer = cache_dit_block(model, given, STEPS, taylor=taylor)
    latents = []
    for _ in range(3):
        loop = Loop(peer.model, INPUTS, peer.begin)
        for step in range(STEPS):
            with CountCalls() as calls:
                loop.advance(1)
            assert calls.targets["gelu"] == (QUICK.layers if step in given else 1)  # F1: block 0 runs in every step
        latents.append(loop.latents)
    assert torch.equal(latents[0], latents[1])
    assert torch.equal(latents[0], latents[2])


def test_pab_repeats_what_attention_gave_three_times(model: Model):
    peer = pyramid_attention_broadcast(model)
    loop = Loop(peer.model, INPUTS, peer.begin)
    with CountCalls() as calls:
        loop.advance(STEPS)
    assert calls.targets["gelu"] == STEPS * QUICK.layers
    assert calls.targets["_scaled_dot_product_flash_attention_for_cpu"] == STEPS // 4 * QUICK.layers
    kept: dict[object, list[torch.Tensor]] = {}

    def repeat(module: object, _: object, result: torch.Tensor) -> torch.Tensor:
        outputs = kept.setdefault(module, [])
        outputs.append(result if len(outputs) % 4 == 0 else outputs[-1])
        return outputs[-1]

    handles = [block.attn1.register_forward_hook(repeat) for block in model.transformer_blocks]
    reference = Loop(model, INPUTS, nothing)
    reference.advance(STEPS)
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(loop.latents, reference.latents)


@pytest.mark.parametrize("site", ["stack", "branch"])
@torch.no_grad()
def test_steps_written_by_hand_are_those_of_the_optimised_module(model: Model, site: str):
    computed = (0, 1, 4, 5, 9)
    method = fc.TaylorSeer(order=1, site=site, schedule=fc.Table(computed))
    fast = fc.optimize(model, method, num_steps=STEPS, example_inputs=INPUTS.call(INPUTS.noise, 0))
    for is_prepared in (False, True):
        hand = HandWritten(share_weights(model), INPUTS, computed, site, method.predictor, is_prepared=is_prepared)
        for step in range(STEPS):
            call = INPUTS.call(INPUTS.noise + step, step)
            torch.testing.assert_close(hand(**call), fast(**call).sample)
