"""Program text as HTML."""

from __future__ import annotations

import html
import re

from fouriercache.report.highlight import block_text, highlight
from tests.report.made_up_report import CANONICAL


def test_marks_the_lines_and_the_names_of_cache_operations():
    marked = str(highlight("  %5: f32[s0,8] = fouriercache.predict(%4, %2)"))
    assert marked.startswith('<span class="line line-cache line-predict">')
    assert '<span class="t-cache">fouriercache.predict</span>' in marked
    assert '<span class="t-type">f32[s0,8]</span>' in marked
    assert '<span class="t-value">%4</span>' in marked


def test_marks_weights_and_comments():
    marked = str(highlight("  # transformer_blocks.0\n  %1: f32[2] = add.Tensor(%0, @proj.weight)"))
    assert '<span class="t-comment">  # transformer_blocks.0</span>' in marked
    assert '<span class="t-weight">@proj.weight</span>' in marked


def test_changes_no_character_and_escapes_them_all():
    text = CANONICAL + "  %9: f32[1] = evil.default(\"<script>alert('&')</script>\")\n"
    marked = str(highlight(text))
    assert "<script>" not in marked
    lines = re.findall(r'<span class="line[^"]*">(.*?)</span>(?=<span class="line|$)', marked, flags=re.DOTALL)
    assert [html.unescape(re.sub(r"<[^>]*>", "", line)) for line in lines] == text.splitlines()


def test_takes_the_lines_of_one_block():
    part = block_text(CANONICAL, "transformer_blocks.0")
    assert part.splitlines()[0] == "  # transformer_blocks.0"
    assert "fouriercache.select" in part
    assert "gelu" not in part
    assert "return" not in part


def test_takes_the_whole_text_when_no_line_names_the_block():
    assert block_text(CANONICAL, "layers.7") == CANONICAL
