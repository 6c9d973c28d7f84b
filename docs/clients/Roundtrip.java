// Publish one check-in and print the recommendation that it triggers.
// java -cp 'kafka-clients.jar:slf4j-api.jar:lz4-java.jar' Roundtrip.java BOOTSTRAP USER ITEM
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class Roundtrip {
    private static final Pattern GENERATED_AT = Pattern.compile("\"generated_at_ms\":(\\d+)");

    public static void main(String[] args) throws Exception {
        String bootstrap = args[0], user = args[1], item = args[2];
        Map<String, Object> reading = Map.of(
                "bootstrap.servers", bootstrap,
                "group.id", "roundtrip-" + UUID.randomUUID(),
                "auto.offset.reset", "earliest");
        // The default partitioner of this client is the one that every other client must agree with.
        Map<String, Object> writing = Map.of("bootstrap.servers", bootstrap, "acks", "all");
        try (var consumer = new KafkaConsumer<>(reading, new StringDeserializer(), new StringDeserializer());
                var producer = new KafkaProducer<>(writing, new StringSerializer(), new StringSerializer())) {
            consumer.subscribe(List.of("recommendation.user.v1"));
            long sentMs = System.currentTimeMillis();
            String event = String.format(
                    "{\"event_id\":\"%s\",\"user_id\":\"%s\",\"item_id\":\"%s\",\"action\":\"checkin\","
                            + "\"event_time_ms\":%d,\"lat\":40.7412,\"lon\":-73.9896}",
                    UUID.randomUUID(), user, item, sentMs);
            producer.send(new ProducerRecord<>("behavior.event.raw.v1", user, event)).get();
            long deadlineMs = sentMs + 60_000;
            while (System.currentTimeMillis() < deadlineMs) {
                for (var message : consumer.poll(Duration.ofSeconds(1))) {
                    if (!user.equals(message.key()) || message.value() == null) continue;
                    Matcher generated = GENERATED_AT.matcher(message.value());
                    if (generated.find() && Long.parseLong(generated.group(1)) >= sentMs) {
                        System.out.println(message.value());
                        return;
                    }
                }
            }
            throw new IllegalStateException("no recommendation within 60 s");
        }
    }
}
