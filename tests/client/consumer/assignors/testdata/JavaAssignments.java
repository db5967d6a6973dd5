// Prints what Kafka's own assignors answer in random groups, one JSON object a line:
//   java -cp '.tools/kafka/libs/*' tests/client/consumer/assignors/testdata/JavaAssignments.java > .../java.jsonl
import java.nio.ByteBuffer;
import java.util.*;
import java.util.stream.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.*;
import org.apache.kafka.clients.consumer.internals.*;
import org.apache.kafka.common.*;

public class JavaAssignments {
    static final Random RANDOM = new Random(2024);

    public static void main(String[] arguments) {
        for (int number = 0; number < 160; number++) {
            AbstractPartitionAssignor[] assignors = {
                new RangeAssignor(), new RoundRobinAssignor(), new StickyAssignor(), new CooperativeStickyAssignor()};
            print(assignors[number % 4], number);
        }
    }

    static void print(AbstractPartitionAssignor assignor, int number) {
        boolean racks = number % 3 == 0 && assignor instanceof RangeAssignor;
        Node[] nodes = new Node[4];
        for (int id = 0; id < 4; id++) nodes[id] = new Node(id, "h", 1, racks && id < 3 ? "r" + id : null);
        List<PartitionInfo> partitions = new ArrayList<>();
        List<String> topics = new ArrayList<>();
        Map<String, Integer> counts = new TreeMap<>();
        int same = 1 + RANDOM.nextInt(6);
        for (int topic = 0; topic < 1 + RANDOM.nextInt(4); topic++) {
            String name = "topic-" + topic;
            topics.add(name);
            int count = RANDOM.nextBoolean() ? same : 1 + RANDOM.nextInt(9);
            counts.put(name, count);
            for (int partition = 0; partition < count; partition++) {
                Node[] replicas = IntStream.range(0, 1 + RANDOM.nextInt(2)).mapToObj(i -> nodes[RANDOM.nextInt(4)]).toArray(Node[]::new);
                partitions.add(new PartitionInfo(name, partition, replicas[0], replicas, replicas));
            }
        }
        boolean alike = RANDOM.nextInt(3) > 0;
        Map<String, Subscription> subscriptions = new HashMap<>();
        List<TopicPartition> owned = partitions.stream().map(p -> new TopicPartition(p.topic(), p.partition())).collect(Collectors.toList());
        Collections.shuffle(owned, RANDOM);
        int members = 1 + RANDOM.nextInt(6);
        for (int member = 0; member < members; member++) {
            List<String> wanted = new ArrayList<>(topics);
            if (RANDOM.nextInt(8) == 0) wanted.add("missing");
            if (!alike) wanted.removeIf(topic -> RANDOM.nextInt(3) == 0);
            List<TopicPartition> mine = new ArrayList<>();
            for (int i = RANDOM.nextInt(6); i > 0 && !owned.isEmpty(); i--) {
                TopicPartition next = owned.remove(owned.size() - 1);
                if (wanted.contains(next.topic())) mine.add(next);
            }
            ByteBuffer data = null;
            if (assignor instanceof StickyAssignor) {
                StickyAssignor told = new StickyAssignor();
                told.onAssignment(new Assignment(mine), new ConsumerGroupMetadata("g", 5, "m", Optional.empty()));
                data = told.subscriptionUserData(new HashSet<>(wanted));
            }
            Subscription subscription = new Subscription(wanted, data, assignor instanceof StickyAssignor ? List.of() : mine, 5,
                racks && RANDOM.nextInt(5) > 0 ? Optional.of("r" + RANDOM.nextInt(4)) : Optional.empty());
            if (RANDOM.nextInt(4) == 0) subscription.setGroupInstanceId(Optional.of("instance-" + (9 - member)));
            subscriptions.put("member-" + RANDOM.nextInt(1000), subscription);
        }
        String bytes = subscriptions.entrySet().stream().map(e ->
            text(e.getKey()) + ":" + text(hex(ConsumerProtocol.serializeSubscription(e.getValue())))).collect(Collectors.joining(","));
        String instances = subscriptions.entrySet().stream().filter(e -> e.getValue().groupInstanceId().isPresent()).map(e ->
            text(e.getKey()) + ":" + text(e.getValue().groupInstanceId().get())).collect(Collectors.joining(","));
        String racksOf = counts.keySet().stream().map(topic -> text(topic) + ":[" + partitions.stream().filter(p -> p.topic().equals(topic)).map(p ->
            "[" + Arrays.stream(p.replicas()).map(Node::rack).filter(Objects::nonNull).distinct().map(JavaAssignments::text).collect(Collectors.joining(",")) + "]"
            ).collect(Collectors.joining(",")) + "]").collect(Collectors.joining(","));
        Map<String, Assignment> result = assignor.assign(
            new Cluster("c", Arrays.asList(nodes), partitions, Set.of(), Set.of()), new GroupSubscription(subscriptions)).groupAssignment();
        String given = result.entrySet().stream().map(e ->
            text(e.getKey()) + ":" + text(hex(ConsumerProtocol.serializeAssignment(e.getValue())))).collect(Collectors.joining(","));
        System.out.println("{\"assignor\":" + text(assignor.name()) + ",\"topics\":{" + racksOf + "},\"subscriptions\":{" + bytes
            + "},\"instances\":{" + instances + "},\"assignments\":{" + given + "}}");
    }

    static String text(String text) { return "\"" + text + "\""; }

    static String hex(ByteBuffer buffer) {
        StringBuilder hex = new StringBuilder();
        for (ByteBuffer copy = buffer.duplicate(); copy.hasRemaining(); ) hex.append(String.format("%02x", copy.get()));
        return hex.toString();
    }
}
