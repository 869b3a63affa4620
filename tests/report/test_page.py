"""The page: self-contained, escaped, and complete."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from fouriercache.report.data import DemoReport, Refusal
from fouriercache.report.page import choose_headline, render_page
from tests.report.made_up_report import NAMES, make_graph, make_report, make_run

VOID = {"meta", "img", "input", "line", "rect", "path", "use", "br", "u", "i"}


class Reader(HTMLParser):
    """Collects tags, attributes and text, and the tags that are never closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def page() -> str:
    return render_page(make_report())


def test_the_page_needs_nothing_but_itself(page: str):
    reader = Reader(page)
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "iframe", "object", "embed", "base"}
    for tag, attributes in reader.tags:
        for name in ("src", "href"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:image/png;base64,", "#")), (tag, address)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert "default-src 'none'" in page


def test_every_tag_is_closed_and_every_link_leads_somewhere(page: str):
    reader = Reader(page)
    assert reader.open == []
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {attributes["href"] for tag, attributes in reader.tags if tag == "a"}
    assert links <= {f"#{name}" for name in ids}


def test_the_page_holds_every_image_and_its_difference(page: str):
    reader = Reader(page)
    alternatives = [attributes.get("alt") for tag, attributes in reader.tags if tag == "img"]
    for run in make_report().runs:
        for name in NAMES:
            assert f"{name}, {run.label}" in alternatives
            assert f"{name}, {run.label}, difference to the uncached image" in alternatives


def test_the_page_says_what_was_found_and_what_it_costs(page: str):
    text = Reader(page).text
    for words in (
        "3 of 12",
        "3.85× faster",
        "1.2 % from the original images",
        "Token grid: 1 frame, 16 rows, 16 columns, 256 tokens from position 0.",
        "attention transformer_blocks.0 to 3",
        "branch <x> holds no matmul",
        "64.0 M of 16.0 G, 0.40 %",
        "40 of 512, 7.8 %",
        "not prepared: 90, 17.6 %",
        "transformer_blocks.0, what a reused step runs",
        "interval 1 is exact",
        "TaylorSeer N=4, stack sites, exported to bundle/",
        "its latents are 3.2e-06 from those of eager",
        "Plan for tensorrt:sm89",
        "fouriercache demo --out demo_output --seed 7",
        "2.13.0",
    ):
        assert words in text


def test_a_schedule_strip_has_a_cell_for_every_step(page: str):
    assert page.count('class="computed"') == 2 * (6 + 3)
    assert page.count('class="reused"') == 2 * (6 + 9)


def test_everything_that_comes_from_outside_is_escaped():
    report = make_report()
    evil = "<img src=http://example.com onerror=alert(1)>"
    graph = replace(make_graph("FORA", "branch"), refusals=(Refusal(evil, evil, evil),), canonical=evil, reuse=evil)
    marked = render_page(
        replace(report, graphs=(graph,), class_names=(evil, "b", "c"), environment={evil: evil}, command=evil)
    )
    assert evil not in marked
    assert "example.com" in Reader(marked).text


def test_the_same_report_makes_the_same_page(page: str):
    assert render_page(make_report()) == page


def test_a_failed_check_stands_on_top():
    text = Reader(render_page(make_report(passed=False))).text
    assert "1 of 1 checks failed. Do not rely on the figures below." in text
    assert text.index("checks failed") < text.index("The images")


def test_a_report_of_the_uncached_run_alone_is_a_page():
    text = Reader(render_page(make_report(cached=False))).text
    assert "Caching did not pay in this run" in text
    assert "No cached run to draw." in text


def with_runs(*runs: tuple[float, float]) -> DemoReport:
    report = make_report()
    made = tuple(make_run("FORA", "branch", 2 + k, seconds, error) for k, (seconds, error) in enumerate(runs))
    return replace(report, runs=(report.uncached, *made))


def test_the_headline_names_the_fastest_run_that_is_close():
    headline = choose_headline(with_runs((5.0, 0.01), (2.5, 0.2)))
    assert headline.title == "2.00× faster, 1.0 % from the original images"
    assert "fastest within 5 %" in headline.lead


def test_the_headline_says_when_no_run_is_close():
    headline = choose_headline(with_runs((5.0, 0.08), (2.5, 0.2)))
    assert headline.title == "2.00× faster, 8.0 % from the original images"
    assert "No faster setting stayed within 5 %" in headline.lead


def test_the_headline_and_the_table_say_when_caching_does_not_pay():
    report = with_runs((11.0, 0.01))
    assert choose_headline(report).title == "Caching did not pay in this run"
    assert "Caching did not pay for: FORA N=2, branch." in Reader(render_page(report)).text


def test_no_grid_is_said_in_words():
    report = make_report()
    graphs = tuple(replace(graph, grid=None, refusals=()) for graph in report.graphs)
    text = Reader(render_page(replace(report, graphs=graphs))).text
    assert "No token grid was found" in text
    assert "Nothing: every value that could hold a cache was proved to be a site." in text


def test_predicted_loops_stand_beside_what_they_took(page: str):
    text = Reader(page).text
    assert "Predicted before anything ran" in text
    assert "FORA N=2, branch 0.510 0.523 0.617 0.501 5.00 MiB" in text
    assert "Predicted before anything ran" not in Reader(render_page(make_report(cached=False))).text
