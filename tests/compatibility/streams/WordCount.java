import java.util.Arrays;
import java.util.Properties;
import java.util.Scanner;
import java.util.TreeSet;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.ThreadMetadata;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;

/**
 * Counts words with Kafka Streams in a streams group: one instance of the application.
 *
 * Arguments: bootstrap, application id, state directory, input topic, output topic, then settings as name=value.
 * A JSON object per line of standard input is answered by one: {"do": "describe"} with state, active and standby tasks and
 * what the uncaught exception was; {"do": "close"} closes and ends.
 */
public class WordCount {
    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[2]);
        settings.put("group.protocol", "streams");
        for (int index = 5; index < arguments.length; index++) {
            String[] setting = arguments[index].split("=", 2);
            settings.put(setting[0], setting[1]);
        }
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(arguments[3], Consumed.with(Serdes.String(), Serdes.String()))
            .flatMapValues(line -> Arrays.asList(line.split(" ")))
            .groupBy((key, word) -> word, Grouped.with("words", Serdes.String(), Serdes.String()))
            .count(Materialized.as("counts"))
            .toStream()
            .mapValues(String::valueOf)
            .to(arguments[4], Produced.with(Serdes.String(), Serdes.String()));
        AtomicReference<String> problem = new AtomicReference<>("");
        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        streams.setUncaughtExceptionHandler(exception -> {
            problem.set(exception.toString());
            return org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.start();
        Scanner input = new Scanner(System.in);
        while (input.hasNextLine()) {
            if (input.nextLine().contains("close")) {
                break;
            }
            System.out.println(describe(streams, problem.get()));
        }
        streams.close();
        System.out.println("{\"state\": \"" + streams.state() + "\"}");
    }

    private static String describe(KafkaStreams streams, String problem) {
        TreeSet<String> active = new TreeSet<>();
        TreeSet<String> standby = new TreeSet<>();
        for (ThreadMetadata thread : streams.metadataForLocalThreads()) {
            thread.activeTasks().forEach(task -> active.add("\"" + task.taskId() + "\""));
            thread.standbyTasks().forEach(task -> standby.add("\"" + task.taskId() + "\""));
        }
        return "{\"state\": \"" + streams.state() + "\", \"active\": " + active + ", \"standby\": " + standby
            + ", \"problem\": \"" + problem.replace("\\", "/").replace("\"", "'").replace("\n", " ") + "\"}";
    }
}
