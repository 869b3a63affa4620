"""One site with chosen tokens: what its score reads, the branch on the tokens, the states that go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from fouriercache import ops
from fouriercache.passes.attention_maps import AttentionMap, find_map
from fouriercache.passes.edit import insert_before, insert_input, insert_traced, new_size, redirect
from fouriercache.passes.match import ancestors
from fouriercache.passes.token_wise import TokenRegion
from fouriercache.program import NoMatch, Output, Program, Role, Site, tensor_of, value_of
from fouriercache.tokens.scores import Grid, MapScore, Scene, Score, Signal

aten = torch.ops.aten


@dataclass(frozen=True)
class Choice:
    """What has been proved of one site; enough to cut it.

    Attributes:
        layer: the number of its block. count: how many tokens are computed; None where steps differ.
        maps: the attention map for each score that looks at one.
    """

    position: int
    site: Site
    region: TokenRegion
    score: Score
    layer: int
    count: int | None
    maps: tuple[tuple[MapScore, AttentionMap], ...]


def find_maps(
    program: Program, site: Site, region: TokenRegion, score: Score
) -> tuple[tuple[MapScore, AttentionMap], ...] | NoMatch:
    """Return the attention map for each score that looks at one, or what is missing."""
    maps = []
    for reader in score.maps:
        found = find_map(program, site.block, reader.map_kind, region.tokens)
        if isinstance(found, NoMatch):
            return found
        if found.is_fused:
            return NoMatch(
                f"{site.block}: no ExposeMaps has shown the attention map for {reader.name}", found.node.name
            )
        maps.append((reader, found))
    return tuple(maps)


def insert_choice(program: Program, choice: Choice) -> None:
    """Cut the site: rank, gather, compute, scatter, keep."""
    _Insertion(program, choice).run()


class _Insertion:
    """The nodes of one site while they are made; all stand before the site's `select`."""

    def __init__(self, program: Program, choice: Choice) -> None:
        self.program, self.choice = program, choice
        self.entry, self.value = choice.region.entry, choice.region.nodes[-1]
        like = tensor_of(self.entry)
        assert like is not None
        self.like = like
        (self.refresh,) = program.inputs_of("refresh")
        (self.select,) = (user for user in self.value.users if user.target is ops.select)
        self.states: dict[str, fx.Node] = {}
        grid = program.grid
        self.scene = Scene(None if grid is None else Grid(grid.t, grid.h, grid.w, grid.start), choice.layer)

    def run(self) -> None:
        signals = self._signals()
        index = self._index(signals)
        gathered = self._call(ops.gather_tokens, self.entry, index)
        predicted = self.select.args[2]
        assert isinstance(predicted, fx.Node)
        patched = self._call(ops.scatter_tokens, predicted, index, self._branch(gathered, index))
        redirect(self.select, predicted, patched)
        if "age" in signals:
            new = insert_traced(self.select, _zero_ages, self.entry)
            older = self._call(aten.add.Tensor, signals["age"], 1)
            zeros = self._call(aten.zeros_like.default, index)
            self._keep_state(signals["age"], new, self._call(ops.scatter_tokens, older, index, zeros))
        if "entered" in signals:
            moved = self._call(ops.scatter_tokens, signals["entered"], index, gathered)
            self._keep_state(signals["entered"], self.entry, moved)
        self._keep_value(patched)

    def _signals(self) -> dict[Signal | MapScore, fx.Node]:
        """The node of everything that the score reads."""
        made: dict[Signal | MapScore, fx.Node] = {}
        for word in self.choice.score.reads:
            if word == "tokens":
                made[word] = self.entry
            elif word == "kept":
                made[word] = self.program.named()[f"slot_{self.choice.position}_0"]
            elif word == "step":
                known = {node.name: node for node in self.program.inputs_of("control")}
                step = self.like.new_empty((), dtype=torch.int64)
                made[word] = known.get("step") or insert_input(self.program, "step", step, "control")
            else:
                ages = self.like.new_empty(self.like.shape[:2], dtype=torch.int64)
                made[word] = self._input(word, ages if word == "age" else self.like, "state")
        for number, (reader, found) in enumerate(self.choice.maps):
            made[reader] = self._digest(f"{reader.name}_{number}", reader, found)
        return made

    def _digest(self, name: str, reader: MapScore, found: AttentionMap) -> fx.Node:
        """What a score keeps of an attention map: of this step's where attention is computed, else the kept one."""

        def digest(attention: Tensor) -> Tensor:
            return reader.digest(attention.float().mean(dim=1), self.scene)

        fresh = insert_traced(self.select, digest, found.node)
        owner = next((site for site in self.program.sites if self._computes(site, found)), None)
        if owner is None:
            return fresh  # no site keeps this attention, so it is computed at every step
        return self._keep_state(self._input(name, value_of(fresh), "state"), fresh, None, owner)

    def _computes(self, site: Site, found: AttentionMap) -> bool:
        if site.block != self.choice.site.block or site.kind != "attention":
            return False
        return found.node in ancestors(self.program.named()[site.value])

    def _index(self, signals: dict[Signal | MapScore, fx.Node]) -> fx.Node:
        """The chosen tokens of each row, int64[B, k], the highest score first."""
        keys = tuple(signals)

        def order(*given: Tensor) -> Tensor:
            score = self.choice.score.rank(dict(zip(keys, given, strict=True)), self.scene)
            return score.argsort(dim=-1, descending=True)

        count = self.choice.count
        size = new_size(self.like, max(2, self.choice.region.tokens // 4)) if count is None else count
        ranks = self._input("ranks", self.like.new_empty((size,), dtype=torch.int64), "control")
        ordered = insert_traced(self.select, order, *signals.values())
        return self._call(aten.index_select.default, ordered, 1, ranks)

    def _branch(self, gathered: fx.Node, index: fx.Node) -> fx.Node:
        """The site's branch again, on the gathered tokens."""
        made = {self.entry: gathered}
        for node in self.choice.region.per_token:
            made[node] = self._call(ops.gather_tokens, node, index)
        for node in self.choice.region.nodes:
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda source: made.get(source, source))
            assert callable(node.target)
            made[node] = insert_before(self.select, node.target, *args, like=node, **kwargs)
        return made[self.value]

    def _keep_value(self, patched: fx.Node) -> None:
        """Make the site's slot receive what was chosen, and return the states."""
        results, outputs = list(self.program.results), list(self.program.outputs)
        place = outputs.index(Output(self.choice.site.name, "slot"))
        # A copy of a part of a larger tensor is kept instead of the value; else what is chosen is kept itself.
        is_value = results[place] is self.value
        results[place] = self.select if is_value else self._chosen(results[place], patched, self.choice.site)
        outputs += [Output(name, "state") for name in self.states]
        self.program.set_outputs([*results, *self.states.values()], outputs)

    def _keep_state(self, kept: fx.Node, fresh: fx.Node, moved: fx.Node | None, owner: Site | None = None) -> fx.Node:
        """Return a state's new value: `fresh` where its owner is computed, else `moved`, or what it was."""
        chosen = self._chosen(fresh, kept if moved is None else moved, owner or self.choice.site)
        self.states[kept.name] = chosen
        return chosen

    def _chosen(self, fresh: fx.Node, kept: fx.Node, owner: Site) -> fx.Node:
        node = self._call(ops.select, self.refresh, fresh, kept)
        node.meta["site"] = owner.name
        return node

    def _input(self, name: str, value: Tensor, role: Role) -> fx.Node:
        return insert_input(self.program, f"{name}_{self.choice.position}", value, role)

    def _call(self, target: Callable[..., Any], *args: Any) -> fx.Node:
        return insert_before(self.select, target, *args)


def _zero_ages(entry: Tensor) -> Tensor:
    return entry.new_zeros(entry.shape[:2], dtype=torch.int64)
