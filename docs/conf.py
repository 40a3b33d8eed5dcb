"""How Sphinx makes a site of these pages: ``make docs``. It needs no network."""

from __future__ import annotations

import re

from sphinx.application import Sphinx

project = "django-smoketest"
language = "en"
extensions = ["myst_parser"]
#: Headings down to this level can be linked to, by the names that GitHub gives them.
myst_heading_anchors = 4
#: A link that leads nowhere is an error.
nitpicky = True

html_theme = "alabaster"
html_theme_options = {
    "description": "Smoke tests that run inside your production Django site",
    "page_width": "1100px",
    "sidebar_width": "260px",
}
html_copy_source = False


def add_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """The lists of pages in index.md, which GitHub shows as well, are the site's navigation."""
    if page != app.config.root_doc:
        return
    for heading, listing in re.findall(r"^### (.+)\n\n((?:- .+\n)+)", source[0], re.MULTILINE):
        pages = re.findall(r"^- \[(.+?)\]\(([\w-]+)\.md\)", listing, re.MULTILINE)
        entries = "\n".join(f"{title} <{name}>" for title, name in pages)
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{entries}\n```\n"


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_navigation)
