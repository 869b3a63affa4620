"""Models, methods and arguments that cannot work are refused: what is wrong, where, and what to do."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import fouriercache as fc
from tests.tiny import METHOD, denoise, labels, noise, step_inputs, tiny_dit


def says(*parts: str) -> str:
    """A pattern that finds all parts, in this order, on any lines."""
    return "(?s)" + ".*".join(map(re.escape, parts))


class Convolutions(nn.Module):
    """A UNet in small: a way down, a way up, a skip; no repeated block."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 3, 2, stride=2)

    def forward(self, hidden_states, timestep):
        level = torch.tanh(timestep.float() / 1000)[:, None, None, None]
        return self.up(torch.relu(self.down(hidden_states)) * level) + hidden_states


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, hidden_states, timestep):
        return self.second(torch.relu(self.first(hidden_states) + timestep.float()[:, None, None, None]))


class Plain(nn.Module):
    """Blocks without residual adds: found, and nothing in them to cache at branches."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))

    def forward(self, hidden_states, timestep):
        for block in self.blocks:
            hidden_states = torch.relu(block(hidden_states))
        return hidden_states * timestep.float()[:, None, None, None]


class ReadsAddresses(Mlp):
    def forward(self, hidden_states, timestep):
        if hidden_states.data_ptr() == 0:
            return super().forward(hidden_states, timestep)
        return hidden_states


class TakesAnything(nn.Module):
    def forward(self, *inputs):
        return inputs[0]


class NoTimestep(nn.Module):
    def forward(self, hidden_states, strength):
        return hidden_states * strength


@pytest.mark.parametrize("model", [Convolutions(), Mlp(), Plain()], ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("site", ["branch", "block"])
def test_refuses_a_model_without_sites(model, site):
    fast = fc.optimize(model.eval(), fc.FORA(3, site=site), num_steps=8)
    with pytest.raises(fc.UnsupportedModelError, match=rf"(?s)no .*(block|site|{site}).*\n  "):
        fast(noise(size=8), torch.tensor([900, 900]))


def test_refuses_a_model_that_cannot_be_traced_and_names_the_line():
    fast = fc.optimize(ReadsAddresses().eval(), METHOD)
    with pytest.raises(fc.CaptureError, match=says("ReadsAddresses", "test_bad_input.py", "data_ptr", "traceable")):
        fast(noise(), torch.tensor([900, 900]))


def test_refuses_a_model_whose_inputs_have_no_names():
    with pytest.raises(fc.CaptureError, match=says("TakesAnything.forward takes *inputs", "named parameters")):
        fc.optimize(TakesAnything().eval(), METHOD)


def test_refuses_a_model_without_a_timestep():
    fast = fc.optimize(NoTimestep().eval(), METHOD)
    with pytest.raises(fc.CaptureError, match=says("no timestep", "strength", "timestep_name=")):
        fast(noise(), torch.tensor([1.0, 1.0])[:, None, None, None])


def test_refuses_input_names_that_the_model_does_not_have():
    inputs = step_inputs(noise(), 900, labels())
    with pytest.raises(fc.CaptureError, match=says("'latents'", "hidden_states", "sample_name=")):
        fc.optimize(tiny_dit(), METHOD, sample_name="latents", example_inputs=inputs)
    with pytest.raises(fc.CaptureError, match=says("'sigma'", "timestep", "timestep_name=")):
        fc.optimize(tiny_dit(), METHOD, timestep_name="sigma", example_inputs=inputs)


def test_refuses_a_pipeline_and_names_its_denoiser():
    pipeline = SimpleNamespace(transformer=tiny_dit(), vae=nn.Identity())
    with pytest.raises(fc.CaptureError, match=says("not a torch.nn.Module", "optimize(pipe.transformer, ...)")):
        fc.optimize(pipeline, METHOD)  # type: ignore[arg-type]


def test_refuses_a_function():
    with pytest.raises(fc.CaptureError, match=says("model is a function", "denoiser module")):
        fc.optimize(lambda x: x, METHOD)  # type: ignore[arg-type]


def test_refuses_a_model_that_is_optimised_already(fast):
    with pytest.raises(fc.CaptureError, match=says("optimised already", "fast.model")):
        fc.optimize(fast, METHOD)


def test_refuses_a_model_that_torch_compiled():
    with pytest.raises(fc.CaptureError, match=says("torch.compile", "backend='inductor'")):
        fc.optimize(torch.compile(tiny_dit()), METHOD)  # type: ignore[arg-type]


def test_refuses_a_model_in_training_mode():
    with pytest.raises(fc.CaptureError, match=says("DiTTransformer2DModel is in training mode", "model.eval()")):
        fc.optimize(tiny_dit().train(), METHOD)


def test_refuses_a_call_after_the_model_went_to_training_mode():
    fast = fc.optimize(tiny_dit(), METHOD)
    fast.train()
    with pytest.raises(fc.CaptureError, match=says("training mode", "fast.eval()")):
        denoise(fast)


def test_refuses_weights_on_another_device_than_the_inputs():
    fast = fc.optimize(tiny_dit().to("meta"), METHOD)
    with pytest.raises(fc.TrajectoryError, match=says("inputs are on cpu", "weights on meta", "fast.to(device)")):
        denoise(fast)


def test_refuses_inputs_on_another_device_than_the_weights():
    fast = fc.optimize(tiny_dit(), METHOD)
    inputs = step_inputs(noise(), 900, labels())
    with pytest.raises(fc.TrajectoryError, match=says("inputs are on meta", "weights on cpu", "inputs.to(device)")):
        fast(**(inputs | {"hidden_states": inputs["hidden_states"].to("meta")}))


def test_refuses_a_model_that_moves_away_after_its_capture():
    fast = fc.optimize(tiny_dit(), METHOD)
    denoise(fast)
    fast.to("meta")
    with pytest.raises(fc.TrajectoryError, match=says("inputs are on cpu", "weights on meta")):
        denoise(fast)


def test_refuses_unknown_methods_backends_and_fields():
    model = tiny_dit()
    with pytest.raises(fc.MethodError, match=says("'TaylorSeeer'", "Use one of", "Did you mean 'TaylorSeer'?")):
        fc.optimize(model, "TaylorSeeer")
    with pytest.raises(fc.MethodError, match=says("method is a int", "fc.FORA(interval=3)")):
        fc.optimize(model, 3)  # type: ignore[arg-type]
    with pytest.raises(fc.MethodError, match=says("'inductr'", "eager, inductor")):
        fc.optimize(model, METHOD, backend="inductr")
    with pytest.raises(fc.MethodError, match=says("no field 'intervall'", "Did you mean 'interval'?")):
        fc.method_from_name("FORA", intervall=3)
    with pytest.raises(fc.MethodError, match=says("no field 'sites'", "Did you mean 'site'?")):
        fc.TaylorSeer().with_(sites="stack")
    with pytest.raises(fc.MethodError, match=says("site 'attn'", "'branch', 'block', 'stack'")):
        fc.FORA(site="attn")
    with pytest.raises(fc.MethodError, match=says("direction 'sideways'", "'down', 'up'")):
        fc.optimize(model, METHOD, direction="sideways")  # type: ignore[arg-type]


@pytest.mark.parametrize("interval", [0, -1, 2.5, True, None])
@pytest.mark.parametrize("preset", [fc.FORA, fc.TaylorSeer])
def test_refuses_intervals_that_are_no_intervals(preset, interval):
    with pytest.raises(fc.MethodError, match=says(preset.__name__, "interval", "interval=1 computes every step")):
        preset(interval)


def test_refuses_step_counts_that_the_schedule_cannot_use():
    model = tiny_dit()
    with pytest.raises(fc.MethodError, match=says("needs the number of steps", "num_steps=")):
        fc.optimize(model, fc.FORA(3))
    with pytest.raises(fc.MethodError, match=says("num_steps to be at least 1, got 0")):
        fc.optimize(model, METHOD, num_steps=0)
    with pytest.raises(fc.MethodError, match=says("num_steps to be a whole number", "50.0")):
        fc.optimize(model, METHOD, num_steps=50.0)  # type: ignore[arg-type]
    with pytest.raises(fc.MethodError, match=says("does not have: [4, 6]", "num_steps=3")):
        fc.optimize(model, METHOD, num_steps=3)
    with pytest.raises(fc.MethodError, match=says("passes_per_step to be at least 1")):
        fc.optimize(model, METHOD, passes_per_step=0)


def test_says_that_nothing_is_captured_yet():
    fast = fc.optimize(tiny_dit(), METHOD)
    for ask in (lambda: fast.report, lambda: fast.program("reuse")):
        with pytest.raises(fc.PreconditionError, match=says("nothing has been captured", "example_inputs=")):
            ask()


def test_refuses_programs_that_there_are_not(fast):
    denoise(fast.new_session())
    with pytest.raises(fc.PreconditionError, match=says("no program called 'resuse'", "reuse")):
        fast.program("resuse")


def test_refuses_calls_as_the_model_itself_would(fast):
    with pytest.raises(TypeError, match="unexpected keyword argument 'hidden'"):
        fast(noise(), hidden=noise())
    with pytest.raises(TypeError, match="missing a required argument: 'hidden_states'"):
        fast(timestep=torch.tensor([1, 1]))
    with pytest.raises(AttributeError, match="no attribute 'no_such_thing'"):
        fast.no_such_thing  # noqa: B018  # reading it is the test


def test_refuses_arguments_that_a_graph_cannot_take(fast):
    inputs = step_inputs(noise(), 900, labels())
    with pytest.raises(fc.CaptureError, match=says("argument cross_attention_kwargs['scale'] is a object", "Convert")):
        fast(**inputs, cross_attention_kwargs={"scale": object()})
    with pytest.raises(fc.CaptureError, match=says("no timestep input", "as a tensor")):
        fast(**(inputs | {"timestep": 900}))
