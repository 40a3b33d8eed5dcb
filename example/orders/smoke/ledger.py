"""Smoke tests that read the whole order history, every ten minutes."""

from django.db.models import F

from orders.models import Order, OrderLine
from smoketest import SmokeTest, options, tag


@tag("db", "ledger")
class LedgerTest(SmokeTest):
    read_only = True
    databases = {"default"}
    every = 600
    slow_after = 5
    maintainer = "sales"

    def test_every_order_has_a_line(self) -> None:
        """Every order has at least one line."""
        empty = Order.objects.filter(lines=None).count()
        self.assertEqual(
            empty,
            0,
            f"{empty} orders have no lines. Ask the customers what they ordered, and look for "
            "code that saves an order outside place_order().",
        )

    @options(severity="warning")
    def test_nothing_was_sold_below_half_its_price(self) -> None:
        """No book was sold for less than half of its current price."""
        cheap = OrderLine.objects.filter(price__lt=F("book__price") / 2).count()
        self.assertEqual(
            cheap,
            0,
            f"{cheap} order lines are suspiciously cheap. Ask sales whether there was a discount.",
        )
