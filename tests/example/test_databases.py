"""The address of the example's own database."""

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
    """The function, without the rest of the example."""
    spec = importlib.util.spec_from_file_location("example_databases", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Parse = module.parse
    return found


def test_address__becomes_an_entry_of_databases(parse: Parse) -> None:
    """Each part finds its place, and special characters may be quoted."""
    assert parse("postgresql://us%40er:p%2Fw@db.example.com:5433/my%20shop", "VARIABLE") == {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "my shop",
        "USER": "us@er",
        "PASSWORD": "p/w",
        "HOST": "db.example.com",
        "PORT": "5433",
    }


def test_address__needs_a_host_and_a_name_alone(parse: Parse) -> None:
    """What is left out is left to the driver."""
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
def test_address__that_means_nothing(parse: Parse, address: str) -> None:
    """The message names the variable and what is allowed, and repeats no password."""
    with pytest.raises(ImproperlyConfigured) as caught:
        parse(address, "VARIABLE")
    assert str(caught.value).startswith("VARIABLE must be like postgresql://user:password@")
    assert "secret" not in str(caught.value)
