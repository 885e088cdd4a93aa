-- Tries every command that the scripts use, on keys that are gone when it ends: whether this user may.
--
-- KEYS  1: a hash; 2: a text; 3: a sorted set. Nothing else uses them.
-- Returns what Redis says of each command that it refuses.

local refused = {}
local function try(...)
  local answer = redis.pcall(...)
  if type(answer) == 'table' and answer.err then refused[#refused + 1] = answer.err end
end
local hash, text, sorted = KEYS[1], KEYS[2], KEYS[3]
try('HSET', hash, 'a', '1')
try('HGET', hash, 'a')
try('HMGET', hash, 'a')
try('HKEYS', hash)
try('HVALS', hash)
try('HINCRBY', hash, 'a', 1)
try('HDEL', hash, 'a')
try('SET', text, '', 'EX', 1)
try('MSET', text, '')
try('GET', text)
try('MGET', text)
try('ZADD', sorted, 1, 'a')
try('ZSCORE', sorted, 'a')
try('ZRANGEBYSCORE', sorted, 0, 1)
try('ZREMRANGEBYSCORE', sorted, 0, 1)
try('ZREM', sorted, 'a')
try('DEL', hash, text, sorted)
return refused
