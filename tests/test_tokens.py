"""Scores against loops over tokens, shares of tokens against the published rule, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fouriercache as fc
from fouriercache.schedules import Place
from fouriercache.tokens import EqualRatio, PartialTokens, partial_tokens
from fouriercache.tokens.scores import Grid, Scene, Score
from tests.test_bad_input import says

generator = torch.Generator().manual_seed(0)
TOKENS, KEPT = torch.randn(2, 12, 8, generator=generator), torch.randn(2, 12, 8, generator=generator)
MAP = torch.rand(2, 12, 12, generator=generator).softmax(-1)
AGES = torch.randint(0, 9, (2, 12), generator=generator)
SCENE = Scene(Grid(1, 3, 4), layer=2)
SIGNALS: dict[Any, Tensor] = {"tokens": TOKENS, "kept": KEPT, "entered": KEPT, "age": AGES, "step": torch.tensor(4)}

SCORES: list[Score] = [
    fc.Age(),
    fc.AttentionEntropy(),
    fc.AttentionReceived(),
    fc.BandEnergy(),
    fc.BandEnergy("low", "tokens"),
    fc.LowPassShare(),
    fc.Dissimilarity(),
    fc.RandomOrder(),
    fc.SpatialBonus(fc.TokenNorm()),
    fc.TokenNorm(),
    fc.Total((fc.AttentionReceived(), fc.Age())),
]


def rank(score: Score, step: int = 4) -> Tensor:
    digests: dict[Any, Tensor] = {reader: reader.digest(MAP, SCENE) for reader in score.maps}
    return score.rank({**SIGNALS, **digests, "step": torch.tensor(step)}, SCENE)


def by_token(rule: Callable[[int, int], float], is_normal: bool = True) -> Tensor:
    """Scores from a rule for (row, token), over their norm in each row."""
    values = [[rule(row, token) for token in range(12)] for row in range(2)]
    lengths = [math.sqrt(sum(value**2 for value in row)) if is_normal else 1.0 for row in values]
    return torch.tensor([[value / length for value in row] for row, length in zip(values, lengths, strict=True)])


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.name)
def test_every_score_gives_one_finite_number_a_token_and_does_not_change_what_it_sees(score: Score):
    before = {name: value.clone() for name, value in SIGNALS.items()}
    found = rank(score)
    assert (found.shape, found.dtype) == ((2, 12), torch.float32)
    assert bool(torch.isfinite(found).all())
    assert all(torch.equal(value, SIGNALS[name]) for name, value in before.items())
    assert torch.equal(rank(score), found)


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.name)
def test_every_score_reads_no_more_than_it_says(score: Score):
    digests: dict[Any, Tensor] = {reader: reader.digest(MAP, SCENE) for reader in score.maps}
    few: dict[Any, Tensor] = {name: SIGNALS[name] for name in score.reads}
    scene = SCENE if score.needs_grid else Scene(None, layer=2)
    assert torch.equal(score.rank({**few, **digests}, scene), rank(score))


def test_attention_received_is_the_sum_of_a_column_over_its_norm():
    expected = by_token(lambda row, token: sum(float(MAP[row, other, token]) for other in range(12)))
    torch.testing.assert_close(rank(fc.AttentionReceived()), expected)


def test_attention_entropy_is_that_of_a_row():
    def entropy(row: int, token: int) -> float:
        shares = [float(share) for share in MAP[row, token]]
        return 1 - sum(share * math.log(share + 1e-7) for share in shares)

    torch.testing.assert_close(rank(fc.AttentionEntropy()), by_token(entropy))


def test_age_is_weighted_by_the_interval():
    expected = by_token(lambda row, token: 0.5 * int(AGES[row, token]) / 4, is_normal=False)
    torch.testing.assert_close(rank(fc.Age(0.5, 4)), expected)


def test_norm_and_dissimilarity_are_those_of_the_channels():
    def cosine(row: int, token: int) -> float:
        one, other = TOKENS[row, token].double(), KEPT[row, token].double()
        return 1 - float(one @ other / (one.norm() * other.norm()))

    torch.testing.assert_close(rank(fc.TokenNorm()), by_token(lambda row, token: float(TOKENS[row, token].norm())))
    torch.testing.assert_close(rank(fc.Dissimilarity()), by_token(cosine))


def test_total_is_the_weighted_sum_and_asks_for_what_its_parts_do():
    total = fc.Total((fc.AttentionReceived(), fc.Age(), fc.TokenNorm()), weights=(1.0, -2.0, 0.5))
    expected = rank(fc.AttentionReceived()) - 2 * rank(fc.Age()) + 0.5 * rank(fc.TokenNorm())
    torch.testing.assert_close(rank(total), expected)
    assert total.reads == ("age", "tokens")
    assert total.maps == (fc.AttentionReceived(),)
    assert (total.needs_grid, fc.SpatialBonus(total).needs_grid) == (False, True)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 2), st.integers(1, 7), st.integers(1, 7), st.integers(0, 2), st.integers(2, 4), st.integers(0, 99)
)
def test_the_best_token_of_each_cell_gets_the_bonus(t: int, h: int, w: int, start: int, cell: int, seed: int):
    count = start + t * h * w + 1  # one token behind the grid
    tokens = torch.rand(2, count, 3, generator=torch.Generator().manual_seed(seed))
    scene = Scene(Grid(t, h, w, start), 0)
    plain = fc.TokenNorm().rank({"tokens": tokens}, scene)
    expected = plain.clone()
    for row in range(2):
        for frame in range(t):
            for top in range(0, h, cell):
                for left in range(0, w, cell):
                    places = [(y, x) for y in range(top, min(top + cell, h)) for x in range(left, min(left + cell, w))]
                    flat = [start + (frame * h + y) * w + x for y, x in places]
                    best = max(flat, key=lambda token: float(plain[row, token]))
                    expected[row, best] *= 1.4
    found = fc.SpatialBonus(fc.TokenNorm(), bonus=0.4, cell=cell).rank({"tokens": tokens}, scene)
    torch.testing.assert_close(found, expected)


def test_one_token_of_equals_wins_a_cell():
    same = torch.ones(1, 16, 1)
    found = fc.SpatialBonus(fc.TokenNorm(), bonus=1.0).rank({"tokens": same}, Scene(Grid(1, 4, 4), 0))
    assert (found > 0.3).sum() == 4


def test_random_order_differs_by_step_row_layer_and_seed_and_favours_nobody():
    score = fc.RandomOrder()
    first = rank(score)
    others = [
        rank(score, step=5),
        score.rank(SIGNALS, Scene(None, layer=3)),
        rank(fc.RandomOrder(seed=1)),
        first.flip(0),
    ]
    assert all(not torch.equal(first.argsort(), other.argsort()) for other in others)
    wins = torch.zeros(16)
    tokens = torch.zeros(64, 16, 1)
    for step in range(50):
        best = score.rank({"tokens": tokens, "step": torch.tensor(step)}, SCENE).topk(4).indices
        wins += torch.bincount(best.flatten(), minlength=16)
    expected = 50 * 64 * 4 / 16
    assert (wins - expected).abs().max() < 6 * math.sqrt(expected)  # six standard deviations of a fair draw


@pytest.mark.parametrize("name", ["ToCa-ddim50", "ToCa-ddpm250"])
@pytest.mark.parametrize(("num_steps", "tokens"), [(50, 256), (20, 64), (250, 256), (7, 1024)])
def test_counts_are_the_published_ones(name: str, num_steps: int, tokens: int):
    by_layer, by_step = {"ToCa-ddim50": (-0.2, 2.0), "ToCa-ddpm250": (0.8, 0.4)}[name]
    for ratio in (0.07, 0.3):
        for layer in (0, 5, 27, 40):
            for index in range(num_steps):
                published = (
                    ratio
                    * (1 + by_layer - 2 * by_layer * layer / 27)
                    * (1 + by_step - 2 * by_step * index / num_steps)
                    * 2.5
                )
                expected = int(torch.clamp(torch.tensor(published), 0.0, 1.0) * tokens)
                found = fc.ToCaRatio(ratio, name).count(Place(layer, "mlp", tokens), num_steps - 1 - index, num_steps)
                assert found == expected


def test_counts_follow_layers_where_they_are_fixed():
    counts = fc.FixedCounts((5, 0, 3))
    assert [counts.count(Place(layer, "mlp", 16), 9, None) for layer in range(5)] == [5, 0, 3, 3, 3]
    assert counts.is_static
    assert not fc.TopK(fc.Age(), fc.ToCaRatio()).is_static
    assert fc.TopK(fc.Age(), 0.3).count(Place(0, "mlp", 10), 0, None) == 3


def test_toca_computes_no_token_in_the_first_quarter_and_more_in_each_step():
    counts = [fc.ToCaRatio().count(Place(3, "mlp", 256), step, 40) for step in range(40)]
    assert counts[:10] == [0] * 10
    assert counts == sorted(counts)
    assert counts[-1] > 100


@pytest.mark.parametrize("ratio", [-0.1, 1.5, math.nan, "0.1", True, None])
def test_refuses_a_ratio_outside_0_to_1(ratio: Any):
    for build in (lambda: fc.TopK(fc.Age(), ratio), lambda: fc.ToCaRatio(ratio), lambda: EqualRatio(ratio)):
        with pytest.raises(fc.MethodError, match=r"(?s)Ratio needs ratio to be .*\n  where: .*\n  "):
            build()


@pytest.mark.parametrize(
    ("build", "parts"),
    [
        (lambda: fc.TopK("attention"), ("TopK needs a score", "'attention'", "TopK(AttentionReceived())")),  # type: ignore[arg-type]
        (lambda: fc.TopK(fc.Age), ("TopK needs a score", "class")),  # type: ignore[arg-type]
        (lambda: fc.SpatialBonus(0.6), ("SpatialBonus needs a score", "0.6")),  # type: ignore[arg-type]
        (lambda: fc.SpatialBonus(fc.Age(), bonus=0), ("bonus", "above 0")),
        (lambda: fc.SpatialBonus(fc.Age(), cell=1), ("cell", "at least 2")),
        (lambda: fc.Age(weight=-1), ("weight", "above 0")),
        (lambda: fc.Age(interval=0), ("interval", "at least 1")),
        (lambda: fc.Total(()), ("Total needs a tuple of scores",)),
        (lambda: fc.Total([fc.Age()]), ("Total needs a tuple of scores",)),  # type: ignore[arg-type]
        (lambda: fc.Total((fc.Age(), 3)), ("Total needs a score", "3")),  # type: ignore[arg-type]
        (lambda: fc.Total((fc.Age(),), weights=(1.0, 2.0)), ("1 scores and 2 weights",)),
        (lambda: fc.Total((fc.Age(),), weights=(math.inf,)), ("weights[0]", "finite")),
        (lambda: fc.RandomOrder(seed=-1), ("seed", "at least 0")),
        (lambda: fc.BandEnergy(edge=0), ("edge", "above 0")),
        (lambda: fc.BandEnergy(band="middle"), ("band 'middle'", "'low', 'high'")),  # type: ignore[arg-type]
        (lambda: fc.LowPassShare(edge=1.5), ("edge", "at most 1")),
        (lambda: fc.ToCaRatio(scheduler="ToCa-ddim5"), ("scheduler", "Did you mean 'ToCa-ddim50'")),
        (lambda: fc.FixedCounts(()), ("FixedCounts needs a tuple of numbers",)),
        (lambda: fc.FixedCounts((3, -1)), ("counts[1]", "at least 0")),
        (lambda: fc.FixedCounts((9,)).count(Place(0, "mlp", 8), 0, None), ("9 tokens of a site that has 8",)),
        (lambda: fc.ToCaRatio().count(Place(0, "mlp", 8), 0, None), ("number of steps", "num_steps=")),
    ],
)
def test_refuses_values_that_make_no_sense(build: Callable[[], Any], parts: tuple[str, ...]):
    with pytest.raises(fc.MethodError, match=says(*parts)):
        build()


def test_partial_tokens_must_say_which_and_how_many():
    assert partial_tokens(fc.All()) is None
    assert isinstance(partial_tokens(fc.TopK(fc.Age())), PartialTokens)


def in_band(field: Tensor, band: str, edge: float) -> Tensor:
    """The band of a 3 x 4 field [12, channels], one cosine of the grid after the other, in float64."""
    kept = torch.zeros(12, field.shape[1], dtype=torch.float64)
    largest = math.hypot(2 / 3, 3 / 4)
    for p in range(3):
        for q in range(4):
            wave = torch.tensor(
                [
                    math.cos(math.pi / 3 * p * (y + 0.5)) * math.cos(math.pi / 4 * q * (x + 0.5))
                    for y in range(3)
                    for x in range(4)
                ],
                dtype=torch.float64,
            )
            if (math.hypot(p / 3, q / 4) <= edge * largest) == (band == "low"):
                kept += wave[:, None] * (wave @ field.double()) / (wave @ wave)
    return kept


@pytest.mark.parametrize("edge", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("band", ["low", "high"])
@pytest.mark.parametrize("of", ["tokens", "change"])
def test_band_energy_is_that_of_the_filtered_field(band: Any, of: Any, edge: float):
    field = TOKENS - KEPT if of == "change" else TOKENS
    energies = torch.stack([in_band(row, band, edge).square().sum(-1) for row in field])
    expected = energies / energies.norm(dim=1, keepdim=True)
    found = rank(fc.BandEnergy(band, of, edge))
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-6)


def test_low_pass_share_is_that_of_a_column_over_the_grid():
    low = torch.stack([in_band(MAP[row], "low", 0.5).square().sum(0) for row in range(2)])
    expected = low / MAP.double().square().sum(1)
    score = fc.LowPassShare(0.5)
    torch.testing.assert_close(score.digest(MAP, SCENE), expected.float(), rtol=1e-4, atol=1e-6)
    assert bool((expected <= 1).all())


def test_tokens_off_the_grid_have_no_band_energy():
    longer = torch.randn(2, 15, 8, generator=generator)
    scene = Scene(Grid(1, 3, 4, start=2), 0)
    found = fc.BandEnergy("high", "tokens").rank({"tokens": longer}, scene)
    assert not found[:, [0, 1, 14]].any()
    alone = fc.BandEnergy("high", "tokens").rank({"tokens": longer[:, 2:14]}, SCENE)
    torch.testing.assert_close(found[:, 2:14], alone)
