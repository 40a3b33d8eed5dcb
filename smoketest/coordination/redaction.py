"""Redact secrets in reports and in the metadata of tests.

Two kinds of secrets are found: the values of settings and environment variables whose names mark
them as secret (`secrets_in`), and text that has the form of a credential (`_PATTERNS`).

All regular expressions take linear time, because their input may be written by others.
"""

from __future__ import annotations

import json
import re
import sys
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from enum import IntEnum
from urllib.parse import quote, quote_plus, unquote

from django.utils.functional import Promise

from smoketest.results import Declaration, Report, Result
from smoketest.runner.discovery import Suite

MASK = "********"

#: Characters. Shorter secrets are not redacted, because they would match unrelated text.
SHORTEST = 4
#: Characters. Values of weakly named settings that are shorter are options, such as AUTH=basic.
SHORTEST_WEAK = 8
#: Characters. Shorter secrets are only redacted as whole words, because they may be words.
LONG = 16


class Strength(IntEnum):
    """Degree to which the name of a setting marks its value as secret."""

    NONE = 0
    #: Such as ``AUTH`` or ``KEY``, which also occur in the names of options.
    WEAK = 1
    STRONG = 2


_STRONG_NAME = re.compile(
    "PASSWORD|PASSWD|PASSPHRASE|PWD|SECRET|TOKEN|DSN|CREDENTIAL", re.IGNORECASE
)
_WEAK_NAME = re.compile("AUTH|KEY|API|PASS|SIGNATURE|HTTP_COOKIE", re.IGNORECASE)
#: Names that match, but have no secret values: settings of Django, and variables of the shell.
_HARMLESS = frozenset({
    "AUTHENTICATION_BACKENDS", "AUTH_PASSWORD_VALIDATORS", "AUTH_USER_MODEL",
    "CACHE_MIDDLEWARE_KEY_PREFIX", "OLDPWD", "PASSWORD_HASHERS", "PWD",
})  # fmt: skip
#: Variables that Kubernetes sets for each service, such as ``TOKEN_SERVICE_PORT``:
#: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_VARIABLE = re.compile(
    r"_SERVICE_(HOST|PORT)(_\w+)?\Z|_PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?\Z"
)
#: Keys whose values may equal the password of the same entry, and are then not secret.
_NOT_SECRET = frozenset({"USER", "USERNAME", "NAME", "DB", "DATABASE", "DBNAME", "LOGIN"})

_URL = re.compile(
    r"(?<![a-z0-9+.-])(?P<start>[a-z][a-z0-9+.-]*://(?P<user>[^\s/:@?#'\"<>]*)):"
    r"(?P<password>[^\s/?#'\"<>]+)@",
    re.IGNORECASE,
)
_HTTP_USER = re.compile(r"(?<![a-z0-9.-])(https?://)(?P<secret>[^\s/:@'\"<>]+)@", re.IGNORECASE)
_ASSIGNMENT = re.compile(
    r"(?<![\w.-])(?:[\w.-]*(?:password|passwd|pwd|passphrase|secret|token|api[_-]?key"
    r"|(?:access|account|private)[_-]?key|sslkey|credentials?)|sig|(?:x-(?:amz|goog)-)?signature)"
    r"(?:['\"]?\s*=(?!=)\s*|['\"]\s*:\s*)"
    r"(?:[bruf]{0,2}(?P<quote>['\"])(?P<quoted>(?:\\.|(?!(?P=quote))[^\\])*)(?P=quote)"
    r"|(?P<secret>[^\s&;,()\[\]{}'\"<>=]+=*))",
    re.IGNORECASE | re.DOTALL,
)
_AUTHORIZATION = re.compile(
    r"\b(?:Bearer|Basic|Token|AUTH PLAIN|AUTH LOGIN)\s+(?P<secret>[\w.~+/=-]{8,})", re.IGNORECASE
)
_WEBHOOK = re.compile(
    r"(?:hooks\.slack\.com/(?:services|workflows|triggers)/|webhook\.office\.com/webhookb2/"
    r"|outlook\.office(?:365)?\.com/webhook/|discord(?:app)?\.com/api/webhooks/"
    r"|api\.telegram\.org/bot)(?P<secret>[^\s'\"<>]+)",
    re.IGNORECASE,
)
#: Keys with a documented prefix: GitHub, GitLab, Slack, Stripe, AWS, SendGrid, OpenAI, Anthropic,
#: Google, and JSON Web Tokens.
_PREFIXED_KEY = re.compile(
    r"(?<![\w.-])(?P<secret>gh[opsur]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}"
    r"|xox[abeoprs]-[\w-]{10,}|[rs]k_(?:live|test)_\w{10,}|A[KS]IA[0-9A-Z]{16}"
    r"|SG\.[\w-]{10,}\.[\w-]{10,}|sk-(?:proj|ant)-[\w-]{10,}|AIza[\w-]{30,}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?P<secret>.*?)(?:-----END |\Z)", re.DOTALL
)
_PATTERNS = (_HTTP_USER, _WEBHOOK, _AUTHORIZATION, _ASSIGNMENT, _PREFIXED_KEY, _PRIVATE_KEY)
#: Values of assignments that are not secret.
_LITERALS = frozenset({"", "none", "null", "true", "false", "required", MASK})

