"""Which inputs are taken for the latents and the timestep, by name and by what the model returns."""

from __future__ import annotations

import pytest
import torch

from fouriercache.calls import Call, find_sample, find_samples, find_timestep

NOISE, TEXT, STAMP = torch.randn(2, 16, 8), torch.randn(2, 6, 4), torch.ones(2)


@pytest.mark.parametrize(
    ("inputs", "found"),
    [
        ({"encoder_hidden_states": TEXT, "hidden_states": NOISE}, ["hidden_states"]),
        ({"video": NOISE, "text": TEXT}, ["video"]),
        ({"x[0]": NOISE, "text": TEXT, "x[1]": NOISE}, ["x[0]", "x[1]"]),
        ({"ids": NOISE.long(), "vision[0]": NOISE}, ["vision[0]"]),
        ({"embedding": TEXT[:, 0], "timestep": STAMP}, ["embedding"]),
    ],
)
def test_finds_the_argument_that_is_denoised(inputs, found):
    indices = find_sample(list(inputs), list(inputs.values()), None)
    assert [list(inputs)[index] for index in indices] == found


def test_takes_the_sample_it_is_told():
    assert find_sample(["a", "b[0]", "b[1]"], [NOISE, TEXT, TEXT], "b") == (1, 2)
    assert find_sample(["a", "b"], [NOISE, TEXT], "b") == (1,)


@pytest.mark.parametrize(
    ("inputs", "found"),
    [
        ({"timestep_r": STAMP, "timestep": STAMP}, "timestep"),
        ({"timestep": STAMP.repeat(4, 1), "t": STAMP}, "t"),
        ({"hidden_states": NOISE, "timestep": STAMP.repeat(4, 1)}, "timestep"),
        ({"vision_timesteps": STAMP}, "vision_timesteps"),
        ({"decoder_noise_time": STAMP, "lifetime": STAMP}, "decoder_noise_time"),
    ],
)
def test_finds_the_timestep_by_its_name_or_the_end_of_it(inputs, found):
    assert list(inputs)[find_timestep(list(inputs), list(inputs.values()), None)] == found


def test_takes_an_input_of_a_further_results_shape_for_a_sample():
    sound, mask = torch.randn(2, 9, 3), torch.ones(2, 9, 3, dtype=torch.bool)
    call = Call((NOISE, mask, sound, TEXT), ("hidden_states", "mask", "sound", "text"), (), ())
    assert find_samples(call, (0,), [NOISE, sound]) == {0, 2}
    assert find_samples(call, (0,), [NOISE]) == {0}
    assert find_samples(call, (0,), [NOISE, torch.randn(2, 1, 1)]) == {0}


def test_takes_none_of_two_inputs_of_one_shape_for_a_sample():
    call = Call((NOISE, TEXT, TEXT), ("hidden_states", "text", "negative"), (), ())
    assert find_samples(call, (0,), [NOISE, TEXT]) == {0}
