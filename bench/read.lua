-- Reads the first product instead of reserving. Loaded after reserve.lua.
local prepare, read = init, ""

function init(args)
  prepare(args)
  read = "GET /products/" .. args[2] .. " HTTP/1.1\r\nHost: " .. wrk.host .. "\r\n\r\n"
end

function request()
  return read
end
