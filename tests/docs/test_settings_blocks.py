"""Tests of the settings in code blocks: they are valid, and the modules in them exist."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import pytest
from django.test import override_settings
from django.utils.module_loading import import_string

from smoketest.conf import Conf
from smoketest.contrib.http.checks import check_http
from tests.docs import tables
from tests.docs.markdown import DOCS, blocks

#: Pages whose Python blocks are parts of a settings module.
PAGES = ("monitoring.md", "exporting.md", *sorted(path.name for path in DOCS.glob("contrib-*.md")))


class Block(NamedTuple):
    page: str
    code: str

    def settings(self) -> Mapping[str, Any]:
        names: dict[str, Any] = {"INSTALLED_APPS": [], "MIDDLEWARE": []}
        exec(self.code, names)  # noqa: S102 - our own
        return {name: value for name, value in names.items() if name.isupper()}


def settings_blocks() -> list[Block]:
    return [
        Block(page, block.content)
        for page in PAGES
        for block in blocks((DOCS / page).read_text(), "python")
    ]


@pytest.mark.parametrize("block", settings_blocks(), ids=lambda block: block.page)
def test_block__is_valid(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTNER_TOKEN", "a-token")
    settings = dict(block.settings())
    assert settings
    for app in settings.pop("INSTALLED_APPS", []):
        assert import_module(app)
    for middleware in settings.pop("MIDDLEWARE", []):
        assert import_string(middleware)
    assert settings.keys() <= tables.all_settings()
    with override_settings(**settings):
        for group in (Conf, *tables.CONTRIB.values()):
            for setting in group.settings.values():
                setting.__get__(group(), group)  # raises an exception if the value is invalid
        assert check_http() == []


def test_blocks__are_found() -> None:
    assert {block.page for block in settings_blocks()} == set(PAGES)


@pytest.mark.parametrize("app", tables.CONTRIB)
def test_page__names_all_settings_of_the_app(app: str) -> None:
    page = (DOCS / f"contrib-{app.rpartition('.')[2].replace('_', '-')}.md").read_text()
    assert [name for name in tables.CONTRIB[app].settings if f"`{name}`" not in page] == []
