-- Put states of sensors here from elsewhere, each unless a newer one is here. Nobody owns them then, and every claim
-- that was is over: the tier that claims a sensor next goes on from its state.
--
-- KEYS  for each sensor: state, meta
-- ARGV  for each sensor: snapshot, epoch (the greatest known elsewhere), restarts, next, position, updated, pipeline,
--       rate
-- Returns for each sensor: imported (1 or 0), epoch, restarts and next of what was here, owner before.
local imported = {}
for i = 0, #KEYS / 2 - 1 do
  local state, argument = KEYS[2 * i + 1], 8 * i
  local epoch = tonumber(ARGV[argument + 2])
  local restarts, next_index = tonumber(ARGV[argument + 3]), tonumber(ARGV[argument + 4])
  local known = redis.call('HMGET', state, 'epoch', 'owner', 'restarts', 'next')
  local known_epoch, owner = tonumber(known[1]) or 0, known[2] or ''
  local known_restarts, known_next = tonumber(known[3]) or 0, tonumber(known[4]) or -1
  local older = restarts < known_restarts or (restarts == known_restarts and next_index < known_next)
  if older then
    epoch = known_epoch
  else
    epoch = math.max(known_epoch, epoch) + 1
    redis.call('HSET', state,
      'snapshot', ARGV[argument + 1], 'epoch', string.format('%.0f', epoch), 'owner', '',
      'restarts', ARGV[argument + 3], 'next', ARGV[argument + 4], 'position', ARGV[argument + 5],
      'updated', ARGV[argument + 6])
    redis.call('HDEL', state, 'wanted', 'source')
    redis.call('HSET', KEYS[2 * i + 2], 'pipeline', ARGV[argument + 7], 'rate', ARGV[argument + 8])
  end
  imported[i + 1] = {older and 0 or 1, epoch, known_restarts, known_next, owner}
end
return imported
