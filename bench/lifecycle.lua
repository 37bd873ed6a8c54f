
-- What is held is confirmed next, by whichever connection of the thread has its turn. This follows reserve.lua.
local reserve, held = request, {}

function request()
  local id = table.remove(held)
  if not id then return reserve() end
  return "POST /reservations/" .. id .. "/confirm HTTP/1.1\r\nHost: " .. wrk.host .. "\r\nContent-Length: 0\r\n\r\n"
end

function response(status, _, body)
  if status == 201 then held[#held + 1] = body:match('"id":(%d+)') end
end
