"""What devices can do at most, from their data sheets: the ceilings of the roofline model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch

from fouriercache.checks import check_number, suggest
from fouriercache.errors import MethodError

_EAGER_LAUNCH = 5e-6
"""Seconds that the host needs for one call of an operator in eager PyTorch on a GPU's queue. No data sheet says it; it
is of this order on today's hosts, and a CUDA graph takes it to about a tenth. Give your own where it matters:
`dataclasses.replace(DEVICES["h200"], launch=5e-7)`."""


@dataclass(frozen=True)
class Device:
    """The ceilings of a device.

    Attributes:
        name: for people.
        peaks: FLOP/s of matrix products without sparsity, by dtype ("bfloat16"), accumulated in float32.
        bandwidth: of its memory, bytes/s.
        launch: seconds that each call of an operator costs beside its work.
        memory: bytes that it has; None if that is not the point.
        attention, convolution: share of the peak that they reach; 1 on paper.
        caches: (bytes, bandwidth) of each cache, the smallest first: an operand is found there if no more bytes than
            that have been touched since its own last use. Data sheets do not tell, and all comes from memory.
        functions: elements/s of functions that arithmetic bounds, by ATen's name ("layer_norm", "silu"; "gelu_tanh" for
            its approximation). What is not listed takes the time of its traffic, as nearly all does on a GPU.
        view: seconds of a call that moves nothing; 0 where a device never hears of it.
        module: seconds that a call of a module takes, which a model makes and a graph does not; 0 where the host is
            ahead of the device.
        step: seconds that the runtime takes for each call of an optimised module, beside its graphs.
        products: bytes/s of what products read of matrices that lie in no cache; the memory's if None. A core
            reads them in tiles, which no prefetching foresees.
        overlaps: whether traffic hides behind arithmetic or the other way round. On a core the two add up: products
            first pack their operands.
        fused_norms: whether RMS norm is one kernel there, as PyTorch has on CUDA; on a CPU it is six.
        source: where the figures are from.

    Raises MethodError when a figure is no number above 0.
    """

    name: str
    peaks: Mapping[str, float]
    bandwidth: float
    launch: float = _EAGER_LAUNCH
    memory: int | None = None
    attention: float = 1.0
    convolution: float = 1.0
    caches: tuple[tuple[int, float], ...] = ()
    functions: Mapping[str, float] = field(default_factory=dict)
    view: float = 0.0
    module: float = 0.0
    step: float = 0.0
    products: float | None = None
    overlaps: bool = True
    fused_norms: bool = True
    source: str = "the user"

    def __post_init__(self) -> None:
        if not dict(self.peaks):
            raise MethodError(
                f"Device needs its peaks by dtype, got {self.peaks!r}.\n"
                f"  where: Device(name={self.name!r})\n"
                "  Pass FLOP/s without sparsity: peaks={'bfloat16': 989e12, 'float32': 67e12}."
            )
        for dtype, peak in self.peaks.items():
            if not isinstance(getattr(torch, dtype, None), torch.dtype):
                raise MethodError(
                    f"Device knows no dtype {dtype!r}.\n  where: peaks of {self.name!r}\n"
                    "  Use torch's names: 'float32', 'bfloat16', 'float16', 'float8_e4m3fn', 'int8'."
                )
            _check_above_zero(f"peaks[{dtype!r}]", peak)
        _check_above_zero("bandwidth", self.bandwidth)
        if self.products is not None:
            _check_above_zero("products", self.products)
        for name in ("launch", "view", "module", "step"):
            check_number("Device", name, getattr(self, name), least=0, advice="0 is a device that waits for nobody.")
        for name in ("attention", "convolution"):
            _check_above_zero(name, getattr(self, name))
        for name, rate in self.functions.items():
            if name != "gelu_tanh" and not hasattr(torch.ops.aten, name):
                raise MethodError(
                    f"Device knows no function {name!r}.\n  where: functions of {self.name!r}\n"
                    "  Use ATen's names: 'softmax', 'layer_norm', 'silu', 'gelu'; 'gelu_tanh' for its approximation."
                )
            _check_above_zero(f"functions[{name!r}]", rate)
        for figure in (figure for cache in self.caches for figure in cache):
            _check_above_zero("caches", figure)

    def peak(self, dtype: torch.dtype) -> float:
        """FLOP/s of matrix products in this dtype.

        Raises MethodError when the device has no figure for it.
        """
        name = str(dtype).removeprefix("torch.")
        if name not in self.peaks:
            raise MethodError(
                f"{self.name} has no peak for {name}, and the model computes in it.\n"
                f"  where: peaks of {', '.join(self.peaks)}\n"
                f"  Describe a device that has one: dataclasses.replace(device, peaks={{{name!r}: ...}})."
            )
        return self.peaks[name]

    def share(self, kind: str) -> float:
        """Of the peak, that arithmetic of this kind reaches."""
        return {"attention": self.attention, "convolution": self.convolution}.get(kind, 1.0)

    def bandwidth_for(self, touched: int, kind: str = "other") -> float:
        """Bytes/s of an operand when so many bytes have been touched since its last use, its call's own among them."""
        memory = self.products if kind == "product" and self.products is not None else self.bandwidth
        return next((bandwidth for size, bandwidth in self.caches if touched <= size), memory)


