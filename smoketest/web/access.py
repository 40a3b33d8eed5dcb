"""Who may see what: tokens for machines, a staff session for people.

A site without ``SMOKETEST_TOKENS`` is open, as it was with django-smoketest 1.x. With tokens,
whoever has none and is no logged-in member of the staff is an outsider.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Collection
from enum import StrEnum

from django.http import HttpRequest

#: So that a browser asks; its user may be anything, the password is a token (RFC 7617, RFC 6750).
#: Chromium offers no log-in at all where one of the challenges has no realm.
CHALLENGE = 'Basic realm="Smoke tests", charset="UTF-8", Bearer realm="Smoke tests"'

UNAUTHORIZED = (
    "This page needs a token. Send one of the site's SMOKETEST_TOKENS as the password (the user"
    " does not matter) or as Authorization: Bearer TOKEN, or log in as a member of the staff."
)


class Role(StrEnum):
    """What somebody is to the endpoints."""

    #: Sees everything, tracebacks too.
    FULL = "insider"
    #: Of a site without tokens: sees what django-smoketest 1.x showed, and more of the kind.
    LIMITED = "visitor"
    #: Of a site with tokens.
    DENIED = "outsider"


def role_of(request: HttpRequest, tokens: Collection[str]) -> Role:
    """The token counts before the session: it needs no database."""
    presented = _presented_token(request)
    if presented is not None and _is_one_of(presented, tokens):
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


def _is_one_of(presented: str, tokens: Collection[str]) -> bool:
    """In a time that tells nothing of the tokens, except how many there are."""
    # A header may hold what no encoding holds, since WSGI passes bytes on as surrogates.
    given = presented.encode("utf-8", "surrogatepass")
    matches = [hmac.compare_digest(given, token.encode()) for token in tokens]  # all of them
    return any(matches)


def _is_staff(request: HttpRequest) -> bool:
    """A session that cannot be read, since its database is down, is no session."""
    try:
        user = getattr(request, "user", None)
        return bool(user and user.is_active and user.is_staff)
    except Exception:  # noqa: BLE001 - sessions and users are the site's own classes
        return False
