"""Who may import whom: the table of the stages, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

RELAY = Path(__file__).parents[1] / "relay"
PURE = {"submission", "authorization", "quotas", "signing", "outcome"}

# unit: what it may import of relay.  Change the table together with the imports.
MAY_IMPORT: dict[str, set[str]] = {
    "submission": set(),
    "authorization": {"submission"},
    "signing": {"submission"},
    "outcome": {"submission"},
    "settings": set(),
    "metrics": set(),
    "maillog": {"submission", "outcome"},
    "store": {*PURE, "metrics"},
    "queue": {"submission", "outcome", "store", "metrics"},
    "intake": {*PURE, "store", "queue", "maillog", "metrics"},
    "control": {*PURE, "store", "queue"},
    "session": {"submission", "intake", "control", "maillog", "metrics"},
    "delivery": {"submission", "outcome", "queue", "maillog", "metrics"},
    "feedback": {"submission", "outcome", "signing", "store", "queue", "maillog", "metrics"},
    "cli": {*PURE, "settings", "control", "app"},
}
MAY_IMPORT["app"] = set(MAY_IMPORT) - {"cli"}
MAY_IMPORT["__main__"] = {"cli"}
MAY_IMPORT["__init__"] = set()

# Third-party code stays at one edge.
EDGES = {
    "aiosmtpd": {"session"},
    "sqlalchemy": {"store", "queue"},
    "alembic": {"store"},
    "dns": {"resolver"},
    "dkim": {"signing"},
    "cryptography": {"store", "signing", "control", "feedback", "app"},
    "aiosmtplib": {"delivery"},
    "click": {"cli"},
    "uvloop": {"app"},
}

# Time, chance, I/O and logging are arguments of a pure package, never imports.
IMPURE = {
    "asyncio",
    "concurrent",
    "http",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "secrets",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "socketserver",
    "sqlite3",
    "ssl",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "urllib",
    "uuid",
}
# A buffer in memory is no I/O.
PURE_NAMES = {("io", "BytesIO"), ("io", "StringIO")}
CLOCKS = {"now", "utcnow", "today"}


def sources() -> list[Path]:
    return sorted(RELAY.rglob("*.py"))


def unit_of(path: Path) -> str:
    first = path.relative_to(RELAY).parts[0]
    return first.removesuffix(".py")


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of every import, those for type checking included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                yield (node.module or "", alias.name)


def relay_units(path: Path) -> Iterator[str]:
    for module, name in imported(path):
        if module == "relay":
            yield name
        elif module.startswith("relay."):
            yield module.split(".")[1]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(RELAY)))
def test_imports_keep_to_the_table(path):
    unit = unit_of(path)
    allowed = MAY_IMPORT[unit] | {unit, "__version__"}
    assert set(relay_units(path)) <= allowed


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(RELAY)))
def test_libraries_stay_at_their_edge(path):
    for module, _ in imported(path):
        edge = EDGES.get(module.split(".")[0])
        assert edge is None or unit_of(path) in edge, f"{module} belongs to {edge}"


@pytest.mark.parametrize(
    "path",
    [path for path in sources() if unit_of(path) in PURE],
    ids=lambda path: str(path.relative_to(RELAY)),
)
def test_pure_packages_have_no_io_clock_chance_or_log(path):
    for module, name in imported(path):
        assert module.split(".")[0] not in IMPURE or (module, name) in PURE_NAMES, f"{module} {name}"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in CLOCKS, f"line {node.lineno}: {ast.unparse(node)}"


def test_every_unit_is_in_the_table():
    assert {unit_of(path) for path in sources()} <= MAY_IMPORT.keys()


def test_catching_everything_belongs_to_the_outermost_loops():
    allowed = {
        "session/stream.py",  # a command
        "session/smtp.py",  # the data of a message
        "delivery/worker.py",  # an attempt
        "feedback/dispatcher.py",  # a notice
        "queue/writer.py",  # a batch of others' work
        "settings.py",  # what a variable's JSON raises
        "app/supervisor.py",  # a forked child must not return
    }
    found = {
        str(path.relative_to(RELAY))
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and isinstance(node.type, ast.Name)
        and node.type.id in ("Exception", "BaseException")
    }
    assert found - {"delivery/transport.py", "store/engine.py", "app/listen.py"} <= allowed
