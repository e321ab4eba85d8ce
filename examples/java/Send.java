import java.util.List;

/**
 * java -cp build Send TEXT NUMBERS [TYPE [SENDER [KEY]]].
 *
 * <pre>
 * java -cp build Send 'Xin chào' 0912345678,0987654321            type 2: from a random long number
 * java -cp build Send 'Xin chào' 0912345678 3 MYSHOP              type 3: from your own brandname
 * java -cp build Send 'Mã của bạn: 493027' 0912345678 4 Verify    type 4: from a shared brandname, Verify or Notify
 * java -cp build Send 'Xin chào' 0912345678 5 DEVICE              type 5: from your Android device
 * </pre>
 */
public final class Send {
    public static void main(String[] args) {
        if (args.length < 2) {
            System.err.println("usage: java -cp build Send TEXT NUMBERS [TYPE [SENDER [KEY]]]");
            System.exit(2);
        }
        int type = args.length > 2 ? Integer.parseInt(args[2]) : 2;
        String sender = args.length > 3 ? args[3] : "";
        String key = args.length > 4 ? args[4] : SpeedSms.newKey();
        try {
            SpeedSms.Sent sent = new SpeedSms().send(List.of(args[1].split(",")), args[0], type, sender, key);
            System.out.println("tranId " + sent.tranId + ": " + sent.totalSms + " accepted, " + sent.totalPrice + " VND");
            sent.invalidPhone.forEach(phone -> System.out.println("invalid: " + phone));
        } catch (SpeedSms.Refused refused) {
            System.err.println(refused.getMessage());
            refused.invalidPhone.forEach(phone -> System.err.println("invalid: " + phone));
            System.exit(1);
        } catch (SpeedSms.Failure unknown) {
            // Say it to a person, or keep the key and try again later; with a new key it could arrive twice.
            System.err.println(unknown.getMessage());
            System.exit(5);
        }
    }
}
