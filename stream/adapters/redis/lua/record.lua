-- Records the decisions of one shard; the first writer wins.
--
-- KEYS  1: the shard's partitions; then a key for each decision.
-- ARGV  1: seconds to live; 2: partitions; then partition, fencing token for each; then the decisions.
-- Returns {0, partition, newest fencing token} for a stale owner, else {1, what is recorded of each, nil if ours}.

if redis.call('HGET', KEYS[1], 'rebuilding') then return redis.error_reply('REBUILDING what is stored here') end
local partitions = tonumber(ARGV[2])
local changes = {}
for p = 1, partitions do
  local partition, fencing_token = ARGV[2 * p + 1], ARGV[2 * p + 2]
  local stored = redis.call('HGET', KEYS[1], 'token:' .. partition)
  if stored and tonumber(stored) > tonumber(fencing_token) then return {0, partition, stored} end
  if stored ~= fencing_token then
    changes[#changes + 1] = 'token:' .. partition
    changes[#changes + 1] = fencing_token
  end
end
if #changes > 0 then redis.call('HSET', KEYS[1], unpack(changes)) end

local first = 2 + 2 * partitions
local others, decided = {}, 0
for d = 1, #KEYS - 1 do
  local key = KEYS[1 + d]
  local ours = redis.call('SET', key, ARGV[first + d], 'EX', ARGV[1], 'NX')
  others[d] = not ours and redis.call('GET', key)
  if ours then decided = decided + 1 end
end
if decided > 0 then redis.call('HINCRBY', KEYS[1], 'decided', decided) end
return {1, others}
