"""A response that takes long to make, under ASGI."""

from __future__ import annotations

from collections.abc import Callable

from asgiref.sync import sync_to_async
from django.http import HttpResponse


class DeferredResponse(HttpResponse):
    """Stands for the response that a function returns, until Django's ASGI handler renders it.

    Sync views share one thread under ASGI. The view itself stays a sync one, so that subclasses
    and mixins work as ever, but what blocks runs on a thread that nobody else waits for.
    """

    def __init__(self, make: Callable[[], HttpResponse]) -> None:
        super().__init__()
        self._make = make

    async def render(self) -> HttpResponse:
        """The response, with the headers and cookies that were set on this one meanwhile."""
        response = await sync_to_async(self._make, thread_sensitive=False)()
        for name, value in self.items():
            if name != "Content-Type":
                response[name] = value
        response.cookies.update(self.cookies)
        return response
