-- Resolves the status of labels, in the shard of their transactions, each offset once.
--
-- KEYS  1: the shard's applied label offsets; 2: the journal of statuses; 3: the pending labels; 4: its times;
--       then what is known of each label's transaction.
-- ARGV  1: seconds to live; 2: learned; 3: the last label given before; then offset, transaction, fraud (1 or 0),
-- known_at,
--       decision known (1 or 0), label as it came, for each label.
-- Returns one letter a label: N(ew) C(orrection) R(epeat) S(uperseded) W(aiting).

local call = redis.call
if call('HGET', KEYS[1], 'rebuilding') then return redis.error_reply('REBUILDING what is stored here') end
local passed = call('HGET', KEYS[1], 'passed') or '-1'
if tonumber(passed) < tonumber(ARGV[3]) then return redis.error_reply('LABELSBEHIND ' .. passed) end
local applied_offset = tonumber(call('HGET', KEYS[1], 'standings') or '-1')

local function resolve_label(key, a)
  local transaction, fraud, known_at = ARGV[a + 1], ARGV[a + 2], ARGV[a + 3]
  local known = call('GET', key) -- one digit for fraud, then known_at
  if known then
    local newer = tonumber(known_at) >= tonumber(string.sub(known, 2))
    if string.sub(known, 1, 1) == fraud then
      call('SET', key, newer and fraud .. known_at or known, 'EX', ARGV[1])
      return 'R'
    end
    if not newer then return 'S' end
  end
  if ARGV[a + 4] == '0' then
    local waits = call('ZSCORE', KEYS[4], transaction)
    if not waits or tonumber(known_at) >= tonumber(waits) then
      call('HSET', KEYS[3], transaction, ARGV[a + 5])
      call('ZADD', KEYS[4], known_at, transaction)
    else -- what is kept says where the last label of its transaction waited: `also_waited` in batch_checks.py
      local kept = call('HGET', KEYS[3], transaction) or ''
      local place, value = string.match(kept, '^(%d+):?%d* (.*)$')
      if place then call('HSET', KEYS[3], transaction, place .. ':' .. ARGV[a] .. ' ' .. value) end
    end
    return 'W'
  end
  call('SET', key, fraud .. known_at, 'EX', ARGV[1])
  return known and 'C' or 'N'
end

local statuses = {}
for n = 1, #KEYS - 4 do
  local a = 6 * n - 2
  local offset = ARGV[a]
  if tonumber(offset) <= applied_offset then
    local kept = tonumber(offset) >= tonumber(ARGV[2])
    local journaled = kept and call('ZRANGEBYSCORE', KEYS[2], offset, offset)[1]
    statuses[n] = journaled and string.sub(journaled, -1) or 'R'
  else
    statuses[n] = resolve_label(KEYS[4 + n], a)
    call('ZADD', KEYS[2], offset, offset .. statuses[n])
    call('HSET', KEYS[1], 'standings', offset)
  end
end
call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[2]) -- last, as in apply.lua
return table.concat(statuses)
