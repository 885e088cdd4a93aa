-- Removes pending labels of one shard, each only if it is still pending as it was read.
--
-- KEYS  1: the pending labels; 2: its times.  ARGV  transaction, label as it waited, for each.

local call = redis.call
for a = 1, #ARGV, 2 do
  if call('HGET', KEYS[1], ARGV[a]) == ARGV[a + 1] then
    call('HDEL', KEYS[1], ARGV[a])
    call('ZREM', KEYS[2], ARGV[a])
  end
end
return #ARGV / 2
