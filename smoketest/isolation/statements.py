"""What the text of SQL tells of the statements in it, without a parser for any dialect.

A text that is misread is no harm: what ends a transaction unseen is found out after the test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_PLAIN = r"'(?:[^']|'')*'"
_WITH_BACKSLASHES = r"'(?:[^'\\]|\\.|'')*'"


def _tokens(*skipped: str) -> re.Pattern[str]:
    """What separates words, the end of a statement, and words; in this order."""
    return re.compile(
        rf"(?: \s+ | {' | '.join(skipped)} ) | (?P<end>;) | (?P<word>@{{0,2}}[A-Za-z_][\w.$]*) | .",
        re.VERBOSE | re.DOTALL,
    )


#: https://www.sqlite.org/lang.html, and for databases that we do not know
STANDARD = _tokens(
    r"--[^\n]*", r"/\*.*?(?:\*/|\Z)", _PLAIN, r'"(?:[^"]|"")*"', r"`[^`]*`", r"\[[^]]*\]"
)
#: https://www.postgresql.org/docs/current/sql-syntax-lexical.html
POSTGRESQL = _tokens(
    r"--[^\n]*", r"/\*.*?(?:\*/|\Z)", r"[eE]" + _WITH_BACKSLASHES, _PLAIN, r'"(?:[^"]|"")*"',
    r"(?P<dollar>\$(?:[A-Za-z_]\w*)?\$).*?(?P=dollar)",
)  # fmt: skip
#: https://mariadb.com/kb/en/comment-syntax/ and https://mariadb.com/kb/en/string-literals/; what is
#: in ``/*! ... */`` the server executes.
MYSQL = _tokens(
    r"--(?=\s|\Z)[^\n]*", r"\#[^\n]*", r"/\*M?!\d*", r"/\*.*?(?:\*/|\Z)", _WITH_BACKSLASHES,
    r'"(?:[^"\\]|\\.|"")*"', r"`[^`]*`",
)  # fmt: skip

#: How many words of a statement are looked at; of these, the first says all.
_WORDS = 6
_DATA = frozenset({"DELETE", "INSERT", "SELECT", "UPDATE", "WITH"})


def leading_words(sql: str, dialect: re.Pattern[str] = STANDARD) -> Iterator[tuple[str, ...]]:
    """The first words of each statement of the text, in capitals."""
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


def ends_transaction(words: tuple[str, ...]) -> bool:
    """Whether a statement begins, commits or rolls back a transaction, in any dialect."""
    if words[0] in {"ABORT", "BEGIN", "COMMIT", "END"}:
        return True
    if words[0] == "ROLLBACK":  # but ROLLBACK [WORK | TRANSACTION] TO a savepoint
        return "TO" not in words[1:3]
    return words[:2] in {("START", "TRANSACTION"), ("PREPARE", "TRANSACTION")}
