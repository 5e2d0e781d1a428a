import jakarta.websocket.WebSocketContainer;
import org.eclipse.jetty.client.HttpClient;

/** What all clients share to reach the network. Cookies are each client's own. */
record Network(HttpClient http, WebSocketContainer sockets) {
}
