-- Give up the ownership of sensors, each unless the claim is over.
--
-- KEYS  for each sensor: state
-- ARGV  for each sensor: tier, epoch
-- Returns for each sensor: 1, or 0 where it was refused; and what was waiting for it, as `tier:first`, or false.
local released = {}
for i, state in ipairs(KEYS) do
  local tier, epoch = ARGV[2 * i - 1], tonumber(ARGV[2 * i])
  local known = redis.call('HMGET', state, 'epoch', 'owner', 'wanted')
  local known_epoch, owner = tonumber(known[1]), known[2]
  if not known_epoch then
    released[i] = {1, false} -- flushed: nobody owns it
  elseif epoch < known_epoch or (epoch == known_epoch and owner ~= tier and owner ~= '') then
    released[i] = {0, false}
  else
    redis.call('HSET', state, 'epoch', ARGV[2 * i], 'owner', '')
    redis.call('HDEL', state, 'wanted')
    released[i] = {1, known[3]}
  end
end
return released
