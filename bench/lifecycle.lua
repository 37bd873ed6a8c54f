-- What is held is confirmed, too, some while later, by whichever connection has its turn. This follows reserve.lua.
-- A new hold's id is the next number, so that nobody has to read the answers: by the time that LAG more have been asked
-- for, the hold is there. The further argument: FIRST_HOLD
local LAG = 2000

local reserve, prepare = request, init
local next_hold, asked_for = 0, 0

function init(args)
  prepare(args)
  asked_for = tonumber(args[5])
  next_hold = asked_for + thread_number
end

function request()
  if next_hold + LAG > asked_for then
    -- The other threads are about as far.
    asked_for = asked_for + step
    return reserve()
  end
  local id = next_hold
  next_hold = next_hold + step
  return "POST /reservations/" .. id .. "/confirm HTTP/1.1\r\nHost: " .. wrk.host .. "\r\nContent-Length: 0\r\n\r\n"
end
