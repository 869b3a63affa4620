"""Numbers as people read them."""

from __future__ import annotations

import pytest

from fouriercache.figures import (
    format_bytes,
    format_count,
    format_duration,
    format_percent,
    format_seconds,
    format_speedup,
)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.50 KiB"), (1024 * 1024 - 1, "1.00 MiB"), (120 * 2**20, "120 MiB")],
)
def test_bytes_have_three_digits_and_a_binary_unit(count: int, text: str):
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (742, "742"), (999, "999"), (999_600, "1.00 M"), (21_500_000_000, "21.5 G"), (3 * 10**18, "3000 P")],
)
def test_counts_have_three_digits_and_a_decimal_prefix(count: int, text: str):
    assert format_count(count) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0 %"), (0.0000012, "1e-04 %"), (0.0029, "0.29 %"), (0.00999, "1.0 %"), (0.12, "12.0 %"), (1.5, "150 %")],
)
def test_percentages_keep_two_digits(share: float, text: str):
    assert format_percent(share) == text


@pytest.mark.parametrize(("ratio", "text"), [(0.25, "4.00×"), (0.05, "20.0×"), (1.0, "1.00×"), (2.0, "0.50×")])
def test_a_ratio_becomes_how_many_times_faster(ratio: float, text: str):
    assert format_speedup(ratio) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.417, "0.42 s"), (12.34, "12.3 s"), (125.0, "2 min 05 s")])
def test_durations_change_unit(seconds: float, text: str):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.2e-6, "4.20 µs"), (0.0123, "12.3 ms"), (1.5, "1.50 s"), (125, "2 min 05 s")]
)
def test_durations_of_any_size_have_three_digits(seconds: float, text: str):
    assert format_duration(seconds) == text