#: Marks of truncated text, also those of unittest. Only the beginning or end of a secret may be
#: left beside them.
_TRUNCATION = re.compile(
    r"(\n\[\.\.\. \d+ characters left out \.\.\.\]\n|\[\d+ chars\]|(?<!\.)\.\.\.(?!\.)|…"
    r"| \[truncated\]\.\.\.)"
)
#: A position between words, also after an escape sequence of ``repr()`` or of a URL.
_WORD_START = r"(?:(?<!\w)|(?<=\\[nrt])|(?<=\\x[0-9a-f]{2})|(?<=%[0-9A-Fa-f]{2}))"


class Redactor:
    """Replace secrets and text that has the form of a credential with a mask.

    Secrets are also found URL-encoded, and escaped by ``repr()`` or JSON.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        written = {form for secret in secrets for form in _forms(secret) if len(form) >= SHORTEST}
        # Longest first, because a secret may contain another.
        self._secrets = sorted(written, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_to_pattern, self._secrets)) or r"(?!)")

    def __call__(self, text: str) -> str:
        text = _URL.sub(rf"\g<start>:{MASK}@", self._pattern.sub(MASK, text))
        for pattern in _PATTERNS:
            text = pattern.sub(_mask_group, text)
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
            public_message=self(result.public_message),
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


def secrets_in(values: Mapping[str, object], hidden: re.Pattern[str]) -> set[str]:
    """Return the secrets in settings.

    `hidden` matches the names that the site hides on its error pages, in addition to ours.
    Passwords in URLs are always secret. A password is not secret if it equals the user or the
    database next to it, because these names occur in other text.
    """
    return set(_secrets(values, hidden, Strength.NONE, frozenset())) - {""}


def _secrets(
    value: object, hidden: re.Pattern[str], strength: Strength, seen: frozenset[int]
) -> Iterator[str]:
    if isinstance(value, Promise):  # a lazy string
        value = str(value)
    if isinstance(value, (bytes, bytearray)):
        for text in _decoded(bytes(value)):
            yield from _secrets(text, hidden, strength, seen)
    elif isinstance(value, str):
        yield from _credentials(value)
        if _is_secret(value, strength):
            yield value
            yield from _long_lines(value)
    elif id(value) in seen:
        return
    elif isinstance(value, Mapping):
        yield from _secrets_of_members(value, hidden, strength, seen | {id(value)})
    elif isinstance(value, (list, tuple, set, frozenset)):
        for member in value:
            yield from _secrets(member, hidden, strength, seen | {id(value)})


def _secrets_of_members(
    values: Mapping[str, object], hidden: re.Pattern[str], strength: Strength, seen: frozenset[int]
) -> Iterator[str]:
    for name in list(values):
        try:
            value = values[name]
            users = _users(values, str(name))
            own = max(strength, _strength(str(name), hidden))
            found = set(_secrets(value, hidden, own, seen))
        except Exception:  # noqa: BLE001, S112 - a lazy value or a mapping of the site raised it
            continue
        for secret in found - users:
            yield secret
            yield from _basic(users, secret)


def _strength(name: str, hidden: re.Pattern[str]) -> Strength:
    if name in _HARMLESS or _SERVICE_VARIABLE.search(name):
        return Strength.NONE
    if _STRONG_NAME.search(name):
        return Strength.STRONG
    if _WEAK_NAME.search(name):
        return Strength.WEAK
    return Strength.STRONG if hidden.search(name) else Strength.NONE


def _is_secret(value: str, strength: Strength) -> bool:
    if strength is Strength.NONE or _names_code(value):
        return False
    if strength is Strength.STRONG:
        return not _PATH.fullmatch(value)
    is_path = value[:1] in {"/", ".", "~"} or ("/" in value and value == value.lower())
    is_host = "://" in value or _HOST.fullmatch(value.rpartition("@")[2])
    return len(value) >= SHORTEST_WEAK and _is_random(value) and not (is_path or is_host)


#: A path with two or more parts.
_PATH = re.compile(r"[.~]{0,2}(?:/[\w.@-]+){2,}/?")
_HOST = re.compile(r"(?:[a-z0-9-]+\.)+[a-z]{2,}(?::\d+)?")
_DOTTED_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")


def _names_code(value: str) -> bool:
    """Return whether the value is the dotted name of a module or of a member of one."""
    return _DOTTED_NAME.fullmatch(value) is not None and value.partition(".")[0] in sys.modules


def _is_random(value: str) -> bool:
    """Return whether the value contains a digit, or mixes cases within a word."""
    return any(map(str.isdigit, value)) or re.search(r"[a-z][A-Z]|[A-Z]{2}[a-z]", value) is not None


def _users(values: Mapping[str, object], name: str) -> set[str]:
    """Return the names of users and databases that belong to the password of this name."""
    keys = {_PASSWORD.sub(user, name) for user in ("USER", "USERNAME", "user", "username")}
    return {
        str(value)
        for key, value in values.items()
        if (str(key).upper() in _NOT_SECRET or key in keys - {name}) and isinstance(value, str)
    }


_PASSWORD = re.compile("PASSWORD|PASSWD|PASS|PWD", re.IGNORECASE)


#: A setting that is a host with credentials, but without the scheme of a URL.
_ADDRESS = re.compile(r"(?P<user>[\w.%+-]*):(?P<password>[^\s/@]{4,})@[\w.\[-]")
#: Schemes that are followed by the address of a person instead of credentials.
_SCHEMES_OF_ADDRESSES = frozenset({"acct", "mailto", "sip", "sips", "xmpp"})


def _credentials(text: str) -> Iterator[str]:
    """Yield the passwords in URLs and connection strings, unquoted."""
    for match in _URL.finditer(text):
        user, password = unquote(match["user"]), unquote(match["password"])
        database = text[match.end() :].partition("?")[0].rpartition("/")[2]
        if password not in {user, database}:
            yield password
            yield from _basic([user], password)
    if (address := _ADDRESS.match(text)) and address["user"].lower() not in _SCHEMES_OF_ADDRESSES:
        yield unquote(address["password"])
    for match in _ASSIGNMENT.finditer(text):
        secret = match["quoted"] or match["secret"] or ""
        if secret.lower() not in _LITERALS:
            yield secret
    for match in _HTTP_USER.finditer(text):
        if _is_random(match["secret"]):
            yield match["secret"]


def _basic(users: Iterable[str], password: str) -> Iterator[str]:
    """Yield the credentials as HTTP Basic (RFC 7617) and SMTP AUTH PLAIN (RFC 4616) encode them."""
    for user in users:
        for credentials in (f"{user}:{password}", f"\0{user}\0{password}"):
            yield b64encode(credentials.encode("utf-8", "replace")).decode()


def _long_lines(text: str) -> Iterator[str]:
    """Yield the text without surrounding space, and its lines, such as those of a PEM file."""
    yield text.strip()
    lines = [line.strip() for line in re.split(r"\\n|[\r\n]", text)]
    if len(lines) > 1:
        yield from (line for line in lines if len(line) >= LONG and not line.startswith("-----"))


def _decoded(value: bytes) -> Iterator[str]:
    """Yield the value as text, in the forms in which bytes that are not UTF-8 are displayed."""
    try:
        yield value.decode()
    except UnicodeDecodeError:
        yield from (value.decode(errors=how) for how in ("replace", "backslashreplace"))
        yield from (value.decode("latin-1"), repr(value)[2:-1], value.hex())
        yield b64encode(value).decode()


def _mask_group(match: re.Match[str]) -> str:
    """Replace the secret in a match of one of the `_PATTERNS`."""
    group = "secret" if match["secret"] is not None else "quoted"
    secret = match[group]
    is_plain = match.re is _AUTHORIZATION and not _is_random(secret) and len(secret) < LONG
    if secret.lower() in _LITERALS or is_plain:
        return match[0]
    start, end = (position - match.start() for position in match.span(group))
    return f"{match[0][:start]}{MASK}{match[0][end:]}"


def _to_pattern(form: str) -> str:
    """Return a pattern that finds the secret; a short one only as a whole word."""
    pattern = re.escape(form)
    if len(form) >= LONG:
        return pattern
    start = _WORD_START if re.match(r"\w", form) else ""
    return start + pattern + (r"(?!\w)" if re.search(r"\w\Z", form) else "")


def _forms(secret: str) -> Iterable[str]:
    """Yield the secret as it is, URL-encoded, and as ``repr()`` and JSON escape it."""
    try:
        encoded = secret.encode("utf-8", "surrogateescape")  # as in os.environ
    except UnicodeEncodeError:
        encoded = secret.encode("utf-8", "surrogatepass")
    yield from (secret, quote(encoded), quote(encoded, safe=""), quote_plus(encoded))
    yield from (repr(secret)[1:-1], json.dumps(secret)[1:-1])
