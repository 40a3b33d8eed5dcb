"""Smoke tests of placing an order."""

from catalog.models import Author, Book
from orders.models import Order
from orders.services import OutOfStockError, place_order
from smoketest import SmokeTest, tag

#: Address of the test orders; no customer can have it.
CUSTOMER = "smoketest@shop.invalid"


@tag("orders")
class PlaceOrderTest(SmokeTest):
    """Tests that place real orders. Their database changes are rolled back."""

    timeout = 5
    maintainer = "sales"
    runbook_url = "https://wiki.example.com/runbooks/orders"

    def setUp(self) -> None:
        # Create a book, so that the tests do not depend on the stock or lock rows of real books.
        author = Author.objects.create(name="Smoke Tester")
        self.book = Book.objects.create(
            title="Smoke", slug="smoketest", author=author, year=2000, price="9.50", stock=10
        )

    @tag("db", "readiness")
    def test_order_can_be_placed(self) -> None:
        """A customer can place an order, its total is correct, and the stock decreases."""
        order = place_order(CUSTOMER, self.book, quantity=2)
        self.assertEqual(
            order.total,
            19,
            f"The total of two books at 9.50 is {order.total}, so customers pay the wrong price. "
            "Roll back the release, then tell sales which orders to correct.",
        )
        self.assertEqual(
            self.book.stock,
            8,
            f"After 2 of 10 copies were sold, the stock is {self.book.stock}: every order corrupts "
            "it. Roll back the release, then ask the warehouse to count.",
        )

    def test_sold_out_book_is_refused(self) -> None:
        """An order of more copies than are in stock is refused."""
        with self.assertRaises(
            OutOfStockError,
            msg="Customers can order more copies than are in stock. Roll back the release, then "
            "cancel the orders that cannot be fulfilled.",
        ):
            place_order(CUSTOMER, self.book, quantity=11)

    def test_no_order_of_a_smoke_test_stays(self) -> None:
        """The orders of earlier smoke tests were rolled back."""
        left = Order.objects.filter(email=CUSTOMER).count()
        self.assertEqual(
            left,
            0,
            f"{left} orders of smoke tests were committed. Delete the orders of {CUSTOMER}, then "
            "look for code that commits outside the transaction.",
        )
