-- Pending labels of one shard that were known before a time, the oldest first.
--
-- KEYS  1: the pending labels; 2: its times.  ARGV  1: the time; 2: at most so many.
-- Returns transaction, known_at, label, transaction, ...

local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[1], 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local found = {}
for d = 1, #due, 2 do
  local label = redis.call('HGET', KEYS[1], due[d])
  if label then
    found[#found + 1] = due[d]
    found[#found + 1] = due[d + 1]
    found[#found + 1] = label
  else -- a time alone, as a failover may leave it: nothing waits here
    redis.call('ZREM', KEYS[2], due[d])
  end
end
return found
