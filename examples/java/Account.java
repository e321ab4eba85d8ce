/** java -cp build Account. */
public final class Account {
    public static void main(String[] args) {
        try {
            SpeedSms.Account account = new SpeedSms().account();
            System.out.println(account.email + ": " + account.balance + " " + account.currency);
        } catch (SpeedSms.Failure failure) {
            System.err.println(failure.getMessage());
            System.exit(1);
        }
    }
}
