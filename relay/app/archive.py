"""The file of a backup: a zip with a member for each table, the settings, and a manifest over all.

The manifest names every member with its SHA-256 and number of rows, and is authenticated under the key file:
what was cut off or changed is found before anything of it is used.  Members are written and read piece by
piece; nothing is held in memory but a few rows.
"""

from __future__ import annotations

import hashlib
import hmac
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

import orjson

from relay.store.backup import BackupError, TableForm
from relay.store.secrets import KeyFileError, Secrets

FORMAT = 1
_MANIFEST, _MAC = "manifest.json", "manifest.mac"
_LABEL = "backup"
_MOST_MANIFEST_BYTES = 1024 * 1024
# A body is kept in pieces of 256 KiB, a header block has at most as much: four thirds of it in base64.
_MOST_LINE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself.  ``keys`` are the ids of the keys that its sealed values need."""

    release: str
    made_at: int
    revision: str
    region: str
    keys: tuple[str, ...]
    tables: dict[TableForm, Counted] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Counted:
    rows: int
    sha256: str


# ---------------------------------------------------------------- writing


class Writer:
    """Writes one archive, member by member; ``finish`` seals it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        self.tables: dict[TableForm, Counted] = {}
        self.files: dict[str, str] = {}

    def add_table(self, form: TableForm, lines: Iterable[bytes]) -> None:
        rows, digest = 0, hashlib.sha256()
        with self._zip.open(_member(form), "w", force_zip64=True) as member:
            for line in lines:
                member.write(line)
                digest.update(line)
                rows += 1
        self.tables[form] = Counted(rows, digest.hexdigest())

    def add_file(self, name: str, content: bytes) -> None:
        self._zip.writestr(name, content)
        self.files[name] = hashlib.sha256(content).hexdigest()

    def finish(self, manifest: Manifest, secrets: Secrets) -> None:
        content = orjson.dumps(_manifest_record(manifest, secrets.current), option=orjson.OPT_INDENT_2)
        self._zip.writestr(_MANIFEST, content)
        self._zip.writestr(_MAC, _mac(content, secrets, secrets.current))
        self._zip.close()


def _member(form: TableForm) -> str:
    return f"tables/{form.name}.jsonl"


def _mac(content: bytes, secrets: Secrets, key_id: str) -> str:
    return hmac.new(secrets.derive(_LABEL, key_id), content, "sha256").hexdigest()


def _manifest_record(manifest: Manifest, mac_key: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "release": manifest.release,
        "made_at": manifest.made_at,
        "revision": manifest.revision,
        "region": manifest.region,
        "keys": manifest.keys,
        "mac_key": mac_key,
        "files": manifest.files,
        "tables": [
            {
                "name": form.name,
                "rows": counted.rows,
                "sha256": counted.sha256,
                "columns": form.columns,
                "binary": form.binary,
            }
            for form, counted in manifest.tables.items()
        ],
    }


# ---------------------------------------------------------------- reading


class Reader:
    """Reads one archive; BackupError for whatever is wrong with it."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._name = name
        with self._translated():
            self._zip = zipfile.ZipFile(file)
            self._content = self._bounded(_MANIFEST)
            self._record = orjson.loads(self._content)
            self.manifest = _manifest(self._record)
            self._mac_key = str(self._record["mac_key"])

    def require_authentic(self, secrets: Secrets) -> None:
        """The manifest is what a relay with our key file wrote."""
        lacking = sorted({self._mac_key, *self.manifest.keys} - set(secrets.key_ids))
        if lacking:
            raise KeyFileError(
                f"{self._name} needs key {', '.join(lacking)}, which the key file lacks;"
                " put the copy of the key file from the day of the backup in its place"
            )
        with self._translated():
            said = self._bounded(_MAC).decode("ascii", "replace")
        if not hmac.compare_digest(_mac(self._content, secrets, self._mac_key), said):
            raise BackupError(
                f"{self._name} was changed since it was made, or the key file is another store's; use another"
                " backup, or the copy of the key file from that day"
            )

    def file(self, name: str) -> bytes | None:
        """One of the small files, None if it is not in the archive."""
        if name not in self.manifest.files:
            return None
        with self._translated():
            content = self._bounded(name)
        if hashlib.sha256(content).hexdigest() != self.manifest.files[name]:
            raise BackupError(f"{self._name}: {name} is damaged; use another backup")
        return content

    def lines(self, form: TableForm) -> Iterator[bytes]:
        """The lines of a table; at the end BackupError if they are not what the manifest says."""
        rows, digest = 0, hashlib.sha256()
        counted = self.manifest.tables[form]
        with self._translated(), self._zip.open(_member(form)) as member:
            while line := member.readline(_MOST_LINE_BYTES):
                digest.update(line)
                rows += 1
                if rows > counted.rows or not line.endswith(b"\n"):
                    break
                yield line
        if (rows, digest.hexdigest()) != (counted.rows, counted.sha256):
            raise BackupError(f"{self._name}: table {form.name} is damaged; use another backup")

    def _bounded(self, name: str) -> bytes:
        with self._zip.open(name) as member:
            content = member.read(_MOST_MANIFEST_BYTES + 1)
        if len(content) > _MOST_MANIFEST_BYTES:
            raise BackupError(f"{self._name}: {name} is too large to be ours")
        return content

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except zipfile.BadZipFile as error:
            raise BackupError(f"{self._name} is damaged or no backup: {error}; use another") from error
        except (zlib.error, EOFError, OSError, KeyError, ValueError, TypeError, NotImplementedError) as error:
            raise BackupError(f"{self._name} is damaged or no backup; use another") from error


def _manifest(record: dict[str, Any]) -> Manifest:
    if record["format"] != FORMAT:
        raise BackupError(f"the backup has format {record['format']}, this release knows {FORMAT}")
    tables = {
        TableForm(str(one["name"]), tuple(one["columns"]), tuple(one["binary"])): Counted(
            int(one["rows"]), str(one["sha256"])
        )
        for one in record["tables"]
    }
    return Manifest(
        release=str(record["release"]),
        made_at=int(record["made_at"]),
        revision=str(record["revision"]),
        region=str(record["region"]),
        keys=tuple(map(str, record["keys"])),
        tables=tables,
        files=dict(record["files"]),
    )
