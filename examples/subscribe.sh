#!/bin/sh
# Follows model updates with Kafka's own consumer, one CloudEvent a line, the current state first:
#
#   sh subscribe.sh 127.0.0.1:9092 shop
#   sh subscribe.sh 127.0.0.1:9092 shop --timeout-ms 5000    # the state only: ends when nothing comes for 5 s
#
# Another way to call it, such as the one in docker-compose.yml, goes into CONSUMER:
#
#   export CONSUMER="docker compose exec -T kafka /opt/kafka/bin/kafka-console-consumer.sh"
#   sh subscribe.sh kafka:29092 shop
#
# The same with kcat:  kcat -b 127.0.0.1:9092 -t shop.models.v1 -o beginning
set -eu
brokers=$1 pipeline=$2
shift 2
# shellcheck disable=SC2086  # CONSUMER may be several words
exec ${CONSUMER:-kafka-console-consumer.sh} \
  --bootstrap-server "$brokers" --topic "$pipeline.models.v1" --from-beginning "$@"
