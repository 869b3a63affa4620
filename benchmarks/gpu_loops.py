"""Denoising loops of plain models on one device: what runs them, how long each step takes, what is compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from chips import Chip
from plain import Shape
from torch import Tensor, nn

import fouriercache as fc
from fouriercache.capture import Capture, capture
from fouriercache.optimize import optimize_captured
from fouriercache.runtime.backend import LiveProgram, backend_from_name

FLOOR = "by hand: residual of all blocks"


def methods(steps: int) -> dict[str, fc.Method]:
    """What is measured: the cheapest cache there is, and an extrapolation of every branch."""
    table = fc.Table(computed_steps(steps))
    return {
        "stack, FORA": fc.FORA(site="stack", schedule=table),
        "branch, TaylorSeer order 1": fc.TaylorSeer(order=1, warmup=1, schedule=table),
    }


def computed_steps(steps: int) -> tuple[int, ...]:
    """Steps 0, 2, 6, 10, ...: 13 of 50, as in loop.py."""
    return (0, *range(2, steps, 4))


@dataclass(frozen=True)
class Case:
    """A model on a device, and what its loops begin with.

    Attributes:
        noise: latents float32. conditioning: the call's other arguments, but for timesteps.
        on_device, on_host: the timestep of each step, int64 [batch], there and here.
    """

    shape: Shape
    model: nn.Module
    noise: Tensor
    conditioning: Mapping[str, Tensor]
    on_device: Sequence[Tensor]
    on_host: Sequence[Tensor]
    dtype: torch.dtype

    @property
    def steps(self) -> int:
        """Of a loop."""
        return len(self.on_host)

    def call(self, latents: Tensor, step: int, *, on_host: bool = False) -> dict[str, Tensor]:
        """Keyword arguments of the model at a step; the latents in its dtype."""
        timestep = (self.on_host if on_host else self.on_device)[step]
        return {"hidden_states": latents.to(self.dtype), "timestep": timestep, **self.conditioning}

    def capture(self, *, on_host: bool = False) -> Capture:
        """The model's graph; the costly part of optimising it, shared by all methods and backends."""
        return capture(self.model, self.call(self.noise, 0, on_host=on_host))


def build_model(shape: Shape, device: torch.device, dtype: torch.dtype, seed: int = 0) -> nn.Module:
    """Return the model with random weights, made where and as they are used."""
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = shape.build()
    finally:
        torch.set_default_dtype(before)
    return model.eval().requires_grad_(False)


