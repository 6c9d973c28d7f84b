// Publish one check-in and print the recommendation that it triggers.
// node roundtrip.mjs BOOTSTRAP USER ITEM      (needs: npm install kafkajs lz4js)
import { randomUUID } from "node:crypto";
import kafkajs from "kafkajs";
import lz4 from "lz4js";

const { CompressionCodecs, CompressionTypes, Kafka, Partitioners, logLevel } = kafkajs;
// Recommendations are compressed with LZ4, which KafkaJS does not bring along.
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => Buffer.from(lz4.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
});

const [bootstrap, user, item] = process.argv.slice(2);
const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.ERROR });

const consumer = kafka.consumer({ groupId: `roundtrip-${randomUUID()}`, sessionTimeout: 6000 });
await consumer.connect();
await consumer.subscribe({ topic: "recommendation.user.v1", fromBeginning: true });

// KafkaJS' default partitioner is Java's murmur2: every client must agree on the partition of a key.
const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
await producer.connect();
const sentMs = Date.now();
const event = {
  event_id: randomUUID(),
  user_id: user,
  item_id: item,
  action: "checkin",
  event_time_ms: sentMs,
  lat: 40.7412,
  lon: -73.9896,
};
await producer.send({ topic: "behavior.event.raw.v1", messages: [{ key: user, value: JSON.stringify(event) }] });

const answer = await new Promise((resolve, reject) => {
  setTimeout(() => reject(new Error("no recommendation within 60 s")), 60_000).unref();
  consumer.run({
    eachMessage: async ({ message }) => {
      if (message.key?.toString() !== user || message.value === null) return;
      const recommendation = JSON.parse(message.value.toString());
      if (recommendation.generated_at_ms >= sentMs) resolve(recommendation);
    },
  });
});
console.log(JSON.stringify(answer));
await consumer.disconnect();
await producer.disconnect();
