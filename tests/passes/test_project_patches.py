from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, conv3d, linear

from fouriercache.passes.project_patches import ProjectPatches
from fouriercache.testing import check_pass, trace

generator = torch.Generator().manual_seed(0)
IMAGE = torch.randn(2, 3, 8, 12, generator=generator)
VIDEO = torch.randn(2, 3, 4, 4, 6, generator=generator)
weight = nn.Parameter(torch.randn(16, 3, 2, 2, generator=generator))
deep = nn.Parameter(torch.randn(16, 3, 1, 2, 2, generator=generator))
bias = nn.Parameter(torch.randn(16, generator=generator))
position = torch.randn(1, 24, 16, generator=generator)

RTOL = 16 * 2**-23  # sums of 12 float32 products, taken in another order


def tokens(image):
    return image.flatten(2).transpose(1, 2)


def test_an_image_is_cut_into_patches_and_projected():
    def before(x):
        return tokens(conv2d(x, weight, bias, 2)) + position

    def expected(x):
        turned = x.view(2, 3, 4, 2, 6, 2).permute(0, 1, 3, 5, 2, 4)
        rows = turned.clone(memory_format=torch.contiguous_format).view(2, 12, 24)
        patches = rows.transpose(1, 2).clone(memory_format=torch.contiguous_format)
        return linear(patches, weight.flatten(1), bias) + position

    text = check_pass(ProjectPatches(), trace(before, IMAGE), IMAGE, rewrites=1, rtol=RTOL)
    assert text == trace(expected, IMAGE).text()


def test_the_strides_of_what_reads_the_tokens_are_told_anew():
    program = trace(lambda x: (tokens(conv2d(x, weight, bias, 2)) + 1).exp(), IMAGE)
    ProjectPatches().apply(program, check=True)
    assert [node.meta["val"].stride() for node in program.results] == [(24 * 16, 16, 1)]


def test_a_video_and_a_convolution_without_bias():
    program = trace(lambda x: tokens(conv3d(x, deep, None, (1, 2, 2))), VIDEO)
    check_pass(ProjectPatches(), program, VIDEO, rewrites=1, rtol=RTOL)


@pytest.mark.parametrize(
    ("fn", "reason"),
    [
        (lambda x: tokens(conv2d(x, weight, bias, 1)), "overlap"),
        (lambda x: tokens(conv2d(x, weight, bias, 2, padding=1)), "padded"),
        (lambda x: tokens(conv2d(x, weight, bias, 2, dilation=2)), "dilated"),
        (lambda x: tokens(conv2d(x, weight[:15, :1], bias[:15], 2, groups=3)), "groups"),
        (lambda x: tokens(conv2d(x[..., 1:], weight, bias, 2)), "not cut evenly"),
        (lambda x: conv2d(x, weight, bias, 2).exp(), "is not read as"),
        (lambda x: conv2d(x, weight, bias, 2).flatten(2).exp(), "is not read as"),
        (lambda x: tokens(conv2d(x, weight, bias, 2)).transpose(1, 2).view(2, -1), "needs its strides"),
        (lambda x: (tokens(conv2d(x, weight, bias, 2)) + 1).transpose(1, 2).view(2, -1), "needs its strides"),
        (lambda x: (y := conv2d(x, weight, bias, 2), tokens(y).exp())[1] + y.sum(), "is not read as"),
    ],
)
def test_keeps_what_is_no_patch_embedding(fn, reason):
    program = trace(fn, IMAGE)
    assert check_pass(ProjectPatches(), program, IMAGE, rewrites=0) == program.text()
    ProjectPatches().apply(program)
    assert reason in program.refused["ProjectPatches"][0].reason
