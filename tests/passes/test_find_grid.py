from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fouriercache.passes.find_grid import FindGrid
from fouriercache.passes.find_sites import FindSites
from fouriercache.program import Program, TokenGrid
from fouriercache.testing import check_pass, trace
from tests.passes.stages import after
from tests.passes.toys import WIDTH, Model, plain


class Patched(nn.Module):
    """A patch embedding before a toy of blocks."""

    def __init__(self, embed: nn.Module, folds_frames: bool = False, extra: int = 0, padding: int = 0) -> None:
        super().__init__()
        self.padding = padding
        self.embed, self.body = embed, Model(plain, bare=True)
        self.folds_frames, self.extra = folds_frames, extra

    def forward(self, latents: Tensor) -> Tensor:
        if self.folds_frames:
            latents = latents.transpose(1, 2).flatten(0, 1)
        if self.padding:
            latents = nn.functional.pad(latents, (0, self.padding, 0, self.padding))
        tokens = self.embed(latents.float()).flatten(2).mT
        if self.extra:
            tokens = torch.cat([tokens, tokens[:, : self.extra]], 1)
        out: Tensor = self.body(tokens)[0]
        return out


IMAGE = torch.randn(2, 3, 8, 12)
VIDEO = torch.randn(2, 3, 4, 8, 12)
CONV2D = nn.Conv2d(3, WIDTH, 2, 2)
CONV3D = nn.Conv3d(3, WIDTH, (1, 2, 2), (1, 2, 2))


def find(model: nn.Module, latents: Tensor) -> Program:
    program = after(trace(model, latents), FindSites())
    FindGrid().apply(program, check=True)
    return program


def reason(program: Program) -> str:
    (refusal,) = program.refused["FindGrid"]
    return refusal.reason


def test_reads_height_and_width_off_the_patch_embedding():
    program = after(trace(Patched(CONV2D), IMAGE), FindSites())
    assert "token grid: 1 x 4 x 6 from token 0" in check_pass(FindGrid(), program, IMAGE, rewrites=1)


def test_reads_frames_height_and_width_of_a_video():
    assert find(Patched(CONV3D), VIDEO).grid == TokenGrid(4, 4, 6)


def test_the_grid_of_a_sample_that_is_padded_to_whole_patches_has_those_too():
    assert find(Patched(CONV3D, padding=1), torch.randn(2, 3, 4, 7, 11)).grid == TokenGrid(4, 4, 6)


def test_a_grid_of_frames_folded_into_the_batch_is_one_frame():
    assert find(Patched(CONV2D, folds_frames=True), VIDEO).grid == TokenGrid(1, 4, 6)


def test_reads_the_grid_before_sites_are_known():
    program = trace(Patched(CONV2D), IMAGE)
    assert FindGrid().apply(program, check=True) == 1
    assert program.grid == TokenGrid(1, 4, 6)


def test_keeps_a_model_without_a_patch_embedding_of_its_sample():
    program = find(Model(plain), torch.randn(2, 6, WIDTH))
    assert program.grid is None
    assert "no patch embedding shows the grid" in reason(program)
    assert "pass grid=" in reason(program)


def test_keeps_a_grid_whose_token_count_is_not_the_streams():
    program = find(Patched(CONV2D, extra=3), IMAGE)
    assert program.grid is None
    assert reason(program) == "the patch embedding gives 24 tokens, the stream has ['27']"


def test_keeps_a_grid_that_is_known():
    program = trace(Patched(CONV2D), IMAGE)
    program.grid = TokenGrid(1, 2, 12)
    assert FindGrid().apply(program, check=True) == 0
    assert program.grid == TokenGrid(1, 2, 12)


class Cut(nn.Module):
    """Patches cut by views, read by a linear layer, before a toy of blocks."""

    def __init__(self, cut, features: int) -> None:
        super().__init__()
        self.cut, self.embed, self.body = cut, nn.Linear(features, WIDTH), Model(plain, bare=True)

    def forward(self, latents: Tensor) -> Tensor:
        out: Tensor = self.body(self.embed(self.cut(latents)))[0]
        return out


def by_rows(x):
    b, c, h, w = x.shape
    return x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, c * 4)


def by_columns(x):
    b, c, h, w = x.shape
    return x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 4, 2, 1, 3, 5).reshape(b, h * w // 4, c * 4)


def by_stride(x):
    b, c, h, w = x.shape
    return x.view(b, c, 2, h // 2, 2, w // 2).permute(0, 3, 5, 1, 2, 4).reshape(b, h * w // 4, c * 4)


def by_frames(x):
    b, c, t, h, w = x.shape
    return x.view(b, c, t, h // 2, 2, w // 2, 2).permute(0, 2, 3, 5, 1, 4, 6).flatten(1, 3).flatten(2)


def by_channels_last(x):
    b, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).reshape(b, h * w, c)


@pytest.mark.parametrize(
    ("cut", "latents", "features", "grid"),
    [
        (by_rows, IMAGE, 12, TokenGrid(1, 4, 6)),
        (by_frames, VIDEO, 12, TokenGrid(4, 4, 6)),
        (by_channels_last, IMAGE, 3, TokenGrid(1, 8, 12)),
    ],
)
def test_reads_the_grid_off_views_before_a_linear(cut, latents, features, grid):
    assert find(Cut(cut, features), latents).grid == grid


@pytest.mark.parametrize(
    ("cut", "why"), [(by_columns, "do not follow each other row by row"), (by_stride, "cut no even boxes")]
)
def test_keeps_tokens_that_are_no_rows_of_boxes(cut, why):
    program = find(Cut(cut, 12), IMAGE)
    assert program.grid is None
    assert why in reason(program)


def test_frames_in_the_batch_that_become_one_stream_are_a_grid_of_frames():
    class Joined(Patched):
        def forward(self, latents):
            tokens = self.embed(latents.transpose(1, 2).flatten(0, 1).float()).flatten(2).mT
            return self.body(tokens.reshape(len(latents), -1, WIDTH))[0]

    assert find(Joined(CONV2D), VIDEO).grid == TokenGrid(4, 4, 6)
