"""A test client for requests to this site that is safe in production.

`django.test.Client` is made for test runs: it temporarily disconnects signal receivers of the whole
process, and would record exceptions of other requests. `SmokeClient` does neither. It also keeps
mail in an outbox, deletes the sessions that it has created, and reports files that the site saves.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.sessions.backends import cached_db, db
from django.core.files.storage import Storage
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

logger = logging.getLogger("smoketest")

#: Maximum number of saved files in a log message.
_SHOWN_FILES = 3

#: Key in `request.META` of requests of a client. No header can set it.
SMOKE_REQUEST = "smoketest.is_smoke_request"

#: The client whose request is being processed. A context variable, so that it also applies to
#: threads and tasks of the request. Use `_active_client` to read it.
_serving: ContextVar[SmokeClient | None] = ContextVar("_serving", default=None)


def _active_client() -> SmokeClient | None:
    """Return the client whose request is being processed, or None.

    A closed client does not count: a background task started by a view keeps the context of the
    request, but must send mail normally after the test.
    """
    client = _serving.get()
    return client if client is not None and not client.is_closed else None


def is_smoke_request() -> bool:
    """Return whether the caller runs in a request of `SmokeTest.client`.

    Use it to drop or mark errors and traces of such requests.
    """
    return _active_client() is not None


class SmokeClient(Client):
    """A `django.test.Client` for production sites, available as `SmokeTest.client`.

    A request passes through the middleware, URLs and views of the site, in the thread and the
    transaction of the test. Its host is that of ``SMOKETEST_PUBLIC_URL``, or else the first of
    ``ALLOWED_HOSTS``; override it with the ``headers`` argument. Templates are not instrumented:
    ``response.context`` is None and ``response.templates`` is empty.

    The arguments are those of `django.test.Client`: whether CSRF tokens are checked, whether an
    exception of a view is raised in the test (otherwise, the response is the error page), and
    default values for the WSGI environment of all requests, such as ``HTTP_USER_AGENT``.

    `SmokeTest` closes its own client. Close a client that you create yourself::

        client = SmokeClient(enforce_csrf_checks=True)
        self.addCleanup(client.close)
    """

    #: Value of `sys.exc_info` for the exception of the view, if any.
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
        #: Mail sent by the site during requests of this client; it is not delivered.
        self.outbox: list[EmailMessage] = []
        #: Files saved by the site during requests of this client; they are not deleted.
        self.saved_files: list[SavedFile] = []
        #: Id of the test that uses the client, for log messages.
        self.test_id = ""
        #: Whether the client was closed; the next request opens it again.
        self.is_closed = False
        #: Keys of the sessions created for this client.
        self._sessions: set[str] = set()
        self._unread: list[_Stream] = []

    def close(self) -> None:
        """Delete the sessions created for this client, and close unread streaming responses.

        Saved files are reported in the log, once for each test in a process. `SmokeTest` calls this
        method of its client when a test ends.
        """
        while self._unread:
            self._unread.pop().close()
        self.is_closed = True
        while self._sessions:
            _delete_session(self._sessions.pop())
        if self.saved_files and self.test_id not in _reported:
            _reported.add(self.test_id)
            _report_files(self.test_id, self.saved_files)

    def generic(
        self,
        method: str,
        path: Any,
        data: Any = "",
        content_type: str | None = "application/octet-stream",
        secure: bool = False,
        **extra: Any,
    ) -> Any:
        """Send a request, over HTTPS if the site uses HTTPS."""
        if self._site.is_secure or not secure:
            extra.setdefault("SERVER_PORT", self._site.port)
        return super().generic(
            method, path, data, content_type, secure or self._site.is_secure, **extra
        )

    def request(self, **request: Any) -> Any:
        """Process the request in a copy of the context, so that its changes do not leak."""
        environ: dict[str, Any] = self._base_environ(**request)  # type: ignore[attr-defined]
        _strip_mount(environ)
        if environ["wsgi.url_scheme"] == "https" and settings.SECURE_PROXY_SSL_HEADER:
            environ.setdefault(*settings.SECURE_PROXY_SSL_HEADER)
        environ[SMOKE_REQUEST] = True
        self.exc_info = None
        self.is_closed = False
        context = contextvars.copy_context()
        with self._tracking_sessions():
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
        """The session of this client, like `django.test.Client.session`.

        If there is none, one is created. It is deleted by `close` or rolled back with the test.
        """
        with self._tracking_sessions():
            return super().session

    async def asession(self) -> Any:
        with self._tracking_sessions():
            return await super().asession()

    def _set_login_cookies(self, request: Any) -> None:
        with self._tracking_sessions():
            super()._set_login_cookies(request)  # type: ignore[misc] # not in the stubs

    @contextmanager
    def _tracking_sessions(self) -> Iterator[None]:
        """Record the session key if it has changed, which means that a session was created."""
        before = self._session_key()
        try:
            yield
        finally:
            if (after := self._session_key()) != before and after:
                self._sessions.add(after)

    def _session_key(self) -> str:
        cookie = self.cookies.get(settings.SESSION_COOKIE_NAME)
        return cookie.value if cookie else ""


class AsyncSmokeClient:
    """A `SmokeClient` for coroutines: requests, logins and logouts are awaited.

    They run in the thread of the test, with its transaction. Everything else, such as ``cookies``
    and ``outbox``, is that of the client.
    """

    _AWAITED = frozenset({
        "delete", "force_login", "generic", "get", "head", "login", "logout", "options", "patch",
        "post", "put", "request", "trace",
    })  # fmt: skip

    def __init__(self, client: SmokeClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        return sync_to_async(attribute) if name in self._AWAITED else attribute


class SavedFile(NamedTuple):
    """A file that the site has saved during a request."""

    #: Class of the storage.
    storage: str
    #: Name of the file in the storage.
    name: str


#: Ids of the tests whose saved files were reported.
_reported: set[str] = set()


def _report_files(test_id: str, files: list[SavedFile]) -> None:
    shown = ", ".join(f"{file.name!r} ({file.storage})" for file in files[:_SHOWN_FILES])
    logger.warning(
        "%s saved %s file(s), which remain although the database rows were rolled back: %s%s."
        " Each run may save more of them. Request the page at the public address of the site"
        " instead of with self.client, for example with smoketest.contrib.http.",
        test_id or "A smoke test",
        len(files),
        shown,
        ", ..." if len(files) > _SHOWN_FILES else "",
    )


class _Stream:
    """Iterates over a streaming response in the context of its request."""

    def __init__(self, client: SmokeClient, response: Any, context: contextvars.Context) -> None:
        self._client = client
        self._response = response
        self._context = context
        self._is_closed = False
        content = response.streaming_content
        read = self._aread(content) if response.is_async else self._read(content)
        response.streaming_content = read

    def close(self) -> None:
        """Close the response, which finishes the request."""
        if not self._is_closed:
            self._is_closed = True
            self._context.run(self._response.close)

    def _read(self, content: Iterator[bytes]) -> Iterator[bytes]:
        end = object()
        try:
            while (chunk := self._context.run(next, content, end)) is not end:
                yield chunk  # type: ignore[misc] # next() returns a chunk or `end`
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
    """The address of this site."""

    is_secure: bool
    #: Value of the ``Host`` header, with the port unless it is the default.
    netloc: str
    host: str
    port: str
    #: Path prefix of the site (``SCRIPT_NAME``), without a trailing slash.
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
    if settings.DEBUG and not settings.ALLOWED_HOSTS:  # like Django, see HttpRequest.get_host()
        return [".localhost", "127.0.0.1", "[::1]"]
    return settings.ALLOWED_HOSTS


def _first_allowed_host() -> str:
    for pattern in _allowed_hosts():
        if pattern != "*":
            return split_domain_port(pattern.removeprefix("."))[0] or pattern
    return "localhost"


def _strip_mount(environ: dict[str, Any]) -> None:
    """Remove the path prefix, as a server would, because links of the site contain it."""
    mount = get_script_name(environ).rstrip("/").encode().decode("iso-8859-1")
    if mount and environ["PATH_INFO"].startswith(f"{mount}/"):
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix(mount)


class _Handler(BaseHandler):
    """Like `django.core.handlers.wsgi.WSGIHandler`, but returns the response object."""

    def __call__(self, environ: dict[str, Any], enforce_csrf_checks: bool) -> Any:
        set_script_prefix(get_script_name(environ))
        request_started.send(sender=type(self), environ=environ)
        request = WSGIRequest(environ)
        request._dont_enforce_csrf_checks = not enforce_csrf_checks  # type: ignore[attr-defined]
        response: Any = self.get_response(request)
        response._handler_class = type(self)
        response.wsgi_request = request
        return conditional_content_removal(request, response)

    def resolve_request(self, request: Any) -> Any:
        """Record in the request that it has passed the middleware, before its path is looked up."""
        request.has_passed_middleware = True
        return super().resolve_request(request)


#: The handler of this process, once created, so that middleware is loaded once as in a server.
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
def _reset_handler(**_: Any) -> None:
    """Discard the handler: `override_settings` may change the middleware."""
    _handlers.clear()


def _delete_session(key: str) -> None:
    """Delete a session, unless the transaction of the test rolls it back."""
    store: Any = import_module(settings.SESSION_ENGINE).SessionStore(key)
    if isinstance(store, cached_db.SessionStore):
        store._cache.delete(store.cache_key)  # type: ignore[attr-defined] # not in the stubs
    if isinstance(store, db.SessionStore):
        using = router.db_for_write(store.model)
        if transaction.get_connection(using).in_atomic_block:
            return
    store.delete(key)


# Hooks installed once per process; they do nothing outside of requests of a SmokeClient


@receiver(got_request_exception)
def _store_exception(**kwargs: Any) -> None:
    if (client := _active_client()) is not None:
        client.store_exc_info(**kwargs)


def _patch_mail() -> None:
    """Patch Django so that mail sent during a request of a client goes to its outbox.

    Patching attribute access of `BaseEmailBackend` covers its subclasses and existing instances.
    Patching `EmailMessage.send` covers backends that do not extend `BaseEmailBackend`.
    """
    send = EmailMessage.send
    getattribute = BaseEmailBackend.__getattribute__

    def guarded_send(self: EmailMessage, *args: Any, **kwargs: Any) -> int:
        if (client := _active_client()) is None:
            return send(self, *args, **kwargs)
        return _add_to_outbox(client, [self] if self.recipients() else [])

    def guarded_getattribute(self: BaseEmailBackend, name: str) -> Any:
        if name in _BACKEND_METHODS and (client := _active_client()) is not None:
            return partial(_BACKEND_METHODS[name], client)
        return getattribute(self, name)

    EmailMessage.send = guarded_send  # type: ignore[method-assign]
    BaseEmailBackend.__getattribute__ = guarded_getattribute  # type: ignore[assignment, method-assign]


def _add_to_outbox(client: SmokeClient, messages: Iterable[EmailMessage]) -> int:
    count = 0
    for message in messages:
        message.message()  # raises for an invalid header, as sending would
        client.outbox.append(copy(message))
        count += 1
    return count


def _skip_connection(client: SmokeClient) -> None:
    """Do nothing: no mail server is used."""


#: Replacements for methods of a mail backend.
_BACKEND_METHODS: dict[str, Callable[..., object]] = {
    "open": _skip_connection,
    "close": _skip_connection,
    "send_messages": _add_to_outbox,
}

_patch_mail()


def _patch_storages() -> None:
    """Patch Django so that files saved during a request of a client are recorded, not changed.

    Storages of the site override `Storage._save` and `Storage._open`, which these methods call.
    """
    save, open_file = Storage.save, Storage.open

    def recording_save(self: Storage, *args: Any, **kwargs: Any) -> str:
        name = save(self, *args, **kwargs)
        _record_file(self, name)
        return name

    def recording_open(self: Storage, name: str, mode: str = "rb") -> Any:
        file = open_file(self, name, mode)
        if not set(mode).isdisjoint("wax+"):
            _record_file(self, name)
        return file

    Storage.save = recording_save  # type: ignore[method-assign]
    Storage.open = recording_open  # type: ignore[method-assign]


def _record_file(storage: Storage, name: str) -> None:
    if (client := _active_client()) is not None:
        kind = type(storage)
        client.saved_files.append(SavedFile(f"{kind.__module__}.{kind.__qualname__}", name))


_patch_storages()
