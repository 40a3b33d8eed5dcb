"""What the text of SQL tells of the statements in it."""

from __future__ import annotations

import pytest

from smoketest.isolation.statements import ends_transaction, leading_words

TEXTS = {
    "SELECT 1": ["SELECT"],
    "  ( select 1 )": ["SELECT"],
    "SELECT 1; COMMIT": ["SELECT", "COMMIT"],
    ";;COMMIT;": ["COMMIT"],
    "-- why\ncommit": ["COMMIT"],
    "# why\ncommit": ["COMMIT"],
    "/* why; */ Commit /* so */ Work": ["COMMIT WORK"],
    "/* never closed; COMMIT": [],
    "/*!50000 COMMIT */": ["COMMIT"],
    "/*M!100000 COMMIT */": ["COMMIT"],
    "SELECT 'it''s; COMMIT'": ["SELECT"],
    "SELECT 'it\\'s; COMMIT'": ["SELECT"],
    'SELECT 1 AS "a;b"; END': ["SELECT AS", "END"],
    "SELECT `a;b`, [c;d]": ["SELECT"],
    "DO $$ BEGIN; COMMIT; END $$": ["DO"],
    "DO $body$ BEGIN; $$; COMMIT; END $body$; COMMIT": ["DO", "COMMIT"],
    "SET @@session.autocommit = 1": ["SET @@SESSION.AUTOCOMMIT"],
    "CREATE OR REPLACE TEMPORARY TABLE a.b (c int)": [
        "CREATE OR REPLACE TEMPORARY TABLE A.B",
    ],
    "": [],
}


@pytest.mark.parametrize(("text", "statements"), TEXTS.items())
def test_leading_words(text: str, statements: list[str]) -> None:
    """Comments and quoted text hold no statements; what a server would execute is one."""
    assert [" ".join(words) for words in leading_words(text)] == statements


def test_leading_words__of_data_is_the_first_alone() -> None:
    """A long query costs nothing: its first word says all."""
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
    """Savepoints are the test's own affair; what begins or ends a transaction is not."""
    (words,) = leading_words(sql)
    assert ends_transaction(words) is (sql in ENDINGS)
