"""Orders and their lines."""

from decimal import Decimal

from django.db import models

from catalog.models import Book


class Order(models.Model):
    email = models.EmailField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return f"order {self.pk}"

    @property
    def total(self) -> Decimal:
        return sum((line.price * line.quantity for line in self.lines.all()), Decimal())


class OrderLine(models.Model):
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    book = models.ForeignKey(Book, on_delete=models.PROTECT, related_name="order_lines")
    quantity = models.PositiveIntegerField()
    #: Price of one copy at the time of the order.
    price = models.DecimalField(max_digits=6, decimal_places=2)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("order", "book"), name="one_line_for_each_book"),
        )

    def __str__(self) -> str:
        return f"{self.quantity} x {self.book}"
