"""Mistakes that a type checker finds. mypy reports each ignore that is not needed."""

from smoketest import SmokeTest, options


class MistakesTest(SmokeTest):
    severity = "fatal"  # type: ignore[assignment]
    timeout = "5s"  # type: ignore[assignment]
    databases = 1  # type: ignore[assignment]
    read_only = "yes"  # type: ignore[assignment]

    @options(timeuot=2)  # type: ignore[call-arg]
    def test_unknown_option(self) -> None:
        self.assertContians("a", "b")  # type: ignore[attr-defined]

    @options(severity="fatal")  # type: ignore[arg-type]
    def test_severity(self) -> None:
        self.assertHTMLEqual(1, "b")  # type: ignore[arg-type]

    @options(timeout="5s")  # type: ignore[arg-type]
    def test_timeout(self) -> None:
        with self.assertNumQueries("1"):  # type: ignore[call-overload]
            pass

    @options(databases={"default"})  # type: ignore[call-arg]
    def test_databases(self) -> None:
        pass
