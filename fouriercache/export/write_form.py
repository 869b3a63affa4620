"""From the programs of one capture to ONNX files in a bundle's folder, and what the manifest says of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, fx, nn

from fouriercache.bundle.calls import form_of_capture, name_of, output_tree
from fouriercache.bundle.manifest import (
    Form,
    Given,
    Graph,
    GraphMode,
    GraphParts,
    GraphProbe,
    Grid,
    KeptSlot,
    Returned,
    SiteFacts,
)
from fouriercache.errors import LoweringError
from fouriercache.export.onnx_graph import output_names, renamed, size_names, translate
from fouriercache.export.onnx_parts import part_of
from fouriercache.export.weight_file import WeightFile
from fouriercache.live_weights import WeightPlace
from fouriercache.program import Output, Program, Role, sizes_of, tensor_of
from fouriercache.steps import ModeKey, ProbePrograms, StepPrograms, Steps

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True)
class FormWriter:
    """Writes the graphs of captures of `model` to `folder`, their weights to `weights`."""

    folder: Path
    model: nn.Module
    weights: WeightFile
    notice: Callable[[str], None]

    def write(
        self, steps: Steps, keys: Sequence[ModeKey], prefix: str, least_batch: int, not_single: str | None
    ) -> Form:
        """Write all graphs of one capture and return what they are.

        Args:
            keys: the modes to write. prefix: of the names of the files. least_batch: that the graphs are right for.
            not_single: why the single-graph form is not to be written, too; None if it is.

        Raises:
            LoweringError: a program cannot be written in ONNX, ONNX's checker refuses it, or the model asks its inputs.
            BundleError: something of the capture cannot be said in a manifest.
            OSError: a file cannot be written.
        """
        questions = steps.capture.questions
        if questions is not None:
            raise LoweringError(
                "the model asks in Python for values of its inputs, and a bundle has no Python that could ask a later "
                f"call the same.\n  where: {questions.answers[0].where}\n"
                "  Serve it from Python (fc.optimize), or write that line with tensors alone."
            )
        names = size_names(steps.capture.program)
        modes: list[GraphMode] = []
        for mode, refreshed in keys:
            number = len([entry for entry in modes if entry.mode == mode])
            programs = steps.mixed(mode, refreshed) if refreshed else steps.modes[mode]
            name = prefix + mode + (f"-{number}" if number else "")
            modes.append(GraphMode(mode, refreshed, self._write_parts(programs, name)))
        canonical = steps.canonical
        return Form(
            call=form_of_capture(steps.capture, names, least_batch),
            output=output_tree(steps.capture),
            sites=tuple(
                SiteFacts(site.name, site.kind, site.block, place.layer, place.tokens, canonical.columns(site))
                for site, place in zip(canonical.sites, steps.places, strict=True)
            ),
            grid=None if canonical.grid is None else Grid(**vars(canonical.grid)),
            slots={name: KeptSlot(slot.site, slot.age, slot.column) for name, slot in canonical.slots.items()},
            modes=tuple(modes),
            probe=None if steps.probe is None else self._write_probe(steps.probe, prefix),
            single=None if not_single is not None else self._write_single(steps, prefix),
            not_single=not_single or "",
        )

    def _write_parts(self, programs: StepPrograms, name: str) -> GraphParts:
        return self._cut(programs, name, [output.name for output in programs.whole.outputs])[0]

    def _write_probe(self, probe: ProbePrograms, prefix: str) -> GraphProbe:
        wanted = [output.name for output in probe.parts.whole.outputs]
        first = [output.name for output in probe.first.outputs]
        parts, extra = self._cut(probe.parts, prefix + "probe", wanted, first)
        assert extra is not None
        return GraphProbe(parts, extra)

    def _cut(
        self, programs: StepPrograms, name: str, wanted: Sequence[str], first: Sequence[str] = ()
    ) -> tuple[GraphParts, Graph | None]:
        """Translate a mode once, and write it whole and in parts; with `first`, also what returns only these."""
        self.notice(f"{name}.onnx")
        whole, facts = programs.whole, _Facts.of(programs.whole)
        context = {output.name: f"hoisted_{output.name}" for output in programs.context.outputs}
        timed = {output.name: f"hoisted_{output.name}" for output in programs.timed.outputs}
        stops = {**context, **timed}
        model = self._lower(_returning(whole, list(stops)))
        order = [given.name for given in whole.inputs] + list(stops.values())
        graph_names = dict(zip((output.name for output in whole.outputs), output_names(whole), strict=True))
        ends = [graph_names[output] for output in wanted]

        entire, _ = part_of(model, ends, {}, order)
        moving, used = part_of(model, ends, stops, order)
        begins, used_first = part_of(model, [graph_names[output] for output in first], stops, order)
        hoisted, used_by_timed = part_of(model, [b for b in timed if timed[b] in used + used_first], context, order)
        known, _ = part_of(model, [b for b in context if context[b] in used + used_first + used_by_timed], {}, order)
        rows = programs.rows
        if rows is not None and not set(used_by_timed) <= {given.name for given in programs.timed.inputs}:
            rows = None  # it reads an input that the program's own part does not, so nothing is known of its rows
        parts = GraphParts(
            whole=self._write(entire, f"{name}.onnx", facts),
            context=self._write(known, f"{name}.context.onnx", facts) if known.graph.output else None,
            timed=self._write(hoisted, f"{name}.timed.onnx", facts) if hoisted.graph.output else None,
            moving=self._write(moving, f"{name}.moving.onnx", facts),
            rows=None if rows is None else tuple(given for given in used_by_timed if given in rows),
            text=f"{name}.txt",
            digest=self._write_text(whole, name),
        )
        return parts, self._write(begins, f"{name}.first.onnx", facts) if first else None

    def _write_single(self, steps: Steps, prefix: str) -> Graph:
        self.notice(f"{prefix}step.onnx")
        return self._write(self._lower(steps.outline()), f"{prefix}step.onnx", _Facts.of(steps.canonical))

    def _lower(self, program: Program) -> ModelProto:
        import onnx_ir

        live = {name: _weight(self.model, path) for name, path in program.sources.items()}
        model = translate(replace(program, attributes={**program.attributes, **live}))
        self.weights.take(model)
        return onnx_ir.to_proto(model)

    def _write_text(self, program: Program, name: str) -> str:
        content = program.text().encode()
        (self.folder / f"{name}.txt").write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    def _write(self, model: ModelProto, file: str, facts: _Facts) -> Graph:
        import onnx

        path = self.folder / file
        path.write_bytes(model.SerializeToString(deterministic=True))
        try:
            onnx.checker.check_model(str(path), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise LoweringError(
                f"ONNX's checker refuses {file}: {error}\n"
                "  Where the model computes in bfloat16 what ONNX does not have in it, export it in float16 or float32."
            ) from error
        return Graph(
            file,
            tuple(facts.given(value.name) for value in model.graph.input),
            tuple(facts.returned(value.name) for value in model.graph.output),
        )


@dataclass(frozen=True)
class _Facts:
    """What is known of a program's values: the tensors of nodes, roles of inputs, outputs by their names in ONNX."""

    tensors: Mapping[str, Tensor]
    roles: Mapping[str, Role]
    outputs: Mapping[str, tuple[Output, Tensor]]
    names: Mapping[str, str]

    @classmethod
    def of(cls, program: Program) -> _Facts:
        tensors = {name: tensor for name, node in program.named().items() if (tensor := tensor_of(node)) is not None}
        ends = zip(output_names(program), program.outputs, program.results, strict=True)
        return cls(
            tensors=tensors,
            roles={given.name: given.role for given in program.inputs},
            outputs={name: (output, tensors[node.name]) for name, output, node in ends},
            names=size_names(program),
        )

    def given(self, name: str) -> Given:
        role = self.roles.get(name, "hoisted")
        tensor = self.tensors[name if name in self.roles else name.removeprefix("hoisted_")]
        return Given(name, role, *self._form(name, role, tensor))

    def returned(self, name: str) -> Returned:
        output, tensor = self.outputs.get(name) or (Output(name, "hoisted"), self.tensors[name])
        return Returned(output.name, output.role, *self._form(name, output.role, tensor), name)

    def _form(self, name: str, role: str, tensor: Tensor) -> tuple[str, tuple[int | str, ...]]:
        """The dtype and sizes that a value has in ONNX, where a complex number is a pair of real ones."""
        sizes = tuple(renamed(size, self.names) for size in sizes_of(tensor))
        if not tensor.is_complex():
            return name_of(tensor.dtype), sizes
        if role != "hoisted":
            raise LoweringError(
                f"{name} ({role}) is {tensor.dtype}, and ONNX has no complex numbers.\n"
                "  Let the model take and return pairs of real ones, by torch.view_as_real and view_as_complex."
            )
        return name_of(tensor.dtype.to_real()), (*sizes, 2)


def _returning(program: Program, names: Sequence[str]) -> Program:
    """The program, with these values of its own behind what it returns."""
    wide = program.clone()
    nodes = wide.named()
    found: list[fx.Node] = [*wide.results, *(nodes[name] for name in names)]
    wide.set_outputs(found, (*wide.outputs, *(Output(name, "hoisted") for name in names)))
    return wide


def _weight(model: nn.Module, path: str) -> Tensor:
    """The weight that has this name now; another tensor may have taken the place of the one that was captured."""
    found = WeightPlace(model, path).get()
    if found is None:
        raise LoweringError(
            f"the model has no weight {path} any more, which its captured graph reads.\n"
            "  Optimize the model as it is now, and export that."
        )
    return found
