// The SpeedSMS API in one file: copy it. .NET Framework 4.6.1, Mono 6 or .NET 6, or newer; no package.
//
//     var sms = new SpeedSms();                                // SPEEDSMS_BASE_URL, SPEEDSMS_TOKEN
//     var sent = sms.Send(new[] { "0912345678" }, "Xin chào", 2);
//     Console.WriteLine(sent["tranId"]);

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Text;
using System.Text.RegularExpressions;
using System.Threading;
using System.Threading.Tasks;

public abstract class SpeedSmsError : Exception
{
    protected SpeedSmsError(string message) : base(message) { }
}

/// <summary>Certain: nothing was sent and nothing was charged.</summary>
public sealed class SpeedSmsRefused : SpeedSmsError
{
    public readonly int HttpStatus;
    public readonly string Code;           // "300"; "0" if the answer is of HTTP alone
    public readonly string Reason;         // "balance": finer than the code, for programs; may be empty
    public readonly string[] InvalidPhone; // as you wrote them

    public SpeedSmsRefused(int httpStatus, IDictionary<string, object> reply, string reason)
        : base("refused: " + (httpStatus == 200 ? "code " + Json.Text(reply, "code") : "HTTP " + httpStatus)
            + (reason == "" ? "" : " (" + reason + ")") + ": " + Json.Text(reply, "message"))
    {
        HttpStatus = httpStatus;
        Code = Json.Text(reply, "code");
        Reason = reason;
        InvalidPhone = Json.Texts(reply, "invalidPhone");
    }
}

/// <summary>It may have been carried out: repeat the same call with this key, and nothing happens twice.</summary>
public sealed class SpeedSmsUnknown : SpeedSmsError
{
    public readonly string Key;

    public SpeedSmsUnknown(string why, string key)
        : base("unknown: " + why + (key == null ? "" : "; repeat it with the key " + key))
    {
        Key = key;
    }
}

public sealed class SpeedSms
{
    private const int Tries = 3;
    private const int TotalSeconds = 30;

    // One for the whole program: each would keep connections of its own. The certificate is verified, as by default.
    private static readonly HttpClient Client = new HttpClient(new HttpClientHandler { AllowAutoRedirect = false })
    {
        Timeout = TimeSpan.FromSeconds(TotalSeconds)
    };

    private readonly string baseUrl;
    private readonly string token;

    public SpeedSms(string baseUrl = null, string token = null)
    {
        this.baseUrl = (baseUrl ?? Setting("SPEEDSMS_BASE_URL") ?? "http://127.0.0.1:8100").TrimEnd('/');
        this.token = token ?? Setting("SPEEDSMS_TOKEN");
        if (string.IsNullOrEmpty(this.token))
        {
            throw new ArgumentException("set SPEEDSMS_TOKEN");
        }
        // Over plain HTTP everybody on the way reads the token.
        if (!Regex.IsMatch(this.baseUrl, @"\A(https://|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(/|\z))"))
        {
            throw new ArgumentException("SPEEDSMS_BASE_URL: use https:// (http:// only on this machine)");
        }
    }

    /// <returns>email, balance, currency</returns>
    public IDictionary<string, object> Account()
    {
        return Object(Call("user/info", null, null));
    }

    /// <summary>One text to at most 100 numbers; the key is your own name of this sending, say "order-1234".</summary>
    /// <returns>tranId, totalSMS, totalPrice, invalidPhone</returns>
    public IDictionary<string, object> Send(
        string[] to, string content, int type = 2, string sender = "", string key = null)
    {
        var fields = new Dictionary<string, object>
        {
            ["to"] = to, ["content"] = content, ["sms_type"] = type, ["sender"] = sender
        };
        return Object(Call("sms/send", fields, key ?? NewKey()));
    }

    /// <summary>Read a code of 4 to 10 digits aloud.</summary>
    /// <returns>tranId, totalPrice, invalidPhone</returns>
    public IDictionary<string, object> Voice(string to, string digits, string key = null)
    {
        var fields = new Dictionary<string, object> { ["to"] = to, ["content"] = digits };
        return Object(Call("voice/otp", fields, key ?? NewKey()));
    }

    /// <summary>Send a PIN; {pin_code} in the text becomes it.</summary>
    /// <returns>tranId, totalPrice</returns>
    public IDictionary<string, object> CreatePin(string to, string content, string appId, string key = null)
    {
        var fields = new Dictionary<string, object> { ["to"] = to, ["content"] = content, ["app_id"] = appId };
        return Object(Call("pin/create", fields, key ?? NewKey()));
    }

