"""ToCa through the optimised module: the published choices, token by token, and what it should give by brute force."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

import fouriercache as fc
from fouriercache.schedules import Place
from fouriercache.tokens.scores import Grid, Scene
from tests.dit_mapping import dit_from_published
from tests.test_goldens import GOLDENS, read_golden
from tests.tiny import (
    ROUNDING,
    TIMESTEPS,
    BruteForce,
    denoise,
    distance,
    is_same,
    labels,
    noise,
    step_inputs,
    tiny_dit,
)

GOLDEN = "toca_euler_T20_N3_R007_ddim50"
COMPUTED = (0, 3, 6)
RATIO = 0.3
SCORE = fc.SpatialBonus(fc.Total((fc.AttentionReceived(), fc.Age(0.25, 3))))


@pytest.fixture(scope="module")
def published():
    golden = read_golden(GOLDEN)
    model = dit_from_published(golden.facts["config"], load_file(GOLDENS / "dit_small_weights.safetensors"))
    return golden, fc.optimize(model, fc.ToCa(interval=3, ratio=0.07, published=True), num_steps=20)


@pytest.fixture(scope="module")
def fast() -> fc.OptimizedModule:
    method = fc.ToCa(schedule=fc.Table(COMPUTED), tokens=fc.TopK(SCORE, RATIO))
    return fc.optimize(tiny_dit(), method, num_steps=len(TIMESTEPS))


@pytest.mark.parametrize("is_fed", [True, False], ids=["fed the published input", "running freely"])
def test_computes_the_published_blocks_and_tokens_at_every_step(published, is_fed: bool):
    golden, fast = published
    cached, depth = golden.facts["cached"], golden.facts["config"]["depth"]
    fresh = {(index, layer): [set(row) for row in rows] for index, layer, rows in cached["fresh"]}
    session, x = fast.new_session(), golden.arrays["z"]
    seen = set()
    with torch.no_grad():
        for step, index in enumerate(cached["i"]):
            x = golden.arrays["cached.x"][step] if is_fed else x
            x = x - golden.call(session, x, step)[:, :4] / len(cached["i"])
            (state,) = session._trajectory.passes.values()
            ages = [state.states[f"age_{2 * layer + 1}"] for layer in range(depth)]
            assert ["ToCa" if age.any() else "full" for age in ages] == cached["layer_types"][step], f"step {step}"
            for layer, age in enumerate(ages):
                if cached["layer_types"][step][layer] == "ToCa":
                    chosen = [set(torch.nonzero(row == 0)[:, 0].tolist()) for row in age]
                    assert chosen == fresh[index, layer], f"step {step}, layer {layer}"
                    seen.add(len(chosen[0]))
    assert len(seen) > 5  # none at first, and more from step to step


def test_the_published_odd_step_computes_the_first_block_alone(published):
    golden, _ = published
    odd = [step for step, kinds in enumerate(golden.facts["cached"]["layer_types"]) if len(set(kinds)) > 1]
    places = [Place(layer, kind) for layer in range(6) for kind in ("attention", "mlp")]
    schedule = fc.Tapered(3, published=True)
    assert fc.ToCa(3, published=True).schedule == schedule
    assert odd == [step for step in range(20) if schedule.refreshed(step, 20, places)]
    assert schedule.refreshed(odd[0], 20, places) == (0, 1)


class ByHand(BruteForce):
    """The DiT's forward by hand; at steps between, MLPs run in full, and the result counts for the chosen tokens."""

    def __init__(self, model: Any) -> None:
        super().__init__(model, COMPUTED)
        self.values: dict[Any, Tensor] = {}
        self.ages: dict[Any, Tensor] = {}
        self.received: dict[Any, Tensor] = {}
        self.block: Any = None

    def _branch(self, module: Any, x: Tensor) -> Tensor:
        is_attention = hasattr(module, "to_q")
        if is_attention:
            self.block = module  # the MLP that follows ranks its tokens by this attention
        if self.step in self.computed:
            self.ages[module] = torch.zeros(x.shape[:2])
            if is_attention:
                self.received[module] = attention_received(module, x)
            self.values[module] = module(x)
        elif not is_attention:
            fresh, ages = module(x), self.ages[module]
            for row in range(len(x)):
                chosen = choose(self.received[self.block][row], ages[row])
                ages[row] += 1
                ages[row, chosen] = 0
                self.values[module][row, chosen] = fresh[row, chosen]
        return self.values[module].clone()


