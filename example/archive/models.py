"""Sales of past years, stored in the archive database."""

from django.db import models


class YearlySales(models.Model):
    year = models.PositiveSmallIntegerField(unique=True)
    copies = models.PositiveIntegerField()
    revenue = models.DecimalField(max_digits=12, decimal_places=2)

    class Meta:
        ordering = ("-year",)
        verbose_name_plural = "yearly sales"

    def __str__(self) -> str:
        return f"sales of {self.year}"
