-- Save the snapshots of sensors, each unless it was made under a claim that is over, or is older than the one here.
-- Where that is wished for the sensor is given up with it, unless somebody waits for a later state of it: whoever owns
-- it is to be waited for then, not its last state taken.
--
-- KEYS  for each sensor: state, features, meta
-- ARGV  for each sensor: snapshot, epoch, tier, restarts, next, position, updated, features, pipeline, rate,
--       release (1 or 0)
-- Returns for each sensor 1, or 0 where it was refused.
local saved = {}
for i = 0, #KEYS / 3 - 1 do
  local state, argument = KEYS[3 * i + 1], 11 * i
  local epoch, tier = tonumber(ARGV[argument + 2]), ARGV[argument + 3]
  local restarts, next_index = tonumber(ARGV[argument + 4]), tonumber(ARGV[argument + 5])
  local known = redis.call('HMGET', state, 'epoch', 'owner', 'restarts', 'next', 'wanted')
  local known_epoch = tonumber(known[1])
  local known_restarts, known_next = tonumber(known[3]) or 0, tonumber(known[4]) or -1
  local older = restarts < known_restarts or (restarts == known_restarts and next_index < known_next)
  -- A claim that a failover has lost may leave two owners with one epoch: the first to write keeps it.
  if known_epoch and (epoch < known_epoch or (epoch == known_epoch and (known[2] ~= tier or older))) then
    saved[i + 1] = 0
  else
    local owner = tier
    if ARGV[argument + 11] == '1' then
      local first = known[5] and tonumber(string.match(known[5], ':(%-?%d+)$')) or -1
      if first <= next_index then
        owner = ''
        redis.call('HDEL', state, 'wanted')
      end
    end
    redis.call('HSET', state,
      'snapshot', ARGV[argument + 1], 'epoch', ARGV[argument + 2], 'owner', owner, 'restarts', ARGV[argument + 4],
      'next', ARGV[argument + 5], 'position', ARGV[argument + 6], 'updated', ARGV[argument + 7],
      'source', string.match(ARGV[argument + 6], '^(.*)-%d+$'))
    if ARGV[argument + 8] ~= '' then
      redis.call('SET', KEYS[3 * i + 2], ARGV[argument + 8])
    end
    redis.call('HSET', KEYS[3 * i + 3], 'pipeline', ARGV[argument + 9], 'tier', tier, 'rate', ARGV[argument + 10])
    saved[i + 1] = 1
  end
end
return saved