def draw_case(shape: Shape, model: nn.Module, batch: int, steps: int, device: torch.device, dtype: torch.dtype) -> Case:
    """Noise and conditioning of one seed, the same on every device."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(shape.noise(batch), generator=generator).to(dtype).float()
    given = shape.conditioning(batch, generator)
    # rounded before they are moved, so that a reference in float32 begins with the very same numbers
    rounded = {name: value.to(dtype) if value.is_floating_point() else value for name, value in given.items()}
    weight = next(model.parameters()).dtype
    conditioning = {
        name: value.to(device, weight if value.is_floating_point() else None) for name, value in rounded.items()
    }
    on_host = [torch.full((batch,), 1000 * (steps - 1 - step) // steps) for step in range(steps)]
    on_device = [timestep.to(device) for timestep in on_host]
    return Case(shape, model, noise.to(device), conditioning, on_device, on_host, weight)


@dataclass(frozen=True)
class Entry:
    """One way to run a loop.

    Attributes:
        name: for people. backend: what runs its steps. call: as the model; `begin` is called before each loop, in its
            time. on_host: whether timesteps are given on the host. fast, session: of ours; None for others.
        reference: the name of the uncached loop on the same backend. kind: which of the methods it is, if any.
    """

    name: str
    backend: str
    call: Callable[..., Tensor]
    begin: Callable[[], object] = lambda: None
    on_host: bool = False
    fast: fc.OptimizedModule | None = None
    session: Any = None
    reference: str = ""
    kind: str = ""


class ByHand:
    """The floor: the residual of all blocks, kept and added again, written out by hand. Steps are counted by calls."""

    def __init__(self, model: Any, computed: Sequence[int]) -> None:
        self._model, self._computed = model, frozenset(computed)
        self._residual: Tensor | None = None
        self._step = 0

    def begin(self) -> None:
        """Start a trajectory."""
        self._residual, self._step = None, 0

    def __call__(self, **arguments: Tensor) -> Tensor:
        """One step."""
        tokens, context = self._model.embed(**arguments)
        if self._residual is None or self._step in self._computed:
            done = self._model.stack(tokens, context)
            self._residual = done - tokens
        else:
            done = tokens + self._residual
        self._step += 1
        found: Tensor = self._model.finish(done, context)
        return found


def uncached(case: Case, captured: Capture, backend: str) -> Entry:
    """The model at every step: itself, through torch.compile, or its graph as recorded."""
    name = f"original, {backend}"
    if backend == "eager":
        return Entry(name, backend, case.model, reference=name)
    if backend == "inductor":
        return Entry(name, backend, torch.compile(case.model, fullgraph=True, dynamic=False), reference=name)
    program = LiveProgram(captured.program, case.model, backend_from_name(backend))

    def run(**arguments: Tensor) -> Tensor:
        return program([arguments[path] for path in captured.paths])[0]

    return Entry(name, backend, run, reference=name)


def cached(case: Case, captured: Capture, backend: str, *, on_host: bool) -> list[Entry]:
    """Ours, prepared, each method on a backend. NaN is not looked for: that reads a value in every step."""
    found = []
    for kind, method in methods(case.steps).items():
        fast = optimize_captured(
            case.model,
            captured,
            method,
            example_inputs=case.call(case.noise, 0, on_host=on_host),
            num_steps=case.steps,
            backend=backend,
            check_finite=False,
        )
        session = fast.new_session()
        name = f"{kind}, {backend}" + (", timesteps on the host" if on_host else "")
        begin = lambda session=session: session.prepare([float(t[0]) for t in case.on_host])  # noqa: E731
        found.append(Entry(name, backend, session, begin, on_host, fast, session, f"original, {backend}", kind))
    return found


@dataclass(frozen=True)
class Timing:
    """One loop. Seconds: of all of it, until the host has enqueued it, and of each step on the device."""

    total: float
    host: float
    steps: list[float]
    latents: Tensor


@torch.no_grad()
def run_loop(case: Case, entry: Entry, chip: Chip, steps: range | None = None) -> Timing:
    """An Euler loop, x <- x - v / steps, with latents in float32; `steps`: a part of it, which begins nothing unless
    it begins at 0.
    """
    latents = case.noise
    chip.wait()
    started = time.perf_counter()
    marks = [chip.mark()]
    for step in range(case.steps) if steps is None else steps:
        if step == 0:
            entry.begin()
        found = entry.call(**case.call(latents, step, on_host=entry.on_host))
        latents = latents - found.float() / case.steps
        marks.append(chip.mark())
    host = time.perf_counter() - started
    chip.wait()
    return Timing(time.perf_counter() - started, host, chip.between(marks), latents)


def take_rounds(
    case: Case, entries: Sequence[Entry], chip: Chip, rounds: int, is_time_left: Callable[[], bool]
) -> dict[str, list[Timing]]:
    """Run the loops of all entries in turn, another one first in each round; the first entry runs twice a round.

    Ends early when time runs out, never before the first round is done.
    """
    first = replace(entries[0], name=f"{entries[0].name}, again")
    everyone = [*entries[: len(entries) // 2], first, *entries[len(entries) // 2 :]]
    found: dict[str, list[Timing]] = {entry.name: [] for entry in everyone}
    for number in range(rounds):
        if number and not is_time_left():
            break
        turn = number % len(everyone)
        for entry in everyone[turn:] + everyone[:turn]:
            found[entry.name].append(run_loop(case, entry, chip))
    return found


def distance(have: Tensor, want: Tensor, noise: Tensor) -> float:
    """Return ||have - want|| / ||want - noise||: the error of a loop over what the loop has changed."""
    wide = want.double()
    return float((have.to(want.device).double() - wide).norm() / (wide - noise.to(want.device).double()).norm())


def list_entries(case: Case, captured: Capture, backends: Sequence[str], on_host: Capture | None) -> list[Entry]:
    """Every loop of a case: the originals, the floor, and ours on each backend; the original in eager first.

    Args:
        on_host: captured with timesteps on the host, which nobody has to wait for; ours are measured so, too.
    """
    found = [uncached(case, captured, "eager")]
    floor = ByHand(case.model, computed_steps(case.steps))
    found.append(Entry(FLOOR, "eager", floor, floor.begin, reference="original, eager"))
    found += [uncached(case, captured, backend) for backend in backends if backend != "eager"]
    for backend in backends:
        found += cached(case, captured, backend, on_host=False)
        if on_host is not None:
            found += cached(case, on_host, backend, on_host=True)
    return found
