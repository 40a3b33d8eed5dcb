"""The browser of a smoke test: requests to this site, in process, that leave no trace.

Django's own client is made for test runs. It takes receivers of signals away from the whole
process, for a moment, and would see the exceptions of everybody's requests; on a site that serves
visitors this one does neither.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.sessions.backends import cached_db, db
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIRequest, get_script_name
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.core.signals import got_request_exception, request_started, setting_changed
from django.db import router, transaction
from django.dispatch import receiver
from django.http.request import split_domain_port, validate_host
from django.test.client import Client, conditional_content_removal
from django.urls import set_script_prefix

#: The client whose request the code that asks is serving, also on the threads and in the tasks
#: that Django runs it in; asked by `_served`.
_serving: ContextVar[SmokeClient | None] = ContextVar("_serving", default=None)


def _served() -> SmokeClient | None:
    """The client that is served here.

    What a view starts for the whole process, such as a task in an event loop that mails, has the
    context of the request for ever, and serves visitors when the test is over.
    """
    client = _serving.get()
    return client if client is not None and not client.is_closed else None


class SmokeClient(Client):
    """`django.test.Client` for a site in production; a `SmokeTest` has one as ``self.client``.

    A request goes through the middleware, the URLs and the views of the site, on the thread and
    in the transaction of the test. It asks for the address in ``SMOKETEST_PUBLIC_URL``, else for
    the first of ``ALLOWED_HOSTS``; as for any client of Django, ``headers`` say otherwise.
    Templates are not instrumented: ``response.context`` is None, ``response.templates`` empty.
    """

    #: As `sys.exc_info` gave it where a view raised.
    exc_info: Any

    def __init__(
        self,
        enforce_csrf_checks: bool = False,
        raise_request_exception: bool = True,
        **defaults: Any,
    ) -> None:
        self._site = _site()
        super().__init__(
            enforce_csrf_checks,
            raise_request_exception,
            **{
                "HTTP_HOST": self._site.netloc,
                "HTTP_USER_AGENT": "django-smoketest",
                "SERVER_NAME": self._site.host,
                "SCRIPT_NAME": self._site.mount,
                **defaults,
            },
        )
        self._enforce_csrf_checks = enforce_csrf_checks
        #: What the site wanted to mail while it served requests of this client.
        self.outbox: list[EmailMessage] = []
        #: Whether no request of this client is served any more.
        self.is_closed = False
        #: Keys of the sessions that were begun for this client.
        self._sessions: set[str] = set()
        self._unread: list[_Stream] = []

    def close(self) -> None:
        """Delete the sessions that were begun, and close the responses that were not read.

        A `SmokeTest` does it at its end.
        """
        while self._unread:
            self._unread.pop().close()
        self.is_closed = True
        while self._sessions:
            _delete_session(self._sessions.pop())

    def generic(
        self,
        method: str,
        path: Any,
        data: Any = "",
        content_type: str | None = "application/octet-stream",
        secure: bool = False,
        **extra: Any,
    ) -> Any:
        """Any request; over HTTPS where the site is."""
        if self._site.is_secure or not secure:
            extra.setdefault("SERVER_PORT", self._site.port)
        return super().generic(
            method, path, data, content_type, secure or self._site.is_secure, **extra
        )

    def request(self, **request: Any) -> Any:
        """Serve the request in a context of its own, so that no language, say, outlives it."""
        environ: dict[str, Any] = self._base_environ(**request)  # type: ignore[attr-defined]
        _strip_mount(environ)
        if environ["wsgi.url_scheme"] == "https" and settings.SECURE_PROXY_SSL_HEADER:
            environ.setdefault(*settings.SECURE_PROXY_SSL_HEADER)
        self.exc_info = None
        self.is_closed = False
        context = contextvars.copy_context()
        with self._noting_sessions():
            response: Any = context.run(self._serve, environ)
            if response.streaming:
                self._unread.append(_Stream(self, response, context))
            else:
                context.run(response.close)
            response.exc_info = self.exc_info
            if self.exc_info is not None and self.raise_request_exception:
                raise self.exc_info[1]
            response.client = self
            response.request = request
            response.templates, response.context = [], None
            response.json = partial(self._parse_json, response)  # type: ignore[attr-defined]
            response.resolver_match = response.wsgi_request.resolver_match
            self.cookies.update(response.cookies)
        return response

    def _serve(self, environ: dict[str, Any]) -> Any:
        _serving.set(self)
        return _handler()(environ, self._enforce_csrf_checks)

    # Sessions

    @property
    def session(self) -> Any:
        """The session of this client, as `django.test.Client.session`."""
        with self._noting_sessions():
            return super().session

    async def asession(self) -> Any:
        with self._noting_sessions():
            return await super().asession()

    def _set_login_cookies(self, request: Any) -> None:
        with self._noting_sessions():
            super()._set_login_cookies(request)  # type: ignore[misc] # not in the stubs

    @contextmanager
    def _noting_sessions(self) -> Iterator[None]:
        """A key that comes back and was not sent belongs to a session begun meanwhile."""
        before = self._session_key()
        try:
            yield
        finally:
            if (after := self._session_key()) != before and after:
                self._sessions.add(after)

    def _session_key(self) -> str:
        cookie = self.cookies.get(settings.SESSION_COOKIE_NAME)
        return cookie.value if cookie else ""


class _Stream:
    """A response that makes its content while it is read; it does so where it was served."""

    def __init__(self, client: SmokeClient, response: Any, context: contextvars.Context) -> None:
        self._client = client
        self._response = response
        self._context = context
        self._is_closed = False
        content = response.streaming_content
        read = self._aread(content) if response.is_async else self._read(content)
        response.streaming_content = read

    def close(self) -> None:
        """The request is finished."""
        if not self._is_closed:
            self._is_closed = True
            self._context.run(self._response.close)

    def _read(self, content: Iterator[bytes]) -> Iterator[bytes]:
        end = object()
        try:
            while (chunk := self._context.run(next, content, end)) is not end:
                yield chunk  # type: ignore[misc] # next() gives a chunk or the end
        finally:
            self.close()

    async def _aread(self, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            while True:
                token = _serving.set(self._client)
                try:
                    chunk = await anext(content, None)
                finally:
                    _serving.reset(token)
                if chunk is None:
                    return
                yield chunk
        finally:
            self.close()


# The site


class _Site(NamedTuple):
    """Where a browser finds this site."""

    is_secure: bool
    #: As in the header Host: with the port where that is not the usual one.
    netloc: str
    host: str
    port: str
    #: Path below which the server has mounted the site, without a slash at its end.
    mount: str


def _site() -> _Site:
    url = urlsplit(str(getattr(settings, "SMOKETEST_PUBLIC_URL", "")))
    is_secure = url.scheme == "https" or settings.SECURE_SSL_REDIRECT
    usual_port = "443" if is_secure else "80"
    host, port = split_domain_port(url.netloc)
    if not host or not validate_host(host, _allowed_hosts()):
        host, port = _first_allowed_host(), ""
    netloc = f"{host}:{port}" if port else host
    return _Site(is_secure, netloc, host, port or usual_port, url.path.rstrip("/"))


def _allowed_hosts() -> Iterable[str]:
    if settings.DEBUG and not settings.ALLOWED_HOSTS:  # as Django does
        return [".localhost", "127.0.0.1", "[::1]"]
    return settings.ALLOWED_HOSTS


def _first_allowed_host() -> str:
    for pattern in _allowed_hosts():
        if pattern != "*":
            return split_domain_port(pattern.removeprefix("."))[0] or pattern
    return "localhost"


def _strip_mount(environ: dict[str, Any]) -> None:
    """Leave out of the path what the server would: the site's links hold it."""
    mount = get_script_name(environ).rstrip("/").encode().decode("iso-8859-1")
    if mount and environ["PATH_INFO"].startswith(f"{mount}/"):
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix(mount)


