import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.mydotey.artemis.Instance;
import org.mydotey.artemis.Service;
import org.mydotey.artemis.client.ArtemisClientManager;
import org.mydotey.artemis.client.ArtemisClientManagerConfig;
import org.mydotey.artemis.config.DeploymentConfig;
import org.mydotey.artemis.discovery.DiscoveryConfig;

/**
 * Calls the public API of the SDK as it is told, and tells what came of it.
 *
 * <p>Reads one JSON object per line and writes one when the call has returned, {@code {"event": "done", …}}; between them
 * come those of listeners, {@code {"event": "change", …}}. Ends with its input. The log of the SDK goes to standard
 * error. A manager is one client of the SDK with addresses and connections of its own; several may live in one process.
 *
 * <pre>
 * {"do": "open", "manager": M, "settings": {"service.domain.url": URL, …}}   settings of the SDK, without their prefix
 * {"do": "register" | "unregister", "manager": M, "instances": [Instance, …]}
 * {"do": "service", "manager": M, "service": S}          answers with the service as the SDK has it
 * {"do": "listen", "manager": M, "service": S}           from here on, each change of it is an event
 * </pre>
 */
public final class SdkDriver {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final PrintStream out;
    private final Map<String, ArtemisClientManager> managers = new HashMap<>();

    private SdkDriver(PrintStream out) {
        this.out = out;
    }

    public static void main(String[] arguments) throws IOException {
        SdkDriver driver = new SdkDriver(new PrintStream(System.out, true, StandardCharsets.UTF_8));
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            driver.call(JSON.readTree(line));
        }
        // The threads of the SDK are not all daemons, and it has nothing that ends them.
        System.exit(0);
    }

    private void call(JsonNode call) throws IOException {
        long startedNs = System.nanoTime();
        String what = call.get("do").textValue();
        Map<String, Object> answer = event("done", call.get("manager").textValue());
        answer.put("do", what);
        switch (what) {
            case "open":
                open(call);
                break;
            case "register":
                manager(call).getRegistryClient().register(instances(call));
                break;
            case "unregister":
                manager(call).getRegistryClient().unregister(instances(call));
                break;
            case "service":
                answer.put("service", manager(call).getDiscoveryClient().getService(config(call)));
                break;
            case "listen":
                listen(call);
                break;
            default:
                throw new IllegalArgumentException("unknown: " + what);
        }
        answer.put("took_ms", (System.nanoTime() - startedNs) / 1_000_000);
        say(answer);
    }

    /** The SDK looks its settings up under the name of the manager, among others in the system properties. */
    private void open(JsonNode call) {
        String name = call.get("manager").textValue();
        call.get("settings").fields().forEachRemaining(
                setting -> System.setProperty("artemis.client." + name + "." + setting.getKey(), setting.getValue().asText()));
        ArtemisClientManagerConfig config = new ArtemisClientManagerConfig(DeploymentConfig.properties());
        managers.put(name, ArtemisClientManager.getManager(name, config));
    }

    private void listen(JsonNode call) {
        String name = call.get("manager").textValue();
        manager(call).getDiscoveryClient().registerServiceChangeListener(config(call), change -> {
            Service service = change.changedService();
            Map<String, Object> told = event("change", name);
            told.put("type", change.changeType());
            told.put("service", service);
            say(told);
        });
    }

    private ArtemisClientManager manager(JsonNode call) {
        return managers.get(call.get("manager").textValue());
    }

    private static DiscoveryConfig config(JsonNode call) {
        return new DiscoveryConfig(call.get("service").textValue());
    }

    private static Instance[] instances(JsonNode call) throws IOException {
        List<Instance> found = new ArrayList<>();
        for (JsonNode one : call.get("instances")) {
            found.add(JSON.treeToValue(one, Instance.class));
        }
        return found.toArray(new Instance[0]);
    }

    private static Map<String, Object> event(String kind, String manager) {
        Map<String, Object> event = new LinkedHashMap<>();
        event.put("event", kind);
        event.put("manager", manager);
        return event;
    }

    private void say(Map<String, Object> event) {
        try {
            out.println(JSON.writeValueAsString(event));
        } catch (IOException e) {
            throw new IllegalStateException(e);
        }
    }
}
