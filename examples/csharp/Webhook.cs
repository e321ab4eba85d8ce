// A receiver of reports and incoming messages; WEBHOOK_SECRET is the whsec_… of `speedsms webhook set`, or
// several, separated by spaces.
//
//     mono build/Webhook.exe 9000

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;
using System.Threading;

public static class Webhook
{
    private const long ToleranceSeconds = 300;
    private const int BodyLimit = 65536;
    private static readonly DateTime Epoch = new DateTime(1970, 1, 1, 0, 0, 0, DateTimeKind.Utc);
    private static byte[][] keys;

    public static void Main(string[] args)
    {
        var port = args.Length > 0 ? int.Parse(args[0]) : 9000;
        keys = (Environment.GetEnvironmentVariable("WEBHOOK_SECRET") ?? "").Split(' ').Select(SigningKey).ToArray();
        var listener = new HttpListener();
        listener.Prefixes.Add("http://127.0.0.1:" + port + "/");
        listener.Start();
        Console.OutputEncoding = new UTF8Encoding(false);
        Console.WriteLine("listening on http://127.0.0.1:" + port + "/");
        while (true)
        {
            var context = listener.GetContext();
            ThreadPool.QueueUserWorkItem(_ => Answer(context)); // one slow caller does not hold up the others
        }
    }

    private static byte[] SigningKey(string secret)
    {
        var bytes = secret.StartsWith("whsec_", StringComparison.Ordinal)
            ? Convert.FromBase64String(secret.Substring(6))
            : new byte[0];
        if (bytes.Length < 24)
        {
            throw new ArgumentException("set WEBHOOK_SECRET"); // a short key lets others in
        }
        return bytes;
    }

    private static void Answer(HttpListenerContext context)
    {
        int status;
        try
        {
            status = Judge(context.Request);
        }
        catch (Exception error) // one post that fails does not end the receiver
        {
            Console.Error.WriteLine(error.Message);
            status = 500;
        }
        try
        {
            context.Response.StatusCode = status;
            context.Response.Close();
        }
        catch (Exception error) // the caller has gone
        {
            Console.Error.WriteLine(error.Message);
        }
    }

    private static int Judge(HttpListenerRequest request)
    {
        if (request.HttpMethod != "POST")
        {
            return 405;
        }
        var body = Body(request.InputStream); // the very bytes that were signed
        if (body == null)
        {
            return 413;
        }
        var id = request.Headers["webhook-id"] ?? "";
        var timestamp = request.Headers["webhook-timestamp"] ?? "";
        if (!Genuine(id, timestamp, request.Headers["webhook-signature"] ?? "", body))
        {
            return 401;
        }
        Received(id, Json.ReadObject(Encoding.UTF8.GetString(body)));
        return 204; // within 15 s, or it is posted again: work that takes longer goes to a queue
    }

    private static byte[] Body(Stream stream)
    {
        var body = new MemoryStream();
        var buffer = new byte[8192];
        int read;
        while ((read = stream.Read(buffer, 0, buffer.Length)) > 0)
        {
            body.Write(buffer, 0, read);
            if (body.Length > BodyLimit)
            {
                return null;
            }
        }
        return body.ToArray();
    }

    // Whether the gateway signed these bytes (Standard Webhooks), and not long ago.
    private static bool Genuine(string id, string timestamp, string signatures, byte[] body)
    {
        var now = (long)(DateTime.UtcNow - Epoch).TotalSeconds;
        if (id == "" || !Regex.IsMatch(timestamp, @"\A[0-9]{1,15}\z")
            || Math.Abs(now - long.Parse(timestamp)) > ToleranceSeconds)
        {
            return false;
        }
        var signed = Encoding.UTF8.GetBytes(id + "." + timestamp + ".").Concat(body).ToArray();
        var theirs = signatures.Split(' '); // several while a secret is changed
        return keys.Select(key => Signature(key, signed)).Any(ours => theirs.Any(one => Same(ours, one)));
    }

    private static string Signature(byte[] key, byte[] signed)
    {
        using (var hmac = new HMACSHA256(key))
        {
            return "v1," + Convert.ToBase64String(hmac.ComputeHash(signed));
        }
    }

    // In a time that does not tell where they differ. Newer .NET has CryptographicOperations.FixedTimeEquals for it.
    private static bool Same(string ours, string theirs)
    {
        var difference = ours.Length ^ theirs.Length;
        for (var i = 0; i < ours.Length && i < theirs.Length; i++)
        {
            difference |= ours[i] ^ theirs[i];
        }
        return difference == 0;
    }

    // Your work. The same id may come again: keep it four days, with a unique index, and skip what you have seen.
    private static void Received(string id, IDictionary<string, object> @event)
    {
        var type = Json.Text(@event, "type");
        if (type == "report")
        {
            var status = Convert.ToInt32(@event["status"]);
            var word = status == 0 ? "delivered" : status < 64 ? "still trying" : "failed";
            Console.WriteLine("report {0}: tranId {1} to {2}: {3} ({4})", id, @event["tranId"], @event["phone"], word, status);
        }
        else if (type == "sms")
        {
            // Quoted: strangers write these texts, and a line break in one would forge a line of the log.
            var text = Regex.Replace(Json.Text(@event, "content"), @"\p{Cc}", "·").Replace("\"", "\\\"");
            Console.WriteLine("incoming {0}: {1}: \"{2}\"", id, @event["phone"], text);
        } // else of a later release
    }
}
