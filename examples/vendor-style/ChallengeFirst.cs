// Shape S2 of spec/protocol.md §5.2: POST, JSON, `type` and `sender`, content escaped as for an address. The first request
// goes without credentials; after the challenge (401) they follow, as TOKEN and the password ":x".
// It proves that such programs keep working; new ones start from ../csharp/SpeedSms.cs.
//
//     mcs ChallengeFirst.cs && mono ChallengeFirst.exe NUMBER TEXT

using System;
using System.IO;
using System.Net;
using System.Text;

public static class ChallengeFirst
{
    public static void Main(string[] args)
    {
        var body = "{\"to\":[\"" + args[0] + "\"], \"content\": \"" + Uri.EscapeDataString(args[1])
            + "\", \"type\": 2, \"sender\": \"\"}";
        var bytes = Encoding.UTF8.GetBytes(body);
        var request = (HttpWebRequest)WebRequest.Create(
            Environment.GetEnvironmentVariable("SPEEDSMS_BASE_URL") + "/index.php/sms/send");
        request.Credentials = new NetworkCredential(Environment.GetEnvironmentVariable("SPEEDSMS_TOKEN"), ":x");
        request.Method = "POST";
        request.ContentType = "application/json";
        request.Timeout = 30000;
        using (var stream = request.GetRequestStream())
        {
            stream.Write(bytes, 0, bytes.Length);
        }
        using (var response = request.GetResponse())
        using (var reader = new StreamReader(response.GetResponseStream(), Encoding.UTF8))
        {
            Console.WriteLine(reader.ReadToEnd());
        }
    }
}
