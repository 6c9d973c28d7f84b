"""Publish one check-in and print the recommendation that it triggers.

python roundtrip.py BOOTSTRAP USER ITEM      (needs: pip install confluent-kafka)
"""

import json
import sys
import time
import uuid

from confluent_kafka import Consumer, Producer

bootstrap, user, item = sys.argv[1:4]

consumer = Consumer(
    {"bootstrap.servers": bootstrap, "group.id": f"roundtrip-{uuid.uuid4()}", "auto.offset.reset": "earliest"}
)
consumer.subscribe(["recommendation.user.v1"])

# murmur2_random is Java's default partitioner: every client must agree on the partition of a key.
producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "enable.idempotence": True})
sent_ms = int(time.time() * 1000)
event = {
    "event_id": str(uuid.uuid4()),
    "user_id": user,
    "item_id": item,
    "action": "checkin",
    "event_time_ms": sent_ms,
    "lat": 40.7412,
    "lon": -73.9896,
}
producer.produce("behavior.event.raw.v1", key=user, value=json.dumps(event))
if producer.flush(10):
    sys.exit("the event was not delivered")

deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    message = consumer.poll(1.0)
    if message is None or message.error() or message.key() != user.encode() or message.value() is None:
        continue
    recommendation = json.loads(message.value())
    if recommendation["generated_at_ms"] >= sent_ms:
        print(json.dumps(recommendation))
        break
else:
    sys.exit("no recommendation within 60 s")
consumer.close()
