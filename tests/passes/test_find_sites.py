from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from fouriercache.errors import UnsupportedModelError
from fouriercache.passes.find_sites import FindSites
from fouriercache.program import Program
from fouriercache.testing import check_pass, trace
from tests.passes.toys import TEXT, TIMESTEP, WIDTH, Block, Model, X, gated, plain


def find(forward, *conditioning: Tensor, depth: int = 2) -> Program:
    program = trace(Model(forward, depth), X, *conditioning)
    FindSites().apply(program, check=True)
    return program


def names(program: Program, question: str = "branch") -> list[str]:
    return [site.name for site in program.found[question]]


def test_finds_branches_blocks_and_stack():
    program = trace(Model(plain), X)
    text = check_pass(FindSites(), program, X, rewrites=7)
    facts = text[text.index("block sites") :]
    assert (
        facts
        == """\
block sites: 2
  blocks.0.residual: block [2,6,8]
  blocks.1.residual: block [2,6,8]

branch sites: 4
  blocks.0.attention: attention [2,6,8]
  blocks.0.mlp: mlp [2,6,8]
  blocks.1.attention: attention [2,6,8]
  blocks.1.mlp: mlp [2,6,8]

stack sites: 1
  stack.residual: stack [2,6,8]
"""
    )


def test_labels_nodes_and_lists_blocks_in_order():
    program = find(plain, depth=3)
    assert [(block.path, block.group, block.index) for block in program.blocks] == [
        (f"blocks.{k}", "blocks", k) for k in range(3)
    ]
    assert {node.meta.get("block") for node in program.calls()} == {None, "blocks.0", "blocks.1", "blocks.2"}


def test_cuts_a_branch_before_its_gate_on_either_side():
    program = find(gated, TIMESTEP, depth=1)
    attention, mlp = program.found["branch"]
    assert attention.gated
    assert mlp.gated
    targets = program.named()
    assert "attention" in str(targets[attention.value].target)
    assert targets[mlp.value].target is torch.ops.aten.linear.default


def test_a_softmax_between_matrix_products_is_attention():
    def forward(block, x):
        q, k, v = block.qkv(block.norm(x)).chunk(3, -1)
        return x + (q @ k.mT).softmax(-1) @ v

    assert names(find(forward)) == ["blocks.0.attention", "blocks.1.attention"]


def test_attention_and_mlp_in_parallel_are_one_site_if_added_first():
    assert names(find(lambda block, x: x + (block.attend(x) + block.feed(x)), depth=1)) == ["blocks.0.attention"]


def test_branches_that_read_the_same_value_are_sites_of_their_own():
    def forward(block: Block, x: Tensor, timestep: Tensor) -> Tensor:
        _, first, second = block.modulate(timestep)
        return x + first * block.attend(x) + second * block.feed(x)

    program = find(forward, TIMESTEP, depth=1)
    assert [(site.name, site.gated) for site in program.found["branch"]] == [
        ("blocks.0.attention", True),
        ("blocks.0.mlp", True),
    ]
    assert names(program, "block") == ["blocks.0.residual"]


def test_a_branch_of_one_matrix_product_is_a_site():
    assert names(find(lambda block, x: x + block.modulation(x)[..., :WIDTH] * 2, depth=1)) == ["blocks.0.mlp"]


def test_sees_the_stream_through_views_casts_and_clips():
    def forward(block: Block, x: Tensor) -> Tensor:
        stream = x.double() + block.attend(x).double()
        return stream.float().clip(-6e4, 6e4).view(2, 1, 6, WIDTH).squeeze(1)

    program = find(forward)
    assert names(program) == ["blocks.0.attention", "blocks.1.attention"]
    assert names(program, "block") == ["blocks.0.residual", "blocks.1.residual"]
    assert names(program, "stack") == ["stack.residual"]


class FramesAndPlaces(Model):
    """Blocks over the places of each frame [frame, place, width] and blocks over the frames of each place, in turn."""

    times: Tensor

    def __init__(self, frames: int) -> None:
        super().__init__(plain, depth=4)
        self.register_buffer("times", torch.ones(frames, WIDTH))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, ...]:
        x = self.embed(x)
        for number, block in enumerate(self.blocks):
            x = block(x + self.times if number == 1 else x).transpose(0, 1)
        return (self.head(x),)


@pytest.mark.parametrize(("frames", "entry"), [(2, "linear"), (6, "add_2")])
def test_a_stack_goes_up_through_positions_of_frames_where_shapes_tell_frames_from_places(frames: int, entry: str):
    program = trace(FramesAndPlaces(frames), X[:1].expand(frames, 6, WIDTH).contiguous())
    FindSites().apply(program, check=True)
    (stack,) = program.found["stack"]
    assert (stack.spine, stack.shape) == (entry, (frames, 6, WIDTH))
    assert program.named()[stack.value].target is (
        torch.ops.aten.transpose.int if frames == 2 else torch.ops.aten.add.Tensor
    )


