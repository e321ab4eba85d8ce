-- wrk: Kannel's sendsms with the text CONTENT; WEBHOOK, if set, is where it reports the receipt of each message to.
local content, webhook, n = os.getenv("CONTENT"):gsub("[^%w]", function(c) return string.format("%%%02X", c:byte()) end), os.getenv("WEBHOOK"), 11000000
local report = webhook and "&dlr-mask=3&dlr-url=" .. webhook:gsub("[^%w]", function(c) return string.format("%%%02X", c:byte()) end) .. "%3Fid%3D" or nil
request = function()
  n = n + 37
  return wrk.format("GET", "/cgi-bin/sendsms?username=bench&password=bench&from=BENCH&to=849" .. string.format("%08d", n % 100000000) .. "&text=" .. content .. (report and report .. n .. "%26state%3D%25d" or ""))
end
