import java.util.List;

/** java -cp build Status TRAN_ID. */
public final class Status {
    // Another scale than the webhook's, where 0 is delivered.
    private static final List<String> WORDS = List.of("waiting", "sent", "delivered", "failed");

    public static void main(String[] args) {
        if (args.length != 1) {
            System.err.println("usage: java -cp build Status TRAN_ID");
            System.exit(2);
        }
        try {
            for (SpeedSms.Message message : new SpeedSms().status(Long.parseLong(args[0]))) {
                boolean known = message.status >= 0 && message.status < WORDS.size();
                System.out.println(message.phone + " " + (known ? WORDS.get(message.status) : message.status));
            }
        } catch (SpeedSms.Failure failure) {
            System.err.println(failure.getMessage());
            System.exit(1);
        }
    }
}
