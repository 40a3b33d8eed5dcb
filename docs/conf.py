"""Configuration of Sphinx: ``make docs`` builds the documentation without a network."""

from __future__ import annotations

import re

import django
from django.conf import settings
from sphinx.application import Sphinx

# The API page imports modules that need settings.
settings.configure()
django.setup()

project = "django-smoketest"
language = "en"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
#: Depth of the headings that links can point to, by the anchors that GitHub generates.
myst_heading_anchors = 4
#: A broken link is an error, except in signatures: their types may be private or of other packages.
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*")]
#: Single backquotes in docstrings.
default_role = "code"
#: Most classes are not created by users, so only `SmokeClient` shows its constructor.
autodoc_class_signature = "separated"
autodoc_default_options = {"member-order": "bysource", "exclude-members": "__init__, __new__"}

#: Stubs at the former paths of moved pages are not in the navigation.
suppress_warnings = ["toc.not_included"]

html_theme = "furo"
html_title = "django-smoketest"
#: The copy button leaves out the prompt and the output of a command.
copybutton_prompt_text = "$ "
html_copy_source = False
html_show_copyright = False


def add_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """Build the navigation from the lists of pages in index.md, which GitHub shows as well."""
    if page != app.config.root_doc:
        return
    for heading, listing in re.findall(r"^## (.+)\n\n((?:- .+\n)+)", source[0], re.MULTILINE):
        pages = re.findall(r"^- \[(.+?)\]\(([\w-]+)\.md\)", listing, re.MULTILINE)
        entries = "\n".join(f"{title} <{name}>" for title, name in pages)
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{entries}\n```\n"


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_navigation)
