"""What a plan says of itself: inputs and outputs, weights, whether it can be captured, branches, copies, kernels.

Read from the compiled program's text, which TensorRT-RTX writes into its plans and does not document. It was looked at
in the versions of `READABLE`; a plan of any other is refused, not guessed at. No GPU and no library is needed.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fouriercache.bundle.plans import PlanFacts
from fouriercache.errors import EngineError

READABLE = ("1.7.1.116",)
"""Versions of TensorRT-RTX whose plans can be read."""

_MAGIC, _SIZE, _VERSION = slice(0, 4), slice(16, 24), slice(24, 28)
_PROGRAM = re.compile(rb"NLYM.{4}(.{8})header \{\n", re.DOTALL)
_NUMBERED = re.compile(r"\.\d+$")


def plan_version(path: Path) -> str:
    """Return the version of TensorRT-RTX that built a plan.

    Raises:
        EngineError: the file is cut short, or no plan of TensorRT-RTX.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if head[_MAGIC] != b"vtrt" or len(head) < 64:
        raise EngineError(f"{path.name} is no plan of TensorRT-RTX.\n  where: {path}")
    said, size = int.from_bytes(head[_SIZE], "little"), path.stat().st_size
    if said != size:
        raise EngineError(
            f"{path.name} has {size:,} bytes and should have {said:,}: it was cut short or changed.\n  where: {path}\n"
            "  Build it again, or copy the bundle again."
        )
    return ".".join(map(str, head[_VERSION]))


def plan_facts(path: Path) -> PlanFacts:
    """Return what the plan at `path` says of itself.

    Raises:
        EngineError: it is damaged, no plan of TensorRT-RTX, or of a version whose plans were not looked at.
        OSError: it cannot be read.
    """
    version = plan_version(path)
    if version not in READABLE:
        raise EngineError(
            f"{path.name} was built by TensorRT-RTX {version}, and what its plans say of themselves is known for "
            f"{', '.join(READABLE)} alone.\n  where: {path}\n"
            "  It may run all the same; only its facts cannot be read."
        )
    programs = [_Program(text) for text in _texts(path) if "stream_capturable=" in text]
    if not programs:
        raise EngineError(f"{path.name} holds no program that can be read.\n  where: {path}")
    made = {name for program in programs for name in program.names("outputs")}
    read = {name for program in programs for name in program.names("inputs")}
    return PlanFacts(
        version,
        tuple(sorted({name for program in programs for name in program.accelerators})),
        len(read - made),
        len(made - read),
        sum(program.weight_bytes() for program in programs),
        all(program.is_capturable for program in programs),
        sum(program.count("cjmp") for program in programs),
        sum(program.count("copy") for program in programs),
        sum(program.text.count("\n  copy={") - program.count("copy") for program in programs),
        sum(program.gemms() for program in programs),
        sum(program.attentions() for program in programs),
        sum(program.kernels() for program in programs),
    )


def _texts(path: Path) -> Iterator[str]:
    """Yield the text of every program in a plan: behind a mark and eight bytes with its length."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for found in _PROGRAM.finditer(data):
            length = int.from_bytes(found[1], "little")
            start = found.start() + 16
            if start + length > len(data):
                raise EngineError(f"{path.name} is damaged: a program in it has no end.\n  where: {path}")
            yield data[start : start + length].decode("utf-8", errors="replace")


class _Program:
    """The text of one program: a header, its tensors, the instructions, and those that compute sizes."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._header = text.partition("\ndescriptors {\n")[0]
        main = text.partition("\nmain {\n")[2]
        self._main = re.split(r"\n\w+(?: \w+)? \{\n", main, maxsplit=1)[0]
        self.is_capturable = "stream_capturable=1" in self._header
        accelerators = re.search(r"accelerators=\{([^}]*)\}", self._header)
        self.accelerators: Sequence[str] = accelerators[1].split() if accelerators else ()

    def names(self, key: str) -> tuple[str, ...]:
        """Inputs or outputs that hold values; the builder adds inputs that hold sizes."""
        sizes = self._list(f"shape_{key}")
        return tuple(_NUMBERED.sub("", value) for value in self._list(key) if value not in sizes)

    def _list(self, key: str) -> list[str]:
        found = re.search(rf"^  {key}=\{{(.*)\}}$", self._header, re.MULTILINE)
        return re.findall(r'"([^"]*)"', found[1]) if found else []

    def weight_bytes(self) -> int:
        """Bytes of the constants; one that two tensors show lies at one place of one region."""
        found = re.findall(
            r"^  tensor=\{.*const_payload_size=(\d+) .* offset=(\d+) .*region=(\S+)", self.text, re.MULTILINE
        )
        return sum({(region, offset): int(size) for size, offset, region in found}.values())

    def count(self, instruction: str) -> int:
        """How many instructions of a kind the program has."""
        return len(re.findall(rf"^  {instruction}=\{{", self._main, re.MULTILINE))

    def gemms(self) -> int:
        """Matrix products: alone, or with what was fused around them."""
        fused = re.findall(r"^  runtime_fusion=\{.*?backbone=(\w+) \}$", self._main, re.MULTILINE | re.DOTALL)
        return self.count("fully_connected") + fused.count("gemm")

    def attentions(self) -> int:
        """Kernels that compute attention whole."""
        return len(re.findall(r"^  function=\{ name=\S*mha\S*", self._main, re.MULTILINE | re.IGNORECASE))

    def kernels(self) -> int:
        """Generated kernels, without those of attention."""
        return self.count("function") - self.attentions()
