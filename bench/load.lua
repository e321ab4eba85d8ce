-- wrk: sends of RECIPIENTS numbers each with the token TOKEN. Bodies are made before the load, so that making them costs the load nothing.
local recipients, bodies, next_body = tonumber(os.getenv("RECIPIENTS")), {}, 0
local headers = {["Content-Type"] = "application/json", ["Authorization"] = "Basic " .. os.getenv("CREDENTIALS")}
for b = 1, 200 do
  local to = {}
  for n = 1, recipients do to[n] = string.format('"849%08d"', 11000000 + (b * recipients + n) * 37) end
  bodies[b] = wrk.format("POST", "/index.php/sms/send", headers, '{"to":[' .. table.concat(to, ",") .. '],"content":"' .. os.getenv("CONTENT") .. '","sms_type":2,"sender":""}')
end
request = function()
  next_body = next_body % 200 + 1
  return bodies[next_body]
end
