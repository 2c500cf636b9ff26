-- Read fields of hashes of sensors.
--
-- KEYS  for each sensor: state, meta
-- ARGV  for each sensor: how many fields of state, their names, the names of the fields of meta
-- Returns for each sensor: the fields of state and of meta, each list false where the key is not a hash.
local function fields(key, first, last)
  local found = redis.pcall('HMGET', key, unpack(ARGV, first, last))
  if not found.err then
    return found
  end
  if string.find(found.err, 'WRONGTYPE', 1, true) then
    return false
  end
  error(found.err)
end

local width = 2 * #ARGV / #KEYS
local read = {}
for i = 0, #KEYS / 2 - 1 do
  local first = width * i + 2
  local after = first + tonumber(ARGV[first - 1])
  read[i + 1] = {fields(KEYS[2 * i + 1], first, after - 1), fields(KEYS[2 * i + 2], after, width * (i + 1))}
end
return read
