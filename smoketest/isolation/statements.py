"""What the text of SQL tells of the statements in it, without a parser for any dialect.

A text that is misread is no harm: what ends a transaction unseen is found out after the test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKENS = re.compile(
    r"""
      (?: \s+ | --[^\n]* | \#[^\n]* | /\*M?!\d* | /\* .*? (?:\*/|\Z) )  # blanks and comments
    | '(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" | `[^`]*` | \[[^]]*\]  # quoted
    | (?P<dollar>\$\w*\$) .*? (?P=dollar)
    | (?P<end>;)
    | (?P<word>@{0,2}[A-Za-z_][\w.$]*)
    | .
    """,
    re.VERBOSE | re.DOTALL,
)

#: How many words of a statement are looked at; of these, the first says all.
_WORDS = 6
_DATA = frozenset({"DELETE", "INSERT", "SELECT", "UPDATE", "WITH"})


def leading_words(sql: str) -> Iterator[tuple[str, ...]]:
    """The first words of each statement of the text, in capitals.

    The comments that MySQL executes (``/*! ... */``) are read as the SQL that they are.
    """
    is_last = ";" not in sql
    words: list[str] = []
    for token in _TOKENS.finditer(sql):
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
