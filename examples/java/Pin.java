/** java -cp build Pin create APP_ID NUMBER | verify APP_ID NUMBER PIN. */
public final class Pin {
    public static void main(String[] args) {
        boolean creates = args.length == 3 && args[0].equals("create");
        if (!creates && !(args.length == 4 && args[0].equals("verify"))) {
            System.err.println("usage: java -cp build Pin create APP_ID NUMBER | verify APP_ID NUMBER PIN");
            System.exit(2);
        }
        try {
            SpeedSms sms = new SpeedSms();
            if (creates) {
                String text = "M\u00e3 x\u00e1c th\u1ef1c c\u1ee7a b\u1ea1n l\u00e0 {pin_code}";
                SpeedSms.Sent sent = sms.createPin(args[2], text, args[1], SpeedSms.newKey());
                System.out.println("tranId " + sent.tranId + ": " + sent.totalPrice + " VND");
            } else {
                SpeedSms.PinCheck check = sms.verifyPin(args[2], args[3], args[1]);
                System.out.println(check.verified ? "verified" : "wrong, " + check.remainingAttempts + " tries left");
                System.exit(check.verified ? 0 : 1);
            }
        } catch (SpeedSms.Failure failure) {
            System.err.println(failure.getMessage());
            System.exit(failure instanceof SpeedSms.Unknown ? 5 : 1);
        }
    }
}
