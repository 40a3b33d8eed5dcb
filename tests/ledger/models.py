"""Models that the smoke tests of the tests write."""

from django.db import models


class Account(models.Model):
    name = models.CharField(max_length=100, unique=True)

    def __str__(self) -> str:
        return self.name


class Entry(models.Model):
    """Its foreign key is checked when the transaction commits, as Django makes them."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE)
    amount = models.IntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.account}: {self.amount}"
