"""Typical use of the public API. mypy checks this module; it is not executed."""

from typing import assert_type
from unittest import TestCase

from smoketest import SmokeTest, options, tag


@tag("db")
class OrdersTest(SmokeTest):
    severity = "warning"
    timeout = 5
    slow_after = 0.5
    every = 3600
    databases = {"default"}
    read_only = True
    maintainer = "payments"
    runbook_url = "https://wiki.example/orders"

    @tag("readiness", "db")
    @options(timeout=2, severity="critical")
    def test_orders(self) -> None:
        self.assertTrue(True)

    async def test_async(self) -> None:
        pass


test: TestCase = OrdersTest("test_orders")
assert_type(OrdersTest("test_orders").test_orders(), None)
