"""What tests of graphs need: trace a function as a program in milliseconds, and hold a pass to its contract."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from fouriercache.gates import TRACING
from fouriercache.passes.base import Pass
from fouriercache.program import Input, Output, Program, Role, tensor_of

_Inputs = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
_FILLED: tuple[Role, ...] = ("slot", "state", "control", "coefficients", "refresh")


class _Root(nn.Module):
    """Calls `fn`. torch's tracer records module stacks below an attribute of just this name."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        super().__init__()
        self._orig_mod = fn

    def forward(self, *examples: Tensor) -> Any:
        return self._orig_mod(*examples)


def trace(fn: Callable[..., Any], *examples: Tensor, roles: Mapping[str, Role] | None = None) -> Program:
    """Trace a function or a module as a program of ATen calls, with the sizes of `examples`.

    A program from `fouriercache.capture` has the same form, costs a second or more, and can have dynamic sizes.

    Args:
        fn: takes tensors by position; returns a tensor, or a tuple or list of them. Tensors that it closes over and
            weights of a module become weights of the program, under the names they have there.
        examples: one tensor for each parameter; their values are not used.
        roles: roles of inputs by parameter name. Otherwise the first input is the sample, one called `timestep` is
            the timestep, and the rest is conditioning.
    """
    with TRACING, torch.no_grad():
        root = _Root(fn) if isinstance(fn, nn.Module) else fn
        traced = make_fx(
            root, tracing_mode="fake", pre_dispatch=True, record_module_stack=True, _allow_non_fake_inputs=True
        )(*(example.clone() for example in examples))  # one tensor given twice would be one input
    names = _parameters(fn, len(examples))
    known = dict(_weights(fn))
    graph = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    attributes: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            copied[node] = graph.placeholder(names[len(copied)])
            copied[node].meta.update(node.meta)
        elif node.op != "output":
            copied[node] = graph.node_copy(node, lambda source: copied[source])
            copied[node].meta.setdefault("val", None)  # make_fx gives none to calls that return nothing
        if node.op == "get_attr":
            weight = getattr(traced, node.target)
            target = copied[node].target = f"weight_{len(attributes)}"
            attributes[target] = weight
            copied[node].meta["source"] = known.get(id(weight), target)
            if id(weight) in known:
                sources[target] = known[id(weight)]
    given = traced.graph.output_node().args[0]
    results = list(given) if isinstance(given, list | tuple) else [given]
    graph.output(tuple(copied[cast(fx.Node, node)] for node in results))
    asked = roles or {}
    # A node is not always called what it was asked to be: fx keeps Python's own names free.
    inputs = tuple(
        Input(node.name, asked.get(name, _usual_role(position, name)))
        for position, (node, name) in enumerate(zip(graph.find_nodes(op="placeholder"), names, strict=True))
    )
    outputs = tuple(Output(f"result_{position}", "result") for position in range(len(results)))
    program = Program(graph, attributes, sources, inputs, outputs)
    program.verify()
    return program


def _usual_role(position: int, name: str) -> Role:
    return "sample" if position == 0 else "timestep" if name == "timestep" else "conditioning"


def _parameters(fn: Callable[..., Any], count: int) -> list[str]:
    """Names of the first `count` parameters of `fn`; those behind `*args` are numbered."""
    given = inspect.signature(fn.forward if isinstance(fn, nn.Module) else fn).parameters.values()
    names = [parameter.name for parameter in given if parameter.kind is not parameter.VAR_POSITIONAL][:count]
    return names + [f"argument_{position}" for position in range(len(names), count)]


def _weights(fn: object, seen: set[int] | None = None) -> Iterator[tuple[int, str]]:
    """Yield (identity, name) of every tensor that `fn` brings along, itself or by what it calls."""
    seen = set() if seen is None else seen
    if id(fn) in seen:
        return
    seen.add(id(fn))
    if isinstance(fn, nn.Module):
        named: Mapping[str, object] = dict([*fn.named_parameters(), *fn.named_buffers()])
    else:
        found = inspect.getclosurevars(cast(Callable[..., Any], fn))
        named = {**found.globals, **found.nonlocals}
    for name, value in named.items():
        if isinstance(value, Tensor):
            yield id(value), name
        elif isinstance(value, nn.Module):
            yield from ((identity, f"{name}.{inner}") for identity, inner in _weights(value, seen))
        elif inspect.isfunction(value):
            yield from _weights(value, seen)


