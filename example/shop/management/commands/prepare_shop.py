"""``manage.py prepare_shop``: create the databases and load the books."""

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import transaction
from django.utils.text import slugify

from archive.models import YearlySales
from catalog.models import Author, Book
from shop.switches import switches_ignored

BOOKS = (
    ("Jane Austen", "Emma", 1815, "8.90", 14),
    ("Jane Austen", "Pride and Prejudice", 1813, "9.50", 25),
    ("Charlotte Brontë", "Jane Eyre", 1847, "10.20", 12),
    ("Miguel de Cervantes", "Don Quixote", 1605, "18.00", 6),
    ("Charles Dickens", "Bleak House", 1853, "12.40", 7),
    ("Fyodor Dostoevsky", "Crime and Punishment", 1866, "13.00", 9),
    ("George Eliot", "Middlemarch", 1871, "14.50", 8),
    ("Herman Melville", "Moby-Dick", 1851, "11.90", 11),
    ("Mary Shelley", "Frankenstein", 1818, "7.80", 16),
    ("Leo Tolstoy", "War and Peace", 1869, "21.00", 5),
    ("Jules Verne", "Around the World in Eighty Days", 1872, "8.20", 13),
    ("H. G. Wells", "The Time Machine", 1895, "6.90", 18),
)
SALES = ((2023, 4120, "44290.50"), (2024, 4480, "49115.20"), (2025, 4715, "52480.80"))


class Command(BaseCommand):
    help = "Creates or updates the databases and loads the books. It is safe to repeat."

    @switches_ignored()
    def handle(self, *_args: Any, **options: Any) -> None:
        for database in ("default", "archive"):
            call_command("migrate", database=database, verbosity=options["verbosity"])
        with transaction.atomic():
            for name, title, year, price, stock in BOOKS:
                author, _ = Author.objects.get_or_create(name=name)
                book = {"title": title, "author": author, "year": year, "price": price}
                defaults = {**book, "stock": stock}
                Book.objects.get_or_create(slug=slugify(title), defaults=defaults)
        for year, copies, revenue in SALES:
            defaults = {"copies": copies, "revenue": revenue}
            YearlySales.objects.get_or_create(year=year, defaults=defaults)
        if options["verbosity"]:
            self.stdout.write(f"The shop has {Book.objects.count()} books.")
