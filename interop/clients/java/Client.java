import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

import org.cometd.bayeux.BinaryData;
import org.cometd.bayeux.Channel;
import org.cometd.bayeux.Message;
import org.cometd.bayeux.client.ClientSession;
import org.cometd.bayeux.client.ClientSessionChannel;
import org.cometd.client.BayeuxClient;
import org.cometd.client.ext.AckExtension;
import org.cometd.client.ext.BinaryExtension;
import org.cometd.client.ext.TimestampClientExtension;
import org.cometd.client.ext.TimesyncClientExtension;
import org.cometd.client.http.jetty.JettyHttpClientTransport;
import org.cometd.client.transport.ClientTransport;
import org.cometd.client.websocket.jakarta.WebSocketTransport;
import org.cometd.common.HashMapMessage;

/** One client. Its commands are done one after the other, beside those of other clients. */
class Client {
    /** How often the state is looked at when nothing else happens, in milliseconds. */
    private static final int GLANCE = 20;

    private final Network network;
    private final Consumer<Map<String, Object>> events;
    /** Carries out the commands: opening a WebSocket keeps a thread waiting. */
    private final ScheduledExecutorService commands = scheduler();
    /** The client's own. */
    private final ScheduledExecutorService scheduler = scheduler();
    private final Map<Object, ClientSessionChannel.MessageListener> listeners = new HashMap<>();
    private final Map<Object, String> channels = new HashMap<>();
    private final TimesyncClientExtension timesync = new TimesyncClientExtension();
    private volatile Session session;
    private Map<String, Object> state = Map.of();

    /** `events` takes what there is to say, in the order in which it happens. */
    Client(Network network, Consumer<Map<String, Object>> events) {
        this.network = network;
        this.events = events;
    }

    /** Carries out command `name`, and answers as `number`. */
    void accept(Object number, String name, Object argument) {
        commands.execute(() -> {
            try {
                perform(number, name, argument);
            } catch (Throwable x) {
                emit(Map.of("what", "failed", "number", number, "reason", x.toString()));
            }
        });
    }

    private void perform(Object number, String name, Object argument) throws Exception {
        ClientSession.MessageListener answer = reply -> done(number, reply);
        switch (name) {
            case "handshake" -> session.handshake(asMap(argument), answer);
            case "subscribe" -> subscribe(asMap(argument), answer);
            case "unsubscribe" -> channel(channels.remove(argument)).unsubscribe(listeners.remove(argument), answer);
            case "publish" -> publish(asMap(argument), answer);
            case "publishBinary" -> publishBinary(asMap(argument), answer);
            case "call" -> call(asMap(argument), answer);
            case "disconnect" -> session.disconnect(reply -> commands.execute(() -> disconnected(number, reply)));
            default -> done(number, performAtOnce(name, argument));
        }
    }

    private Object performAtOnce(String name, Object argument) throws InterruptedException {
        switch (name) {
            case "open" -> open(asMap(argument));
            case "listen" -> listen(asMap(argument));
            case "startBatch" -> session.startBatch();
            case "endBatch" -> session.endBatch();
            case "changeTo" -> session.next = (String)argument;
            case "close" -> close();
            case "timesync" -> {
                return Map.of("offset", timesync.getOffset(), "lag", timesync.getLag());
            }
            default -> throw new IllegalArgumentException("no command " + name);
        }
        return null;
    }

    /** `url`, and of `transports` the names; `extensions` by name; `config` are options of CometD's. */
    private void open(Map<String, Object> options) {
        String url = (String)options.get("url");
        List<ClientTransport> transports = new ArrayList<>();
        for (Object name : (Object[])options.get("transports")) {
            transports.add(name.equals("websocket")
                    ? new WebSocketTransport(url, null, scheduler, network.sockets())
                    : new JettyHttpClientTransport(url, null, scheduler, network.http()));
        }
        session = new Session(url, scheduler, transports);
        asMap(options.get("config")).forEach(session::setOption);
        for (Object name : (Object[])options.get("extensions")) {
            session.addExtension(switch ((String)name) {
                case "ack" -> new AckExtension();
                case "binary" -> new BinaryExtension();
                case "timestamp" -> new TimestampClientExtension();
                case "timesync" -> timesync;
                default -> throw new IllegalArgumentException("no extension " + name);
            });
        }
        commands.scheduleWithFixedDelay(() -> emit(null), GLANCE, GLANCE, TimeUnit.MILLISECONDS);
    }

