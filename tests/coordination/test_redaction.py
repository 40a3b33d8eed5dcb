"""No secret of the site is in a result, however it got there."""

from __future__ import annotations

import json
import logging
from typing import Any
from urllib.parse import quote

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from smoketest.conf import secrets_of_site
from smoketest.coordination.redaction import MASK, SHORTEST, Redactor
from smoketest.runner.failures import clean
from tests.builders import PROPERTY, make_declaration, make_report, make_result
from tests.conftest import Site

SECRET = "p4ss/w'o\\rd \N{SNOWMAN}"


@pytest.mark.parametrize(
    "written", [SECRET, quote(SECRET, safe=""), repr(SECRET), json.dumps(SECRET), repr([SECRET])]
)
def test_secret__is_masked_however_it_is_written(written: str) -> None:
    """As it is, in an address, by repr and in JSON."""
    masked = Redactor([SECRET])(f"before {written} after")
    assert "w" not in masked
    assert "ss" not in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert MASK in masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://:hunter2@cache:6379/0", f"redis://:{MASK}@cache:6379/0"),
        ("('postgres://u:p@h/db',)", f"('postgres://u:{MASK}@h/db',)"),
        ("http://u:a:b@c@host/", f"http://u:{MASK}@host/"),
        ("http://host:80/a@b", "http://host:80/a@b"),
        ("user@example.com: 5", "user@example.com: 5"),
    ],
)
def test_credentials__in_addresses_are_masked(text: str, masked: str) -> None:
    """Of whichever address, known or not."""
    assert Redactor([])(text) == masked


def test_secret__longest_first() -> None:
    """A secret that holds another leaves nothing of itself."""
    assert Redactor(["hunter", "hunter2-long"])("hunter2-long hunter2") == f"{MASK} {MASK}2"


def test_secret__too_short_is_left() -> None:
    """Else every text would be full of holes."""
    assert Redactor(["abc", ""])("abc") == "abc"


@PROPERTY
@given(st.integers(0, 60), st.integers(SHORTEST, 120))
def test_secret__that_was_cut_is_masked(position: int, limit: int) -> None:
    """What is left of a secret where a long text was cut says nothing of it."""
    secret = "\N{SNOWMAN}".join("abcdefgh")
    text = clean("." + position * " " + secret + (120 - position) * " ", limit)
    masked = Redactor([secret])(text)
    parts = (secret[start : start + SHORTEST] for start in range(len(secret) - SHORTEST + 1))
    assert not any(part in masked for part in parts)


def test_report__every_text_of_a_result() -> None:
    """Messages, tracebacks and what the test declares; names stay, since people select by them."""
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
    "PAYMENTS": {"URL": "https://pay", "api_key": "pay-secret", "more": [{"TOKEN": "deep"}]},
    "BROKER": "amqp://shop:rab%2Fbit@broker//",
    "SMOKETEST_TOKENS": ["smoke-token-0123456789"],
    "AUTHENTICATION_BACKENDS": ["ledger.Backend"],
    "SOME_PASSWORD": None,
    "FERNET_KEYS": [b"fernet-secret"],
    "API_TIMEOUT": 5,
}


def test_site__secrets_are_those_that_django_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the names of settings, of their members and of the environment; and in addresses."""
    monkeypatch.setenv("DEPLOY_TOKEN", "from-the-environment")
    monkeypatch.setenv("AUTH", "basic")
    monkeypatch.setenv("QUEUE_URL", "sqs://user:queue-secret@host")
    loop: dict[str, Any] = {"PASSWORD": "in-a-loop"}
    loop["self"] = loop
    with override_settings(**SETTINGS, LOOP=loop):
        found = secrets_of_site()
    assert found >= {
        *("the-secret-key", "an-old-key", "mail-secret", "pay-secret", "deep", "rab/bit"),
        *("smoke-token-0123456789", "from-the-environment", "queue-secret", "in-a-loop"),
        "fernet-secret",
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
def test_endpoint__shows_and_stores_no_secret(
    site: Site, tmp_path: Any, caplog: pytest.LogCaptureFixture, at_import: bool
) -> None:
    """In no format, no log and no file, for those who may see tracebacks."""
    caplog.set_level(logging.DEBUG)
    smoke = LEAKS.replace("{at_import}", str(at_import))
    settings = {name: SETTINGS[name] for name in ("SECRET_KEY", "PAYMENTS")}
    client = site(smoke, DEBUG=True, **settings)
    shown = [client.get(f"/smoketest/{query}").text for query in ("", "?format=json", "metrics")]
    shown.append(caplog.text)
    shown += [file.read_bytes().decode(errors="replace") for file in (tmp_path / "state").iterdir()]
    assert MASK in shown[0]
    for text in shown:
        assert "the-secret-key" not in text
        assert "pay-secret" not in text
        assert "oops" not in text
