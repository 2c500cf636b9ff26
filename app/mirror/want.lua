-- Tell tiers that others want sensors of theirs.
--
-- KEYS  for each sensor: what is wanted of its tier
-- ARGV  for each sensor: `first:epoch:sensor`, how long the wish holds (ms)
-- The clock is Redis's, as the workers' may differ.
local now = redis.call('TIME')
local told = {}
for i, key in ipairs(KEYS) do
  redis.call('ZADD', key, string.format('%.0f', now[1] * 1000 + now[2] / 1000 + ARGV[2 * i]), ARGV[2 * i - 1])
  redis.call('PEXPIRE', key, ARGV[2 * i])
  told[i] = 1
end
return told
