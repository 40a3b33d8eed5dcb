"""Access control of the endpoints, by token or by the session of a staff user.

If ``SMOKETEST_TOKENS`` is empty, all clients have limited access, as with django-smoketest 1.x.
Otherwise, clients without a token or a staff session are denied access.

The views and pages pass each result through a `Viewer`, so that no format has to know what a client
may see.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum

from django.http import HttpRequest

from smoketest.coordination.coordinator import Answer
from smoketest.results import Event, Finished, Outcome, Report, Result
from smoketest.store import KnownTest

#: Makes a browser ask for a password, which is the token (RFC 7617, RFC 6750). Chromium only does
#: so if each challenge has a realm.
CHALLENGE = 'Basic realm="Smoke tests", charset="UTF-8", Bearer realm="Smoke tests"'

UNAUTHORIZED = (
    "This page requires a token. Send one of the site's SMOKETEST_TOKENS as Authorization: Bearer"
    " TOKEN or as the password of Basic authentication (with any user name), or log in as a staff"
    " user."
)


class Role(StrEnum):
    """Access level of a client."""

    #: With a token or as a staff user: all details, including tracebacks.
    FULL = "full"
    #: Site without tokens: no tracebacks, and messages according to ``SMOKETEST_PUBLIC_DETAILS``.
    LIMITED = "limited"
    #: Site with tokens, but the client has none: no access.
    DENIED = "denied"


#: Appended to the messages of problems whose details are hidden.
HIDDEN = "details are hidden; log in as a staff user, or set SMOKETEST_TOKENS and send a token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """What a client may see of results."""

    sees_details: bool
    sees_tracebacks: bool

    def result(self, result: Result) -> Result:
        """Return the result as this client sees it."""
        if not self.sees_tracebacks:
            result = replace(result, traceback="")
        if self.sees_details:
            return result
        message = result.public_message
        exception = result.exception if result.outcome is Outcome.ERRORED else ""
        if result.is_problem:
            shown = message or exception
            message = f"{shown} ({HIDDEN})" if shown else HIDDEN
        return replace(result, message=message, exception=exception)

    def report(self, report: Report) -> Report:
        return replace(report, results=tuple(map(self.result, report.results)))

    def answer(self, answer: Answer) -> Answer:
        return replace(answer, report=self.report(answer.report))

    def event(self, event: Event | Answer) -> Event | Answer:
        match event:
            case Answer():
                return self.answer(event)
            case Finished(result):
                return Finished(self.result(result))
        return event

    def known_test(self, test: KnownTest) -> KnownTest:
        return replace(test, result=self.result(test.result))


def role_of(request: HttpRequest, tokens: Collection[str]) -> Role:
    """Return the access level of the client.

    The token is checked first, because the session may need the database.
    """
    presented = _presented_token(request)
    if presented is not None and _is_valid(presented, tokens):
        return Role.FULL
    if _is_staff(request):
        return Role.FULL
    return Role.DENIED if tokens else Role.LIMITED


def _presented_token(request: HttpRequest) -> str | None:
    header: str = request.META.get("HTTP_AUTHORIZATION", "")
    scheme, _, credentials = header.partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "bearer":
        return credentials
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(credentials, validate=True).decode()
        except ValueError:
            return None
        return decoded.partition(":")[2]
    return None


def _is_valid(presented: str, tokens: Collection[str]) -> bool:
    """Compare with all tokens in constant time, so that the duration reveals only their number."""
    # WSGI decodes headers as latin-1 with surrogates, which strict UTF-8 cannot encode.
    encoded = presented.encode("utf-8", "surrogatepass")
    matches = [hmac.compare_digest(encoded, token.encode()) for token in tokens]
    return any(matches)


def _is_staff(request: HttpRequest) -> bool:
    """Return whether the user is staff; false if the session cannot be read."""
    try:
        user = getattr(request, "user", None)
        return bool(user and user.is_active and user.is_staff)
    except Exception:  # noqa: BLE001 - sessions and users are classes of the site
        return False
