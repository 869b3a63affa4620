"""How Sphinx builds the pages: `make docs`."""

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "FourierCache"
author = "The FourierCache developers"
copyright = "The FourierCache developers"
release = version = installed_version("fouriercache")

extensions = ["myst_parser", "sphinx.ext.doctest", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "FourierCache"

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
doctest_global_setup = "import fouriercache as fc"
