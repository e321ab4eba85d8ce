import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.stream.Collectors;

/**
 * The SpeedSMS API: copy this file and Json.java. Java 11 or newer, no library.
 *
 * <pre>
 * SpeedSms sms = new SpeedSms();                             // SPEEDSMS_BASE_URL, SPEEDSMS_TOKEN
 * SpeedSms.Sent sent = sms.send(List.of("0912345678"), "Xin chào", 2, "", SpeedSms.newKey());
 * System.out.println(sent.tranId);
 * </pre>
 */
public final class SpeedSms {
    private static final int TRIES = 3;
    private static final int CONNECT_S = 5;
    private static final int TOTAL_S = 30;

    public static class Failure extends Exception {
        Failure(String message) {
            super(message);
        }
    }

    /** Certain: nothing was sent and nothing was charged. */
    public static final class Refused extends Failure {
        public final int httpStatus;
        /** "300"; "0" if the answer is of HTTP alone. */
        public final String code;
        /** "balance": finer than the code, for programs; may be empty. */
        public final String reason;
        /** As you wrote them. */
        public final List<String> invalidPhone;

        Refused(int httpStatus, Map<?, ?> reply, String reason) {
            super("refused: " + (httpStatus == 200 ? "code " + reply.get("code") : "HTTP " + httpStatus)
                    + (reason.isEmpty() ? "" : " (" + reason + ")") + ": " + reply.get("message"));
            this.httpStatus = httpStatus;
            this.code = String.valueOf(reply.get("code"));
            this.reason = reason;
            this.invalidPhone = strings(reply.get("invalidPhone"));
        }
    }

    /** It may have been carried out: repeat the same call with this key, and nothing happens twice. */
    public static final class Unknown extends Failure {
        public final String key;

        Unknown(String why, String key) {
            super("unknown: " + why + (key == null ? "" : "; repeat it with the key " + key));
            this.key = key;
        }
    }

    public static final class Account {
        public final String email;
        public final long balance;
        public final String currency;

        Account(Map<?, ?> data) {
            email = (String) data.get("email");
            balance = (Long) data.get("balance");
            currency = (String) data.get("currency");
        }
    }

    public static final class Sent {
        public final long tranId;
        /** Messages accepted; 0 where the API does not say. */
        public final long totalSms;
        public final long totalPrice;
        public final List<String> invalidPhone;

        Sent(Map<?, ?> data) {
            tranId = (Long) data.get("tranId");
            totalSms = data.containsKey("totalSMS") ? (Long) data.get("totalSMS") : 0;
            totalPrice = (Long) data.get("totalPrice");
            invalidPhone = strings(data.get("invalidPhone"));
        }
    }

    public static final class PinCheck {
        public final boolean verified;
        public final long remainingAttempts;

        PinCheck(Map<?, ?> data) {
            verified = Boolean.TRUE.equals(data.get("verified"));
            remainingAttempts = (Long) data.get("remainingAttempts");
        }
    }

    public static final class Message {
        public final String phone;
        /** 0 waiting, 1 sent, 2 delivered, 3 failed. */
        public final int status;

        Message(Map<?, ?> data) {
            phone = (String) data.get("phone");
            status = ((Long) data.get("status")).intValue();
        }
    }

