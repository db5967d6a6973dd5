import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringSerializer;

/** Transactional producers of Apache Kafka, step by step: one command is one call. */
final class TransactionalProducers {
    private static final Map<String, KafkaProducer<String, String>> PRODUCERS = new HashMap<>();

    private TransactionalProducers() { }

    static ObjectNode carryOut(JsonNode command) throws Exception {
        String name = command.get("producer").asText();
        KafkaProducer<String, String> producer = PRODUCERS.get(name);
        switch (command.get("step").asText()) {
            case "init":
                Properties settings = new Properties();
                settings.put("bootstrap.servers", command.get("bootstrap").asText());
                settings.put("transactional.id", command.get("transactional_id").asText());
                settings.put("max.block.ms", "20000");
                producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
                PRODUCERS.put(name, producer);
                producer.initTransactions();
                break;
            case "begin": producer.beginTransaction(); break;
            case "send":
                producer.send(new ProducerRecord<>(
                    command.get("topic").asText(), command.get("partition").asInt(), null, command.get("value").asText())).get();
                break;
            case "offset":
                producer.sendOffsetsToTransaction(
                    Map.of(
                        new TopicPartition(command.get("topic").asText(), command.get("partition").asInt()),
                        new OffsetAndMetadata(command.get("offset").asLong())),
                    new ConsumerGroupMetadata(command.get("group").asText()));
                break;
            case "commit": producer.commitTransaction(); break;
            case "abort": producer.abortTransaction(); break;
            case "close": PRODUCERS.remove(name).close(Duration.ZERO); break;
            default: throw new IllegalArgumentException("no step " + command);
        }
        return new ObjectMapper().createObjectNode();
    }
}
