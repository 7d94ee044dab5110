"""The broker's configuration: one node, loopback only, limits of architecture §5.0."""

from pathlib import Path

MEGABYTE = 1024 * 1024
LARGEST_MESSAGE = 9 * MEGABYTE
"""Dead letters carry 8 MB originals and their headers."""


def server_properties(data: Path, broker: int, controller: int) -> str:
    """The text of server.properties for a broker on `broker` that keeps its logs in `data`."""
    return f"""\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller}
log.dirs={data}
# Topics are made from the map in schemas/topics.py, with its partitions; a typo must not make one.
auto.create.topics.enable=false
message.max.bytes={LARGEST_MESSAGE}
replica.fetch.max.bytes={LARGEST_MESSAGE}
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# A single consumer need not wait for company, and may be found dead within 6 s.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# After a kill -9 the next start waits until the session of the dead incarnation is over.
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
# One laptop, not a cluster: fewer threads, less memory.
num.network.threads=2
num.io.threads=4
background.threads=4
log.cleaner.dedupe.buffer.size={16 * MEGABYTE}
"""
