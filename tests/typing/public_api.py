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

    def test_assertions_of_django(self) -> None:
        response = self.client.get("/orders/")
        self.assertContains(response, "Orders", status_code=200)
        with self.assertNumQueries(1, using="default"):
            self.assertQuerySetEqual([], [])
        self.assertNumQueries(1, self.client.get, "/orders/")
        self.assertRaisesMessage(ValueError, "invalid literal", int, "x")
        self.assertWarnsMessage(UserWarning, "old", print, "x")
        with self.captureOnCommitCallbacks() as callbacks:
            assert_type(len(callbacks), int)

    async def test_async(self) -> None:
        await self.async_client.get("/orders/")


test: TestCase = OrdersTest("test_orders")
assert_type(OrdersTest("test_orders").test_orders(), None)
