/** java -cp build Voice NUMBER DIGITS: java -cp build Voice 0912345678 493027. */
public final class Voice {
    public static void main(String[] args) {
        if (args.length != 2) {
            System.err.println("usage: java -cp build Voice NUMBER DIGITS");
            System.exit(2);
        }
        try {
            SpeedSms.Sent sent = new SpeedSms().voice(args[0], args[1], SpeedSms.newKey());
            System.out.println("tranId " + sent.tranId + ": " + sent.totalPrice + " VND");
        } catch (SpeedSms.Failure failure) {
            System.err.println(failure.getMessage());
            System.exit(failure instanceof SpeedSms.Unknown ? 5 : 1);
        }
    }
}
