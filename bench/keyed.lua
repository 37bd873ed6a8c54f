-- Sends a unique Idempotency-Key with each request: 96 random bits, as from a client library. Loaded after
-- reserve.lua.
local POST = "POST /reservations HTTP/1.1\r\n"
local MOST = 2 ^ 48 - 1

local prepare = init
local random = math.random

function init(args)
  prepare(args)
  -- Each thread and load starts with another user, so the seeds differ.
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