class TwoStreams(nn.Module):
    """Blocks of two streams that attend to each other, then blocks over both streams joined; returns the image."""

    def __init__(self, both: int, joined: int) -> None:
        super().__init__()
        self.both = nn.ModuleList([Block(self._both) for _ in range(both)])
        self.joined = nn.ModuleList([Block(self._joined) for _ in range(joined)])
        self.head = nn.Linear(WIDTH, WIDTH)

    @staticmethod
    def _both(block: Block, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        mixed = block.attend(torch.cat([text, image], 1))
        count = text.shape[1]
        text = text + block.down(block.up(mixed[:, :count]))
        return image + block.down(block.up(mixed[:, count:])), text

    @staticmethod
    def _joined(block: Block, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat([text, image], 1)
        joined = joined + block.attend(joined)
        return joined[:, text.shape[1] :], joined[:, : text.shape[1]]

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        for block in [*self.both, *self.joined]:
            image, text = block(image, text)
        out: Tensor = self.head(image)
        return out


@pytest.mark.parametrize("tokens", [3, 6], ids=["a short text", "a text as long as the image"])
def test_tells_streams_apart_by_where_they_lie(tokens: int):
    text = TEXT[:, [0] * tokens]
    program = trace(TwoStreams(1, 2), X, text)
    FindSites().apply(program, check=True)
    assert names(program) == ["both.0.attention", "both.0.attention.1", "joined.0.attention", "joined.1.attention"]
    text_shape, image_shape = (2, tokens, WIDTH), (2, 6, WIDTH)
    # The last block's text is dead, so it has no output.
    assert [(site.block, site.shape) for site in program.found["block"]] == [
        ("both.0", text_shape),
        ("both.0", image_shape),
        ("joined.0", image_shape),
        ("joined.0", text_shape),
        ("joined.1", image_shape),
    ]
    # The image stream is followed through every cut and join up to the input.
    (stack,) = program.found["stack"]
    assert (stack.shape, stack.spine) == ((2, 6, WIDTH), "image")


class JoinedOnce(nn.Module):
    """Two streams, then both as one value through all other blocks; the image is cut out at the end, or nothing is."""

    def __init__(self, is_cut: bool) -> None:
        super().__init__()
        self.both = nn.ModuleList([Block(TwoStreams._both)])
        self.joined = nn.ModuleList([Block(lambda block, x: x + block.attend(x)) for _ in range(2)])
        self.is_cut = is_cut

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        image, text = self.both[0](image, text)
        stream = torch.cat([text, image], 1)
        for block in self.joined:
            stream = block(stream)
        return (stream[:, text.shape[1] :] if self.is_cut else stream) * 2


@pytest.mark.parametrize(("is_cut", "tokens", "spine"), [(True, 6, "image"), (False, 8, "cat_1")])
def test_a_stack_is_of_the_part_that_is_read_where_that_part_goes_further_up(is_cut: bool, tokens: int, spine: str):
    program = trace(JoinedOnce(is_cut), X, TEXT[:, [0] * 2])
    FindSites().apply(program, check=True)
    (stack,) = program.found["stack"]
    assert (stack.shape, stack.spine) == ((2, tokens, WIDTH), spine)


def test_keeps_an_add_of_what_does_not_depend_on_the_sample():
    def forward(block: Block, x: Tensor, position: Tensor) -> Tensor:
        x = x + block.attend(x)
        x = x + block.up(position)[..., :WIDTH]
        return x + block.norm.weight + 1

    program = find(forward, TEXT[:, [0] * 6])
    assert names(program) == ["blocks.0.attention", "blocks.1.attention"]
    assert names(program, "block") == ["blocks.0.residual", "blocks.1.residual"]


def test_keeps_an_add_of_two_streams():
    def forward(block, x):
        return block.up(x)[..., :WIDTH] + block.up(x)[..., WIDTH:] + block.attend(x)

    with pytest.raises(UnsupportedModelError, match="operands are not a stream and a branch"):
        find(forward)


def test_keeps_a_modulation():
    def forward(block: Block, x: Tensor, timestep: Tensor) -> Tensor:
        shift, scale, gate = block.modulate(timestep)
        return x + gate * block.attend(block.norm(x) * (1 + scale) + shift)

    assert names(find(forward, TIMESTEP)) == ["blocks.0.attention", "blocks.1.attention"]


def test_keeps_a_residual_without_matrix_product():
    assert names(find(lambda block, x: plain(block, x + x.sin()), depth=1)) == ["blocks.0.attention", "blocks.0.mlp"]


def test_keeps_a_residual_nested_in_a_branch():
    def forward(block, x):
        hidden = block.norm(x)
        return x + (hidden + block.attend(hidden))

    assert names(find(forward)) == ["blocks.0.attention", "blocks.1.attention"]


def test_says_why_a_block_has_no_site_of_its_own():
    def forward(block, x):
        x = block.norm(x)
        return x + block.attend(x)

    program = find(forward)
    assert names(program) == ["blocks.0.attention", "blocks.1.attention"]
    assert program.found["block"] == ()
    reasons = [refusal.reason for refusal in program.refused["FindSites"]]
    assert any("blocks.0: the spine of" in reason and "ends at a layer_norm.default" in reason for reason in reasons)


def test_raises_when_there_is_nothing_to_cache():
    with pytest.raises(UnsupportedModelError, match=r"found no residual branch in repeated blocks(.|\n)*U-Nets"):
        find(lambda block, x: block.feed(x))


def test_raises_when_no_module_stands_in_a_list():
    with pytest.raises(UnsupportedModelError, match="no repeated indexed blocks"):
        FindSites().apply(trace(lambda x: x + F.softmax(x @ x.mT, -1) @ x, X))


@settings(max_examples=10, deadline=None)
@given(st.lists(st.sampled_from(["attention", "mlp", "position", "norm"]), min_size=1, max_size=5), st.integers(1, 3))
def test_finds_every_heavy_branch_of_every_block(parts: list[str], depth: int):
    def forward(block: Block, x: Tensor) -> Tensor:
        x = x + block.attend(x)
        for part in parts:
            if part == "attention":
                x = x + block.attend(x)
            elif part == "mlp":
                x = x + block.feed(x)
            else:
                x = x + (block.norm(x) if part == "norm" else block.norm.weight)
        return x

    program = find(forward, depth=depth)
    heavy = 1 + sum(part in ("attention", "mlp") for part in parts)
    assert len(names(program)) == depth * heavy
    assert [site.kind for site in program.found["branch"][1:heavy]] == [p for p in parts if p in ("attention", "mlp")]
