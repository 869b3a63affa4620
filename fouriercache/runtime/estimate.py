"""What a trajectory will cost on a device, before anything runs: arithmetic, traffic, launches, memory, time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from fouriercache.cost import Device, Sizes, Work, bytes_kept, device_from_name, hinted, peak_bytes, weights_of, work_of
from fouriercache.cost.counts import bytes_of_node
from fouriercache.cost.liveness import result_bytes
from fouriercache.cost.sizes import symbol_of
from fouriercache.errors import MethodError
from fouriercache.methods import Method
from fouriercache.program import NoMatch, Program, tensor_of
from fouriercache.runtime.conditioning import LARGEST_BATCH, MOST_SINGLE
from fouriercache.runtime.estimates import CostEstimate, StepEstimate, TrajectoryEstimate
from fouriercache.runtime.served import by_site, serve_step
from fouriercache.runtime.stepper import unread_columns
from fouriercache.runtime.sums import MOST_STEPS
from fouriercache.schedules import Table
from fouriercache.steps import ModeKey, StepPrograms, Steps
from fouriercache.tokens import partial_tokens

_COMPUTE: ModeKey = ("compute", ())
_REUSE: ModeKey = ("reuse", ())


def estimate_cost(
    steps: Steps,
    method: Method,
    device: Device | str,
    *,
    num_steps: int | None = None,
    computed: Sequence[int] | None = None,
    batch: int | None = None,
    prepared: bool = False,
    passes: int = 1,
) -> CostEstimate:
    """Predict what `method` costs; see `Report.cost`."""
    return _Estimate(steps, method, device_from_name(device), batch, prepared=prepared, passes=passes).make(
        num_steps, computed
    )


class _Estimate:
    """One question; what it has counted already is kept."""

    def __init__(
        self, steps: Steps, method: Method, device: Device, batch: int | None, *, prepared: bool, passes: int
    ) -> None:
        self._steps, self._method, self._device = steps, method, device
        self._prepared, self._passes = prepared, passes
        sample = tensor_of(steps.capture.program.inputs_of("sample")[0])
        assert sample is not None
        self._batch_symbol = symbol_of(sample.shape[0])
        self._batch = hinted(sample.shape[0]) if batch is None else batch
        if self._batch_symbol is None and self._batch != sample.shape[0]:
            raise MethodError(
                f"The capture serves batch {sample.shape[0]} alone, so it does not show what batch {batch} costs.\n"
                "  Capture at that batch: optimize(..., example_inputs=...)."
            )
        self._known: dict[tuple[int, tuple[int, ...], int], Work] = {}
        self._parts: dict[ModeKey, StepPrograms] = {(mode, ()): parts for mode, parts in steps.modes.items()}

    def make(self, num_steps: int | None, computed: Sequence[int] | None) -> CostEstimate:
        served = self._served(num_steps, computed)
        counts = Counter(key for key, _ in served or ())
        keys: list[ModeKey] = sorted(counts) or [(mode, ()) for mode in self._steps.modes]
        cache = self._passes * self._cache_bytes()
        hoisted = sum(self._hoisted_bytes(key, counts[key]) for key in keys) + self._sum_bytes(served or ())
        hoisted *= self._passes
        weights, original = self._weight_bytes(), self._model_work()
        modes = {"original": _step(original, weights + self._peak(self._steps.capture.program))}
        for mode in self._steps.modes:
            mine = Counter(step for step in served or () if step[0][0] == mode) or Counter([((mode, ()), ())])
            work = _mean([(self._step_work(self._part(key), numbers), n) for (key, numbers), n in mine.items()])
            work += Work(seconds=self._device.step)
            peak = max(self._peak(program) for key, _ in mine for program in _programs(self._part(key)))
            modes[mode] = _step(work, weights + cache + hoisted + peak)
        if self._steps.probe is not None:
            parts = self._steps.probe.parts
            peak = max(map(self._peak, _programs(parts)))
            modes["probe"] = _step(self._step_work(parts, ()), weights + cache + hoisted + peak)
        trajectory = None
        if served is not None:
            done = tuple(step for step, (key, _) in enumerate(served) if key == _COMPUTE)
            total = self._trajectory_work(served, counts).times(self._passes)
            trajectory = TrajectoryEstimate(len(served), done, total, original.times(len(served) * self._passes))
        return CostEstimate(self._device, self._batch, weights, cache, hoisted, modes, trajectory)

    def _served(
        self, num_steps: int | None, computed: Sequence[int] | None
    ) -> list[tuple[ModeKey, tuple[int, ...]]] | None:
        """The mode of each step and its numbers of chosen tokens; None when they show as it runs."""
        schedule, tokens = self._method.schedule, partial_tokens(self._method.tokens)
        given = None if computed is None else Table(computed)
        listed = (given or schedule).steps(num_steps)
        if listed is None or num_steps is None:
            return None
        sites = by_site(given or schedule)
        found: list[tuple[ModeKey, tuple[int, ...]]] = []
        for step in range(num_steps):
            if step in listed:
                found.append((_COMPUTE, ()))
            else:
                served = serve_step(sites, tokens, step, num_steps, self._steps.places)
                found.append(((served.mode, served.refreshed), served.counts))
        return found

    def _trajectory_work(self, served: Sequence[tuple[ModeKey, tuple[int, ...]]], steps: Counter[ModeKey]) -> Work:
        total = Work(seconds=self._device.step * len(served))
        for key, count in steps.items():
            total += self._hoisted_work(self._part(key), count, is_batch=not key[1])
        for (key, numbers), count in Counter(served).items():
            total += self._moving_work(self._part(key), numbers).times(count)
        if self._steps.probe is not None:
            probe = self._steps.probe
            total += self._hoisted_work(probe.parts, len(served), is_batch=True)
            total += self._work(probe.first) + self._work(probe.parts.moving).times(len(served) - 1)
        return total

    def _hoisted_work(self, parts: StepPrograms, count: int, *, is_batch: bool) -> Work:
        """What does not depend on the latents, in a trajectory that has `count` steps of the mode."""
        context = self._work(parts.context)
        if self._batch_symbol is not None and is_batch and self._is_batch(parts, count):
            sizes = Sizes({self._batch_symbol: self._batch * count}, parts.timed)
            return context + work_of([parts.timed], self._device, sizes)
        return context + self._timed_work(parts).times(count)

    def _is_batch(self, parts: StepPrograms, count: int) -> bool:
        """Whether what depends on the timestep is computed for `count` steps of the mode at once."""
        if not self._prepared or parts.rows is None or self._batch_symbol is None:
            return False
        return result_bytes(parts.timed, self._sizes(())) * count <= LARGEST_BATCH

    def _step_work(self, parts: StepPrograms, numbers: tuple[int, ...]) -> Work:
        own = self._moving_work(parts, numbers)
        return own if self._prepared else own + self._timed_work(parts)

    def _model_work(self) -> Work:
        found = self._steps.capture
        return work_of([found.program], self._device, self._sizes(()), is_model=True, kept=found.kept)

    def _moving_work(self, parts: StepPrograms, numbers: tuple[int, ...]) -> Work:
        return self._work(parts.moving, numbers, between=0 if self._prepared else self._work(parts.timed).moved)

    def _timed_work(self, parts: StepPrograms) -> Work:
        return self._work(parts.timed, between=self._work(parts.moving).moved)

    def _work(self, program: Program, numbers: tuple[int, ...] = (), between: int = 0) -> Work:
        key = (id(program), numbers, between)  # every program lives as long as this does
        if key not in self._known:
            self._known[key] = work_of([program], self._device, self._sizes(numbers), between=between)
        return self._known[key]

    def _peak(self, program: Program) -> int:
        return peak_bytes(program, self._sizes(()))

    def _sizes(self, numbers: tuple[int, ...]) -> Sizes:
        given = {} if self._batch_symbol is None else {self._batch_symbol: self._batch}
        for site, node in self._ranks().items():
            symbol = symbol_of(tensor_of(node).shape[0])  # type: ignore[union-attr]
            if symbol is not None and numbers:
                given[symbol] = numbers[site]
        return Sizes(given, self._steps.capture.program, self._steps.canonical)

    def _ranks(self) -> dict[int, Any]:
        """The inputs that say which tokens a site computes, by the site's position."""
        controls = self._steps.canonical.inputs_of("control")
        return {int(node.name.removeprefix("ranks_")): node for node in controls if node.name.startswith("ranks_")}

    def _part(self, key: ModeKey) -> StepPrograms:
        if key not in self._parts:
            self._parts[key] = self._steps.mixed(*key)
        return self._parts[key]

    def _weight_bytes(self) -> int:
        found = {id(tensor): tensor for _, tensor in weights_of(self._steps.capture.program)}
        return sum(tensor.numel() * tensor.element_size() for tensor in found.values())

    def _cache_bytes(self) -> int:
        """Bytes that one pass keeps: features, states, and the indicator of an adaptive schedule."""
        size, canonical = self._sizes(()), self._steps.canonical
        columns = {output.name for output in self._steps.modes["compute"].whole.outputs if output.role == "slot"}
        columns -= unread_columns(self._method, [canonical.columns(site) for site in canonical.sites])
        states = list(canonical.inputs_of("state"))
        if self._steps.probe is not None:
            states += self._steps.probe.parts.whole.inputs_of("state")
        return bytes_kept(canonical, columns, size) + sum(bytes_of_node(node, size) for node in states)

    def _hoisted_bytes(self, key: ModeKey, count: int) -> int:
        parts, size = self._part(key), self._sizes(())
        kept = count if not key[1] and self._is_batch(parts, count) else min(count or MOST_SINGLE, MOST_SINGLE)
        return result_bytes(parts.context, size) + result_bytes(parts.timed, size) * kept

    def _sum_bytes(self, served: Sequence[tuple[ModeKey, tuple[int, ...]]]) -> int:
        """Bytes of sums that cached steps make for those behind them, where calls are fused."""
        runs = [len(list(run)) for is_reuse, run in groupby(key == _REUSE for key, _ in served) if is_reuse]
        most = min(max(runs, default=0), MOST_STEPS)
        is_plain = by_site(self._method.schedule) is None and partial_tokens(self._method.tokens) is None
        if most < 2 or not is_plain or not self._is_batch(self._part(_REUSE), sum(runs)):
            return 0
        ahead = self._steps.ahead(True)
        return 0 if isinstance(ahead, NoMatch) else result_bytes(ahead.sums, self._sizes(())) * most


def _programs(parts: StepPrograms) -> Iterable[Program]:
    return parts.context, parts.timed, parts.moving


def _step(work: Work, memory: int) -> StepEstimate:
    return StepEstimate(work.flops, work.launches, work.moved, work.seconds, memory)


def _mean(works: Sequence[tuple[Work, int]]) -> Work:
    return sum((work.times(count) for work, count in works), Work()).times(1 / sum(count for _, count in works))
