"""What can go wrong with the local Kafka, each with its mend in the message.

LocalKafkaError
├── NotInstalledError       the extra `local` is missing
├── JarsUnavailableError    a jar cannot be downloaded
├── JarChangedError         a downloaded jar is not the one in the lock
├── PortTakenError          another process listens on the wished port
├── AlreadyRunningError     the directory already belongs to a running broker
└── BrokerFailedError       the broker ended, or did not answer in time
"""

from runtime.errors import HeadraceError


class LocalKafkaError(HeadraceError):
    """The local Kafka cannot do what was asked; the message says why and what helps."""


class NotInstalledError(LocalKafkaError):
    """The Java runtime or the jar resolver is not installed."""


class JarsUnavailableError(LocalKafkaError):
    """A jar is not in the cache and cannot be downloaded."""


class JarChangedError(LocalKafkaError):
    """A repository answered with other bytes than the lock promises."""


class PortTakenError(LocalKafkaError):
    """Another process listens on the port."""


class AlreadyRunningError(LocalKafkaError):
    """A broker already runs on this directory."""


class BrokerFailedError(LocalKafkaError):
    """The broker ended by itself or did not become ready."""
