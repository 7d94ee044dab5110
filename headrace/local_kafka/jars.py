"""The broker's jars: fetched once, each checked against the lock before it counts.

A jar lies in the cache under its name only after its SHA-256 was found right, and it gets there by
a rename: an interrupted or doctored download is never taken for a jar, and the next run goes on
where this one stopped.
"""

import hashlib
import importlib
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.local_kafka.errors import JarChangedError, JarsUnavailableError, NotInstalledError

LOCK = Path(__file__).parent.parent / "kafka_jars" / "jgo.lock.toml"
CENTRAL = "Maven Central"
PARALLEL_DOWNLOADS = 8
DOWNLOAD_TIMEOUT_S = 30

Progress = Callable[[int, int], None]
"""Called with (jars in the cache, jars in all) each time a download ends."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One locked jar."""

    group: str
    artifact: str
    version: str
    classifier: str
    sha256: str

    @property
    def name(self) -> str:
        """The file name, unique among the locked jars."""
        suffix = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{suffix}.jar"


def locked_jars(lock: Path = LOCK) -> list[Jar]:
    """All jars of the lock, in its order."""
    entries = tomllib.loads(lock.read_text("utf-8"))["dependencies"]
    return [Jar(e["groupId"], e["artifactId"], e["version"], e.get("classifier", ""), e["sha256"]) for e in entries]


def fetch_jars(cache: Path, repository: str | None, progress: Progress | None = None) -> list[Path]:
    """Make sure that all locked jars are in the cache and give their paths.

    Raises:
        JarsUnavailableError: a jar is missing and the repository does not give it.
        JarChangedError: the repository gives other bytes than the lock names.
    """
    jars, folder = locked_jars(), cache / "kafka-jars"
    missing = [jar for jar in jars if not (folder / jar.name).exists()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        show = progress or show_on_stderr
        for done, _ in enumerate(_fetch_all(missing, folder, repository), len(jars) - len(missing)):
            show(done + 1, len(jars))
    return [folder / jar.name for jar in jars]


def show_on_stderr(done: int, total: int) -> None:
    """Draw the progress: one moving line on a terminal, a few lines elsewhere."""
    terminal = sys.stderr.isatty()
    if terminal or done == total or done % 12 == 0:
        end = "\n" if done == total or not terminal else ""
        sys.stderr.write(f"{chr(13) if terminal else ''}fetching {total} jars … {done}/{total}{end}")
        sys.stderr.flush()


def _fetch_all(jars: list[Jar], folder: Path, repository: str | None) -> Iterable[None]:
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
        context = _maven(Path(scratch), repository)
        with ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
            downloads = [pool.submit(_fetch, jar, folder, context, repository) for jar in jars]
            try:
                for download in as_completed(downloads):
                    yield download.result()
            finally:
                pool.shutdown(cancel_futures=True)


def _fetch(jar: Jar, folder: Path, context: Any, repository: str | None) -> None:
    try:
        component = context.project(jar.group, jar.artifact).at_version(jar.version)
        path = Path(component.artifact(jar.classifier, "jar").resolve())
    except (OSError, RuntimeError) as error:
        raise JarsUnavailableError(_no_download(jar, folder, repository, error)) from error
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != jar.sha256:
        raise JarChangedError(
            f"{jar.name} from {repository or CENTRAL} has SHA-256 {found}, but the lock says {jar.sha256}: "
            "it was not used. Check the mirror (HEADRACE_MAVEN_REPOSITORY) or the proxy between."
        )
    path.replace(folder / jar.name)


def _no_download(jar: Jar, folder: Path, repository: str | None, error: Exception) -> str:
    return (
        f"cannot download {jar.name}, a part of Kafka, from {repository or CENTRAL}: {error}. "
        "Connect to the network for the first start, set HEADRACE_MAVEN_REPOSITORY to a mirror, "
        f"copy the jars into {folder}, or use a Kafka that already runs."
    )


def _maven(scratch: Path, repository: str | None) -> Any:
    try:
        maven = importlib.import_module("jgo.maven")
    except ImportError as error:
        raise NotInstalledError("the local Kafka needs jgo to fetch its jars: pip install 'headrace[local]'") from error
    return maven.MavenContext(
        repo_cache=scratch,
        local_repos=[],
        remote_repos={"mirror": repository} if repository else None,
        timeout=DOWNLOAD_TIMEOUT_S,
    )
