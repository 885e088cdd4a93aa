-- Reads, then updates, the profiles of one shard for a batch of events; exact by the shard's applied offset.
--
-- KEYS  1: the shard's partitions; then a journal for each partition; then the profiles of the entities;
--       then their label profiles, in the same order.
-- ARGV  1: constants (doubles); 2: half-lives; 3: partitions; 4: entities; 5: the packed events;
--       then partition, end, recorded, fencing token, offsets rejected, offsets of duplicates (comma-separated) for
--       each.
-- Returns {0, partition, newest fencing token} for a stale owner, {2, partition, applied offset} for a shard that has
-- applied less
--       than is recorded, else {1, applied offsets before, trimmed to, new chunk, old chunks}, each over the
--       partitions.
--
-- The arithmetic is models/features/profiles.py, operation by operation: that fixes every bit.

local unpack_struct, pack_struct, sub, byte, char, rep =
  struct.unpack, struct.pack, string.sub, string.byte, string.char, string.rep
local ldexp, sqrt, concat, call = math.ldexp, math.sqrt, table.concat, redis.call
local MIN_COUNT, CLIP, OUTLIER, FLOOR = unpack_struct('<dddd', ARGV[1])
local LEAST_VARIANCE = FLOOR * FLOOR
local halves, partitions, entities = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local events = ARGV[5]
local ABSENT = char(255)
local DOUBLES = 3 + 6 * halves
local LAYOUT = '<' .. rep('d', DOUBLES)
local BARE = '<B' .. rep('d', DOUBLES)
local STEP = 3000 -- keys a command: Lua's stack holds 8000 values

-- The owner's fencing token comes first: a stale owner changes nothing.
local fields = {}
for p = 1, partitions do
  local partition = ARGV[6 * p]
  fields[3 * p - 2] = 'token:' .. partition
  fields[3 * p - 1] = 'fence:' .. partition
  fields[3 * p] = 'recorded:' .. partition
