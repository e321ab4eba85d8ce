// mono build/Status.exe TRAN_ID

using System;

public static class Status
{
    // Another scale than the webhook's, where 0 is delivered.
    private static readonly string[] Words = { "waiting", "sent", "delivered", "failed" };

    public static int Main(string[] args)
    {
        if (args.Length != 1)
        {
            Console.Error.WriteLine("usage: Status.exe TRAN_ID");
            return 2;
        }
        try
        {
            foreach (var message in new SpeedSms().Status(long.Parse(args[0])))
            {
                var status = Convert.ToInt32(message["status"]);
                var known = status >= 0 && status < Words.Length;
                Console.WriteLine(message["phone"] + " " + (known ? Words[status] : status.ToString()));
            }
            return 0;
        }
        catch (SpeedSmsError error)
        {
            Console.Error.WriteLine(error.Message);
            return 1;
        }
    }
}