def attention_received(attention: Any, x: Tensor) -> Tensor:
    heads = attention.heads
    query, key = (project(x).unflatten(-1, (heads, -1)).transpose(1, 2) for project in (attention.to_q, attention.to_k))
    weights = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(-1)
    received: Tensor = weights.mean(1).sum(1)
    return received


def choose(received: Tensor, ages: Tensor) -> list[int]:
    """The tokens with the highest score, in plain loops over a 4 x 4 grid."""
    score = (F.normalize(received, dim=0) + 0.25 * ages / 3).tolist()
    for top in range(0, 4, 2):
        for left in range(0, 4, 2):
            cell = [4 * (top + down) + left + right for down in range(2) for right in range(2)]
            score[max(cell, key=lambda token: score[token])] *= 1.6
    order = sorted(range(16), key=lambda token: -score[token])
    return order[: int(RATIO * 16)]


def test_gives_what_choosing_tokens_by_hand_gives(fast):
    found = denoise(fast.new_session())
    with torch.no_grad():
        wanted = denoise(ByHand(fast.model))
    assert distance(found, wanted) < ROUNDING
    assert distance(found, denoise(fast.model)) > 100 * ROUNDING


class ByChange(BruteForce):
    """The DiT by hand, with MLPs computed afresh for the tokens whose input has changed most in a band."""

    def __init__(self, model: Any, score: fc.BandEnergy) -> None:
        super().__init__(model, COMPUTED)
        self.score = score
        self.inputs: dict[Any, Tensor] = {}
        self.entered: dict[Any, Tensor] = {}
        self.values: dict[Any, Tensor] = {}

    def _branch(self, module: Any, x: Tensor) -> Tensor:
        now = self.inputs.get(module)
        if self.step in self.computed:
            self.values[module] = module(x)
            if now is not None:
                self.entered[module] = now.clone()
        elif now is not None:
            signals: Any = {"tokens": now, "entered": self.entered[module]}
            ranked = self.score.rank(signals, Scene(Grid(1, 4, 4), 0)).argsort(dim=-1, descending=True)
            fresh = module(x)
            for row, chosen in enumerate(ranked[:, : int(RATIO * 16)]):
                self.values[module][row, chosen] = fresh[row, chosen]
                self.entered[module][row, chosen] = now[row, chosen]
        return self.values[module].clone()


@pytest.mark.parametrize("band", ["low", "high"])
def test_tokens_are_chosen_by_how_much_they_changed_since_they_were_computed(fast, band: Any):
    score = fc.BandEnergy(band, "change")
    method = fc.FORA(schedule=fc.Table(COMPUTED), tokens=fc.TopK(score, RATIO))
    by_hand = ByChange(fast.model, score)

    def remember(block: Any) -> Any:
        return block.norm3.register_forward_pre_hook(
            lambda _, given: by_hand.inputs.update({block.ff: given[0].clone()})
        )

    hooks = [remember(block) for block in fast.model.transformer_blocks]
    with torch.no_grad():
        wanted = denoise(by_hand)
    for hook in hooks:
        hook.remove()
    found = denoise(fc.optimize(fast.model, method, num_steps=len(TIMESTEPS)))
    assert distance(found, wanted) < ROUNDING


def test_fresh_tokens_bring_a_cached_step_closer_to_the_model(fast):
    reused = fc.optimize(fast.model, fc.FORA(schedule=fc.Table(COMPUTED)), num_steps=len(TIMESTEPS))
    wanted = denoise(fast.model)
    assert distance(denoise(fast.new_session()), wanted) < distance(denoise(reused), wanted)


def test_every_token_fresh_is_attention_reused_and_every_mlp_computed(fast):
    class MlpsLive(ByHand):
        def _branch(self, module: Any, x: Tensor) -> Tensor:
            if hasattr(module, "to_q") and self.step not in self.computed:
                return self.values[module]
            self.values[module] = module(x)
            return self.values[module]

    method = fc.ToCa(schedule=fc.Table(COMPUTED), tokens=fc.TopK(fc.RandomOrder(), 1.0))
    whole = fc.optimize(fast.model, method, num_steps=len(TIMESTEPS))
    with torch.no_grad():
        assert distance(denoise(whole), denoise(MlpsLive(fast.model))) < ROUNDING


