-- Raises the owner's fencing token of partitions to at least a floor, and by one more where a new one is issued.
--
-- KEYS  1: the shard's partitions.  ARGV  1: 1 to issue; then partition, floor for each partition.
-- Returns the fencing tokens as they stand now.

if redis.call('HGET', KEYS[1], 'rebuilding') then return redis.error_reply('REBUILDING what is stored here') end
local step = tonumber(ARGV[1])
local fencing_tokens = {}
for a = 2, #ARGV, 2 do
  local field = 'token:' .. ARGV[a]
  local stored = tonumber(redis.call('HGET', KEYS[1], field) or '0')
  local fencing_token = math.max(stored, tonumber(ARGV[a + 1])) + step
  if fencing_token ~= stored then redis.call('HSET', KEYS[1], field, string.format('%.0f', fencing_token)) end
  fencing_tokens[#fencing_tokens + 1] = fencing_token
end
return fencing_tokens
