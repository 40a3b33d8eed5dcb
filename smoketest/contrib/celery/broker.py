"""Talk to workers over the broker, on a connection of one's own that never waits for long.

Nothing here uses the connection and producer pools of the site's process: with a broker that is
down they would wait and try again for as long as it takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from kombu import Producer
from kombu.exceptions import KombuError
from kombu.pidbox import Mailbox

#: Seconds to connect, and to wait for a single answer of the broker.
PATIENCE = 2.0
_OF_REDIS = {"socket_connect_timeout": PATIENCE, "socket_timeout": PATIENCE}

#: Seconds for which workers may still answer when nobody listens any more.
_LATE = 0.2

#: What workers answered, by their names.
Replies = dict[str, Any]


class BrokerError(Exception):
    """The broker cannot be used; the message has its address, and no password."""


class NoRemoteControlError(Exception):
    """Workers cannot be asked over this broker; the message says why."""


@contextmanager
def connected(app: Any) -> Iterator[Any]:
    """A connection to the broker of the app, closed at the end.

    What goes wrong with it inside is a `BrokerError`.
    """
    url = app.conf.broker_write_url
    first = url if isinstance(url, str) else next(iter(url or ()), "")
    is_redis = str(first).startswith(("redis", "sentinel"))
    connection = app.connection_for_write(
        connect_timeout=PATIENCE, transport_options=_OF_REDIS if is_redis else {}
    )
    errors = (*connection.connection_errors, *connection.channel_errors, KombuError, OSError)
    try:
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
        yield connection
    except errors as error:
        # The context would show the address with the password.
        raise BrokerError(_complaint(connection, error)) from None
    finally:
        with suppress(*errors):
            connection.release()


def _complaint(connection: Any, error: BaseException) -> str:
    cause = str(error) or type(error).__name__
    if connection.password:
        cause = cause.replace(connection.password, "********")
    return (
        f"The broker {connection.as_uri()} cannot be used: {cause}. Is it running, and are address"
        " and password those of the workers?"
    )


class _PatientProducer(Producer):  # type: ignore[misc]
    """Does not try again when the connection is lost."""

    def publish(self, body: Any, **options: Any) -> Any:
        return super().publish(body, **options | {"retry": False})


class _PrivateMailbox(Mailbox):  # type: ignore[misc]
    """Uses no other connection than its own."""

    @contextmanager
    def producer_or_acquire(self, producer: Any = None, channel: Any = None) -> Iterator[Any]:
        yield producer or _PatientProducer(channel, auto_declare=False)


class _EnoughError(Exception):
    """No further answer is needed."""


def tell(app: Any, connection: Any, worker: str, command: str, arguments: Replies) -> None:
    """Give one worker a command that has no answer."""
    _mailbox(app, connection).cast([worker], command, arguments)


def ask(
    app: Any,
    connection: Any,
    command: str,
    *,
    arguments: Mapping[str, Any] | None = None,
    workers: list[str] | None = None,
    within: float,
    is_enough: Callable[[Replies], bool] = lambda _: False,
) -> Replies:
    """Ask these workers, or all, and wait until all of these or enough have answered.

    `within` is in seconds. Raises `NoRemoteControlError`.
    """
    _require_remote_control(app, connection)
    replies: Replies = {}
    deadline = time.monotonic() + within

    def collect(reply: Replies) -> None:
        replies.update(reply)
        if is_enough(replies) or time.monotonic() > deadline:
            raise _EnoughError

    mailbox = _mailbox(app, connection)
    try:
        mailbox._broadcast(
            command, dict(arguments or {}), workers, reply=True, timeout=within, callback=collect
        )
    except _EnoughError:
        # A worker that has looked the queue up answers even if it is gone meanwhile: in Redis that
        # makes a key without an end.
        if connection.transport.driver_type == "redis":
            time.sleep(_LATE)
            mailbox.reply_queue(connection.default_channel).purge()
    return replies


def _mailbox(app: Any, connection: Any) -> Any:
    """As `celery.app.control.Control` makes it, but for the connection."""
    conf = app.conf
    return _PrivateMailbox(
        conf.control_exchange,
        type="fanout",
        connection=connection,
        accept=conf.accept_content,
        serializer=conf.task_serializer,
        reply_queue_ttl=conf.control_queue_ttl,
        reply_queue_expires=conf.control_queue_expires,
    )


def _require_remote_control(app: Any, connection: Any) -> None:
    if not app.conf.worker_enable_remote_control:
        raise NoRemoteControlError("worker_enable_remote_control is False: workers do not answer")
    implements = getattr(connection.transport, "implements", None)
    if "fanout" not in getattr(implements, "exchange_type", {"fanout"}):
        raise NoRemoteControlError(
            f"workers cannot be asked over a broker of this kind ({connection.transport_cls})"
        )
