-- Each request has an Idempotency-Key of its own: 96 random bits, as a client's library would draw them. This follows
-- reserve.lua.
local POST = "POST /reservations HTTP/1.1\r\n"
local MOST = 2 ^ 48 - 1

local prepare = init
local random = math.random

function init(args)
  prepare(args)
  -- No other thread or load begins with this user, so none draws these keys.
  math.randomseed(user)
  for i = 0, products - 1 do
    heads[i] = "\r\n" .. heads[i]:sub(#POST + 1)
  end
end

function request()
  turn = (turn + 1) % products
  user = user + step
  return POST .. ("Idempotency-Key: %012x%012x"):format(random(0, MOST), random(0, MOST)) .. heads[turn] .. user .. "}"
end
