"""Smoke tests of invoices."""

from importlib import import_module

from catalog.models import Book
from orders.models import Order
from orders.services import invoice_text
from shop.switches import is_broken
from smoketest import SmokeTest, options, tag

if is_broken("import"):
    import_module("invoice_layout")  # simulates a dependency that is not installed


@tag("orders")
class InvoiceTest(SmokeTest):
    maintainer = "sales"

    @options(severity="warning")
    def test_invoice_shows_what_is_due(self) -> None:
        """The invoice of an order shows the total. Sales can also write invoices manually."""
        order = Order.objects.create(email="smoketest@shop.invalid")
        book = Book.objects.latest("pk")
        order.lines.create(book=book, quantity=2, price="9.50")
        self.assertIn(
            "Total: 19.00",
            invoice_text(order),
            "Invoices show a wrong total. Stop mailing invoices and call sales.",
        )
