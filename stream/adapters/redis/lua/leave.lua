-- Lets labels of one shard leave the waiting room, each only if it still waits as it was read.
--
-- KEYS  1: the waiting room; 2: its times.  ARGV  transaction, label as it waited, for each.

local call = redis.call
for a = 1, #ARGV, 2 do
  if call('HGET', KEYS[1], ARGV[a]) == ARGV[a + 1] then
    call('HDEL', KEYS[1], ARGV[a])
    call('ZREM', KEYS[2], ARGV[a])
  end
end
return #ARGV / 2
