"""Placing an order."""

from functools import partial

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import F

from catalog.models import Book
from orders.models import Order
from shop.switches import is_broken


class OutOfStockError(Exception):
    """There are not as many copies as were ordered."""


@transaction.atomic(durable=True)
def place_order(email: str, book: Book, quantity: int = 1) -> Order:
    """Sell copies of a book; the customer's invoice is written when the order is safe."""
    take_from_stock(book, quantity)
    order = Order(email=email)
    if is_broken("orders"):
        # As by a release that does not fill a column which the database insists on.
        order.email = None  # type: ignore[assignment]
    order.save()
    order.lines.create(book=book, quantity=quantity, price=book.price)
    # Robust: a full disk is no reason to tell the customer that the order failed.
    transaction.on_commit(partial(save_invoice, order), robust=True)
    return order


def take_from_stock(book: Book, quantity: int) -> None:
    """Take copies off the shelf, in one statement, so that no copy is sold twice."""
    copies = 2 * quantity if is_broken("stock") else quantity
    in_stock = Book.objects.filter(pk=book.pk, stock__gte=quantity)
    if not in_stock.update(stock=F("stock") - copies):
        msg = f"There are fewer than {quantity} copies of {book} left."
        raise OutOfStockError(msg)
    book.refresh_from_db(fields=["stock"])


def invoice_text(order: Order) -> str:
    """Return the invoice of an order."""
    lines = [f"{line.quantity} x {line.book.title}: {line.price}" for line in order.lines.all()]
    return "\n".join([f"Invoice {order.pk} for {order.email}", *lines, f"Total: {order.total}", ""])


def save_invoice(order: Order) -> str:
    """Write the invoice to the media folder; return its name there."""
    return default_storage.save(f"invoices/{order.pk}.txt", ContentFile(invoice_text(order)))
