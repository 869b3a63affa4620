from __future__ import annotations

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

    def __init__(self, embed: nn.Module, folds_frames: bool = False, extra: int = 0) -> None:
        super().__init__()
        self.embed, self.body = embed, Model(plain, bare=True)
        self.folds_frames, self.extra = folds_frames, extra

    def forward(self, latents: Tensor) -> Tensor:
        if self.folds_frames:
            latents = latents.transpose(1, 2).flatten(0, 1)
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


def test_a_grid_of_frames_folded_into_the_batch_is_one_frame():
    assert find(Patched(CONV2D, folds_frames=True), VIDEO).grid == TokenGrid(1, 4, 6)


def test_reads_the_grid_before_sites_are_known():
    program = trace(Patched(CONV2D), IMAGE)
    assert FindGrid().apply(program, check=True) == 1
    assert program.grid == TokenGrid(1, 4, 6)


def test_keeps_a_model_without_a_convolution_of_its_sample():
    program = find(Model(plain), torch.randn(2, 6, WIDTH))
    assert program.grid is None
    assert "no strided convolution reads the sample" in reason(program)
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
