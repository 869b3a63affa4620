"""ONNX Runtime sessions with the provider that was asked for, or an error: by itself it would take the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fouriercache.bundle import Graph
from fouriercache.checks import check_choice, check_whole
from fouriercache.errors import EngineError
from fouriercache.extras import import_extra
from fouriercache.runtime.onnxruntime.executable import GraphExecutable

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_SLOWER = {"cpu": ["SkipLayerNormFusion"], "cuda": []}
"""Fusions that are not made: the CPU's kernel for an addition with a LayerNorm takes ten times as long as its LayerNorm
(1.32)."""
_FOLDER_OF_WEIGHTS = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True)
class Engine:
    """How graphs are run.

    Attributes:
        provider: "cpu" or "cuda". threads: of one operator; as many as torch uses if None.
        profile: a folder for ONNX Runtime's profiles, one for each graph, written by `finish_profile`.

    Raises:
        MethodError: there is no such provider, or the threads are no whole number of at least 1.
        MissingExtraError: ONNX Runtime is not installed.
        EngineError: the provider is not there on this machine.
    """

    provider: str = "cpu"
    threads: int | None = None
    profile: Path | None = None

    def __post_init__(self) -> None:
        check_choice("load", "provider", self.provider, tuple(_PROVIDERS))
        if self.threads is not None:
            check_whole("load", "threads", self.threads, least=1, advice="threads=2 lets an operator use two cores.")
        library = import_extra("onnxruntime")
        name, there = _PROVIDERS[self.provider], library.get_available_providers()
        if name not in there:
            raise EngineError(
                f"the provider {self.provider!r} was asked for, and this ONNX Runtime {library.__version__} has "
                f"{', '.join(there)} alone.\n"
                "  Install onnxruntime-gpu in place of onnxruntime (never both), or ask for provider='cpu'."
            )
        if self.provider == "cuda" and not torch.cuda.is_available():
            raise EngineError(
                "the provider 'cuda' was asked for, and torch finds no CUDA device, where the features would lie.\n"
                "  Look at nvidia-smi and at torch's build, or ask for provider='cpu'."
            )

    def make_profile_folder(self) -> None:
        """Make the folder for profiles, where they were asked for.

        Raises EngineError when there can be none.
        """
        if self.profile is not None:
            try:
                self.profile.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise EngineError(
                    f"profiles cannot be written: {error.strerror}.\n  where: {self.profile}\n  Name another folder."
                ) from error

    @property
    def device(self) -> torch.device:
        """Where inputs, outputs and kept features lie."""
        return torch.device("cuda", torch.cuda.current_device()) if self.provider == "cuda" else torch.device("cpu")

    def check(self, dtype: str) -> None:
        """Raise EngineError when the provider cannot run graphs whose weights have this dtype."""
        if dtype == "bfloat16" and self.provider == "cpu":
            raise EngineError(
                "ONNX Runtime's CPU provider has no bfloat16, and the bundle's graphs are written in it.\n"
                "  Export the model in float32 or float16, or run this bundle with provider='cuda'."
            )

    def start(self, graph: Graph, content: bytes, folder: Path) -> GraphExecutable:
        """Return what runs a graph.

        Args:
            graph: what the manifest says of it. content: of its file. folder: where the weights are.

        Raises:
            EngineError: ONNX Runtime does not take it, runs it on another provider, or the graph has other inputs or
                outputs than the manifest says.
        """
        library = import_extra("onnxruntime")
        options = library.SessionOptions()
        options.intra_op_num_threads = self.threads or torch.get_num_threads()
        options.inter_op_num_threads = 1
        # a bundle's graphs take turns: threads of one that went on spinning after it would take the next one's cores
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.log_severity_level = 3  # errors: of what it folds and where it places shapes nobody needs to know
        options.add_session_config_entry(_FOLDER_OF_WEIGHTS, str(folder))
        if self.profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(self.profile / Path(graph.file).stem)
        name = _PROVIDERS[self.provider]
        chosen: list[Any] = [(name, {"device_id": self.device.index}) if self.provider == "cuda" else name]
        try:
            session = library.InferenceSession(
                content, options, providers=chosen, disabled_optimizers=_SLOWER[self.provider]
            )
        except Exception as error:  # ONNX Runtime raises a dozen types of its own below Exception
            raise EngineError(
                f"ONNX Runtime {library.__version__} does not load {graph.file}: {error}\n"
                "  A newer ONNX Runtime may; the bundle's manifest says which versions wrote it."
            ) from error
        if session.get_providers()[0] != name:
            raise EngineError(
                f"ONNX Runtime would run {graph.file} with {', '.join(session.get_providers())} and not with {name}.\n"
                "  Its log says why; most often a library of CUDA is missing, or of another version."
            )
        _check_ends("inputs", graph, [given.name for given in graph.inputs], session.get_inputs())
        _check_ends("outputs", graph, [returned.graph_name for returned in graph.outputs], session.get_outputs())
        return GraphExecutable(graph, session, self.device)


def _check_ends(kind: str, graph: Graph, want: list[str], found: list[Any]) -> None:
    have = [value.name for value in found]
    if have != want:
        raise EngineError(
            f"{graph.file} has the {kind} {', '.join(have)} where the manifest says {', '.join(want)}.\n  Export again."
        )
