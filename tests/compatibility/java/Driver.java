import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.Exit;

/**
 * Apache Kafka's Java client and command line tools behind one long-lived process, so that the tests pay for one JVM start.
 * One JSON command per line on standard input, one JSON answer per line on standard output; drivers.py describes the commands.
 */
public final class Driver {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Map<String, Member> MEMBERS = new HashMap<>();

    /** What ends a tool in place of the exit of the JVM. */
    private static final class ExitCalled extends RuntimeException { }

    private static volatile ToolRun running;
    private static final List<Runnable> shutdownHooks = new ArrayList<>();

    private static void exit(int code, String message) {
        ToolRun run = running;
        if (run == null) {
            throw new ExitCalled();
        }
        run.exit(code, message);
    }

    public static void main(String[] arguments) throws Exception {
        PrintStream answers = System.out;
        System.setOut(System.err);
        Exit.setExitProcedure(Driver::exit);
        Exit.setHaltProcedure(Driver::exit);
        Exit.setShutdownHookAdder((name, hook) -> shutdownHooks.add(hook));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> answerForExit(answers)));
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = commands.readLine()) != null;) {
            ObjectNode answer;
            try {
                answer = carryOut(JSON.readTree(line));
            } catch (Throwable problem) {
                Throwable cause = problem instanceof java.util.concurrent.ExecutionException ? problem.getCause() : problem;
                answer = JSON.createObjectNode();
                answer.put("error", cause.getClass().getSimpleName() + ": " + cause.getMessage());
            }
            answers.println(JSON.writeValueAsString(answer));
            answers.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    private static ObjectNode carryOut(JsonNode command) throws Exception {
        switch (command.get("do").asText()) {
            case "produce": return produce(command);
            case "consume": return consume(command);
            case "join":
                MEMBERS.put(command.get("member").asText(), new Member(command));
                return JSON.createObjectNode();
            case "member": return MEMBERS.get(command.get("member").asText()).describe();
            case "leave": return MEMBERS.remove(command.get("member").asText()).leave();
            case "tool": return tool(command);
            case "visit": return Visit.carryOut(command);
            case "transaction": return TransactionalProducers.carryOut(command);
            default: throw new IllegalArgumentException("no command " + command);
        }
    }

    // producing and consuming

    private static ObjectNode produce(JsonNode command) throws Exception {
        Properties settings = settings(command);
        settings.put("compression.type", command.get("codec").asText());
        settings.put("enable.idempotence", command.get("idempotent").asText());
        settings.put("acks", "all");
        settings.put("linger.ms", "20");
        ArrayNode offsets = JSON.createArrayNode();
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (JsonNode record : command.get("records")) {
                ProducerRecord<byte[], byte[]> message = new ProducerRecord<>(
                    command.get("topic").asText(),
                    record.get("partition").asInt(),
                    record.get("timestamp").isNull() ? null : record.get("timestamp").asLong(),
                    bytes(record.get("key")),
                    bytes(record.get("value")));
                for (JsonNode header : record.get("headers")) {
                    message.headers().add(header.get(0).asText(), bytes(header.get(1)));
                }
                sent.add(producer.send(message));
            }
            producer.flush();
            for (Future<RecordMetadata> future : sent) {
                offsets.add(future.get().offset());
            }
        }
        return JSON.createObjectNode().set("offsets", offsets);
    }

    private static ObjectNode consume(JsonNode command) {
        int count = command.get("count").asInt();
        Properties settings = settings(command);
        settings.put("isolation.level", command.get("committed").asBoolean() ? "read_committed" : "read_uncommitted");
        settings.put("enable.auto.commit", "false");
        ArrayNode records = JSON.createArrayNode();
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> partitions = new ArrayList<>();
            consumer.partitionsFor(command.get("topic").asText())
                .forEach(partition -> partitions.add(new TopicPartition(partition.topic(), partition.partition())));
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            long deadline = System.currentTimeMillis() + command.get("timeout_ms").asLong();
            while (records.size() < count && System.currentTimeMillis() < deadline) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    records.add(describe(record));
                }
            }
        }
        return JSON.createObjectNode().set("records", records);
    }

    private static ObjectNode describe(ConsumerRecord<byte[], byte[]> record) {
        ObjectNode node = JSON.createObjectNode();
        node.put("partition", record.partition()).put("offset", record.offset()).put("timestamp", record.timestamp());
        node.put("key", record.key()).put("value", record.value());
        ArrayNode headers = node.putArray("headers");
        for (Header header : record.headers()) {
            headers.addArray().add(header.key()).add(header.value());
        }
        return node;
    }

    private static Properties settings(JsonNode command) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", command.get("bootstrap").asText());
        JsonNode more = command.get("settings");
        if (more != null) {
            more.fields().forEachRemaining(entry -> settings.put(entry.getKey(), entry.getValue().asText()));
        }
        return settings;
    }

    private static byte[] bytes(JsonNode node) throws Exception {
        return node.isNull() ? null : node.binaryValue();
    }

    // groups

    /** A member of a consumer group in a thread of its own; commits after every poll that gave records. */
    private static final class Member implements ConsumerRebalanceListener {
        private final KafkaConsumer<byte[], byte[]> consumer;
        private final Thread thread;
        private final TreeSet<Integer> assignment = new TreeSet<>();
        private final List<byte[]> received = new ArrayList<>();
        private int rebalances;
        private String problem;

        Member(JsonNode command) {
            Properties settings = settings(command);
            settings.put("group.id", command.get("group").asText());
            settings.put("enable.auto.commit", "false");
            settings.put("auto.offset.reset", "earliest");
            String strategy = command.get("strategy").asText();
            if (strategy.equals("consumer")) {
                settings.put("group.protocol", "consumer");
            } else {
                settings.put("session.timeout.ms", "10000");
                settings.put("heartbeat.interval.ms", "300");
                settings.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer."
                    + Map.of("range", "RangeAssignor", "roundrobin", "RoundRobinAssignor", "sticky", "StickyAssignor",
                        "cooperative-sticky", "CooperativeStickyAssignor").get(strategy));
            }
            if (!command.get("instance").isNull()) {
                settings.put("group.instance.id", command.get("instance").asText());
            }
            consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
            consumer.subscribe(List.of(command.get("topic").asText()), this);
            thread = new Thread(this::run);
            thread.setDaemon(true);
            thread.start();
        }

        private void run() {
            try (consumer) {
                while (true) {
                    int count = 0;
                    for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                        synchronized (this) {
                            received.add(record.value());
                        }
                        count++;
                    }
                    if (count > 0) {
                        consumer.commitSync();
                    }
                }
            } catch (WakeupException leaving) {
                // Closing the consumer, which try-with-resources does, leaves the group.
            } catch (Exception failure) {
                synchronized (this) {
                    problem = failure.toString();
                }
            }
        }

        @Override
        public synchronized void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            rebalances++;
            partitions.forEach(partition -> assignment.add(partition.partition()));
        }

        @Override
        public synchronized void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            partitions.forEach(partition -> assignment.remove(partition.partition()));
        }

        synchronized ObjectNode describe() {
            ObjectNode node = JSON.createObjectNode();
            assignment.forEach(node.putArray("assignment")::add);
            received.forEach(node.putArray("received")::add);
            node.put("rebalances", rebalances).put("problem", problem);
            return node;
        }

        ObjectNode leave() throws Exception {
            consumer.wakeup();
            thread.join(20_000);
            return JSON.createObjectNode();
        }
    }

    // command line tools

    /** A run of a tool's main method, with its standard streams and its exit code captured. */
    private static final class ToolRun {
        private final ByteArrayOutputStream output = new ByteArrayOutputStream();
        private final ByteArrayOutputStream errors = new ByteArrayOutputStream();
        private final CountDownLatch ended = new CountDownLatch(1);
        private final CountDownLatch answered = new CountDownLatch(1);
        private Integer code;
        private String message;

        // As in a JVM of its own, whoever calls exit never goes on: what comes behind it in the tool must not be seen.
        // Once the answer is there, an exception lets the tool close what it had opened.
        private void exit(int code, String message) {
            if (end(code, message)) {
                try {
                    answered.await();
                } catch (InterruptedException ignored) {
                    Thread.currentThread().interrupt();
                }
            }
            throw new ExitCalled();
        }

        /** Only the first end counts. */
        private synchronized boolean end(int code, String message) {
            if (ended.getCount() == 0) {
                return false;
            }
            this.code = code;
            this.message = message;
            ended.countDown();
            return true;
        }

        private void main(String name, String[] arguments) {
            try {
                Class.forName(name).getMethod("main", String[].class).invoke(null, (Object) arguments);
                end(0, null);
            } catch (InvocationTargetException thrown) {
                if (ended.getCount() > 0) {
                    System.err.print("Exception in thread \"main\" ");
                    thrown.getCause().printStackTrace();
                    end(1, null);
                }
            } catch (ReflectiveOperationException problem) {
                System.err.println(problem);
                end(1, null);
            }
        }

        private ObjectNode answer() {
            return JSON.createObjectNode().put("code", code).put("message", message)
                .put("output", output.toString(StandardCharsets.UTF_8)).put("errors", errors.toString(StandardCharsets.UTF_8));
        }
    }

    /** Runs a tool. An answer without a code: it did not end in time. A tool that ends the JVM behind Kafka's back is
     * answered for by a hook; its code is the process's. */
    private static ObjectNode tool(JsonNode command) throws Exception {
        List<String> arguments = new ArrayList<>();
        command.get("arguments").forEach(argument -> arguments.add(argument.asText()));
        PrintStream out = System.out;
        PrintStream err = System.err;
        InputStream in = System.in;
        shutdownHooks.clear();
        ToolRun run = new ToolRun();
        running = run;
        System.setOut(new PrintStream(run.output, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(run.errors, true, StandardCharsets.UTF_8));
        System.setIn(new ByteArrayInputStream(command.get("input").asText().getBytes(StandardCharsets.UTF_8)));
        Thread thread = new Thread(
            () -> run.main(command.get("class").asText(), arguments.toArray(new String[0])), "main");
        thread.setDaemon(true);
        thread.start();
        long timeout = command.has("timeout_ms") ? command.get("timeout_ms").asLong() : 120_000;
        boolean ended = run.ended.await(timeout, TimeUnit.MILLISECONDS);
        if (ended) {
            shutdownHooks.forEach(Runnable::run);
        } else {
            thread.interrupt();
        }
        System.out.flush();
        ObjectNode answer = run.answer();
        running = null;
        System.setOut(out);
        System.setErr(err);
        System.setIn(in);
        run.answered.countDown();
        thread.join(5_000);
        return answer;
    }

    /** Answers for a tool that called System.exit itself. */
    private static void answerForExit(PrintStream answers) {
        ToolRun run = running;
        if (run != null) {
            answers.println(run.answer());
            answers.flush();
        }
    }
}
