"""A real Apache Kafka on a machine with nothing but Python: Java from a wheel, jars from a lock.

`LocalKafka` is a broker for a test, a demo or one run; `start_detached`, `status` and `stop` keep one for development.
"""

from headrace.local_kafka.broker import LocalKafka
from headrace.local_kafka.detached import start_detached, status, stop
from headrace.local_kafka.errors import (
    AlreadyRunningError,
    BrokerFailedError,
    JarChangedError,
    JarsUnavailableError,
    LocalKafkaError,
    NotInstalledError,
    PortTakenError,
)
from headrace.local_kafka.home import Running
from headrace.local_kafka.settings import LocalKafkaSettings

__all__ = [
    "AlreadyRunningError",
    "BrokerFailedError",
    "JarChangedError",
    "JarsUnavailableError",
    "LocalKafka",
    "LocalKafkaError",
    "LocalKafkaSettings",
    "NotInstalledError",
    "PortTakenError",
    "Running",
    "start_detached",
    "status",
    "stop",
]
