"""Sentences about tests that do not run."""

from __future__ import annotations

import pytest

from smoketest.results import Selection
from smoketest.runner.loader import find
from tests.conftest import Apps, options


def overlooked(apps: Apps) -> tuple[str, ...]:
    with apps.installed():
        return find(Selection(), options()).overlooked


def test_function(apps: Apps) -> None:
    apps.add("""
        def test_orders():
            pass

        def helper():
            pass
    """)
    (sentence,) = overlooked(apps)
    assert sentence.startswith("app0.smoke.test_orders() does not run, because it is a function.")


def test_class__misspelled_methods(apps: Apps) -> None:
    apps.add("""
        class OrdersTest(SmokeTest):
            def setUp(self):
                pass

            def tset_orders(self):
                pass

            def check_mail(self):
                pass
    """)
    (sentence,) = overlooked(apps)
    assert sentence == (
        "app0.smoke.OrdersTest has no tests: names of tests begin with 'test_', and its methods"
        " are tset_orders, check_mail."
    )


def test_method__named_as_in_unittest(apps: Apps) -> None:
    """It is reported next to tests that run, because unittest and pytest would run it."""
    apps.add("""
        class OrdersTest(SmokeTest):
            def test_orders(self):
                pass

            def testMail(self):
                pass
    """)
    assert overlooked(apps) == (
        "app0.smoke.OrdersTest.testMail() does not run: names of tests begin with 'test_'.",
    )


def test_class__imported_into_another_app(apps: Apps) -> None:
    apps.add("class OrdersTest(SmokeTest):\n    def test_it(self): pass\n")
    apps.add("from app0.smoke import OrdersTest\n")
    (sentence,) = overlooked(apps)
    assert sentence.startswith("app0.smoke.OrdersTest does not run in app1.smoke, which imports it")


@pytest.mark.parametrize(
    "smoke",
    [
        "class B(SmokeTest):\n    def place(self): 1\nclass T(B):\n    def test_it(self): 1\n",
        "class T(SmokeTest):\n    def test_it(self): self.helper()\n    def helper(self): pass\n",
        "class T(SmokeTest):\n    timeout = 5\n",
        "from tests.coordination.test_streaming import test_run__closes_connections\n",
        "from unittest import TestCase\n",
    ],
)
def test_ordinary_module(apps: Apps, smoke: str) -> None:
    apps.add(smoke)
    assert overlooked(apps) == ()


def test_class__imported_as_a_base(apps: Apps) -> None:
    apps.add("class Base(SmokeTest):\n    def test_it(self): pass\n")
    apps.add("from app0.smoke import Base\nclass T(Base):\n    pass\n")
    assert overlooked(apps) == ()
