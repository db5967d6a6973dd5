import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * A share consumer that does with each record what the record says: its value names what happens at its first delivery to
 * this worker, at its second, and so on (`release,accept`). Ends after so many deliveries, or with a count like `~100` when
 * it has seen so many different records. One line for each delivery: offset, delivery count, what was done.
 */
public final class ShareWorker {
    public static void main(String[] arguments) {
        String topic = arguments[2];
        boolean different = arguments[3].startsWith("~");
        int count = Integer.parseInt(arguments[3].replace("~", ""));
        long deadline = System.currentTimeMillis() + Long.parseLong(arguments[4]);
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("group.id", arguments[1]);
        settings.put("share.acknowledgement.mode", "explicit");
        for (int index = 5; index < arguments.length; index++) {
            String[] pair = arguments[index].split("=", 2);
            settings.put(pair[0], pair[1]);
        }
        Map<Long, Integer> visits = new HashMap<>();
        int done = 0;
        try (KafkaShareConsumer<byte[], byte[]> consumer =
                new KafkaShareConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic));
            while ((different ? visits.size() : done) < count && System.currentTimeMillis() < deadline) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    String[] steps = new String(record.value(), StandardCharsets.UTF_8).split(",");
                    int visit = visits.merge(record.offset(), 1, Integer::sum);
                    String step = steps[Math.min(visit, steps.length) - 1];
                    consumer.acknowledge(record, AcknowledgeType.valueOf(step.toUpperCase()));
                    System.out.println(record.offset() + " " + record.deliveryCount().orElse((short) 0) + " " + step);
                    done++;
                }
                consumer.commitSync().forEach((partition, problem) -> problem.ifPresent(
                    error -> System.out.println(partition.partition() + " failed " + error.getClass().getSimpleName())));
            }
        }
    }
}
