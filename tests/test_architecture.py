"""Who may import whom: the table of the stages, read from the source."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

RELAY = Path(__file__).parents[1] / "relay"
PURE = frozenset({"submission", "authorization", "quotas", "signing", "outcome"})

# unit: what it may import of relay.  Change the table together with the imports.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "submission": frozenset(),
    "authorization": frozenset({"submission"}),
    "quotas": frozenset({"submission"}),
    "signing": frozenset({"submission"}),
    "outcome": frozenset({"submission"}),
    "settings": frozenset(),
    "metrics": frozenset({"submission", "outcome"}),
    "maillog": frozenset({"submission", "outcome"}),
    "resolver": frozenset({"metrics"}),
    "httpc": frozenset({"resolver"}),
    "accept": frozenset({"submission", "maillog", "metrics"}),
    "httpd": frozenset({"submission", "accept", "maillog", "metrics"}),
    "store": PURE | {"metrics"},
    "queue": frozenset({"submission", "outcome", "quotas", "store", "metrics"}),
    "record": PURE | {"store", "queue"},
    "signer": frozenset({"submission", "signing", "maillog", "metrics"}),
    "receipt": frozenset({"submission", "signing", "queue", "metrics"}),
    "intake": PURE | {"store", "queue", "record", "signer", "receipt", "maillog", "metrics"},
    "control": PURE | {"store", "queue", "resolver", "httpc"},
    "session": frozenset({"submission", "accept", "intake", "receipt", "control", "maillog", "metrics"}),
    # The connection, its commands without effect and its limits are those of every SMTP server of ours.
    "reports": frozenset(
        {"submission", "signing", "outcome", "queue", "session", "accept", "maillog", "metrics"}
    ),
    "delivery": frozenset({"submission", "outcome", "queue", "resolver", "httpc", "maillog", "metrics"}),
    "feedback": frozenset(
        {"submission", "outcome", "signing", "store", "queue", "httpc", "maillog", "metrics"}
    ),
    "api": PURE | {"intake", "receipt", "control", "httpd", "maillog", "metrics"},
    "console": frozenset({"submission", "outcome", "control", "httpd"}),
    "cli": PURE | {"settings", "control", "app"},
}
MAY_IMPORT["app"] = frozenset(MAY_IMPORT) - {"cli"}
MAY_IMPORT["__main__"] = frozenset({"cli"})
MAY_IMPORT["__init__"] = frozenset()

# Third-party code stays at one edge: the library, by the name it is imported under, and its units.
EDGES: dict[str, frozenset[str]] = {
    "aiosmtpd": frozenset({"session", "reports"}),
    "aiosmtplib": frozenset({"delivery"}),
    "alembic": frozenset({"store"}),
    "boto3": frozenset({"feedback"}),
    "botocore": frozenset({"api", "feedback"}),
    "click": frozenset({"cli"}),
    "cryptography": frozenset({"store", "signing", "signer", "control", "feedback", "app"}),
    "dkim": frozenset({"signing"}),
    "dns": frozenset({"resolver"}),
    "dotpromptz_handlebars": frozenset({"submission"}),  # templates of the API
    "flufl": frozenset({"reports"}),
    "httpcore2": frozenset({"httpc"}),
    "idna": frozenset({"submission"}),
    "prometheus_client": frozenset({"metrics"}),
    "psycopg": frozenset({"store"}),
    "pydantic": frozenset({"settings"}),
    "pydantic_settings": frozenset({"settings"}),
    "sqlalchemy": frozenset({"store", "queue"}),
    "starlette": frozenset({"httpd"}),
    "structlog": frozenset({"maillog"}),
    "uvicorn": frozenset({"httpd"}),
    "uvloop": frozenset({"app"}),
}
ANYWHERE = frozenset({"orjson"})

# Time, chance, I/O and logging are arguments of a pure package, never imports.  Of the standard library
# it has what computes; whoever needs more of it adds a name here, having looked that it is pure.
# fmt: off
COMPUTES = frozenset({
    "__future__", "abc", "base64", "binascii", "bisect", "codecs", "collections", "copy", "dataclasses",
    "datetime", "decimal", "email", "enum", "fractions", "functools", "hashlib", "heapq", "hmac", "html",
    "io", "ipaddress", "itertools", "json", "math", "operator", "quopri", "re", "string", "struct",
    "textwrap", "types", "typing", "unicodedata",
})
# fmt: on
PURE_LIBRARIES = frozenset({"cryptography", "dkim", "dotpromptz_handlebars", "idna", "orjson"})
# What these modules have besides, by the names it may be called by.
BUFFERS = frozenset({"BytesIO", "StringIO"})
CLOCKS = frozenset({"now", "utcnow", "today", "localtime", "formatdate", "make_msgid"})
CHANCE = frozenset({"generate", "generate_private_key"})
BUILT_IN_IO = frozenset({"open", "print", "input", "breakpoint", "__import__", "exec", "eval"})


def sources() -> list[Path]:
    return sorted(RELAY.rglob("*.py"))


def unit_of(path: Path) -> str:
    return path.relative_to(RELAY).parts[0].removesuffix(".py")


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def of_each(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(RELAY)))


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(module, name) of every import, those within functions and for type checking included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            yield from ((node.module or "", alias.name) for alias in node.names)


def units(tree: ast.Module) -> set[str]:
    """The units of relay that are imported."""
    found = set()
    for module, name in imported(tree):
        package, _, rest = module.partition(".")
        if package == "relay":
            found.add(rest.partition(".")[0] or name or "__init__")
    return found


def libraries(tree: ast.Module) -> set[str]:
    """Third-party packages that are imported."""
    found = {module.partition(".")[0] for module, _ in imported(tree)}
    return found - sys.stdlib_module_names - {"relay"}


def impurities(tree: ast.Module) -> set[str]:
    """What a pure package must not have: modules by their name, calls with parentheses."""
    found = set()
    for module, name in imported(tree):
        package = module.partition(".")[0]
        if package == "relay":
            unit = module.split(".")[1] if "." in module else name
            found |= set() if unit in PURE else {module}
        elif package not in COMPUTES | PURE_LIBRARIES or (package == "io" and name not in BUFFERS):
            found.add(module)
        elif package not in PURE_LIBRARIES and name in CLOCKS:
            found.add(f"{module}.{name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found |= _impure_call(node.func)
    return found


def _impure_call(called: ast.expr) -> set[str]:
    if isinstance(called, ast.Attribute):
        return {f"{called.attr}()"} & {f"{name}()" for name in CLOCKS | CHANCE}
    if isinstance(called, ast.Name):
        return {f"{called.id}()"} & {f"{name}()" for name in BUILT_IN_IO}
    return set()


def catches_everything(tree: ast.Module) -> bool:
    """Whether something takes any exception and keeps it; to tidy up and raise it again is no catching."""
    return any(_keeps_everything(node) for node in ast.walk(tree))


def _keeps_everything(node: ast.AST) -> bool:
    if isinstance(node, ast.ExceptHandler):
        last = node.body[-1]
        passes_on = isinstance(last, ast.Raise) and last.exc is None
        return not passes_on and (node.type is None or _names_everything(node.type))
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
        return any(_names_everything(one) for one in node.args)
    return False


def _names_everything(kinds: ast.expr) -> bool:
    names = {node.id for node in ast.walk(kinds) if isinstance(node, ast.Name)}
    return bool(names & {"Exception", "BaseException"})


# ---------------------------------------------------------------- the source


@of_each(sources())
def test_imports_keep_to_the_table(path: Path) -> None:
    unit = unit_of(path)
    assert units(tree_of(path)) - {unit, "__version__"} <= MAY_IMPORT[unit]


@of_each(sources())
def test_libraries_stay_at_their_edge(path: Path) -> None:
    for library in libraries(tree_of(path)) - ANYWHERE:
        assert library in EDGES, f"{library} has no edge yet"
        assert unit_of(path) in EDGES[library], f"{library} belongs to {sorted(EDGES[library])}"


@of_each([path for path in sources() if unit_of(path) in PURE])
def test_pure_packages_have_no_io_clock_chance_or_log(path: Path) -> None:
    assert impurities(tree_of(path)) == set()


def test_every_unit_is_in_the_table() -> None:
    assert {unit_of(path) for path in sources()} <= MAY_IMPORT.keys()


def test_table_has_no_circle_but_through_the_composition_root() -> None:
    done: set[str] = set()
    while ready := {unit for unit, may in MAY_IMPORT.items() if may <= done} - done:
        done |= ready
    assert done == set(MAY_IMPORT)


def test_catching_everything_belongs_to_the_outermost_loops() -> None:
    allowed = {
        "session/stream.py",  # a command
        "session/commands.py",  # the data of a message
        "reports/reading.py",  # what libraries raise on a stranger's mail
        "delivery/line.py",  # an attempt
        "feedback/dispatcher.py",  # a notice
        "feedback/poster.py",  # a post
        "httpd.py",  # an HTTP request
        "api/front.py",  # a call, answered in the form of its protocol
        "queue/writer.py",  # a batch of others' work
        "settings.py",  # what a variable's JSON raises
        "app/supervisor.py",  # a forked child must not return
    }
    found = {str(path.relative_to(RELAY)) for path in sources() if catches_everything(tree_of(path))}
    assert found <= allowed


# ---------------------------------------------------------------- the reading of it


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import relay.store.engine", {"store"}),
        ("from relay.store.engine import Store", {"store"}),
        ("from relay.store import engine, changes", {"store"}),
        ("from relay import intake, maillog", {"intake", "maillog"}),
        ("import relay", {"__init__"}),
        ("def f():\n    from relay.queue.spool import Spool", {"queue"}),
        ("if TYPE_CHECKING:\n    import relay.app.serve as s", {"app"}),
        ("import relayed.store, email.message", set()),
    ],
)
def test_every_way_to_import_a_unit_is_seen(source: str, found: set[str]) -> None:
    assert units(ast.parse(source)) == found


def test_relative_import_is_refused() -> None:
    with pytest.raises(AssertionError, match="line 2: imports are absolute"):
        units(ast.parse("\nfrom . import engine"))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        *[
            (f"import {module}", {module})
            for module in (
                "asyncio",
                "concurrent.futures",
                "logging",
                "os.path",
                "pathlib",
                "random",
                "secrets",
                "socket",
                "sqlalchemy",
                "sqlite3",
                "ssl",
                "structlog",
                "subprocess",
                "tempfile",
                "threading",
                "time",
                "uuid",
                "relay.store.engine",
            )
        ],
        ("from time import time", {"time"}),
        ("from io import open", {"io"}),
        ("from io import BytesIO", set()),
        ("from relay.submission.address import Mailbox", set()),
        ("from relay.maillog import Log", {"relay.maillog"}),
        ("from datetime import UTC, datetime", set()),
        ("datetime.fromtimestamp(1, UTC)", set()),
        ("datetime.now(UTC)", {"now()"}),
        ("datetime.datetime.utcnow()", {"utcnow()"}),
        ("date.today()", {"today()"}),
        ("from email.utils import format_datetime", set()),
        ("from email.utils import make_msgid", {"email.utils.make_msgid"}),
        ("email.utils.formatdate()", {"formatdate()"}),
        ("Ed25519PrivateKey.generate()", {"generate()"}),
        ("open('x')", {"open()"}),
        ("def f():\n    print('x')", {"print()"}),
        ("policy.open('x')", set()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_pure_is_seen(source: str, found: set[str]) -> None:
    assert impurities(ast.parse(source)) == found


@pytest.mark.parametrize(
    ("handler", "caught"),
    [
        ("except Exception: pass", True),
        ("except BaseException as e: log(e)", True),
        ("except (OSError, Exception): pass", True),
        ("except: pass", True),
        ("except Exception: raise Other from None", True),
        ("except BaseException:\n    close()\n    raise", False),
        ("except OSError: pass", False),
    ],
)
def test_handler_that_keeps_everything_is_seen(handler: str, caught: bool) -> None:
    assert catches_everything(ast.parse(f"try:\n    f()\n{handler}")) is caught


def test_suppressing_everything_is_seen() -> None:
    assert catches_everything(ast.parse("with contextlib.suppress(Exception):\n    f()"))
    assert not catches_everything(ast.parse("with suppress(OSError):\n    f()"))
