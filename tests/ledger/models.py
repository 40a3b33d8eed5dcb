"""Models for smoke tests that write to a database."""

from django.db import models


class Account(models.Model):
    name = models.CharField(max_length=100, unique=True)

    def __str__(self) -> str:
        return self.name


class Entry(models.Model):
    """Entry of an account. The foreign key is deferred to the commit, as Django creates it."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE)
    amount = models.IntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.account}: {self.amount}"
