"""Redaction of secrets in results."""

from __future__ import annotations

import json
import logging
import re
import time
import unittest
from typing import Any
from urllib.parse import quote

import pytest
from django.test import override_settings
from django.urls import reverse_lazy
from django.utils.functional import SimpleLazyObject
from hypothesis import given
from hypothesis import strategies as st

from smoketest.conf import secrets_of_site
from smoketest.coordination.redaction import MASK, SHORTEST, Redactor, secrets_in
from smoketest.runner.failures import clean
from tests.builders import PROPERTY, make_declaration, make_report, make_result
from tests.conftest import Site
from tests.coordination import secrets

SECRET = "p4ss/w'o\\rd \N{SNOWMAN}"


@pytest.mark.parametrize(
    "written", [SECRET, quote(SECRET, safe=""), repr(SECRET), json.dumps(SECRET), repr([SECRET])]
)
def test_secret__encodings(written: str) -> None:
    """A secret is masked literally and in URL, repr and JSON encoding."""
    masked = Redactor([SECRET])(f"before {written} after")
    assert "w" not in masked
    assert "ss" not in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert MASK in masked


@pytest.mark.parametrize(("text", "masked"), secrets.TEXTS)
def test_pattern(text: str, masked: str) -> None:
    """Text with the form of a credential is masked on every site."""
    assert Redactor([])(text) == masked
    assert Redactor([])(f"before {text} after").startswith("before ")
    assert Redactor([])(masked) == masked


@pytest.mark.parametrize("text", secrets.PLAIN)
def test_pattern__plain_text(text: str) -> None:
    assert Redactor([])(text) == text


@pytest.mark.parametrize(("settings", "hidden", "plain"), secrets.SETTINGS)
def test_secrets_in(settings: dict[str, Any], hidden: set[str], plain: set[str]) -> None:
    found = secrets_in(settings, re.compile("LICENSE"))
    assert found >= hidden
    assert found.isdisjoint(plain)
    if not hidden:
        assert found == set()


def test_secret__pem_line_by_line() -> None:
    """A message may show a line of a private key, or the key without its line breaks."""
    lines = [f"MII{number}" + "x" * 60 for number in range(3)]
    pem = "\n".join(["-----BEGIN KEY-----", *lines, "-----END KEY-----", ""])
    for value in (pem, pem.encode(), pem.replace("\n", "\\n")):
        redact = Redactor(secrets_in({"SIGNING_SECRET": value}, re.compile("$^")))
        assert redact(f"bad line {lines[1]}") == f"bad line {MASK}"
        assert redact(pem.strip()) == MASK if value == pem else "MII" not in redact(pem)
        assert redact("-----BEGIN KEY-----") == "-----BEGIN KEY-----"


def test_secret__whole_words() -> None:
    """A short secret may be a part of other words."""
    redact = Redactor(["shop"])
    assert redact("shop, (shop) 'shop' shop=1") == f"{MASK}, ({MASK}) '{MASK}' {MASK}=1"
    assert redact("shopping in my_shop at workshop") == "shopping in my_shop at workshop"
    assert redact(repr("a\nshop")) == f"'a\\n{MASK}'"
    assert redact(f"a%2Fshop%2F {b'shop'!r}") == f"a%2F{MASK}%2F b'{MASK}'"


def test_secret__long_ones_also_within_words() -> None:
    secret = "0123456789abcdef"
    assert Redactor([secret])(f"key{secret}key") == f"key{MASK}key"


def test_secret__shortened_by_unittest() -> None:
    """unittest shortens the values that it compares."""
    secret = "s3cret-" + "".join(map(str, range(200)))
    with pytest.raises(AssertionError) as caught:
        unittest.TestCase().assertEqual(secret, secret + "x")
    assert "[" in str(caught.value)
    masked = Redactor([secret])(str(caught.value))
    assert not any(secret[start : start + SHORTEST] in masked for start in range(len(secret) - 3))


