"""Recognition of SQL statements by their text."""

from __future__ import annotations

import pytest

from smoketest.isolation.statements import (
    MYSQL,
    POSTGRESQL,
    STANDARD,
    code,
    ends_transaction,
    leading_words,
)

EVERYWHERE = {
    "SELECT 1": ["SELECT"],
    "  ( select 1 )": ["SELECT"],
    "SELECT 1; COMMIT": ["SELECT", "COMMIT"],
    ";;COMMIT;": ["COMMIT"],
    "-- why\ncommit": ["COMMIT"],
    "/* why; */ Commit /* so */ Work": ["COMMIT WORK"],
    "/* never closed; COMMIT": [],
    "SELECT 'it''s; COMMIT'": ["SELECT"],
    'SELECT 1 AS "a;b"; END': ["SELECT AS", "END"],
    "SET @@session.autocommit = 1": ["SET @@SESSION.AUTOCOMMIT"],
    "CREATE OR REPLACE TEMPORARY TABLE a.b (c int)": ["CREATE OR REPLACE TEMPORARY TABLE A.B"],
    "": [],
}
BY_DIALECT = {
    "standard": {
        "SELECT [a;b], `c;d`; COMMIT": ["SELECT", "COMMIT"],
        "SELECT 'a\\'; COMMIT; --'": ["SELECT", "COMMIT"],
    },
    "postgresql": {
        "SELECT 'a\\'; COMMIT; --'": ["SELECT", "COMMIT"],
        "SELECT e'a\\'; COMMIT; --'": ["SELECT"],
        "SELECT 1 # 2; COMMIT": ["SELECT", "COMMIT"],
        "DO $$ BEGIN; COMMIT; END $$": ["DO"],
        "DO $body$ BEGIN; $$; COMMIT; END $body$; COMMIT": ["DO", "COMMIT"],
        "SELECT 1 a$b$; COMMIT; SELECT 2 a$b$": ["SELECT A$B$", "COMMIT", "SELECT A$B$"],
        "SELECT a[1]; COMMIT; SELECT b[2]": ["SELECT A", "COMMIT", "SELECT B"],
    },
    "mysql": {
        "# why\ncommit": ["COMMIT"],
        "/*!50000 COMMIT */": ["COMMIT"],
        "/*M!100000 COMMIT */": ["COMMIT"],
        "SELECT 'it\\'s; COMMIT'": ["SELECT"],
        'SELECT "it\\"s; COMMIT"': ["SELECT"],
        "SELECT `a;b`; COMMIT": ["SELECT", "COMMIT"],
        "SELECT 5--1; COMMIT": ["SELECT", "COMMIT"],
        "SELECT 1 AS $a$; COMMIT; SELECT 2 AS $a$": ["SELECT AS A$", "COMMIT", "SELECT AS A$"],
    },
}
DIALECTS = {"standard": STANDARD, "postgresql": POSTGRESQL, "mysql": MYSQL}
TEXTS = [
    (dialect, text, statements)
    for dialect in DIALECTS
    for text, statements in (EVERYWHERE | BY_DIALECT[dialect]).items()
]


@pytest.mark.parametrize(("dialect", "text", "statements"), TEXTS)
def test_leading_words(dialect: str, text: str, statements: list[str]) -> None:
    """Skip comments and quoted text, but not comments that the server executes."""
    found = [" ".join(words) for words in leading_words(text, DIALECTS[dialect])]
    assert found == statements


def test_leading_words__of_queries_end_after_the_first_word() -> None:
    """Stop at the first word of a long query."""
    assert list(leading_words("SELECT a, b, c FROM d WHERE e" + " AND f" * 10)) == [("SELECT",)]


ENDINGS = [
    "ABORT",
    "BEGIN IMMEDIATE",
    "COMMIT AND CHAIN",
    "END",
    "PREPARE TRANSACTION 'x'",
    "ROLLBACK",
    "ROLLBACK WORK",
    "START TRANSACTION READ ONLY",
]
OTHERS = [
    "PREPARE x AS SELECT 1",
    "RELEASE SAVEPOINT x",
    "ROLLBACK TO x",
    "ROLLBACK WORK TO SAVEPOINT x",
    "SAVEPOINT x",
    "SELECT 'COMMIT'",
    "START REPLICA",
]


@pytest.mark.parametrize("sql", [*ENDINGS, *OTHERS])
def test_ends_transaction(sql: str) -> None:
    """Recognize statements that begin or end a transaction; allow savepoints."""
    (words,) = leading_words(sql)
    assert ends_transaction(words) is (sql in ENDINGS)


CODE = {
    "standard": {"SELECT 'setval(1)' -- setval\n, x": ["SELECT", ",", "X"]},
    "postgresql": {
        "SELECT \"setval\"(E'\\'', $$setval$$) /* setval */": [
            "SELECT",
            '"SETVAL"(',
            ",",
            "$$SETVAL$$)",
        ],
    },
    "mysql": {"SELECT /*!50000 setval(1) */ # setval": ["SELECT", "SETVAL(1)", "*/"]},
}


@pytest.mark.parametrize(
    ("dialect", "sql", "words"), [(d, *case) for d, cases in CODE.items() for case in cases.items()]
)
def test_code(dialect: str, sql: str, words: list[str]) -> None:
    """Remove comments and strings, but not quoted names and dollar-quoted bodies."""
    assert code(sql, DIALECTS[dialect]).split() == words
