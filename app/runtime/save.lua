-- Save the snapshots of many sensors, each unless the mirror has a newer one.
--
-- KEYS  for each sensor: state, features, meta
-- ARGV  for each sensor: snapshot, epoch, owner, next, position, updated, features, pipeline, tier, rate
-- Returns the numbers of the sensors that were refused, counted from 1.
local refused = {}
for i = 0, #KEYS / 3 - 1 do
  local state = KEYS[3 * i + 1]
  local argument = 10 * i
  local epoch, next_index = tonumber(ARGV[argument + 2]), tonumber(ARGV[argument + 4])
  local known = redis.call('HMGET', state, 'epoch', 'next')
  local known_epoch, known_next = tonumber(known[1]), tonumber(known[2])
  if known_epoch and (epoch < known_epoch or (epoch == known_epoch and next_index < known_next)) then
    refused[#refused + 1] = i + 1
  else
    redis.call('HSET', state,
      'snapshot', ARGV[argument + 1], 'epoch', ARGV[argument + 2], 'owner', ARGV[argument + 3],
      'next', ARGV[argument + 4], 'position', ARGV[argument + 5], 'updated', ARGV[argument + 6])
    redis.call('SET', KEYS[3 * i + 2], ARGV[argument + 7])
    redis.call('HSET', KEYS[3 * i + 3],
      'pipeline', ARGV[argument + 8], 'tier', ARGV[argument + 9], 'rate', ARGV[argument + 10])
  end
end
return refused
