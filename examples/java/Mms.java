import java.util.List;

/** java -cp build Mms TEXT LINK DEVICE NUMBERS: java -cp build Mms 'Xin chào' https://shop.example/a.jpg DEVICE 0912345678. */
public final class Mms {
    public static void main(String[] args) {
        if (args.length != 4) {
            System.err.println("usage: java -cp build Mms TEXT LINK DEVICE NUMBERS");
            System.exit(2);
        }
        try {
            List<String> numbers = List.of(args[3].split(","));
            SpeedSms.Sent sent = new SpeedSms().sendMms(numbers, args[0], args[1], args[2], SpeedSms.newKey());
            System.out.println("tranId " + sent.tranId + ": " + sent.totalSms + " accepted, " + sent.totalPrice + " VND");
        } catch (SpeedSms.Failure failure) {
            System.err.println(failure.getMessage());
            System.exit(failure instanceof SpeedSms.Unknown ? 5 : 1);
        }
    }
}
