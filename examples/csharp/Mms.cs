// mono build/Mms.exe TEXT LINK DEVICE NUMBERS: mono build/Mms.exe 'Xin chào' https://shop.example/a.jpg DEVICE 0912345678

using System;

public static class Mms
{
    public static int Main(string[] args)
    {
        if (args.Length != 4)
        {
            Console.Error.WriteLine("usage: Mms.exe TEXT LINK DEVICE NUMBERS");
            return 2;
        }
        try
        {
            var sent = new SpeedSms().SendMms(args[3].Split(','), args[0], args[1], args[2]);
            Console.WriteLine("tranId {0}: {1} accepted, {2} VND", sent["tranId"], sent["totalSMS"], sent["totalPrice"]);
            return 0;
        }
        catch (SpeedSmsError error)
        {
            Console.Error.WriteLine(error.Message);
            return error is SpeedSmsUnknown ? 5 : 1;
        }
    }
}
