// mono build/Send.exe TEXT NUMBERS [TYPE [SENDER [KEY]]]
//
//     mono build/Send.exe 'Xin chào' 0912345678,0987654321            type 2: from a random long number
//     mono build/Send.exe 'Xin chào' 0912345678 3 MYSHOP              type 3: from your own brandname
//     mono build/Send.exe 'Mã của bạn: 493027' 0912345678 4 Verify    type 4: from a shared brandname, Verify or Notify
//     mono build/Send.exe 'Xin chào' 0912345678 5 DEVICE              type 5: from your Android device

using System;

public static class Send
{
    public static int Main(string[] args)
    {
        if (args.Length < 2)
        {
            Console.Error.WriteLine("usage: Send.exe TEXT NUMBERS [TYPE [SENDER [KEY]]]");
            return 2;
        }
        var type = args.Length > 2 ? int.Parse(args[2]) : 2;
        var sender = args.Length > 3 ? args[3] : "";
        var key = args.Length > 4 ? args[4] : null;
        try
        {
            var sent = new SpeedSms().Send(args[1].Split(','), args[0], type, sender, key);
            Console.WriteLine("tranId {0}: {1} accepted, {2} VND", sent["tranId"], sent["totalSMS"], sent["totalPrice"]);
            foreach (var phone in Json.Texts(sent, "invalidPhone"))
            {
                Console.WriteLine("invalid: " + phone);
            }
            return 0;
        }
        catch (SpeedSmsRefused refused)
        {
            Console.Error.WriteLine(refused.Message);
            foreach (var phone in refused.InvalidPhone)
            {
                Console.Error.WriteLine("invalid: " + phone);
            }
            return 1;
        }
        catch (SpeedSmsUnknown unknown)
        {
            // Say it to a person, or keep the key and try again later; with a new key it could arrive twice.
            Console.Error.WriteLine(unknown.Message);
            return 5;
        }
    }
}
