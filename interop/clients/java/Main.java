import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;

import jakarta.websocket.ContainerProvider;
import jakarta.websocket.WebSocketContainer;
import org.eclipse.jetty.client.HttpClient;
import org.eclipse.jetty.ee11.websocket.jakarta.client.JakartaWebSocketClientContainer;
import org.eclipse.jetty.util.ajax.JSON;

/**
 * Clients of CometD's for Java that do what lines of JSON on standard input ask of them, and say on standard
 * output what comes of it; `interop/lib/driven.mjs` has the other end. The program ends with its input.
 */
public class Main {
    private static final JSON CODEC = new JSON();
    private static final PrintStream OUT = new PrintStream(System.out, false, StandardCharsets.UTF_8);

    public static void main(String[] args) throws Exception {
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", args.length > 0 ? args[0] : "error");
        HttpClient http = new HttpClient();
        http.start();
        WebSocketContainer sockets = ContainerProvider.getWebSocketContainer();
        // Asking for anything of it makes its client. Left to the first who open a WebSocket, of whom there are several,
        // some would wait for ever: it takes no lock.
        ((JakartaWebSocketClientContainer)sockets).getExecutor();
        Network network = new Network(http, sockets);

        OUT.println("{\"what\":\"ready\"}");
        OUT.flush();

        Map<Object, Client> clients = new HashMap<>();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            Map<?, ?> command = (Map<?, ?>)CODEC.fromJSON(line);
            Object key = command.get("client");
            clients.computeIfAbsent(key, missing -> new Client(network, event -> write(key, event)))
                    .accept(command.get("number"), (String)command.get("name"), command.get("argument"));
            if ("close".equals(command.get("name"))) {
                clients.remove(key);
            }
        }
        // Threads of clients that were not closed would keep the program alive.
        System.exit(0);
    }

    private static void write(Object client, Map<String, Object> event) {
        event.put("client", client);
        String line = CODEC.toJSON(event);
        synchronized (OUT) {
            OUT.println(line);
            OUT.flush();
        }
    }
}
