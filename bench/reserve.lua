-- The load: POST /reservations, with another user for each request. wrk runs a copy of this script in each thread.
-- The load runs on the measured machine, so the script does as little as possible per request. It has no response(),
-- which would cost a fifth of wrk's throughput; the servers count their answers by status. Arguments: THREADS
-- FIRST_PRODUCT PRODUCTS FIRST_USER (a number of 12 digits)

local started = 0

function setup(thread)
  thread:set("thread_number", started)
  started = started + 1
end

local heads, products, turn, user, step = {}, 1, 0, 0, 1

function init(args)
  local first = tonumber(args[2])
  products = tonumber(args[3])
  step = tonumber(args[1])
  user = tonumber(args[4]) + thread_number
  -- The product's id is padded with spaces, which JSON allows, so that all bodies have the same length.
  local body = '{"product_id":%' .. #tostring(first + products) .. 'd,"user_id":'
  local length = #body:format(first) + 12 + #"}"
  for i = 0, products - 1 do
    heads[i] = "POST /reservations HTTP/1.1\r\nHost: " .. wrk.host ..
      "\r\nContent-Type: application/json\r\nContent-Length: " .. length .. "\r\n\r\n" .. body:format(first + i)
  end
end

function request()
  turn = (turn + 1) % products
  user = user + step
  return heads[turn] .. user .. "}"
end

-- utime and stime of this process, in clock ticks.
local function cpu_ticks()
  local file = io.open("/proc/self/stat")
  if not file then return 0 end
  local fields = file:read("*a"):gsub("^.*%) ", "")
  file:close()
  local n, ticks = 0, 0
  for field in fields:gmatch("%S+") do
    n = n + 1
    if n == 12 or n == 13 then ticks = ticks + tonumber(field) end
  end
  return ticks
end

function done(summary, latency)
  local errors = summary.errors
  io.write(("load: requests=%d refused=%d connect=%d read=%d write=%d timeout=%d duration_us=%d p50_us=%d p99_us=%d cpu_ticks=%d\n")
    :format(summary.requests, errors.status, errors.connect, errors.read, errors.write, errors.timeout,
      summary.duration, latency:percentile(50), latency:percentile(99), cpu_ticks()))
end
