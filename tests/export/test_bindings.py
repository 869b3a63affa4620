"""What a graph's inputs and outputs are bound to in ONNX Runtime: once for what stays, and never what is over."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import fouriercache as fc
from fouriercache.bundle import read_folder, read_graph
from fouriercache.errors import EngineError
from fouriercache.runtime.onnxruntime import Engine, GraphExecutable
from tests.tiny import distance, labels, noise, step_inputs

pytestmark = pytest.mark.ort
TIMESTEPS = tuple(range(900, 0, -100))


@pytest.fixture
def bound(monkeypatch) -> list[tuple[str, int]]:
    """What is bound, by name and address, as ONNX Runtime is told."""
    import onnxruntime

    found: list[tuple[str, int]] = []

    def recording(tell: Any) -> Any:
        def record(self, name, *place):
            found.append((name, place[-1]))
            tell(self, name, *place)

        return record

    for way in ("bind_input", "bind_output"):
        monkeypatch.setattr(onnxruntime.IOBinding, way, recording(getattr(onnxruntime.IOBinding, way)))
    return found


def _reuse(bundle: Path) -> GraphExecutable:
    """What runs a cached step's moving part."""
    manifest = read_folder(bundle)
    (graph,) = (mode.parts.moving for mode in manifest.forms[0].modes if mode.mode == "reuse")
    return Engine(threads=1).start(graph, read_graph(bundle, manifest, graph), bundle.resolve())


def _values(run: GraphExecutable, seed: int = 0, batch: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [[batch if isinstance(size, str) else size for size in given.shape] for given in run.graph.inputs]
    return [torch.randn(shape, generator=generator) for shape in shapes]


def test_kept_features_are_bound_where_they_lie(bundle, bound):
    session = fc.load(bundle, threads=1).new_session()
    x = noise()
    for step, timestep in enumerate(TIMESTEPS[:3]):
        session(**step_inputs(x, timestep, labels()))
        if step < 2:
            kept = session.features[0]["stack.residual"].data_ptr()
            assert kept in [place for _, place in bound], "the feature is the memory that the graph wrote to"
    assert kept in [place for name, place in bound if name.startswith("slot_")]


def test_what_stays_is_bound_once_and_results_get_memory_of_their_own(bundle, bound):
    run = _reuse(bundle)
    values = _values(run)
    first = run(values)
    everything = {given.name for given in run.graph.inputs} | {given.graph_name for given in run.graph.outputs}
    assert {name for name, _ in bound} == everything
    kept = [result.clone() for result in first]
    bound.clear()
    values[0] = torch.zeros_like(values[0])
    second = run(values)
    assert [name for name, _ in bound] == [run.graph.inputs[0].name, run.graph.outputs[0].graph_name]
    assert all(torch.equal(was, now) for was, now in zip(kept, first, strict=True)), "what was returned is not touched"
    assert not torch.equal(first[0], second[0])


def test_a_value_that_is_written_in_place_is_read_anew(bundle):
    run = _reuse(bundle)
    values, others = _values(run), _values(run, seed=1)
    run(values)
    for value, other in zip(values, others, strict=True):
        value.copy_(other)
    assert torch.equal(run(values)[0], _reuse(bundle)(others)[0])


def test_a_value_with_gaps_is_read_as_it_is(bundle):
    run = _reuse(bundle)
    values = _values(run)
    want = run(values)[0]
    apart = [value.repeat_interleave(2, 0)[::2] if value.ndim else value for value in values]
    assert not all(value.is_contiguous() for value in apart)
    assert torch.equal(run(apart)[0], want)


def test_after_a_call_that_was_refused_nothing_of_it_stays_bound(bundle):
    run = _reuse(bundle)
    values, others = _values(run), _values(run, seed=1)
    want = run(values)[0]
    with pytest.raises(EngineError, match="and got"):
        run([*others[:-1], others[-1].double()])
    assert torch.equal(run(values)[0], want)


def test_batches_that_take_turns_are_bound_apart(bundle):
    run = _reuse(bundle)
    given = {batch: _values(run, seed=batch, batch=batch) for batch in (1, 2, 3)}
    want = {batch: _reuse(bundle)(values)[0] for batch, values in given.items()}
    for batch in (1, 2, 3, 1, 3, 2):
        assert torch.equal(run(given[batch])[0], want[batch])


def test_threads_that_run_one_graph_at_a_time_do_not_share_a_binding(bundle):
    run = _reuse(bundle)
    given = [_values(run, seed) for seed in range(4)]
    want = [_reuse(bundle)(values)[0] for values in given]

    def many(number: int) -> float:
        return max(distance([run(given[number])[0]], [want[number]]) for _ in range(200))

    with ThreadPoolExecutor(len(given)) as threads:
        assert max(threads.map(many, range(len(given)))) == 0.0


def test_what_stands_in_for_features_is_made_once_for_a_form(bundle, bound):
    session = fc.load(bundle, threads=1, single_graph=True).new_session()
    places = []
    for batch in (2, 2, 3):
        session.reset()
        bound.clear()
        session(**step_inputs(noise(batch), 900, labels(batch)))
        places.append({name: place for name, place in bound if name.startswith(("slot_", "refresh"))})
    first, again, other = places
    assert len(first) == 3
    assert not again, "it lies where it lay"
    assert other.keys() == first.keys()
