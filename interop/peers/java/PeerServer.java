import java.util.HashMap;
import java.util.List;
import java.util.Map;

import org.cometd.bayeux.server.BayeuxServer;
import org.cometd.server.BayeuxServerImpl;
import org.cometd.server.ext.AcknowledgedMessagesExtension;
import org.cometd.server.ext.ActivityExtension;
import org.cometd.server.ext.BinaryExtension;
import org.cometd.server.ext.TimestampExtension;
import org.cometd.server.ext.TimesyncExtension;
import org.cometd.server.http.JSONHttpTransport;
import org.cometd.server.http.JSONPHttpTransport;
import org.cometd.server.http.jakarta.CometDServlet;
import org.cometd.server.websocket.jetty.JettyWebSocketTransport;
import org.eclipse.jetty.ee11.servlet.ServletContextHandler;
import org.eclipse.jetty.ee11.servlet.ServletHolder;
import org.eclipse.jetty.http2.server.HTTP2CServerConnectionFactory;
import org.eclipse.jetty.server.Context;
import org.eclipse.jetty.server.HttpConfiguration;
import org.eclipse.jetty.server.HttpConnectionFactory;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.util.thread.QueuedThreadPool;
import org.eclipse.jetty.websocket.server.WebSocketUpgradeHandler;

/** CometD's server as its documentation sets it up, on one port of the loopback interface. */
public class PeerServer {
    private static final String PATH = "/cometd";

    public static void main(String[] args) throws Exception {
        Options options = Options.of(args);
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", options.log);

        Server server = options.threads == 0 ? new Server() : new Server(new QueuedThreadPool(options.threads));
        ServerConnector connector = connector(server, options);
        BayeuxServerImpl bayeux = bayeux(options);
        mount(server, bayeux);
        server.start();

        // Without this the virtual machine would report the signal that ended it.
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            stop(server);
            Runtime.getRuntime().halt(0);
        }));
        System.out.println("listening on http://127.0.0.1:" + connector.getLocalPort() + PATH);
        if (System.out.checkError()) {
            System.exit(1);
        }
        server.join();
    }

    private static ServerConnector connector(Server server, Options options) {
        HttpConfiguration http = new HttpConfiguration();
        ServerConnector connector = new ServerConnector(server,
                new HttpConnectionFactory(http), new HTTP2CServerConnectionFactory(http));
        connector.setHost("127.0.0.1");
        connector.setPort(options.port);
        // Java asks for a backlog of 50, too little for a load generator that connects thousands at once.
        connector.setAcceptQueueSize(2048);
        connector.setIdleTimeout(options.idleTimeout());
        server.addConnector(connector);
        return connector;
    }

    private static BayeuxServerImpl bayeux(Options options) {
        BayeuxServerImpl bayeux = new BayeuxServerImpl();
        bayeux.setTransports(new JettyWebSocketTransport(bayeux), new JSONHttpTransport(bayeux),
                new JSONPHttpTransport(bayeux));
        bayeux.setAllowedTransports("websocket", "long-polling", "callback-polling");
        bayeux.setOption("ws.cometdURLMapping", PATH + "/*");
        // Jetty's 30 s would close a WebSocket just when a connect that is held for 30 s is due.
        bayeux.setOption("ws.idleTimeout", String.valueOf(options.idleTimeout()));
        options.bayeux.forEach(bayeux::setOption);
        options.extensions.forEach(name -> bayeux.addExtension(extension(bayeux, name)));
        if (options.threads > 0) {
            bayeux.setExecutor(new QueuedThreadPool(options.threads));
        }
        return bayeux;
    }

    private static BayeuxServer.Extension extension(BayeuxServerImpl bayeux, String name) {
        return switch (name) {
            case "ack" -> new AcknowledgedMessagesExtension();
            case "activity" -> new ActivityExtension(ActivityExtension.Activity.CLIENT_SERVER, 60_000);
            case "binary" -> new BinaryExtension();
            case "timestamp" -> new TimestampExtension();
            case "timesync" -> new TimesyncExtension();
            default -> throw new IllegalArgumentException("no extension " + name);
        };
    }

    /** HTTP requests go to CometD's servlet, upgrades to its WebSocket transport, which has no servlet. */
    private static void mount(Server server, BayeuxServerImpl bayeux) {
        ServletContextHandler context = new ServletContextHandler("/");
        server.setHandler(context);
        context.insertHandler(WebSocketUpgradeHandler.from(server, context));
        bayeux.setOption(Context.class.getName(), context.getContext());
        context.setAttribute(BayeuxServer.ATTRIBUTE, bayeux);
        ServletHolder servlet = new ServletHolder(new CometDServlet());
        servlet.setAsyncSupported(true);
        servlet.setInitOrder(1);
        context.addServlet(servlet, PATH + "/*");
    }

    private static void stop(Server server) {
        try {
            server.stop();
        } catch (Exception x) {
            x.printStackTrace();
        }
    }

    /** What the command line says; `interop/peers/run` describes it. Times are in milliseconds. */
    private static class Options {
        private int port = 0;
        private int threads = 0;
        private String log = "warn";
        private List<String> extensions = List.of("ack", "binary", "timestamp", "timesync");
        private final Map<String, String> bayeux = new HashMap<>();

        private static Options of(String[] args) {
            Options options = new Options();
            for (int i = 0; i + 1 < args.length; i += 2) {
                options.set(args[i], args[i + 1]);
            }
            if (args.length % 2 != 0) {
                throw new IllegalArgumentException(args[args.length - 1] + " needs a value");
            }
            return options;
        }

        private void set(String name, String value) {
            switch (name) {
                case "--port" -> port = Integer.parseInt(value);
                case "--threads" -> threads = Integer.parseInt(value);
                case "--log" -> log = value;
                case "--extensions" -> extensions = value.equals("none") ? List.of() : List.of(value.split(","));
                case "--timeout" -> bayeux.put("timeout", value);
                case "--interval" -> bayeux.put("interval", value);
                case "--max-interval" -> bayeux.put("maxInterval", value);
                case "--option" -> {
                    String[] pair = value.split("=", 2);
                    bayeux.put(pair[0], pair[1]);
                }
                default -> throw new IllegalArgumentException("unknown option " + name);
            }
        }

        /** How long a connection may be silent: longer than a connect is held and a session lives after it. */
        private long idleTimeout() {
            long timeout = Long.parseLong(bayeux.getOrDefault("timeout", "30000"));
            long maxInterval = Long.parseLong(bayeux.getOrDefault("maxInterval", "10000"));
            return timeout + maxInterval + 10_000;
        }
    }
}
