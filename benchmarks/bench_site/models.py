"""Model for the suites that use the database."""

from django.db import models


class Row(models.Model):
    name = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.name
