import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Values as JSON can say them: bytes become {@code {"$bytes": base64}}, what is foreign becomes its text. */
final class Plain {
    /** A failure names the message that failed, which may name the failure. */
    private static final int DEEPEST = 32;

    private Plain() {
    }

    static Object of(Object value) {
        return of(value, 0);
    }

    private static Object of(Object value, int depth) {
        if (value == null || value instanceof Number || value instanceof Boolean || value instanceof String) {
            return value;
        } else if (depth == DEEPEST) {
            return "...";
        } else if (value instanceof ByteBuffer buffer) {
            byte[] bytes = new byte[buffer.remaining()];
            buffer.duplicate().get(bytes);
            return of(bytes, depth);
        } else if (value instanceof byte[] bytes) {
            return Map.of("$bytes", Base64.getEncoder().encodeToString(bytes));
        } else if (value instanceof Map<?, ?> map) {
            Map<String, Object> result = new HashMap<>();
            map.forEach((key, item) -> result.put(String.valueOf(key), of(item, depth + 1)));
            return result;
        } else if (value instanceof Collection<?> items) {
            List<Object> result = new ArrayList<>();
            items.forEach(item -> result.add(of(item, depth + 1)));
            return result;
        } else if (value instanceof Object[] items) {
            return of(Arrays.asList(items), depth);
        }
        return value.toString();
    }
}
