"""Recognition of SQL statements by their leading words, without a full parser.

A misread statement cannot do harm unnoticed: the end of the scope detects a transaction that was
ended by a statement that was not recognized.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_PLAIN = r"'(?:[^']|'')*'"
_WITH_BACKSLASHES = r"'(?:[^'\\]|\\.|'')*'"


def _tokens(*skipped: str) -> re.Pattern[str]:
    """Return a pattern that matches skipped text, the end of a statement, or a word."""
    return re.compile(
        rf"(?: \s+ | {' | '.join(skipped)} ) | (?P<end>;) | (?P<word>@{{0,2}}[A-Za-z_][\w.$]*) | .",
        re.VERBOSE | re.DOTALL,
    )


#: https://www.sqlite.org/lang.html; also used for unknown databases.
STANDARD = _tokens(
    r"--[^\n]*", r"/\*.*?(?:\*/|\Z)", _PLAIN, r'"(?:[^"]|"")*"', r"`[^`]*`", r"\[[^]]*\]"
)
#: https://www.postgresql.org/docs/current/sql-syntax-lexical.html
POSTGRESQL = _tokens(
    r"--[^\n]*", r"/\*.*?(?:\*/|\Z)", r"[eE]" + _WITH_BACKSLASHES, _PLAIN, r'"(?:[^"]|"")*"',
    r"(?P<dollar>\$(?:[A-Za-z_]\w*)?\$).*?(?P=dollar)",
)  # fmt: skip
#: https://mariadb.com/kb/en/comment-syntax/ and https://mariadb.com/kb/en/string-literals/. The
#: server executes the content of ``/*! ... */``, so only the marker is skipped.
MYSQL = _tokens(
    r"--(?=\s|\Z)[^\n]*", r"\#[^\n]*", r"/\*M?!\d*", r"/\*.*?(?:\*/|\Z)", _WITH_BACKSLASHES,
    r'"(?:[^"\\]|\\.|"")*"', r"`[^`]*`",
)  # fmt: skip

#: Maximum number of leading words per statement.
_WORDS = 6
#: Statements that are identified by their first word.
_DATA = frozenset({"DELETE", "INSERT", "SELECT", "UPDATE", "WITH"})


def leading_words(sql: str, dialect: re.Pattern[str] = STANDARD) -> Iterator[tuple[str, ...]]:
    """Yield the first words of each statement in `sql`, in upper case."""
    is_last = ";" not in sql
    words: list[str] = []
    for token in dialect.finditer(sql):
        if word := token["word"]:
            if len(words) < _WORDS:
                words.append(word.upper())
            if is_last and (words[0] in _DATA or len(words) == _WORDS):
                break
        elif token["end"] and words:
            yield tuple(words)
            words = []
    if words:
        yield tuple(words)


def code(sql: str, dialect: re.Pattern[str] = STANDARD) -> str:
    """Return `sql` in upper case without comments and without strings in single quotes."""
    tokens = (token[0].upper() for token in dialect.finditer(sql))
    return "".join(" " if token.startswith(_NO_CODE) else token for token in tokens)


_NO_CODE = ("'", "E'", "--", "/*", "#")


def ends_transaction(words: tuple[str, ...]) -> bool:
    """Return whether a statement begins, commits or rolls back a transaction, in any dialect."""
    if words[0] in {"ABORT", "BEGIN", "COMMIT", "END"}:
        return True
    if words[0] == "ROLLBACK":  # ROLLBACK [WORK | TRANSACTION] TO rolls back to a savepoint
        return "TO" not in words[1:3]
    return words[:2] in {("START", "TRANSACTION"), ("PREPARE", "TRANSACTION")}
