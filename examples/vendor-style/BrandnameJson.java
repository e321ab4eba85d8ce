import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.util.Base64;

/**
 * Shape S3 of spec/protocol.md §5.2: POST, JSON put together by hand, `type` and `brandname`, accents as escapes. It
 * reads the normal stream only, so that a refusal with another HTTP status than 200 would end it without a code.
 * It proves that such programs keep working; new ones start from ../java/SpeedSms.java.
 *
 * <pre>java BrandnameJson.java NUMBER TEXT BRANDNAME</pre>
 */
public final class BrandnameJson {
    public static void main(String[] args) throws Exception {
        String body = "{\"to\": [\"" + args[0] + "\"], \"content\": \"" + escaped(args[1])
                + "\", \"type\": 3, \"brandname\": \"" + args[2] + "\"}";
        byte[] credentials = (System.getenv("SPEEDSMS_TOKEN") + ":x").getBytes(StandardCharsets.US_ASCII);
        URL url = new URL(System.getenv("SPEEDSMS_BASE_URL") + "/index.php/sms/send");
        HttpURLConnection connection = (HttpURLConnection) url.openConnection();
        connection.setConnectTimeout(5_000);
        connection.setReadTimeout(30_000);
        connection.setRequestMethod("POST");
        connection.setRequestProperty("Authorization", "Basic " + Base64.getEncoder().encodeToString(credentials));
        connection.setRequestProperty("Content-Type", "application/json");
        connection.setDoOutput(true);
        try (OutputStream out = connection.getOutputStream()) {
            out.write(body.getBytes(StandardCharsets.US_ASCII));
        }
        InputStreamReader stream = new InputStreamReader(connection.getInputStream(), StandardCharsets.UTF_8);
        try (BufferedReader reader = new BufferedReader(stream)) {
            System.out.println(reader.readLine());
        }
    }

    private static String escaped(String text) {
        StringBuilder out = new StringBuilder();
        for (char c : text.toCharArray()) {
            boolean plain = c >= 0x20 && c < 0x7F && c != '"' && c != '\\';
            out.append(plain ? String.valueOf(c) : String.format("\\u%04x", (int) c));
        }
        return out.toString();
    }
}