def test_no_token_fresh_is_fora(fast):
    method = fc.ToCa(schedule=fc.Table(COMPUTED), tokens=fc.TopK(fc.TokenNorm(), fc.FixedCounts((0, 1))))
    none = fc.ToCa(ratio=0.0, schedule=fc.Table(COMPUTED))
    wanted = denoise(fc.optimize(fast.model, fc.FORA(schedule=fc.Table(COMPUTED)), num_steps=len(TIMESTEPS)))
    assert distance(denoise(fc.optimize(fast.model, none, num_steps=len(TIMESTEPS))), wanted) < ROUNDING
    # one token of the last block is another result
    assert distance(denoise(fc.optimize(fast.model, method, num_steps=len(TIMESTEPS))), wanted) > ROUNDING


@pytest.mark.parametrize(
    ("score", "ratio"),
    [
        (fc.AttentionReceived(), fc.FixedCounts((5, 2))),
        (fc.Total((fc.TokenNorm(), fc.Age()), weights=(0.5, -1.0)), fc.ToCaRatio(0.2)),
        (fc.SpatialBonus(fc.Dissimilarity(), cell=3), fc.ToCaRatio(0.3, "ToCa-ddpm250")),
        (fc.RandomOrder(seed=3), RATIO),
        (fc.Total((fc.BandEnergy(), fc.LowPassShare())), RATIO),
    ],
    ids=["attention", "total", "bonus", "random", "spectral"],
)
def test_every_kind_of_score_and_ratio_runs_whole_trajectories(fast, score, ratio):
    method = fc.ToCa(schedule=fc.Table(COMPUTED), tokens=fc.TopK(score, ratio))
    model = fc.optimize(fast.model, method, num_steps=len(TIMESTEPS))
    first = denoise(model)
    assert is_same(denoise(model), first)
    assert distance(first, denoise(fast.model)) < 0.5
    other: dict[str, Any] = {"x": noise(3, seed=5), "classes": labels(3)}
    assert is_same(denoise(model, **other), denoise(model.new_session(), **other))


def test_rows_of_a_batch_choose_their_own_tokens(fast):
    alone = [denoise(fast.new_session(), x=noise()[row : row + 1], classes=labels()[row : row + 1]) for row in (0, 1)]
    together = denoise(fast.new_session())
    for row, found in enumerate(alone):
        assert distance([step[row : row + 1] for step in together], found) < ROUNDING
    session = fast.new_session()
    denoise(session, timesteps=TIMESTEPS[:3])
    (state,) = session._trajectory.passes.values()
    assert not torch.equal(*state.states["age_1"])


def test_a_session_holds_one_value_a_site_and_the_states(fast):
    session = fast.new_session()
    sizes = set()
    for seed in range(4):
        denoise(session, x=noise(seed=seed))
        sizes.add(session.cache_bytes)
    features, tokens = 2 * 16 * 16 * 4, 2 * 16
    assert sizes == {2 * 2 * features + 2 * tokens * (8 + 4)}  # two blocks: ages in int64, what is received in float32


def test_a_step_with_chosen_tokens_costs_what_they_cost(fast):
    denoise(fast)
    modes = fast.report.modes
    blocks, rows, width = 2, 2, 16
    mlp = blocks * rows * int(RATIO * 16) * 2 * 2 * width * 4 * width
    modulation = blocks * rows * 2 * width * 2 * width  # a reuse step reads two gates, this one shift and scale as well
    assert modes["partial"].flops - modes["reuse"].flops == mlp + modulation
    assert set(modes) == {"compute", "reuse", "partial"}


def test_states_of_one_pass_are_nothing_to_another(fast):
    session, apart = fast.new_session(), [fast.new_session() for _ in range(2)]
    x, found, wanted = noise(), list[Tensor](), list[Tensor]()
    with torch.no_grad():
        for timestep in TIMESTEPS:
            for number, (name, classes) in enumerate((("cond", labels()), ("uncond", labels(first=5)))):
                with session.cache_context(name):
                    found.append(session(**step_inputs(x, timestep, classes)).sample)
                wanted.append(apart[number](**step_inputs(x, timestep, classes)).sample)
            x = x - found[-1] / 8
    assert is_same(found, wanted)


def test_timesteps_prepared_give_the_same_up_to_rounding(fast):
    session = fast.new_session()
    session.prepare(TIMESTEPS)
    assert distance(denoise(session), denoise(fast.new_session())) < ROUNDING
