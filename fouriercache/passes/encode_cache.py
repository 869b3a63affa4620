"""Keep features in another form than they have."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import fx

from fouriercache import ops
from fouriercache.codecs import Storage
from fouriercache.errors import PreconditionError
from fouriercache.passes.base import Pass
from fouriercache.passes.edit import insert_after, insert_before, insert_input, replace_uses, retype_input
from fouriercache.passes.forms import Form, forms_of, insert_decoded, insert_encoded
from fouriercache.passes.insert_cache import find_lookups
from fouriercache.passes.placement import fake_of, length_of, require_grid
from fouriercache.program import Output, Program, Site, Slot

aten = torch.ops.aten


@dataclass(frozen=True)
class EncodeCache(Pass):
    """Encode what a computed step returns of each site, and decode what the slots hold.

    A value on the token grid can be kept as its lowest spatial coefficients, and any value in a smaller dtype. A
    prediction is linear and so is the inverse transform, so where all slots hold the same coefficients the prediction
    is made of coefficients and transformed back once. With `slots="older"`, the newest feature is kept as it is, beside
    its encoded form: a computed step returns both, and the first is dropped when the next step has been computed.

    Before::

        main(%0: f32[2,4,8] x, %1: f32[2,4,8] slot_0_0 (slot), %2: f32[1] coefficients)
          %3: f32[2,4,8] = add.Tensor(%0, 1)
          %4: f32[1,2,4,8] = fouriercache.cache_lookup([%1])
          %5: f32[2,4,8] = fouriercache.predict(%4, %2)
          return [%3, %3]

    After::

        main(%0: f32[2,4,8] x, %1: f32[2,1,8] slot_0_0 (slot), %2: f32[1] coefficients)
          %3: f32[2,4,8] = add.Tensor(%0, 1)
          %4: f32[2,1,8] = fouriercache.fft_compress(%3, [@dct_to_2_1, @dct_to_2_1], 0)
          %5: f32[1,2,1,8] = fouriercache.cache_lookup([%1])
          %6: f32[2,1,8] = fouriercache.predict(%5, %2)
          %7: f32[2,4,8] = fouriercache.fft_expand(%6, [@dct_from_2_1, @dct_from_2_1], 0)
          return [%3, %4]

    (The storage is that of `LowPass(keep=0.25)`, the grid 2 x 2.)

    Requires: `InsertPredictor`, and no `InsertGate` yet; for coefficients, a token grid with a site on it.
    Keeps: 1. a site that is encoded.
           2. a value that is not on the grid, where coefficients are asked for.
           3. a value whose own dtype is no wider than the one asked for.
    Error: what the storage says; Storage() is exact.
    """

    storage: Storage = field(default_factory=Storage)

    def requires(self, program: Program) -> None:
        if self.storage == Storage():
            return
        if not program.inputs_of("coefficients") or program.inputs_of("refresh"):
            raise PreconditionError(
                "EncodeCache needs predictions that no gate reads yet, to put the decoding in front of them.\n"
                "  Run it after InsertPredictor and before InsertGate."
            )
        if self.storage.basis is None and any(map(_is_banded, find_lookups(program))):
            raise PreconditionError(
                "EncodeCache needs the basis of the bands that the sites are predicted by.\n"
                "  Pass it: EncodeCache(Storage(basis='dct', dtype=...)), with keep=1.0 to keep every coefficient."
            )
        if self.storage.basis is not None:
            require_grid(program, "a codec of spatial coefficients")

    def rewrite(self, program: Program) -> int:
        if self.storage == Storage():
            return 0
        count = 0
        for position, (site, lookup) in enumerate(zip(program.sites, find_lookups(program), strict=True)):
            if program.columns(site) != (site.name,):
                continue
            found = forms_of(program, site, self.storage, is_banded=_is_banded(lookup))
            for reason in found.refused:
                self.refuse(program, reason)
            if any(form != Form() for form in found.ages):
                slots = _keep(program, position, site, found.ages)
                _read(program, lookup, slots, found.ages, length_of(site))
                count += 1
        return count


def _is_banded(lookup: fx.Node) -> bool:
    """Whether the history is one of coefficients, predicted band by band."""
    return all(slot.target is ops.fft_compress for slot in _entries(lookup))


def _entries(lookup: fx.Node) -> list[fx.Node]:
    return list(lookup.args[0])  # type: ignore[arg-type]


def _keep(program: Program, position: int, site: Site, ages: tuple[Form, ...]) -> list[list[fx.Node]]:
    """Return from the graph what the forms keep of the site's new value; return the inputs that hold it at each age."""
    pairs = list(zip(program.results, program.outputs, strict=True))
    at = next(i for i, (_, output) in enumerate(pairs) if output == Output(site.name, "slot"))
    columns = {form: insert_encoded(program, site, pairs[at][0], form) for form in dict.fromkeys(ages)}
    pairs[at : at + 1] = [(node, Output(name, "slot")) for parts in columns.values() for name, node in parts]
    program.set_outputs([node for node, _ in pairs], [output for _, output in pairs])
    named = program.named()
    found = []
    for age, form in enumerate(ages):
        slot = named[f"slot_{position}_{age}"]
        inputs = [slot]
        retype_input(slot, fake_of(columns[form][0][1]))
        for _, scale in columns[form][1:]:
            inputs.append(insert_input(program, f"{slot.name}_scale", fake_of(scale), "slot"))
        for node, (column, _) in zip(inputs, columns[form], strict=True):
            program.slots[node.name] = Slot(site.name, age, column)
        found.append(inputs)
    return found


def _read(program: Program, lookup: fx.Node, slots: list[list[fx.Node]], ages: tuple[Form, ...], length: int) -> None:
    """Predict from what the slots hold now."""
    is_banded = _is_banded(lookup)
    alike = {form.transform for form in ages}
    domain = ages[0].transform if is_banded or len(alike) == 1 else None
    (predicted,) = lookup.users
    entries, row = _entries(lookup), predicted.args[1]
    assert isinstance(row, fx.Node)
    like = fake_of(predicted)  # not that of a slot, which has its new form already
    decoded = [
        insert_decoded(program, lookup, parts, form, domain, like) for parts, form in zip(slots, ages, strict=True)
    ]
    history = insert_before(lookup, ops.cache_lookup, decoded)
    if is_banded and domain is not None and fake_of(row).shape[0] != fake_of(history).shape[-2]:
        kept = domain.positions(program, like, ages[0].start, length)
        shared = [user for user in row.users if user.args == (row, 0, kept)]
        row = shared[0] if shared else insert_after(row, aten.index_select.default, row, 0, kept)
    value = insert_before(lookup, ops.predict, history, row)
    old = predicted
    if domain is not None:
        value = insert_before(lookup, ops.fft_expand, value, domain.inverse(program, like), ages[0].start)
        old = next(iter(predicted.users)) if is_banded else predicted
    replace_uses(old, value)
    for node in dict.fromkeys((old, predicted, lookup, *entries)):
        if node.op == "call_function":
            program.graph.erase_node(node)
