import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executors;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/**
 * A receiver of reports and incoming messages; WEBHOOK_SECRET is the whsec_… of `speedsms webhook set`, or
 * several, separated by spaces.
 *
 * <pre>java -cp build Webhook 9000</pre>
 */
public final class Webhook {
    private static final long TOLERANCE_S = 300;
    private static final int BODY_LIMIT = 65_536;
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    private final List<SecretKeySpec> keys = new ArrayList<>();

    Webhook(String secrets) {
        for (String secret : secrets.split(" ")) {
            keys.add(signingKey(secret));
        }
    }

    private static SecretKeySpec signingKey(String secret) {
        byte[] bytes = secret.startsWith("whsec_") ? Base64.getDecoder().decode(secret.substring(6)) : new byte[0];
        if (bytes.length < 24) {
            throw new IllegalArgumentException("set WEBHOOK_SECRET"); // a short key lets others in
        }
        return new SecretKeySpec(bytes, "HmacSHA256");
    }

    public static void main(String[] args) throws IOException {
        int port = args.length > 0 ? Integer.parseInt(args[0]) : 9000;
        Webhook webhook = new Webhook(System.getenv().getOrDefault("WEBHOOK_SECRET", ""));
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 0);
        server.createContext("/", webhook::answer);
        server.setExecutor(Executors.newFixedThreadPool(8)); // one slow caller does not hold up the others
        server.start();
        OUT.println("listening on http://127.0.0.1:" + port + "/");
    }

    private void answer(HttpExchange exchange) throws IOException {
        int status;
        try {
            status = judge(exchange);
        } catch (RuntimeException | GeneralSecurityException error) {
            System.err.println(error);
            status = 500;
        }
        exchange.sendResponseHeaders(status, -1);
        exchange.close();
    }

    private int judge(HttpExchange exchange) throws IOException, GeneralSecurityException {
        if (!exchange.getRequestMethod().equals("POST")) {
            return 405;
        }
        byte[] body = exchange.getRequestBody().readNBytes(BODY_LIMIT + 1); // the very bytes that were signed
        if (body.length > BODY_LIMIT) {
            return 413;
        }
        String id = header(exchange, "webhook-id");
        String timestamp = header(exchange, "webhook-timestamp");
        if (!genuine(id, timestamp, header(exchange, "webhook-signature"), body)) {
            return 401;
        }
        received(id, (Map<?, ?>) Json.read(new String(body, StandardCharsets.UTF_8)));
        return 204; // within 15 s, or it is posted again: work that takes longer goes to a queue
    }

    /** Whether the gateway signed these bytes (Standard Webhooks), and not long ago. */
    private boolean genuine(String id, String timestamp, String signatures, byte[] body)
            throws GeneralSecurityException {
        if (id.isEmpty() || !timestamp.matches("[0-9]{1,15}")
                || Math.abs(Instant.now().getEpochSecond() - Long.parseLong(timestamp)) > TOLERANCE_S) {
            return false;
        }
        ByteArrayOutputStream signed = new ByteArrayOutputStream();
        signed.writeBytes((id + "." + timestamp + ".").getBytes(StandardCharsets.UTF_8));
        signed.writeBytes(body);
        boolean found = false;
        for (SecretKeySpec key : keys) {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(key);
            String ours = "v1," + Base64.getEncoder().encodeToString(mac.doFinal(signed.toByteArray()));
            for (String theirs : signatures.split(" ")) { // several while a secret is changed
                found |= MessageDigest.isEqual(
                        ours.getBytes(StandardCharsets.UTF_8), theirs.getBytes(StandardCharsets.UTF_8));
            }
        }
        return found;
    }

    /** Your work. The same id may come again: keep it four days, with a unique index, and skip what you have seen. */
    private void received(String id, Map<?, ?> event) {
        if ("report".equals(event.get("type"))) {
            long status = (Long) event.get("status");
            String word = status == 0 ? "delivered" : status < 64 ? "still trying" : "failed";
            OUT.printf("report %s: tranId %s to %s: %s (%d)%n", id, event.get("tranId"), event.get("phone"), word, status);
        } else if ("sms".equals(event.get("type"))) {
            // Quoted: strangers write these texts, and a line break in one would forge a line of the log.
            String text = ((String) event.get("content")).replaceAll("\\p{Cntrl}", "\u00b7").replace("\"", "\\\"");
            OUT.printf("incoming %s: %s: \"%s\"%n", id, event.get("phone"), text);
        } // else of a later release
    }

    private static String header(HttpExchange exchange, String name) {
        String value = exchange.getRequestHeaders().getFirst(name);
        return value == null ? "" : value;
    }
}
