"""Parse a database URL such as ``postgresql://user:password@host:5432/shop``."""

from importlib import import_module
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

#: Database backends by URL scheme.
ENGINES = {
    "postgresql": "django.db.backends.postgresql",
    "mysql": "django.db.backends.mysql",
}


def parse(address: str, origin: str) -> dict[str, Any]:
    """Return the entry of DATABASES for a URL; `origin` names its source in error messages."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        parts, port = SplitResult("", "", "", "", ""), None
    name = unquote(parts.path.removeprefix("/"))
    if parts.scheme not in ENGINES or not parts.hostname or not name or "/" in name or parts.query:
        # The value is not shown, since it may contain a password.
        allowed = " or ".join(f"{scheme}://user:password@host:port/name" for scheme in ENGINES)
        msg = (
            f"{origin} must be like {allowed}, with special characters as %XX; or empty for SQLite."
        )
        raise ImproperlyConfigured(msg)
    if parts.scheme == "mysql":
        load_mysql_driver(origin)
    return {
        "ENGINE": ENGINES[parts.scheme],
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname,
        "PORT": str(port or ""),
    }


def load_mysql_driver(origin: str) -> None:
    """Use mysqlclient, or else PyMySQL, which needs no compiler."""
    for driver in ("MySQLdb", "pymysql"):
        try:
            module = import_module(driver)
        except ImportError:
            continue
        if driver == "pymysql":
            module.install_as_MySQLdb()
        return
    msg = f"{origin}: neither mysqlclient nor PyMySQL is installed. Run: pip install PyMySQL"
    raise ImproperlyConfigured(msg)