    // HTTP/1.1, because an upgrade of a plain connection is one more thing that can go wrong. It follows no redirects.
    private final HttpClient client = HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_1_1)
            .connectTimeout(Duration.ofSeconds(CONNECT_S))
            .build();
    private final String baseUrl;
    private final String token;

    public SpeedSms() {
        this(System.getenv().getOrDefault("SPEEDSMS_BASE_URL", "http://127.0.0.1:8100"), System.getenv("SPEEDSMS_TOKEN"));
    }

    public SpeedSms(String baseUrl, String token) {
        if (token == null || token.isEmpty()) {
            throw new IllegalArgumentException("set SPEEDSMS_TOKEN");
        }
        // Over plain HTTP everybody on the way reads the token.
        if (!baseUrl.matches("(https://|http://(localhost|127\\.0\\.0\\.1|\\[::1])(:\\d+)?(/|$)).*")) {
            throw new IllegalArgumentException("SPEEDSMS_BASE_URL: use https:// (http:// only on this machine)");
        }
        this.baseUrl = baseUrl.replaceAll("/+$", "");
        this.token = token;
    }

    public Account account() throws Failure {
        return new Account((Map<?, ?>) call("user/info", null, null));
    }

    /** One text to at most 100 numbers; the key is your own name of this sending, say "order-1234", or newKey(). */
    public Sent send(List<String> to, String content, int type, String sender, String key) throws Failure {
        Map<String, Object> fields = fields("to", to, "content", content, "sms_type", type, "sender", sender);
        return new Sent((Map<?, ?>) call("sms/send", fields, key));
    }

    /** Read a code of 4 to 10 digits aloud. */
    public Sent voice(String to, String digits, String key) throws Failure {
        return new Sent((Map<?, ?>) call("voice/otp", fields("to", to, "content", digits), key));
    }

    /** Send a PIN; {pin_code} in the text becomes it. */
    public Sent createPin(String to, String content, String appId, String key) throws Failure {
        return new Sent((Map<?, ?>) call("pin/create", fields("to", to, "content", content, "app_id", appId), key));
    }

    /** Look at verified and at nothing else: a wrong PIN is answered with success too. */
    public PinCheck verifyPin(String phone, String pin, String appId) throws Failure {
        Map<String, Object> fields = fields("phone", phone, "pin_code", pin, "app_id", appId);
        return new PinCheck((Map<?, ?>) call("pin/verify", fields, null));
    }

    public List<Message> status(long tranId) throws Failure {
        List<?> data = (List<?>) call("sms/status/" + tranId, null, null);
        return data.stream().map(message -> new Message((Map<?, ?>) message)).collect(Collectors.toList());
    }

    /** A text with a link to a picture, through an Android device. */
    public Sent sendMms(List<String> to, String content, String link, String device, String key) throws Failure {
        Map<String, Object> fields = fields("to", to, "content", content, "link", link, "sender", device);
        return new Sent((Map<?, ?>) call("mms/send", fields, key));
    }

    public static String newKey() {
        return UUID.randomUUID().toString();
    }

    /**
     * Repeating is safe because every try has the same key and the same bytes: the gateway carries a key out once. Of a
     * service whose replies lack the header "X-Speedsms-Contract: 1" that is not known: set TRIES to 1 there.
     */
    private Object call(String path, Map<String, Object> fields, String key) throws Failure {
        HttpRequest request = request(path, fields, key);
        boolean unknown = false; // may an earlier try have been carried out?
        for (int tried = 1;; tried++) {
            int http = 0;
            long waitS = tried;
            String why;
            Map<?, ?> reply = Map.of();
            String reason = "";
            try {
                HttpResponse<String> response = client.send(request, HttpResponse.BodyHandlers.ofString());
                http = response.statusCode();
                why = "HTTP " + http + " is no answer";
                reply = parsed(response.body());
                reason = response.headers().firstValue("X-Speedsms-Reason").orElse("");
                String wish = response.headers().firstValue("Retry-After").orElse("");
                waitS = wish.matches("[0-9]{1,9}") ? Math.min(Long.parseLong(wish), TOTAL_S) : tried;
            } catch (IOException error) {
                why = error.toString();
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
                throw new Unknown("interrupted", key);
            }
            if (http == 200 && "success".equals(reply.get("status")) && reply.get("data") != null) {
                return reply.get("data");
            }
            // 409: a try with this key is still running.
            boolean refused = http == 200 ? "error".equals(reply.get("status")) : http >= 400 && http < 500 && http != 409;
            unknown |= !refused;
            boolean passing = !refused || http == 429 || "500".equals(reply.get("code"));
            if (!passing || tried == TRIES) {
                throw unknown ? new Unknown(why, key) : new Refused(http, reply, reason);
            }
            pause(waitS, key);
        }
    }

    private HttpRequest request(String path, Map<String, Object> fields, String key) {
        String credentials = Base64.getEncoder().encodeToString((token + ":x").getBytes(StandardCharsets.UTF_8));
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(baseUrl + "/index.php/" + path))
                .timeout(Duration.ofSeconds(TOTAL_S))
                .header("Authorization", "Basic " + credentials);
        if (fields != null) {
            request.header("Content-Type", "application/json")
                    .POST(HttpRequest.BodyPublishers.ofString(Json.write(fields)));
        }
        if (key != null) {
            request.header("Idempotency-Key", key);
        }
        return request.build();
    }

    /** In this order in every run, as Map.of would not: with a key, a repeat has to have the same bytes. */
    private static Map<String, Object> fields(Object... namesAndValues) {
        Map<String, Object> fields = new LinkedHashMap<>();
        for (int i = 0; i < namesAndValues.length; i += 2) {
            fields.put((String) namesAndValues[i], namesAndValues[i + 1]);
        }
        return fields;
    }

    private static Map<?, ?> parsed(String text) {
        try {
            Object reply = Json.read(text);
            return reply instanceof Map ? (Map<?, ?>) reply : Map.of();
        } catch (IllegalArgumentException error) {
            return Map.of();
        }
    }

    private static void pause(long seconds, String key) throws Unknown {
        try {
            Thread.sleep(seconds * 1000);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new Unknown("interrupted", key);
        }
    }

    private static List<String> strings(Object list) {
        return list instanceof List
                ? ((List<?>) list).stream().map(String::valueOf).collect(Collectors.toList())
                : List.of();
    }
}
