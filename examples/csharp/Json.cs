// JSON by the library that the platform has: two names for one thing, so that the rest need not know.

using System;
using System.Collections.Generic;
using System.Linq;
#if NETCOREAPP
using System.Text.Json;
#else
using System.Web.Script.Serialization;
#endif

public static class Json
{
    /// <summary>The object, or an empty one if the text is something else.</summary>
    public static IDictionary<string, object> ReadObject(string text)
    {
        return Read(text) as IDictionary<string, object> ?? new Dictionary<string, object>();
    }

    public static string Text(IDictionary<string, object> from, string name)
    {
        object value;
        return from.TryGetValue(name, out value) && value != null ? Convert.ToString(value) : "";
    }

    public static string[] Texts(IDictionary<string, object> from, string name)
    {
        object value;
        from.TryGetValue(name, out value);
        var list = value as IEnumerable<object>;
        return list == null ? new string[0] : list.Select(Convert.ToString).ToArray();
    }

#if NETCOREAPP
    public static string Write(object value)
    {
        return JsonSerializer.Serialize(value);
    }

    private static object Read(string text)
    {
        try
        {
            using (var document = JsonDocument.Parse(text))
            {
                return Plain(document.RootElement);
            }
        }
        catch (JsonException)
        {
            return null;
        }
    }

    private static object Plain(JsonElement element)
    {
        switch (element.ValueKind)
        {
            case JsonValueKind.Object:
                return element.EnumerateObject().ToDictionary(p => p.Name, p => Plain(p.Value));
            case JsonValueKind.Array:
                return element.EnumerateArray().Select(Plain).ToArray();
            case JsonValueKind.String:
                return element.GetString();
            case JsonValueKind.Number:
                return element.TryGetInt64(out var number) ? (object)number : element.GetDouble();
            case JsonValueKind.Null:
                return null;
            default:
                return element.GetBoolean();
        }
    }
#else
    public static string Write(object value)
    {
        return new JavaScriptSerializer().Serialize(value);
    }

    private static object Read(string text)
    {
        try
        {
            return new JavaScriptSerializer().DeserializeObject(text);
        }
        catch (ArgumentException)
        {
            return null;
        }
        catch (InvalidOperationException)
        {
            return null;
        }
    }
#endif
}
