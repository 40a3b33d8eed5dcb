"""Tests of the database URL of the example."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

FILE = Path(__file__).parents[2] / "example" / "shop" / "databases.py"

Parse = Callable[[str, str], dict[str, Any]]


@pytest.fixture
def parse() -> Parse:
    """Load the function without the rest of the example."""
    spec = importlib.util.spec_from_file_location("example_databases", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Parse = module.parse
    return function


def test_url__all_parts(parse: Parse) -> None:
    """Each part of the URL is used, and percent-encoded characters are decoded."""
    assert parse("postgresql://us%40er:p%2Fw@db.example.com:5433/my%20shop", "VARIABLE") == {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "my shop",
        "USER": "us@er",
        "PASSWORD": "p/w",
        "HOST": "db.example.com",
        "PORT": "5433",
    }


def test_url__requires_host_and_name(parse: Parse) -> None:
    """The driver supplies the defaults of the other parts."""
    entry = parse("postgresql://[::1]/shop", "VARIABLE")
    assert (entry["HOST"], entry["PORT"], entry["USER"], entry["PASSWORD"]) == ("::1", "", "", "")


@pytest.mark.parametrize(
    "address",
    [
        "shop.sqlite3",
        "sqlite:///shop",
        "postgresql:///shop",
        "postgresql://host",
        "postgresql://host/",
        "postgresql://host/a/b",
        "postgresql://host/shop?sslmode=require",
        "postgresql://host:secret/shop",
        "mysql://host:99999/shop",
        "postgresql://[::1/secret",
    ],
)
def test_url__invalid(parse: Parse, address: str) -> None:
    """The message shows the variable and the format, but not the password."""
    with pytest.raises(ImproperlyConfigured) as caught:
        parse(address, "VARIABLE")
    assert str(caught.value).startswith("VARIABLE must be like postgresql://user:password@")
    assert "secret" not in str(caught.value)
