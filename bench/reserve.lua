-- The load: POST /reservations, each request with a user of its own. wrk runs one copy of this for each of its
-- threads. It shares the machine with what it measures, so it does as little as it can for each request.
-- Arguments: FIRST_PRODUCT PRODUCTS FIRST_USER

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
  thread:set("threads", 2)
end

local heads, turn, user = {}, 0, 0

function init(args)
  local first, products = tonumber(args[1]), tonumber(args[2])
  user = tonumber(args[3]) + number
  -- Spaces before the product's id, and users of 12 digits: every body has the same length.
  local width = #tostring(first + products)
  local body = '{"product_id":%' .. width .. 'd,"user_id":'
  local length = #body:format(first) + 12 + 1
  for i = 0, products - 1 do
    heads[i] = "POST /reservations HTTP/1.1\r\nHost: " .. wrk.host .. "\r\n" ..
      "Content-Type: application/json\r\nContent-Length: " .. length .. "\r\n\r\n" .. body:format(first + i)
  end
  turn = #heads + 1
  count = products
end

function request()
  turn = (turn + 1) % count
  user = user + threads
  return heads[turn] .. user .. "}"
end
