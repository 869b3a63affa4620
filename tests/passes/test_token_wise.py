"""The proof that a branch acts on each token alone: what it accepts, and what it refuses and why."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fouriercache.passes.find_sites import FindSites
from fouriercache.passes.token_wise import TokenRegion, find_region
from fouriercache.program import NoMatch
from fouriercache.testing import trace
from tests.passes.stages import after, toy
from tests.passes.toys import TIMESTEP, Model, gated, plain

PER_TOKEN = torch.randn(6, 8, generator=torch.Generator().manual_seed(3))


def region_of(feed, *conditioning: Tensor) -> TokenRegion | NoMatch:
    """The region of a branch `x + feed(block, x)`."""
    program = toy(lambda block, x, *more: x + feed(block, x, *more), *conditioning)
    (site,) = program.found["branch"]
    return find_region(program, site)


def geglu(block, x):
    hidden, gate = block.up(block.norm(x)).chunk(2, -1)
    return block.qkv(hidden * F.silu(gate)).split([8, 8, 8], dim=-1)[1]


def by_hand(block, x):
    """A norm, a product with a matrix and groups of channels, written out."""
    x = (x - x.mean(-1, keepdim=True)) * torch.rsqrt(x.var(-1, keepdim=True, correction=0) + 1e-6)
    x = torch.cat([x[..., :4], x[..., 4:].sigmoid()], dim=-1) @ block.qkv.weight.T
    return x.unflatten(-1, (3, 8)).tanh().flatten(2)[..., 8:16]


ACCEPTED = {
    "mlp": lambda block, x: block.feed(x),
    "gated linear unit": geglu,
    "half and back": lambda block, x: block.feed(x).half().float().clone().contiguous(),
    "norm by hand": by_hand,
    "where and clamp": lambda block, x: torch.where(x > 0, block.feed(x), x).clamp(-1, 1),
}


@pytest.mark.parametrize("feed", ACCEPTED.values(), ids=ACCEPTED)
def test_accepts_what_acts_along_the_channels_alone(feed):
    region = region_of(feed)
    assert isinstance(region, TokenRegion), region
    assert (region.tokens, region.per_token) == (6, ())
    assert region.nodes


def test_accepts_modulation_that_is_the_same_for_all_tokens():
    program = toy(gated, TIMESTEP)
    attention, mlp = program.found["branch"]
    assert isinstance(find_region(program, mlp), TokenRegion)
    assert find_region(program, attention) == NoMatch(
        "blocks.0.attention: a site of kind attention mixes tokens", attention.value
    )


def test_reads_values_with_a_row_for_each_token_row_by_row():
    rows = torch.randn(2, 6, 8)
    region = region_of(lambda block, x, condition: block.feed(x * condition), rows)
    assert isinstance(region, TokenRegion)
    assert [node.name for node in region.per_token] == ["condition"]


REFUSED = {
    "mixer over tokens": (
        lambda block, x: (block.feed(x).transpose(1, 2) @ torch.ones(6, 6)).transpose(1, 2),
        "transpose.int gives [2, 8, 6], which has no token at dimension 1",
    ),
    "mean over tokens": (
        lambda block, x: block.feed(x) - x.mean(1, keepdim=True),
        "mean.dim gives [2, 1, 8], which has no token at dimension 1",
    ),
    "pieces of the tokens": (
        lambda block, x: block.feed(x).unflatten(1, (2, 3)).flip(1).flatten(1, 2),
        "unflatten.int gives [2, 2, 3, 8], which has no token at dimension 1",
    ),
    "logarithm of shares": (lambda block, x: block.feed(x).log_softmax(1), "log_softmax.int is not known to act"),
    "norm over tokens": (
        lambda block, x: block.feed(F.layer_norm(x, (6, 8))),
        "layer_norm.default acts along more than the channels",
    ),
    "norm over batch": (lambda block, x: block.feed(F.batch_norm(x, None, None, training=True)), "batch_norm.default"),
    "cumulative sum": (lambda block, x: block.feed(x).cumsum(1), "cumsum.default is not known to act on each token"),
    "shift of tokens": (lambda block, x: block.feed(x).roll(1, 1), "roll.default is not known to act on each token"),
    "convolution": (
        lambda block, x: block.feed(F.conv1d(x, torch.ones(6, 6, 1))),
        "conv1d.default is not known to act on each token alone",
    ),
    "fold into the batch": (
        lambda block, x: block.feed(x.reshape(12, 8)).view(2, 6, 8),
        "reshape.default gives [12, 8], which has no token at dimension 1",
    ),
    "position embedding": (
        lambda block, x: block.feed(x + PER_TOKEN),
        "which has tokens of its own",
    ),
    "product of tokens": (
        lambda block, x: torch.matmul(block.feed(x) @ x.transpose(1, 2), x),
        "which has no token at dimension 1",
    ),
    "tokens against tokens": (
        lambda block, x: (block.feed(x).unsqueeze(1) * x.unsqueeze(2)).mean(2),
        "which has no token at dimension 1",
    ),
}


@pytest.mark.parametrize(("feed", "reason"), REFUSED.values(), ids=REFUSED)
def test_refuses_what_may_mix_tokens_and_says_where(feed, reason: str):
    region = region_of(feed)
    assert isinstance(region, NoMatch)
    assert reason in region.reason
    assert region.node


def test_a_square_of_tokens_and_channels_does_not_fool_the_proof():
    """With as many tokens as channels, a transposed value has the right shape."""
    square = torch.randn(2, 8, 8)
    model = Model(lambda block, x: x + block.feed(x).transpose(1, 2), depth=1, bare=True)
    program = after(trace(model, square), FindSites())
    (site,) = program.found["branch"]
    region = find_region(program, site)
    assert isinstance(region, NoMatch)
    assert "transpose.int is not known to act on each token alone" in region.reason


def test_a_plain_transformer_has_one_region_a_block():
    program = toy(plain, depth=3)
    regions = [find_region(program, site) for site in program.found["branch"]]
    assert [isinstance(region, TokenRegion) for region in regions] == [False, True] * 3
