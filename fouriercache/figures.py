"""Numbers as people read them. The page and the console use the same, so they never differ by a rounding."""

from __future__ import annotations

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
_DECIMAL = ("", " k", " M", " G", " T", " P")


def format_bytes(count: int) -> str:
    """Return `count` bytes with three digits and a binary unit: 1536 -> "1.50 KiB"."""
    return _with_unit(count, 1024, _BINARY)


def format_count(count: int) -> str:
    """Return `count` with three digits and a decimal prefix: 21_500_000_000 -> "21.5 G"."""
    return _with_unit(count, 1000, _DECIMAL)


def _with_unit(count: int, base: int, units: tuple[str, ...]) -> str:
    value, unit = float(count), 0
    # 999.5 would print as "1000" with three digits, so it already takes the next unit.
    while value >= base - 0.5 and unit < len(units) - 1:
        value, unit = value / base, unit + 1
    suffix = units[unit] if units[unit].startswith(" ") or not units[unit] else f" {units[unit]}"
    return f"{count}{suffix}" if unit == 0 else f"{_three_digits(value)}{suffix}"


def _three_digits(value: float) -> str:
    """Return a value below 1024 with three significant digits, two decimals below 1, never in exponent form."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def format_percent(share: float) -> str:
    """Return a share as a percentage with two significant digits below 10 %: 0.0123 -> "1.2 %"."""
    percent = 100 * share
    if percent == 0:
        return "0 %"
    if percent < 0.01:
        return f"{percent:.0e} %"
    return f"{percent:.2f} %" if percent < 0.995 else f"{percent:.1f} %" if percent < 99.95 else f"{percent:.0f} %"


def format_ratio(ratio: float) -> str:
    """Return a time ratio with three decimals."""
    return f"{ratio:.3f}"


def format_speedup(ratio: float) -> str:
    """Return how many times faster a time ratio is: 0.25 -> "4.00×"."""
    return f"{_three_digits(1 / ratio)}×"


def format_seconds(seconds: float) -> str:
    """Return a duration: "0.42 s", "12.3 s", "2 min 05 s"."""
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def format_duration(seconds: float) -> str:
    """Return a time of any size with three digits: "12.3 µs", "4.56 ms", "1.42 s"."""
    if seconds < 1e-3:
        return f"{_three_digits(1e6 * seconds)} µs"
    if seconds < 1:
        return f"{_three_digits(1e3 * seconds)} ms"
    return format_seconds(seconds)
