-- Claim sensors: raise the epoch and take the ownership, unless somebody else has it and its state here is behind.
-- Somebody else is another tier, or a worker of ours that takes the sensor's blocks from another partition.
--
-- KEYS  for each sensor: state, meta
-- ARGV  for each sensor: tier, source (topic-partition), first, epoch, restarts, next (of the claimer's newest copy),
--       force (1 or 0), pipeline
-- Returns for each sensor: taken (1 or 0), epoch, restarts, next, snapshot (where it is taken, and newer than the
-- claimer's), owner and epoch before, whether that was somebody else (1 or 0).
local claimed = {}
for i = 0, #KEYS / 2 - 1 do
  local state, meta, argument = KEYS[2 * i + 1], KEYS[2 * i + 2], 8 * i
  local tier, source, first = ARGV[argument + 1], ARGV[argument + 2], tonumber(ARGV[argument + 3])
  local epoch, restarts, next_index =
    tonumber(ARGV[argument + 4]), tonumber(ARGV[argument + 5]), tonumber(ARGV[argument + 6])
  local known = redis.call('HMGET', state, 'epoch', 'owner', 'restarts', 'next', 'source', 'wanted')
  local known_epoch, owner = tonumber(known[1]) or 0, known[2] or ''
  local known_restarts, known_next = tonumber(known[3]) or 0, tonumber(known[4]) or -1
  local newer = known_restarts > restarts or (known_restarts == restarts and known_next > next_index)
  local behind = (newer and known_next or next_index) < first
  local others = owner ~= '' and (owner ~= tier or (source ~= '' and (known[5] or source) ~= source))
  local taken, snapshot = 1, false
  if others and behind and ARGV[argument + 7] == '0' then
    redis.call('HSET', state, 'wanted', tier .. ':' .. ARGV[argument + 3])
    taken, epoch = 0, known_epoch
  else
    if others or owner ~= tier or known_epoch ~= epoch then
      epoch = math.max(known_epoch, epoch) + 1
      redis.call('HSET', state, 'epoch', string.format('%.0f', epoch), 'owner', tier)
      redis.call('HDEL', state, 'source')
      if source ~= '' then
        redis.call('HSET', state, 'source', source)
      end
      -- For whoever meets the sensor next, on whichever tier; a state that is here says itself what made it.
      redis.call('HSET', meta, 'tier', tier)
      if ARGV[argument + 8] ~= '' and redis.call('HEXISTS', state, 'snapshot') == 0 then
        redis.call('HSET', meta, 'pipeline', ARGV[argument + 8])
      end
      if string.match(known[6] or '', '^([^:]*)') == tier then
        redis.call('HDEL', state, 'wanted')
      end
    end
    snapshot = newer and redis.call('HGET', state, 'snapshot')
  end
  claimed[i + 1] = {taken, epoch, known_restarts, known_next, snapshot, owner, known_epoch, others and 1 or 0}
end
return claimed
