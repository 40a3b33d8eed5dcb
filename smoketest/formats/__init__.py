"""Formats of reports, and the registry that the endpoint and the command read.

To add a format, write a module with its functions, and add a line to `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from smoketest.coordination.coordinator import Answer
from smoketest.formats import json, junit, ndjson, text
from smoketest.results import Event


class Render(Protocol):
    """Render a report."""

    def __call__(self, answer: Answer, *, with_tracebacks: bool) -> str: ...


class RenderEvent(Protocol):
    """Render an event of a run in progress, or the report as the last event."""

    def __call__(self, event: Event | Answer, *, with_tracebacks: bool) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format: its name in ``?format=`` and ``--format``, and its functions."""

    name: str
    #: Media type in ``Accept`` and ``Content-Type``.
    media_type: str
    #: None for HTML: `smoketest.web.pages` renders its pages, which depend on the request.
    render: Render | None = None
    #: Render an error from its HTTP status and message. None: not available over HTTP.
    render_error: Callable[[int, str], str] | None = None
    #: None: the format cannot be streamed.
    render_event: RenderEvent | None = None

    @property
    def content_type(self) -> str:
        """Value of ``Content-Type``. JSON has no charset parameter (RFC 8259, section 11)."""
        is_text = self.media_type.startswith("text/")
        return f"{self.media_type}; charset=utf-8" if is_text else self.media_type


TEXT = Format(
    name="text", media_type="text/plain", render=text.render, render_error=text.render_error
)
HTML = Format(name="html", media_type="text/html")

FORMATS = (
    TEXT,
    Format(
        name="json",
        media_type="application/json",
        render=json.render,
        render_error=json.render_error,
    ),
    HTML,
    Format(name="junit", media_type="application/xml", render=junit.render),
    Format(
        name="ndjson",
        media_type="application/x-ndjson",
        render=ndjson.render,
        render_error=ndjson.render_error,
        render_event=ndjson.render_event,
    ),
)
#: Formats of the endpoint by name.
HTTP_FORMATS = {one.name: one for one in FORMATS if one is HTML or one.render_error}
#: Functions of the formats of the command by name.
COMMAND_FORMATS = {one.name: one.render for one in FORMATS if one.render}
#: Functions of the formats that can be streamed, by name.
STREAMED_FORMATS = {one.name: one.render_event for one in FORMATS if one.render_event}
