-- Sends an API key with each request. Loaded after reserve.lua. Further argument: KEY

local prepare = init

function init(args)
  prepare(args)
  for i = 0, products - 1 do
    heads[i] = heads[i]:gsub("\r\n", "\r\nAuthorization: Bearer " .. args[5] .. "\r\n", 1)
  end
end