def _check_above_zero(field: str, value: object) -> None:
    check_number("Device", field, value, above=0, advice="It is in FLOP/s, bytes or bytes/s.")


def _sheet(
    name: str, half: float, single: float, eight: float, bandwidth: float, gigabytes: int, source: str
) -> Device:
    """Figures in TFLOP/s without sparsity and GB/s. Float32 is that of PyTorch's default, which does not use TF32."""
    peaks = {"bfloat16": half, "float16": half, "float32": single, "float8_e4m3fn": eight, "int8": eight}
    given = {dtype: peak * 1e12 for dtype, peak in peaks.items()}
    return Device(name, given, bandwidth * 1e9, memory=gigabytes * 10**9, source=source)


DEVICES: Mapping[str, Device] = MappingProxyType(
    {
        "a100": _sheet("A100 SXM 80 GB", 312, 19.5, 624, 2039, 80, "NVIDIA A100 data sheet, 2021; 8 bits: INT8"),
        "h100": _sheet("H100 SXM", 989.4, 66.9, 1978.9, 3350, 80, "NVIDIA H100 data sheet; architecture white paper"),
        "h200": _sheet("H200 SXM", 989.4, 66.9, 1978.9, 4800, 141, "NVIDIA H200 data sheet, 2024"),
        "b200": _sheet("HGX B200", 2250, 75, 4500, 7700, 180, "NVIDIA Blackwell data sheet, HGX B200, 2024"),
        "l40s": _sheet("L40S", 362.05, 91.6, 733, 864, 48, "NVIDIA L40S data sheet, 2023"),
        "rtx4090": _sheet(
            "GeForce RTX 4090", 165.2, 82.6, 330.3, 1008, 24, "NVIDIA Ada architecture white paper, 2022"
        ),
    }
)
"""Data sheets by the name that `fast.report.cost(device=...)` takes."""


def device_from_name(device: Device | str) -> Device:
    """Return the data sheet of that name, or the device itself.

    Raises MethodError when there is none.
    """
    if isinstance(device, Device):
        return device
    if device == "cpu":
        raise MethodError(
            "This machine's figures stand on no data sheet.\n"
            "  Measure them, which takes some seconds: fast.report.cost(device=fc.measure_cpu())."
        )
    if device not in DEVICES:
        raise MethodError(
            f"There is no data sheet of {device!r}.\n"
            f"  Use one of {', '.join(DEVICES)}, or describe yours: fc.Device('mine', peaks={{...}}, bandwidth=...)."
            f"{suggest(device, DEVICES)}"
        )
    return DEVICES[device]
