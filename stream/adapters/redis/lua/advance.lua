-- Notes that every label up to an offset was given to this shard.
--
-- KEYS  1: the shard's applied label offsets.  ARGV  1: the offset noted before, -1 for none; 2: the offset.

local passed = redis.call('HGET', KEYS[1], 'passed') or '-1'
if tonumber(passed) < tonumber(ARGV[1]) then return redis.error_reply('LABELSBEHIND ' .. passed) end
if tonumber(ARGV[2]) > tonumber(passed) then redis.call('HSET', KEYS[1], 'passed', ARGV[2]) end
return 1