def check_pass(pass_: Pass, program: Program, inputs: _Inputs, *, rewrites: int, rtol: float | None = None) -> str:
    """Hold a pass to its contract on one program, and return the text of what it makes of it.

    The pass runs on a clone in check mode. It must make just `rewrites` rewrites, the program must compute what it did
    before, and a second run must make none.

    Args:
        inputs: one tensor for each input of `program`, in order or by name; what is missing comes from `feed`, for
            the program before and after alike.
        rtol: how far results may be apart, in relation to the largest value; exactly equal when None.

    Raises:
        AssertionError: one of these does not hold.
        PreconditionError: the program lacks what the pass needs.
        PassError, VerifyError: the pass broke its contract.
    """
    after = program.clone()
    count = pass_.apply(after, check=True)
    assert count == rewrites, f"{pass_!r} made {count} rewrites, not {rewrites}:\n{after.text()}"
    text = after.text()
    compare(program, after, inputs, rtol=rtol)
    again = pass_.apply(after)
    assert again == 0, f"{pass_!r} made {again} rewrites in a second run"
    assert after.text() == text, f"{pass_!r} changed the graph in a second run and did not say so"
    return text


def compare(want: Program, have: Program, inputs: _Inputs, *, rtol: float | None = None) -> None:
    """Run two programs on the same inputs and compare the outputs they share, by name and role.

    What a site's slot gets is compared on steps that refresh: on others nobody keeps it.

    Raises:
        AssertionError: results are missing, or differ by more than `rtol` of the largest value.
    """
    names = [wanted.name for wanted in want.inputs]
    given = inputs if isinstance(inputs, Mapping) else dict(zip(names, _flat(inputs), strict=True))
    filled: dict[str, Tensor] = {}
    for program in (want, have):
        filled |= zip((wanted.name for wanted in program.inputs), feed(program, given), strict=True)
    refreshes = all(bool(filled[wanted.name]) for wanted in want.inputs if wanted.role == "refresh")
    first, second = _run(want, filled), _run(have, filled)
    missing = [output.name for output in first if output.role == "result" and output not in second]
    assert not missing, f"results {missing} are gone"
    for output in first.keys() & second.keys():
        if output.role != "slot" or refreshes:
            _compare_tensors(output.name, first[output], second[output], rtol)


def feed(program: Program, given: Mapping[str, Tensor]) -> list[Tensor]:
    """Return a tensor for every input of `program`, in order.

    `given` holds them by name. Missing slots, states, controls and coefficients are zeros and a missing `refresh` is
    true: the step computes everything.

    Raises:
        AssertionError: an input of another role is missing.
    """
    sizes: dict[str, int] = {}
    for node in program.placeholders:
        fake = tensor_of(node)
        if node.name in given and fake is not None:
            sizes |= dict(zip(map(str, fake.shape), given[node.name].shape, strict=True))
    filled = []
    for node, wanted in zip(program.placeholders, program.inputs, strict=True):
        fake = tensor_of(node)
        assert node.name in given or (wanted.role in _FILLED and fake is not None), (
            f"input {node.name} ({wanted.role}) is not given; given are {', '.join(given)}"
        )
        if node.name in given:
            filled.append(given[node.name])
        elif wanted.role == "refresh":
            filled.append(torch.tensor(True))
        else:
            assert fake is not None
            shape: list[Any] = [sizes.get(str(size), size) for size in fake.shape]
            # A size that no given tensor has is that of the capture.
            known = [size if isinstance(size, int) else size.node.hint for size in shape]
            filled.append(torch.zeros(known, dtype=fake.dtype))
    return filled


def _flat(inputs: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [inputs] if isinstance(inputs, Tensor) else list(inputs)


def _run(program: Program, given: Mapping[str, Tensor]) -> dict[Output, Tensor]:
    with torch.no_grad():
        values = program.module()(*(given[wanted.name] for wanted in program.inputs))
    return dict(zip(program.outputs, values, strict=True))


def _compare_tensors(name: str, want: Tensor, have: Tensor, rtol: float | None) -> None:
    assert (want.dtype, want.shape) == (have.dtype, have.shape), (
        f"{name} was {want.dtype} {list(want.shape)}, is {have.dtype} {list(have.shape)}"
    )
    if want.dtype == torch.bool or not want.numel():
        assert torch.equal(want, have), f"{name} differs"
        return
    difference = (want.double() - have.double()).abs().nan_to_num(torch.inf)
    difference[(want == have) | (want.isnan() & have.isnan())] = 0
    largest = difference.amax().item()
    allowed = (rtol or 0.0) * want.double().abs().nan_to_num(0, 0).amax().item()
    assert largest <= allowed, f"{name} differs by {largest:.3g}, {allowed:.3g} is allowed"
