-- Raises the owner's token of partitions to at least a floor, and by one more where a new one is issued.
--
-- KEYS  1: the shard's partitions.  ARGV  1: 1 to issue; then partition, floor for each partition.
-- Returns the tokens as they stand now.

if redis.call('HGET', KEYS[1], 'rebuilding') then return redis.error_reply('REBUILDING what is stored here') end
local step = tonumber(ARGV[1])
local tokens = {}
for a = 2, #ARGV, 2 do
  local field = 'token:' .. ARGV[a]
  local stored = tonumber(redis.call('HGET', KEYS[1], field) or '0')
  local token = math.max(stored, tonumber(ARGV[a + 1])) + step
  if token ~= stored then redis.call('HSET', KEYS[1], field, string.format('%.0f', token)) end
  tokens[#tokens + 1] = token
end
return tokens
