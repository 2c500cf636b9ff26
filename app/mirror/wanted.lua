-- Read what is wanted of tiers now, and forget what has expired.
--
-- KEYS  for each tier: what is wanted of it
-- Returns for each tier: its list of `first:epoch:sensor`.
local now = redis.call('TIME')
local wanted = {}
for i, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('(%.0f', now[1] * 1000 + now[2] / 1000))
  wanted[i] = redis.call('ZRANGE', key, 0, -1)
end
return wanted