#: Repeated to a megabyte, each is the worst case of a regular expression that backtracks.
FRAGMENTS = (
    *("a.", "a://", "x://a:", "a@", "password=", "password='", 'password="', "password ", "a_"),
    *(
        "'",
        "[1",
        "\n[... 1",
        "… ",
        "Bearer a",
        "eyJ-",
        "eyJaaaaaaaa.",
        "-----BEGIN ",
        "%41",
        "https://a",
    ),
)


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_time__is_linear(fragment: str) -> None:
    """A megabyte takes a second; with quadratic time, it would take half an hour."""
    text = fragment * (10**6 // len(fragment))
    started = time.monotonic()
    Redactor(["hunter2", "0123456789abcdef"])(text)
    assert time.monotonic() - started < 120


def test_secret__longest_first() -> None:
    """A secret that contains another is masked completely."""
    assert Redactor(["hunter", "hunter2-long"])("hunter2-long hunter2") == f"{MASK} hunter2"


def test_secret__too_short() -> None:
    """Short secrets are not masked, because they occur in ordinary text."""
    assert Redactor(["abc", ""])("abc") == "abc"


@PROPERTY
@given(st.integers(0, 60), st.integers(SHORTEST, 120))
def test_secret__truncated(position: int, limit: int) -> None:
    """The remains of a secret in a truncated text are masked."""
    secret = "\N{SNOWMAN}".join("abcdefgh")
    text = clean("." + position * " " + secret + (120 - position) * " ", limit)
    masked = Redactor([secret])(text)
    parts = (secret[start : start + SHORTEST] for start in range(len(secret) - SHORTEST + 1))
    assert not any(part in masked for part in parts)


def test_report__masked_fields() -> None:
    """Messages, tracebacks and declared texts are masked. Ids are not: they select tests."""
    result = make_result(
        declaration=make_declaration(
            "app.smoke.T.test_secret",
            description="has secret in it",
            maintainer="secret",
            runbook_url="https://u:x@wiki/secret",
        ),
        message="secret",
        traceback="the secret",
        exception="secret",
    )
    (masked,) = Redactor(["secret"]).report(make_report(result)).results
    assert masked.id == "app.smoke.T.test_secret"
    assert "secret" not in repr(masked).replace(masked.id, "")
    assert masked.duration == result.duration


SETTINGS = {
    "SECRET_KEY": "the-secret-key",
    "SECRET_KEY_FALLBACKS": ["an-old-key"],
    "MAIL_PASSWORD": "mail-secret",
    "PAYMENTS": {"URL": "https://pay", "api_key": "pay-secret-1", "more": [{"TOKEN": "deep"}]},
    "BROKER": "amqp://shop:rab%2Fbit@broker//",
    "SMOKETEST_TOKENS": ["smoke-token-0123456789"],
    "AUTHENTICATION_BACKENDS": ["ledger.Backend"],
    "SOME_PASSWORD": None,
    "FERNET_KEYS": [b"fernet-secret-1"],
    "API_TIMEOUT": 5,
}


def test_secrets_of_site(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets are found by names of settings, nested keys and variables, and in URLs."""
    monkeypatch.setenv("DEPLOY_TOKEN", "from-the-environment")
    monkeypatch.setenv("AUTH", "basic")
    monkeypatch.setenv("QUEUE_URL", "sqs://user:queue-secret@host")
    loop: dict[str, Any] = {"PASSWORD": "in-a-loop"}
    loop["self"] = loop
    with override_settings(**SETTINGS, LOOP=loop):
        found = secrets_of_site()
    assert found >= {
        *("the-secret-key", "an-old-key", "mail-secret", "pay-secret-1", "deep", "rab/bit"),
        *("smoke-token-0123456789", "from-the-environment", "queue-secret", "in-a-loop"),
        "fernet-secret-1",
    }
    assert found.isdisjoint({"https://pay", "ledger.Backend", "basic", "shop", "user", ""})


LEAKS = """
from django.conf import settings
class T(SmokeTest):
    def test_message(self):
        self.fail(f"cannot log in with {settings.PAYMENTS['api_key']}")
    def test_raised(self):
        raise ValueError("https://shop:oops@pay/", settings.SECRET_KEY)
    def test_skipped(self):
        self.skipTest(settings.SECRET_KEY)
raise_at_import = {at_import}
if raise_at_import:
    raise RuntimeError(settings.SECRET_KEY)
"""


@pytest.mark.django_db(transaction=True, databases="__all__")
@pytest.mark.parametrize("at_import", [False, True])
def test_endpoint__masks_secrets(
    site: Site, tmp_path: Any, caplog: pytest.LogCaptureFixture, at_import: bool
) -> None:
    """No format, log or file contains a secret, even with access to tracebacks."""
    caplog.set_level(logging.DEBUG)
    smoke = LEAKS.replace("{at_import}", str(at_import))
    settings = {name: SETTINGS[name] for name in ("SECRET_KEY", "PAYMENTS")}
    client = site(smoke, DEBUG=True, **settings)
    texts = [client.get(f"/smoketest/{query}").text for query in ("", "?format=json", "metrics")]
    texts.append(caplog.text)
    texts += [file.read_bytes().decode(errors="replace") for file in (tmp_path / "state").iterdir()]
    assert MASK in texts[0]
    for text in texts:
        assert "the-secret-key" not in text
        assert "pay-secret-1" not in text
        assert "oops" not in text


class RaisingMapping(dict[str, str]):
    """A mapping that reads its values from a server."""

    def __getitem__(self, name: str) -> str:
        raise OSError(name)


def test_secrets_in__values_that_raise() -> None:
    """A lazy value of the site that cannot be evaluated does not fail the run."""
    values = {
        "LOGIN_URL": reverse_lazy("no-such-view"),
        "LAZY": SimpleLazyObject(lambda: 1 / 0),
        "VAULT": RaisingMapping(password="x"),
        "PASSWORD": "hunter2",
    }
    assert secrets_in(values, re.compile("$^")) == {"hunter2"}


@pytest.mark.parametrize("secret", ["p\udce4sswo", f"p{chr(0xD800)}sswo"])
def test_secret__not_utf_8(secret: str) -> None:
    """Environment variables may contain bytes that are not UTF-8."""
    assert Redactor([secret])(f"a {secret} b") == f"a {MASK} b"


@pytest.mark.parametrize("mark", ["...; it", "..., not", "...'", "…"])
def test_secret__truncated_before_a_mark(mark: str) -> None:
    secret = "".join(map(chr, range(65, 105)))
    masked = Redactor([secret])(f"X is '{secret[:29]}{mark}")
    assert secret[:SHORTEST] not in masked


def test_secret__with_slash_in_a_url() -> None:
    assert Redactor(["ab/cd+ef=="])("/path/ab/cd%2Bef%3D%3D") == f"/path/{MASK}"
