// mono build/Account.exe

using System;

public static class Account
{
    public static int Main()
    {
        try
        {
            var account = new SpeedSms().Account();
            Console.WriteLine(account["email"] + ": " + account["balance"] + " " + account["currency"]);
            return 0;
        }
        catch (SpeedSmsError error)
        {
            Console.Error.WriteLine(error.Message);
            return 1;
        }
    }
}