    /// <summary>Look at verified and at nothing else: a wrong PIN is answered with success too.</summary>
    /// <returns>pin, phone, verified, remainingAttempts</returns>
    public IDictionary<string, object> VerifyPin(string phone, string pin, string appId)
    {
        var fields = new Dictionary<string, object> { ["phone"] = phone, ["pin_code"] = pin, ["app_id"] = appId };
        return Object(Call("pin/verify", fields, null));
    }

    /// <returns>phone and status of each: 0 waiting, 1 sent, 2 delivered, 3 failed</returns>
    public IEnumerable<IDictionary<string, object>> Status(long tranId)
    {
        return ((IEnumerable<object>)Call("sms/status/" + tranId, null, null)).Select(Object);
    }

    /// <summary>A text with a link to a picture, through an Android device.</summary>
    /// <returns>tranId, totalSMS, totalPrice, invalidPhone</returns>
    public IDictionary<string, object> SendMms(
        string[] to, string content, string link, string device, string key = null)
    {
        var fields = new Dictionary<string, object>
        {
            ["to"] = to, ["content"] = content, ["link"] = link, ["sender"] = device
        };
        return Object(Call("mms/send", fields, key ?? NewKey()));
    }

    // Repeating is safe because every try has the same key and the same bytes: the gateway carries a key out once. Of a
    // service whose replies lack the header "X-Speedsms-Contract: 1" that is not known: set Tries to 1 there.
    private object Call(string path, IDictionary<string, object> fields, string key)
    {
        var unknown = false; // may an earlier try have been carried out?
        for (var tried = 1; ; tried++)
        {
            var http = 0;
            var wait = (uint)tried;
            var reason = "";
            string why;
            IDictionary<string, object> reply = new Dictionary<string, object>();
            try
            {
                using (var request = Request(path, fields, key))
                using (var response = Client.SendAsync(request).GetAwaiter().GetResult())
                {
                    http = (int)response.StatusCode;
                    why = "HTTP " + http + " is no answer";
                    reply = Json.ReadObject(response.Content.ReadAsStringAsync().GetAwaiter().GetResult());
                    reason = Header(response, "X-Speedsms-Reason");
                    uint wish;
                    wait = uint.TryParse(Header(response, "Retry-After"), out wish) ? wish : (uint)tried;
                }
            }
            catch (Exception error) when (error is HttpRequestException || error is WebException || error is IOException)
            {
                why = (error.InnerException ?? error).Message;
            }
            catch (TaskCanceledException)
            {
                why = "no answer within " + TotalSeconds + " s";
            }
            var status = Json.Text(reply, "status");
            object data;
            if (http == 200 && status == "success" && reply.TryGetValue("data", out data) && data != null)
            {
                return data;
            }
            // 409: a try with this key is still running.
            var refused = http == 200 ? status == "error" : http >= 400 && http < 500 && http != 409;
            unknown = unknown || !refused;
            var passing = !refused || http == 429 || Json.Text(reply, "code") == "500";
            if (passing && tried < Tries)
            {
                Thread.Sleep(TimeSpan.FromSeconds(Math.Min(wait, TotalSeconds)));
                continue;
            }
            if (unknown)
            {
                throw new SpeedSmsUnknown(why, key);
            }
            throw new SpeedSmsRefused(http, reply, reason);
        }
    }

    private HttpRequestMessage Request(string path, IDictionary<string, object> fields, string key)
    {
        var method = fields == null ? HttpMethod.Get : HttpMethod.Post;
        var request = new HttpRequestMessage(method, baseUrl + "/index.php/" + path);
        var credentials = Convert.ToBase64String(Encoding.UTF8.GetBytes(token + ":x"));
        request.Headers.Authorization = new AuthenticationHeaderValue("Basic", credentials);
        if (fields != null)
        {
            request.Content = new StringContent(Json.Write(fields), Encoding.UTF8, "application/json");
        }
        if (key != null)
        {
            request.Headers.Add("Idempotency-Key", key);
        }
        return request;
    }

    private static string Header(HttpResponseMessage response, string name)
    {
        IEnumerable<string> values;
        return response.Headers.TryGetValues(name, out values) ? values.First() : "";
    }

    private static IDictionary<string, object> Object(object data)
    {
        return (IDictionary<string, object>)data;
    }

    private static string NewKey()
    {
        return Guid.NewGuid().ToString();
    }

    private static string Setting(string name)
    {
        var value = Environment.GetEnvironmentVariable(name);
        return string.IsNullOrEmpty(value) ? null : value;
    }
}