    private void listen(Map<String, Object> argument) {
        ClientSessionChannel.MessageListener listener = listener(argument.get("to"));
        channel((String)argument.get("channel")).addListener((ClientSessionChannel.MessageListener)(channel, message) -> {
            // Here the replies to what is published on the channel arrive as well, and they are answers already.
            if (message.isMeta() || !message.containsKey(Message.SUCCESSFUL_FIELD)) {
                listener.onMessage(channel, message);
            }
        });
    }

    private void subscribe(Map<String, Object> argument, ClientSession.MessageListener answer) {
        Object to = argument.get("to");
        String channel = (String)argument.get("channel");
        channels.put(to, channel);
        channel(channel).subscribe(listener(to), answer);
    }

    private ClientSessionChannel.MessageListener listener(Object to) {
        ClientSessionChannel.MessageListener listener = (channel, message) ->
                emit(Map.of("what", "heard", "to", to, "message", Plain.of(message)));
        listeners.put(to, listener);
        return listener;
    }

    private void publish(Map<String, Object> argument, ClientSession.MessageListener answer) {
        Message.Mutable message = new HashMapMessage();
        message.putAll(asMap(argument.get("props")));
        message.setData(argument.get("data"));
        channel((String)argument.get("channel")).publish(message, answer);
    }

    private void publishBinary(Map<String, Object> argument, ClientSession.MessageListener answer) {
        byte[] bytes = Base64.getDecoder().decode((String)asMap(argument.get("bytes")).get("$bytes"));
        BinaryData data = new BinaryData(bytes, (Boolean)argument.get("last"), asMap(argument.get("meta")));
        channel((String)argument.get("channel")).publish(data, answer);
    }

    private void call(Map<String, Object> argument, ClientSession.MessageListener answer) {
        String target = ((String)argument.get("target")).replaceFirst("^/", "");
        session.remoteCall(target, argument.get("data"), answer);
    }

    /** The reply comes before the client may handshake again. */
    private void disconnected(Object number, Message reply) {
        session.waitFor(5_000, BayeuxClient.State.DISCONNECTED);
        done(number, reply);
    }

    /** Leaves nothing open, in whatever state the client is. */
    private void close() throws InterruptedException {
        if (!session.isDisconnected()) {
            CountDownLatch answered = new CountDownLatch(1);
            session.disconnect(reply -> answered.countDown());
            answered.await(2, TimeUnit.SECONDS);
        }
        session.abort();
        commands.shutdown();
        scheduler.schedule(scheduler::shutdown, 1, TimeUnit.SECONDS);
    }

    private ClientSessionChannel channel(String name) {
        return session.getChannel(name);
    }

    private void done(Object number, Object result) {
        Map<String, Object> event = new HashMap<>(Map.of("what", "done", "number", number));
        event.put("result", Plain.of(result));
        emit(event);
    }

    /** Says what happened, or nothing, and before it the state if that is another than last time. */
    private synchronized void emit(Map<String, Object> event) {
        Map<String, Object> now = new HashMap<>();
        if (session != null) {
            now.put("id", session.getId());
            now.put("status", session.status());
            now.put("transport", session.getTransport() == null ? null : session.getTransport().getName());
        }
        if (!Objects.equals(now, state)) {
            state = now;
            events.accept(new HashMap<>(Map.of("what", "state", "state", now)));
        }
        if (event != null) {
            events.accept(new HashMap<>(event));
        }
    }

    @SuppressWarnings("unchecked")
    private static Map<String, Object> asMap(Object value) {
        return (Map<String, Object>)value;
    }

    private static ScheduledExecutorService scheduler() {
        ScheduledThreadPoolExecutor executor = new ScheduledThreadPoolExecutor(1);
        executor.setRemoveOnCancelPolicy(true);
        executor.setExecuteExistingDelayedTasksAfterShutdownPolicy(false);
        return executor;
    }

    /** CometD's client, which shows its state, and can be told to change the transport. */
    private static class Session extends BayeuxClient {
        /** The transport to go on with after a connect that failed, or null for what the library decides. */
        private volatile String next;

        private Session(String url, ScheduledExecutorService scheduler, List<ClientTransport> transports) {
            super(url, scheduler, transports.get(0), transports.stream().skip(1).toArray(ClientTransport[]::new));
        }

        private String status() {
            return getState().name().toLowerCase();
        }

        @Override
        protected void onTransportFailure(Message message, ClientTransport.FailureInfo info,
                ClientTransport.FailureHandler handler) {
            super.onTransportFailure(message, info, decided -> {
                if (next != null && message.getChannel().equals(Channel.META_CONNECT)) {
                    decided.transport = getTransport(next);
                }
                handler.handle(decided);
            });
        }
    }
}
