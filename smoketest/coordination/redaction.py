"""Redact the secrets of the site in reports and in the metadata of tests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import quote, quote_plus

from smoketest.results import Declaration, Report, Result
from smoketest.runner.discovery import Suite

MASK = "********"

#: Characters. Shorter secrets are not redacted, because they would match unrelated text.
SHORTEST = 4

#: ``scheme://user:password@`` of a URL (RFC 3986, section 3.2.1).
_CREDENTIALS = re.compile(r"\b([a-z][a-z0-9+.-]*://[^\s/:@'\"]*):[^\s/'\"]+@", re.IGNORECASE)

#: Marks of truncated text. Only the beginning or end of a secret may be left beside them.
_TRUNCATION = re.compile(r"(\n\[\.\.\. \d+ characters left out \.\.\.\]\n|\.\.\.(?=\s|\Z))")


class Redactor:
    """Replace secrets and passwords in URLs with a mask.

    Secrets are also found URL-encoded, and escaped by ``repr()`` or JSON.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        written = {form for secret in secrets for form in _forms(secret) if len(form) >= SHORTEST}
        # Longest first, because a secret may contain another.
        self._secrets = sorted(written, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._secrets)) or r"(?!)")

    def __call__(self, text: str) -> str:
        text = _CREDENTIALS.sub(rf"\1:{MASK}@", self._pattern.sub(MASK, text))
        pieces = _TRUNCATION.split(text)
        for index in range(1, len(pieces), 2):
            pieces[index - 1] = self._mask_at_end(pieces[index - 1])
            pieces[index + 1] = self._mask_at_start(pieces[index + 1])
        return "".join(pieces)

    def suite(self, suite: Suite) -> Suite:
        classes = (
            replace(one, declarations=tuple(map(self._declaration, one.declarations)))
            for one in suite.classes
        )
        errors = map(self.result, suite.collection_errors)
        return replace(suite, classes=tuple(classes), collection_errors=tuple(errors))

    def report(self, report: Report) -> Report:
        return replace(report, results=tuple(map(self.result, report.results)))

    def result(self, result: Result) -> Result:
        return replace(
            result,
            message=self(result.message),
            exception=self(result.exception),
            traceback=self(result.traceback),
            declaration=self._declaration(result.declaration),
        )

    def _declaration(self, declared: Declaration) -> Declaration:
        return replace(
            declared,
            description=self(declared.description),
            maintainer=self(declared.maintainer),
            runbook_url=self(declared.runbook_url),
        )

    def _mask_at_end(self, text: str) -> str:
        """Mask the first part of a secret at the end of the text."""
        for secret in self._secrets:
            start = max(0, len(text) - len(secret))
            while (start := text.find(secret[:SHORTEST], start)) >= 0:
                if secret.startswith(text[start:]):
                    return text[:start] + MASK
                start += 1
        return text

    def _mask_at_start(self, text: str) -> str:
        """Mask the last part of a secret at the start of the text."""
        for secret in self._secrets:
            end = min(len(text), len(secret))
            while (end := text.rfind(secret[-SHORTEST:], 0, end) + SHORTEST) >= SHORTEST:
                if secret.endswith(text[:end]):
                    return MASK + text[end:]
                end -= 1
        return text


def _forms(secret: str) -> Iterable[str]:
    """Yield the secret as it is, URL-encoded, and as ``repr()`` and JSON escape it."""
    yield from (secret, quote(secret, safe=""), quote_plus(secret))
    yield from (repr(secret)[1:-1], json.dumps(secret)[1:-1])
