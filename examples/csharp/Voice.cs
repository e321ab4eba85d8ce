// mono build/Voice.exe NUMBER DIGITS: mono build/Voice.exe 0912345678 493027

using System;

public static class Voice
{
    public static int Main(string[] args)
    {
        if (args.Length != 2)
        {
            Console.Error.WriteLine("usage: Voice.exe NUMBER DIGITS");
            return 2;
        }
        try
        {
            var sent = new SpeedSms().Voice(args[0], args[1]);
            Console.WriteLine("tranId {0}: {1} VND", sent["tranId"], sent["totalPrice"]);
            return 0;
        }
        catch (SpeedSmsError error)
        {
            Console.Error.WriteLine(error.Message);
            return error is SpeedSmsUnknown ? 5 : 1;
        }
    }
}
