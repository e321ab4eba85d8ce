// mono build/Pin.exe create APP_ID NUMBER
// mono build/Pin.exe verify APP_ID NUMBER PIN

using System;

public static class Pin
{
    public static int Main(string[] args)
    {
        var creates = args.Length == 3 && args[0] == "create";
        if (!creates && !(args.Length == 4 && args[0] == "verify"))
        {
            Console.Error.WriteLine("usage: Pin.exe create APP_ID NUMBER | verify APP_ID NUMBER PIN");
            return 2;
        }
        try
        {
            var sms = new SpeedSms();
            if (creates)
            {
                var sent = sms.CreatePin(args[2], "Mã xác thực của bạn là {pin_code}", args[1]);
                Console.WriteLine("tranId {0}: {1} VND", sent["tranId"], sent["totalPrice"]);
                return 0;
            }
            var check = sms.VerifyPin(args[2], args[3], args[1]);
            var verified = true.Equals(check["verified"]);
            Console.WriteLine(verified ? "verified" : "wrong, " + check["remainingAttempts"] + " tries left");
            return verified ? 0 : 1;
        }
        catch (SpeedSmsError error)
        {
            Console.Error.WriteLine(error.Message);
            return error is SpeedSmsUnknown ? 5 : 1;
        }
    }
}
