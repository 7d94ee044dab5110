"""The artefact store: a directory, a bucket or memory, by URL. Objects are written once and never change."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from runtime.errors import HeadraceError, Transient, WrongSetup
from runtime.signing import Keys, keys_in_memory

FILE: Final = "file://"
MEMORY: Final = "memory:"
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_PROBE = "probe/writable"


class NotStored(HeadraceError):
    """There is no such object, it is too large, or its name leads out of the store."""


class Store:
    """Objects by path, below the URL.

    Args:
        url: ``file://<directory>`` (relative ones too), ``s3://<bucket>/<prefix>``, or ``memory://``.
        keys: Who signs what is stored, and whose models are taken from it. By default nobody's; of a store in memory,
            which only this process can write, those signed with the pair that everybody knows.

    Raises:
        WrongSetup: The URL names no store, or its directory cannot be made.
    """

    def __init__(self, url: str, keys: Keys | None = None) -> None:
        self.url = url
        self.keys = keys or (keys_in_memory() if url.startswith(MEMORY) else Keys())
        self._store = _open(url)

    def check(self) -> None:
        """Write and delete a probe.

        Raises:
            WrongSetup: The store does not take it.
        """
        try:
            obstore.put(self._store, _PROBE, b"")
            obstore.delete(self._store, _PROBE)
        except (BaseError, OSError) as error:
            raise WrongSetup(_not_writable(self.url, error)) from error

    def put(self, path: str, value: bytes) -> bytes:
        """Write an object unless it is there; returns what the store holds from now on.

        Raises:
            NotStored: The path leads out of the store.
            Transient: The store is away, or does not take the object.
        """
        path = _confined(path)
        try:
            obstore.put(self._store, path, value, mode="create")
        except AlreadyExistsError:
            return self.get(path)
        except (BaseError, OSError) as error:
            raise self._away(f"cannot write {path}", error) from error
        return value

    def replace(self, path: str, value: bytes) -> None:
        """Write an object over what is there: what nobody has signed yet is not an artefact.

        Raises:
            NotStored: The path leads out of the store.
            Transient: The store is away, or does not take the object.
        """
        path = _confined(path)
        try:
            obstore.put(self._store, path, value)
        except (BaseError, OSError) as error:
            raise self._away(f"cannot write {path}", error) from error

    def get(self, path: str, limit: int = 1 << 30) -> bytes:
        """The object's bytes, at most `limit` of them.

        Raises:
            NotStored: There is no such object, it is larger, or the path leads out of the store.
            Transient: The store is away.
        """
        path = _confined(path)
        try:
            found = obstore.get(self._store, path)
            if found.meta["size"] > limit:
                raise NotStored(f"{path} in {self.url} has {found.meta['size']} bytes; at most {limit} were expected")
            return bytes(found.bytes())
        except FileNotFoundError:
            raise NotStored(f"there is no {path} in {self.url}: was it deleted, or is this another store?") from None
        except (BaseError, OSError) as error:
            raise self._away(f"cannot read {path}", error) from error

    def names(self, folder: str) -> list[str]:
        """Paths of all objects below a folder, sorted; none for a folder that is not there.

        Raises:
            NotStored: The path leads out of the store.
            Transient: The store is away.
        """
        try:
            found = obstore.list(self._store, _confined(folder))
            return sorted(each["path"] for part in found for each in part)
        except FileNotFoundError:
            return []
        except (BaseError, OSError) as error:
            raise self._away(f"cannot list {folder}", error) from error

    def _away(self, what: str, error: Exception) -> Transient:
        return Transient(f"artefact store {self.url}: {what}: {_first_line(error)}; HEADRACE_ARTEFACTS names the store")


def _open(url: str) -> ObjectStore:
    try:
        if url.startswith(FILE):
            return LocalStore(Path(url.removeprefix(FILE)).absolute(), mkdir=True)
        if url.startswith(MEMORY):
            return MemoryStore()
        return from_url(url)
    except OSError as error:
        raise WrongSetup(_not_writable(url, error)) from error
    except (BaseError, ValueError) as error:
        mend = "set HEADRACE_ARTEFACTS to file://<directory> or s3://<bucket>/<prefix>"
        raise WrongSetup(f"artefact store {url!r}: {_first_line(error)}; {mend}") from error


def _confined(path: str) -> str:
    if _PATH.fullmatch(path) is None:
        raise NotStored(f"{path!r} is not a path within the artefact store: names and single slashes only")
    return path


def _not_writable(url: str, error: Exception) -> str:
    mend = "let this user write there, or set HEADRACE_ARTEFACTS to another place"
    return f"artefact store {url!r} is not writable: {_first_line(error)}; {mend}"


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
