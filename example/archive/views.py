"""View of the sales of past years."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from archive.models import YearlySales


def sales(request: HttpRequest) -> HttpResponse:
    """List the sales by year."""
    return render(request, "archive/sales.html", {"years": YearlySales.objects.all()})
