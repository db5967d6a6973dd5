import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Signs in, writes records with a pause behind each, and reads them back from where they were written to. */
final class Visit {
    private Visit() { }

    /** Several at once. An error is the whole chain of causes, what a program would log; null where there was none. */
    static ObjectNode carryOut(JsonNode command) throws Exception {
        List<Future<String>> visits = new ArrayList<>();
        ExecutorService threads = Executors.newCachedThreadPool();
        command.get("visits").forEach(each -> visits.add(threads.submit(() -> problem(each))));
        threads.shutdown();
        ObjectNode answer = new ObjectMapper().createObjectNode();
        for (Future<String> each : visits) {
            answer.withArray("problems").add(each.get());
        }
        return answer;
    }

    private static String problem(JsonNode command) {
        try {
            visit(command);
            return null;
        } catch (Exception problem) {
            StringBuilder text = new StringBuilder();
            for (Throwable cause = problem; cause != null; cause = cause.getCause()) {
                text.append(text.length() == 0 ? "" : ": ").append(cause.getClass().getSimpleName());
                text.append(' ').append(cause.getMessage());
            }
            return text.toString();
        }
    }

    private static void visit(JsonNode command) throws Exception {
        long timeout = command.get("timeout_ms").asLong();
        Properties settings = new Properties();
        settings.put("bootstrap.servers", command.get("bootstrap").asText());
        settings.put("client.id", command.get("client_id").asText());
        command.get("settings").fields().forEachRemaining(entry -> settings.put(entry.getKey(), entry.getValue().asText()));
        settings.put("max.block.ms", timeout);
        settings.put("request.timeout.ms", (int) timeout);
        settings.put("delivery.timeout.ms", (int) timeout);
        settings.put("default.api.timeout.ms", (int) timeout);
        settings.put("linger.ms", "0");
        TopicPartition partition = new TopicPartition(command.get("topic").asText(), 0);
        JsonNode records = command.get("records");
        long first = -1;
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (JsonNode record : records) {
                byte[] value = record.get("value").binaryValue();
                long offset = producer.send(new ProducerRecord<>(partition.topic(), 0, null, value)).get().offset();
                first = first < 0 ? offset : first;
                Thread.sleep(command.get("pause_ms").asLong());
            }
        }
        settings.keySet().removeAll(List.of("max.block.ms", "delivery.timeout.ms", "linger.ms"));
        long deadline = System.currentTimeMillis() + timeout;
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(List.of(partition));
            consumer.seek(partition, first);
            for (int seen = 0; seen < records.size();) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    if (seen < records.size() && !Arrays.equals(record.value(), records.get(seen).get("value").binaryValue())) {
                        throw new IllegalStateException("record " + seen + " is not what was written");
                    }
                    seen++;
                }
                if (System.currentTimeMillis() > deadline) {
                    throw new IllegalStateException("only " + seen + " records came back");
                }
            }
        }
    }
}
