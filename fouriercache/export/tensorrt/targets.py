"""Targets: what a plan is built for, by name."""

from __future__ import annotations

from dataclasses import dataclass

from fouriercache.errors import TargetError
from fouriercache.extras import install_line
from fouriercache.tensorrt_library import Flavour, Library

_PREFIX = "tensorrt:"


@dataclass(frozen=True)
class Target:
    """What a plan is built for.

    Attributes:
        name: as users say it, "tensorrt:sm89". folder: of its plans in a bundle, "sm89".
        capability: member of TensorRT-RTX's `ComputeCapability`; None for the GPU that is there.
        gpus: what such GPUs are called.
    """

    name: str
    capability: str | None
    gpus: str

    @property
    def folder(self) -> str:
        return self.name.removeprefix(_PREFIX)

    def flavour(self) -> Flavour | None:
        """The library it must be built with; None when either will do."""
        return None if self.capability is None else "TensorRT-RTX"

    def check(self, library: Library, *, has_gpu: bool) -> None:
        """Raise TargetError when `library` cannot build for it here."""
        if self.capability is None:
            if not has_gpu:
                raise TargetError(
                    f"{self.name} builds for the GPU of this machine, and there is none.\n"
                    f"  Name the GPU that the plan is for: {', '.join(_AHEAD)}."
                )
        elif not library.builds_ahead_of_time or not hasattr(library.module.ComputeCapability, self.capability):
            raise TargetError(
                f"{library} does not build for {self.name}.\n"
                f"  Plans for a named GPU are built with TensorRT-RTX: {install_line('rtx')}."
            )


def _ahead(number: int, gpus: str) -> Target:
    return Target(f"{_PREFIX}sm{number}", f"SM{number}", gpus)


_AHEAD = {
    target.name: target
    for target in (
        _ahead(75, "Turing: RTX 20, GTX 16, T4; fp16 alone"),
        _ahead(80, "Ampere for data centers: A100, A30"),
        _ahead(86, "Ampere: RTX 30, A10, A40, RTX A6000"),
        _ahead(89, "Ada Lovelace: RTX 40, L4, L40S, RTX 6000 Ada"),
        _ahead(120, "Blackwell: RTX 50, RTX PRO 6000"),
        _ahead(121, "Blackwell: GB10, DGX Spark"),
    )
}

TARGETS = _AHEAD | {f"{_PREFIX}current": Target(f"{_PREFIX}current", None, "the GPU of the machine that builds")}
"""Every target by name. Those of a named GPU are built ahead of time, on a machine without any."""

_FULL_ONLY = {"sm90": "Hopper: H100, H200", "sm100": "Blackwell for data centers: B200", "sm103": "B300"}


def target_from_name(name: str) -> Target:
    """Return the target called `name`.

    Raises:
        TargetError: there is none of that name; says which there are.
    """
    if name in TARGETS:
        return TARGETS[name]
    known = "\n".join(f"    {target.name}: {target.gpus}" for target in TARGETS.values())
    gpus = _FULL_ONLY.get(name.removeprefix(_PREFIX))
    if gpus is not None:
        raise TargetError(
            f"{name} ({gpus}) cannot be built ahead of time: TensorRT-RTX has no such target, and TensorRT builds on "
            f"the GPU it builds for.\n  Export with {_PREFIX}current on a machine with such a GPU and the extra `gpu`, "
            f"or take one of\n{known}"
        )
    raise TargetError(f"unknown target {name!r}.\n  There are:\n{known}")