end
fields[3 * partitions + 1] = 'rebuilding'
local stored = call('HMGET', KEYS[1], unpack(fields))
if stored[3 * partitions + 1] then return redis.error_reply('REBUILDING what is stored here') end
local changes = {}
local applied_offsets, trimmed, applied_offset = {}, {}, {}
for p = 1, partitions do
  local at = 6 * p
  local fencing_token = stored[3 * p - 2]
  if fencing_token and tonumber(fencing_token) > tonumber(ARGV[at + 3]) then return {0, ARGV[at], fencing_token} end
  if fencing_token ~= ARGV[at + 3] then
    changes[#changes + 1] = fields[3 * p - 2]
    changes[#changes + 1] = ARGV[at + 3]
  end
  applied_offsets[p] = stored[3 * p - 1] or '-1'
  applied_offset[p] = tonumber(applied_offsets[p])
  if applied_offset[p] < tonumber(ARGV[at + 2]) then return {2, ARGV[at], applied_offsets[p]} end
  if tonumber(ARGV[at + 1]) > applied_offset[p] then
    changes[#changes + 1] = fields[3 * p - 1]
    changes[#changes + 1] = ARGV[at + 1]
  end
  trimmed[p] = stored[3 * p] or '-1'
  if tonumber(ARGV[at + 2]) > tonumber(trimmed[p]) then
    trimmed[p] = ARGV[at + 2]
    changes[#changes + 1] = fields[3 * p]
    changes[#changes + 1] = trimmed[p]
  end
end
if #changes > 0 then call('HSET', KEYS[1], unpack(changes)) end

-- Counted once, as they are passed for the first time.
for name, place in pairs({rejected = 4, copies = 5}) do
  local count = 0
  for p = 1, partitions do
    for offset in string.gmatch(ARGV[6 * p + place], '%d+') do
      if tonumber(offset) > applied_offset[p] then count = count + 1 end
    end
  end
  if count > 0 then call('HINCRBY', KEYS[1], name, count) end
end

local function read(first)
  local values = {}
  for from = 1, entities, STEP do
    local to = math.min(from + STEP - 1, entities)
    for i, value in ipairs(call('MGET', unpack(KEYS, first + from, first + to))) do
      values[from + i - 1] = value or ABSENT
    end
  end
  return values
end
local blobs, labels = read(1 + partitions), read(1 + partitions + entities)

local profiles, lengths, recent_events = {}, {}, {} -- decoded once, where an entity is first updated
local function decode(i)
  local blob = blobs[i]
  local profile
  if blob == ABSENT then
    profile = {}
    for d = 1, DOUBLES do profile[d] = 0 end
    lengths[i], recent_events[i] = '', ''
  else
    local kept = byte(blob, 1)
    profile = {unpack_struct(LAYOUT, blob, 2 + kept)}
    lengths[i] = sub(blob, 2, 1 + kept)
    recent_events[i] = sub(blob, profile[DOUBLES + 1])
  end
  profiles[i] = profile
  return profile
end

local function shifted(value, shift)
  if shift < -5000 then shift = -5000 end -- ldexp takes a C int; anything this small is 0 already
  return ldexp(value, shift)
end

local function update(i, max_recent, event)
  local profile = profiles[i] or decode(i)
  local time, amount, log_amount = event[5], event[6], event[7]
  local fresh = profile[1] == 0
  local at = 4
  for w = 8, 6 + 2 * halves, 2 do
    local exponent, weight = event[w], event[w + 1]
    local scale, count, total, logs, squares, outliers =
      profile[at], profile[at + 1], profile[at + 2], profile[at + 3], profile[at + 4], profile[at + 5]
    local shift = scale - exponent
    local value, outlier = log_amount, 0
    local present, factor = count / weight, nil
    if shift < 0 then
      if shift >= -1022 then -- a normal power of two: multiplying rounds as ldexp does
        factor = ldexp(1, shift)
        present = present * factor
      else
        present = shifted(present, shift)
      end
    end
    if present >= MIN_COUNT then
      local mean = logs / count
      local variance = squares / count - mean * mean
      local deviation = FLOOR
      if not (variance < LEAST_VARIANCE) then deviation = sqrt(variance) end
      if value > mean + OUTLIER * deviation then outlier = 1 end
      local high, low = mean + CLIP * deviation, mean - CLIP * deviation
      if high < value then value = high end
      if low > value then value = low end
    end
    if fresh then
      profile[at] = exponent
    elseif shift < 0 then
      if factor then
        count, total, logs = count * factor, total * factor, logs * factor
        squares, outliers = squares * factor, outliers * factor
      else
        count, total, logs = shifted(count, shift), shifted(total, shift), shifted(logs, shift)
        squares, outliers = shifted(squares, shift), shifted(outliers, shift)
      end
      profile[at] = exponent
    elseif shift > 0 then
      weight = shifted(weight, -shift)
    end
    profile[at + 1] = count + weight
    profile[at + 2] = total + weight * amount
    profile[at + 3] = logs + weight * value
    profile[at + 4] = squares + weight * value * value
    profile[at + 5] = outliers + weight * outlier
    at = at + 6
  end
  if fresh then
    profile[2], profile[3] = time, time
  else
    if time < profile[2] then profile[2] = time end
    if time > profile[3] then profile[3] = time end
  end
  profile[1] = profile[1] + 1
  local sizes, texts = lengths[i], recent_events[i]
  if max_recent == 0 and sizes == '' then -- most entities keep no recent events: one string less to build
    blobs[i] = pack_struct(BARE, 0, unpack(profile, 1, DOUBLES))
    return
  end
  if max_recent > 0 then
    sizes = char(#event[4]) .. sizes
    texts = event[4] .. texts
  end
  while #sizes > max_recent do -- the oldest event is last
    texts = sub(texts, 1, #texts - byte(sizes, #sizes))
    sizes = sub(sizes, 1, #sizes - 1)
  end
  lengths[i], recent_events[i] = sizes, texts
  blobs[i] = char(#sizes) .. sizes .. pack_struct(LAYOUT, unpack(profile, 1, DOUBLES)) .. texts
end

local HEAD = '<dBxxxxI2Bc0ddd' .. rep('dd', halves) -- the digest of the transaction is copied, not read
local layouts, parts, replay = {}, {}, {}
for p = 1, partitions do parts[p] = {} end
local position, size = 1, #events
local first_entity = 8 + 2 * halves
while position <= size do
  local touched = byte(events, position + 8)
  local layout = layouts[touched]
  if not layout then
    layout = HEAD .. rep('I4B', touched)
    layouts[touched] = layout
  end
  local event = {unpack_struct(layout, events, position)}
  local p = event[3]
  if event[1] <= applied_offset[p] then
    replay[p] = true
  else
    local part = parts[p]
    part[#part + 1] = sub(events, position, position + 12) -- offset, number of entities, digest of the transaction
    for e = first_entity, first_entity + 2 * touched - 2, 2 do
      local i = event[e]
      -- Read before write: an event does not vouch for itself.
      part[#part + 1] = blobs[i]
      part[#part + 1] = labels[i]
      update(i, event[e + 1], event)
    end
  end
  position = event[#event]
end

local writes = {}
for i in pairs(profiles) do
  writes[#writes + 1] = KEYS[1 + partitions + i]
  writes[#writes + 1] = blobs[i]
  if #writes >= 2 * STEP then
    call('MSET', unpack(writes))
    writes = {}
  end
end
if #writes > 0 then call('MSET', unpack(writes)) end

-- A chunk of the journal is what one call read for one partition; its field is the last offset it covers.
local chunks, old = {}, {}
for p = 1, partitions do
  old[p] = replay[p] and call('HVALS', KEYS[1 + p]) or {}
  chunks[p] = concat(parts[p])
  if #parts[p] > 0 then call('HSET', KEYS[1 + p], ARGV[6 * p + 1], chunks[p]) end
  -- Trimmed last: a journal that is empty in between is no key, and while its slot moves to another master
  -- the script could not write it any more.
  local gone = {}
  for _, last in ipairs(call('HKEYS', KEYS[1 + p])) do
    if tonumber(last) <= tonumber(trimmed[p]) then gone[#gone + 1] = last end
  end
  if #gone > 0 then call('HDEL', KEYS[1 + p], unpack(gone)) end
end
return {1, applied_offsets, trimmed, chunks, old}
