"""Program text as HTML."""

from __future__ import annotations

import html
import re

import pytest

from fouriercache.report.highlight import block_text, choose_block, find_slots, highlight
from tests.report.made_up_report import CANONICAL


def test_marks_the_lines_and_the_names_of_cache_operations():
    marked = str(highlight("  %5: f32[s0,8] = fouriercache.predict(%4, %2)", ()))
    assert marked.startswith('<span class="line line-cache line-predict">')
    assert '<span class="t-cache">fouriercache.predict</span>' in marked
    assert '<span class="t-type">f32[s0,8]</span>' in marked
    assert '<span class="t-value">%4</span>' in marked


def test_marks_weights_and_comments():
    marked = str(highlight("  # transformer_blocks.0\n  %1: f32[2] = add.Tensor(%0, @proj.weight)", ()))
    assert '<span class="t-comment">  # transformer_blocks.0</span>' in marked
    assert '<span class="t-weight">@proj.weight</span>' in marked


def test_changes_no_character_and_escapes_them_all():
    text = CANONICAL + "  %9: f32[1] = evil.default(\"<script>alert('&')</script>\")\n"
    marked = str(highlight(text, find_slots(text)))
    assert "<script>" not in marked
    lines = re.findall(r'<span class="line[^"]*">(.*?)</span>(?=<span class="line|$)', marked, flags=re.DOTALL)
    assert [html.unescape(re.sub(r"<[^>]*>", "", line)) for line in lines] == text.splitlines()


def test_marks_the_lines_that_read_a_kept_feature():
    text = (
        "main(%0: f32[2] x, %1: f32[2] slot_0_0 (slot), %2: f32[1] c)\n  %3 = add(%0, %2)\n  %4 = addcmul(%3, %1, %2)\n"
    )
    header, other, reader = str(highlight(text, find_slots(text))).split('<span class="line')[1:]
    assert header.startswith('">')
    assert other.startswith('">')
    assert reader.startswith(' line-cache line-slot">')


def test_shows_the_shortest_block_that_chooses():
    assert choose_block(CANONICAL) == "transformer_blocks.0"
    second = "  # transformer_blocks.1\n  %8: f32[2] = fouriercache.select(%2, %7, %5)\n"
    assert choose_block(second + CANONICAL.replace("  # transformer_blocks.1\n", "")) == "transformer_blocks.1"


def test_takes_the_lines_of_one_block():
    lines = block_text(CANONICAL, "transformer_blocks.0").splitlines()
    assert [line.split(" = ")[1].split("(")[0] for line in lines] == [
        "linear.default",
        "fouriercache.cache_lookup",
        "fouriercache.predict",
        "fouriercache.select",
    ]
    assert block_text(CANONICAL, "transformer_blocks.9") == ""
    assert "return" not in block_text(CANONICAL, "transformer_blocks.1")


def test_joins_the_parts_of_a_block_that_is_left_and_entered_again():
    text = "main()\n  # a\n  %1 = x()\n  # b\n  %2 = y()\n  # a\n  %3 = z()\n\nfacts\n  not of a\n"
    assert block_text(text, "a") == "  %1 = x()\n  %3 = z()\n"


def test_a_text_without_a_choice_is_refused():
    with pytest.raises(ValueError, match="not of a canonical program"):
        choose_block("main(%0: f32[2])\n  %1: f32[2] = fouriercache.select(%0)\n  return [%1]\n")
