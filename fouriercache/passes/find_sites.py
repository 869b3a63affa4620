"""Find the values a cache can replace, from the graph alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx

from fouriercache.errors import UnsupportedModelError
from fouriercache.passes.base import Pass
from fouriercache.passes.blocks import BlockGraph, label_blocks, label_named_blocks
from fouriercache.passes.match import ancestors, is_attention, strip_casts, strip_stream
from fouriercache.passes.spine import Residual, Stream, block_streams
from fouriercache.passes.stack_streams import stack_streams
from fouriercache.program import NoMatch, Program, Site, SiteKind, sizes_of, tensor_of


@dataclass(frozen=True)
class FindSites(Pass):
    """Label the repeated blocks and list every branch, block and stack site.

    Blocks are the outermost indexed children in `nn_module_stack`, grouped by list and class; where these hold no
    branch, modules of one class under names of their own. Inside a block, the spine is followed upwards from each
    output: through views, casts and clips to an add `s + b` where `b` depends on `s`, or on the spine above it, by
    nodes of the same block; `b` is a branch, and the walk goes on at `s`. A branch is cut before its gate: the factor
    that does not depend on `s`. A branch with an attention in its cone is an attention branch, any other an MLP
    branch; both in parallel are one. A block site is an output minus the input its spine began at; a stack site is that
    over all blocks on the spine of a final output, or of the part of it that is read.

    Before: the graph of a transformer. After: the same graph; `program.blocks` and `program.found` are filled.

    Requires: `nn_module_stack` on the nodes, as torch.export leaves it.
    Keeps: 1. an add whose spine is no ancestor of the branch inside the block (a position embedding, a modulation).
           2. a residual without matrix product in its branch.
           3. a residual nested in a branch.
           4. the sites of a program that has slots.
    Error: exact.
    """

    def rewrite(self, program: Program) -> int:
        if program.history:
            return 0
        per_block = [(block, block_streams(block)) for block in label_blocks(program)]
        if not any(stream.residuals for _, streams in per_block for stream in streams):
            per_block = [(block, block_streams(block)) for block in label_named_blocks(program)]
        branch, whole = list[Site](), list[Site]()
        names: dict[str, int] = {}
        for block, streams in per_block:
            residuals = sorted(
                {r.add: r for stream in streams for r in stream.residuals}.values(), key=lambda r: block.order[r.add]
            )
            branch += [_branch_site(block, residual, names) for residual in residuals]
            for stream in streams:
                whole += self._proved(program, _difference_site("block", block.path, stream, names))
        used = [(block, streams) for block, streams in per_block if any(stream.residuals for stream in streams)]
        found = {"branch": tuple(branch), "block": tuple(whole), "stack": self._stack_sites(program, used, names)}
        facts = tuple(block.facts for block, _ in used)
        if found == program.found and facts == program.blocks:
            return 0
        program.found, program.blocks = found, facts
        return sum(len(sites) for sites in found.values())

    def ensures(self, program: Program) -> None:
        if not program.found.get("branch"):
            reasons = "\n".join(f"    {r.reason} at {r.node}" for r in program.refused.get("FindSites", [])[:5])
            raise UnsupportedModelError(
                "found no residual branch in repeated blocks, so there is nothing to cache.\n"
                f"  looked at {sum(1 for _ in program.calls())} calls\n{reasons or '    no repeated indexed blocks'}\n"
                "  fouriercache works on transformers whose blocks stand in a list and add their attention and MLP "
                "outputs to a token stream; U-Nets and other models are not supported."
            )

    def _stack_sites(
        self, program: Program, used: list[tuple[BlockGraph, list[Stream]]], names: dict[str, int]
    ) -> tuple[Site, ...]:
        sites: list[Site] = []
        for stream in stack_streams([block for block, _ in used], {b.path: s for b, s in used}):
            sites += self._proved(program, _difference_site("stack", "", stream, names))
        return tuple(sites)

    def _proved(self, program: Program, site: Site | NoMatch) -> list[Site]:
        """The site in a list; if there is none, record why."""
        if isinstance(site, Site):
            return [site]
        self.refuse(program, site)
        return []


def _branch_site(block: BlockGraph, residual: Residual, names: dict[str, int]) -> Site:
    gate, value = _cut_gate(block, residual)
    cone = ancestors(value, within=block.nodes) | {value}
    spine = strip_stream(residual.spine, block.nodes)
    cone -= ancestors(spine, within=block.nodes) | {spine}
    kind: SiteKind = "attention" if is_attention(cone) else "mlp"
    return _site(
        f"{block.path}.{kind}", names, kind=kind, block=block.path, value=value, spine=residual.spine, gate=gate
    )


def _cut_gate(block: BlockGraph, residual: Residual) -> tuple[fx.Node | None, fx.Node]:
    """Split the branch into its gate, if there is one, and the value before the gate."""
    branch = strip_casts(residual.branch)
    root = residual.root
    if branch.target is torch.ops.aten.mul.Tensor:
        left, right = branch.args[:2]
        for value, gate in ((left, right), (right, left)):
            if not (isinstance(value, fx.Node) and isinstance(gate, fx.Node)):
                continue
            if block.depends(value, root) and not block.depends(gate, root) and _keeps_shape(value, branch):
                return gate, strip_casts(value)
    return None, branch


def _keeps_shape(value: fx.Node, branch: fx.Node) -> bool:
    have, want = tensor_of(value), tensor_of(branch)
    return have is not None and want is not None and have.ndim == want.ndim


def _difference_site(kind: SiteKind, block: str, stream: Stream, names: dict[str, int]) -> Site | NoMatch:
    """The site of a stream's whole residual, or why there is none."""
    where = f"{block or 'the stack'}: output {stream.output.name}"
    if stream.entry is None:
        return stream.broken or NoMatch(f"{where} has no spine to an input", stream.output.name)
    have, want = tensor_of(stream.entry), tensor_of(stream.output)
    if have is None or want is None or str(have.shape) != str(want.shape):
        return NoMatch(f"{where} and the input its spine begins at differ in shape", stream.output.name)
    if not stream.residuals:
        return NoMatch(f"{where} is its own input", stream.output.name)
    name = f"{block}.residual" if block else "stack.residual"
    return _site(name, names, kind=kind, block=block, value=stream.output, spine=stream.entry, gate=None)


def _site(
    name: str,
    names: dict[str, int],
    *,
    kind: SiteKind,
    block: str,
    value: fx.Node,
    spine: fx.Node,
    gate: fx.Node | None,
) -> Site:
    """Build a site; a second one of the same name in a block is numbered."""
    names[name] = names.get(name, -1) + 1
    numbered = f"{name}.{names[name]}" if names[name] else name
    tensor = tensor_of(value)
    assert tensor is not None
    gate_name = gate.name if gate else None
    return Site(numbered, kind, block, value.name, spine.name, gate_name, sizes_of(tensor), tensor.dtype)
