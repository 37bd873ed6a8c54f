-- Also confirms each hold some time later, on any connection. Loaded after reserve.lua. The ids of new holds are
-- consecutive, so the script need not read the answers: a hold exists by the time that LAG more have been requested.
-- Further argument: FIRST_HOLD
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
    -- The other threads progress at the same rate.
    asked_for = asked_for + step
    return reserve()
  end
  local id = next_hold
  next_hold = next_hold + step
  return "POST /reservations/" .. id .. "/confirm HTTP/1.1\r\nHost: " .. wrk.host .. "\r\nContent-Length: 0\r\n\r\n"
end
