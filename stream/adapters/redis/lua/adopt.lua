-- Begins a new epoch of the transactions in one shard: profiles, decisions and labels stay as they are.
--
-- KEYS  1: the shard's partitions; then a journal for each partition that begins anew.
-- ARGV  1: 1 where the whole log is another one, so that what is counted begins anew, too; then partition, first
--       offset for each.

local call = redis.call
if call('HGET', KEYS[1], 'rebuilding') then return redis.error_reply('REBUILDING what is stored here') end
for p = 2, #KEYS do
  local partition, start = ARGV[2 * p - 2], ARGV[2 * p - 1]
  local before = string.format('%.0f', tonumber(start) - 1)
  call('HSET', KEYS[1], 'fence:' .. partition, before, 'recorded:' .. partition, before)
  call('DEL', KEYS[p])
end
if ARGV[1] == '1' then call('HDEL', KEYS[1], 'decided', 'rejected', 'copies') end
return 1