class _Handler(BaseHandler):
    """As `django.core.handlers.wsgi.WSGIHandler`, but it gives the response itself."""

    def __call__(self, environ: dict[str, Any], enforce_csrf_checks: bool) -> Any:
        set_script_prefix(get_script_name(environ))
        request_started.send(sender=type(self), environ=environ)
        request = WSGIRequest(environ)
        request._dont_enforce_csrf_checks = not enforce_csrf_checks  # type: ignore[attr-defined]
        response: Any = self.get_response(request)
        response._handler_class = type(self)
        response.wsgi_request = request
        return conditional_content_removal(request, response)


#: The handler of this process, as soon as there is one: middleware is made once, as by a server.
_handlers: list[_Handler] = []
_handlers_lock = threading.Lock()


def _handler() -> _Handler:
    with _handlers_lock:
        if not _handlers:
            handler = _Handler()
            handler.load_middleware()
            _handlers.append(handler)
        return _handlers[0]


@receiver(setting_changed)
def _forget_handler(**_: Any) -> None:
    """Other settings, as `override_settings` makes them, may mean other middleware."""
    _handlers.clear()


def _delete_session(key: str) -> None:
    """Where it is kept, unless the transaction of the test undoes it."""
    store: Any = import_module(settings.SESSION_ENGINE).SessionStore(key)
    if isinstance(store, cached_db.SessionStore):
        store._cache.delete(store.cache_key)  # type: ignore[attr-defined] # not in the stubs
    if isinstance(store, db.SessionStore):
        using = router.db_for_write(store.model)
        if transaction.get_connection(using).in_atomic_block:
            return
    store.delete(key)


# What is installed once, for good, and does nothing to the requests of others


@receiver(got_request_exception)
def _note_exception(**kwargs: Any) -> None:
    if (client := _served()) is not None:
        client.store_exc_info(**kwargs)


def _guard_mail() -> None:
    """Keep in the process what a site mails while it serves a client.

    Backends are asked by their attributes, so that it does not matter who made one, and when;
    `EmailMessage.send` is for those that do not extend Django's.
    """
    send = EmailMessage.send
    getattribute = BaseEmailBackend.__getattribute__

    def guarded_send(self: EmailMessage, *args: Any, **kwargs: Any) -> int:
        if (client := _served()) is None:
            return send(self, *args, **kwargs)
        return _keep(client, [self] if self.recipients() else [])

    def guarded_getattribute(self: BaseEmailBackend, name: str) -> Any:
        if name in _INSTEAD and (client := _served()) is not None:
            return partial(_INSTEAD[name], client)
        return getattribute(self, name)

    EmailMessage.send = guarded_send  # type: ignore[method-assign]
    BaseEmailBackend.__getattribute__ = guarded_getattribute  # type: ignore[assignment, method-assign]


def _keep(client: SmokeClient, messages: Iterable[EmailMessage]) -> int:
    count = 0
    for message in messages:
        message.message()  # raises for a wrong header, as it would when it is sent
        client.outbox.append(copy(message))
        count += 1
    return count


def _connect_to_nothing(client: SmokeClient) -> None:
    """There is no server."""


#: What a client does in place of a backend.
_INSTEAD: dict[str, Callable[..., object]] = {
    "open": _connect_to_nothing,
    "close": _connect_to_nothing,
    "send_messages": _keep,
}

_guard_mail()
