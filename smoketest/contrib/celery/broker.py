"""Send control commands to workers, on a separate connection with short timeouts.

The connection and producer pools of the process are not used: they retry without limit while the
broker is down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from kombu import Producer
from kombu.exceptions import KombuError
from kombu.pidbox import Mailbox

#: Timeout in seconds for connecting, and for each reply of the broker.
TIMEOUT = 2.0
_OF_REDIS = {"socket_connect_timeout": TIMEOUT, "socket_timeout": TIMEOUT}

#: Seconds to wait for late replies before the reply queue is purged.
_LATE = 0.2

#: Replies by worker name.
Replies = dict[str, Any]


class BrokerError(Exception):
    """The broker cannot be used; the message contains its URL without the password."""


class NoRemoteControlError(Exception):
    """Remote control is not available; the message says why."""


@contextmanager
def connected(app: Any) -> Iterator[Any]:
    """Yield a connection to the broker of the app; its errors are raised as `BrokerError`."""
    url = app.conf.broker_write_url
    first = url if isinstance(url, str) else next(iter(url or ()), "")
    is_redis = str(first).startswith(("redis", "sentinel"))
    connection = app.connection_for_write(
        connect_timeout=TIMEOUT, transport_options=_OF_REDIS if is_redis else {}
    )
    errors = (*connection.connection_errors, *connection.channel_errors, KombuError, OSError)
    try:
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
        yield connection
    except errors as error:
        # The original error may contain the password.
        raise BrokerError(_describe_error(connection, error)) from None
    finally:
        with suppress(*errors):
            connection.release()


def _describe_error(connection: Any, error: BaseException) -> str:
    cause = str(error) or type(error).__name__
    if connection.password:
        cause = cause.replace(connection.password, "********")
    return (
        f"The broker {connection.as_uri()} cannot be used: {cause}. Is it running, and do the"
        " workers use the same URL and password?"
    )


class _NonRetryingProducer(Producer):  # type: ignore[misc]
    """Producer that does not retry when the connection is lost."""

    def publish(self, body: Any, **options: Any) -> Any:
        return super().publish(body, **options | {"retry": False})


class _PrivateMailbox(Mailbox):  # type: ignore[misc]
    """Mailbox that uses its own connection instead of the producer pool."""

    @contextmanager
    def producer_or_acquire(self, producer: Any = None, channel: Any = None) -> Iterator[Any]:
        yield producer or _NonRetryingProducer(channel, auto_declare=False)


class _CompleteError(Exception):
    """All required replies have arrived."""


def send_command(app: Any, connection: Any, worker: str, command: str, arguments: Replies) -> None:
    """Send a control command to a worker, without waiting for a reply."""
    _mailbox(app, connection).cast([worker], command, arguments)


def broadcast(
    app: Any,
    connection: Any,
    command: str,
    *,
    arguments: Mapping[str, Any] | None = None,
    workers: list[str] | None = None,
    within: float,
    is_complete: Callable[[Replies], bool] = lambda _: False,
) -> Replies:
    """Send a command to the workers, or to all, and return their replies.

    Waits until all `workers` have replied, `is_complete` returns True, or `within` seconds have
    passed. Raises `NoRemoteControlError`.
    """
    _require_remote_control(app, connection)
    replies: Replies = {}
    deadline = time.monotonic() + within

    def collect(reply: Replies) -> None:
        replies.update(reply)
        if is_complete(replies) or time.monotonic() > deadline:
            raise _CompleteError

    mailbox = _mailbox(app, connection)
    try:
        mailbox._broadcast(
            command, dict(arguments or {}), workers, reply=True, timeout=within, callback=collect
        )
    except _CompleteError:
        # A late reply would recreate the deleted reply queue, which is a Redis key without expiry.
        if connection.transport.driver_type == "redis":
            time.sleep(_LATE)
            mailbox.reply_queue(connection.default_channel).purge()
    return replies


def _mailbox(app: Any, connection: Any) -> Any:
    """Return a mailbox like that of `celery.app.control.Control`, on the given connection."""
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
        raise NoRemoteControlError("worker_enable_remote_control is False: workers do not reply")
    implements = getattr(connection.transport, "implements", None)
    if "fanout" not in getattr(implements, "exchange_type", {"fanout"}):
        raise NoRemoteControlError(
            f"this kind of broker does not support remote control ({connection.transport_cls})"
        )
