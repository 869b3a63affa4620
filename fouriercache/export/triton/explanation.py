"""What stands in a repository for people: how to call its models, and a script that builds plans where they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fouriercache.export.tensorrt import Profile


def readme(name: str, table: Mapping[str, Any], runner: str) -> str:
    """Return the repository's README: which models there are, and which to call when."""
    models: Mapping[str, str] = table["models"]
    kept: Mapping[str, Sequence[str]] = table["kept"]
    computed = [step for step, row in enumerate(table["steps"]) if row["mode"] == "compute"]
    parts = [
        f"# {name}: a denoiser with cached features, for Triton Inference Server",
        f"{len(table['steps'])} steps a trajectory, {len(computed)} of them computed: {_listed(computed)}. What each "
        "step runs, and the inputs that are known beforehand, is row by row in `schedule.json`.",
    ]
    if runner == "tensorrt":
        parts.append(
            "## First: build the plans\n\nA plan runs on the GPU and the TensorRT that built it, so run "
            "`build_plans.sh` once, in the container that will serve it and on its GPU. It fills in `1/model.plan` of "
            "each model from the ONNX files here."
        )
    rows = "\n".join(f"| `{mode}` | `{model}` |" for mode, model in models.items())
    parts.append(
        "## Keep the state yourself: a model for each kind of step\n\n"
        f"| mode | model |\n|:--|:--|\n{rows}\n\n"
        "For each step, call the model of its mode, with the row's `inputs`.\n"
        f"{_ring(kept, table['states'])}\n"
        "State that travels over the network costs more than it saves: let client and server share GPU memory "
        "(`cudasharedmemory` in the client library), or call the models from a BLS model in the server."
    )
    if table["sequence_model"] is not None:
        parts.append(
            "## Let Triton keep it: one model for sequences\n\n"
            f"A trajectory is a sequence of requests to `{table['sequence_model']}`, all with one sequence id, the "
            "first with the start flag and the last with the end flag. Each takes the row's `sequence_inputs`. What is "
            f"kept stays in the server, and the batch is always {table['sequence_batch']}. The first step of a "
            "trajectory must be a computed one, as it is in `schedule.json`; one trajectory runs on an instance at a "
            "time, so `count` in `config.pbtxt` is how many run side by side."
        )
    parts.append("Everything in `schedule.json` is for this number of steps and this model. Export again for another.")
    return "\n\n".join(parts) + "\n"


def build_script(shapes: Mapping[str, Mapping[str, Sequence[int]]], profile: Profile) -> str:
    """Return a shell script that builds the plan of each model; `shapes` are its inputs', -1 for the batch."""
    lines = [
        "#!/bin/sh",
        "# Builds the TensorRT plans of this repository. Run it where they will be served: on the same GPU, and in a",
        "# container with the same TensorRT. A plan that is there already is built anew.",
        "set -eu",
        'cd "$(dirname "$0")"',
        "PATH=$PATH:/usr/src/tensorrt/bin",
    ]
    for model, inputs in shapes.items():
        open_ones = {name: shape for name, shape in inputs.items() if -1 in shape}
        words = [f"trtexec --onnx={model}/onnx/model.onnx --stronglyTyped --skipInference"]
        if open_ones:
            for option, batch in zip(("min", "opt", "max"), profile.sizes(), strict=True):
                sizes = ",".join(f"{name}:{_size(shape, batch)}" for name, shape in open_ones.items())
                words.append(f"--{option}Shapes={sizes}")
        words.append(f"--saveEngine={model}/1/model.plan.new")
        command = " \\\n  ".join(words)
        lines += [f"mkdir -p {model}/1", command, f"mv {model}/1/model.plan.new {model}/1/model.plan"]
    return "\n".join(lines) + "\n"


def _ring(kept: Mapping[str, Sequence[str]], states: Mapping[str, Sequence[str]]) -> str:
    lines = [
        f"- `{column}`: keep it when a model returns it. Hand in the newest as `{slots[0]}`"
        + "".join(f", the one before as `{slot}`" for slot in slots[1:])
        + "."
        for column, slots in kept.items()
    ]
    lines += [
        f"- `{name}`: hand in what the last step returned as {' or '.join(f'`{output}`' for output in outputs)}."
        for name, outputs in states.items()
    ]
    ahead = "In the first steps there are fewer; hand in the oldest there is in their place, their coefficients are 0."
    return "\n".join([*lines, *([ahead] if any(len(slots) > 1 for slots in kept.values()) else [])])


def _size(shape: Sequence[int], batch: int) -> str:
    return "x".join(str(batch if size == -1 else size) for size in shape)


def _listed(steps: Sequence[int]) -> str:
    return ", ".join(map(str, steps))
