-- Sends the bodies of a file in turn and prints one JSON line at the end.
--
-- wrk -s requests.lua URL -- FILE: the first line of FILE is the path, then one "name: value" header per line, an empty
-- line, and one body per line. Requests are encoded once, so that the script costs less than the server it measures.

local encoded, position = {}, 0

function init(args)
   local lines = io.lines(args[1])
   local path, headers = lines(), {}
   for line in lines do
      if line == "" then break end
      local name, value = line:match("^([^:]+): (.*)$")
      headers[name] = value
   end
   for body in lines do
      encoded[#encoded + 1] = wrk.format("POST", path, headers, body)
   end
end

function request()
   position = position % #encoded + 1
   return encoded[position]
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '\nRESULT {"requests":%d,"duration_us":%d,"bytes":%d,"p50_us":%d,"p99_us":%d,"max_us":%d,'
         .. '"failed":%d,"not_2xx":%d}\n',
      summary.requests, summary.duration, summary.bytes,
      latency:percentile(50), latency:percentile(99), latency.max,
      errors.connect + errors.read + errors.write + errors.timeout, errors.status))
end
