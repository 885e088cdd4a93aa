-- Updates the label profiles of one shard, each offset once.
--
-- KEYS  1: the shard's applied label offsets; then the label profiles of the entities.
-- ARGV  1: half-lives; 2: labels remembered one by one; 3: the last offset; 4: the packed labels.
--
-- The arithmetic is models/features/profiles.py, operation by operation: that fixes every bit.

local unpack_struct, pack_struct, sub, byte, char, rep =
  struct.unpack, struct.pack, string.sub, string.byte, string.char, string.rep
local ldexp, call = math.ldexp, redis.call
local halves, HISTORY, labels = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[4]
local DOUBLES = 8 + 3 * halves -- updates, frauds, genuine, first and last fraud, last genuine, run, its beginning; sums
local LAYOUT = '<' .. rep('d', DOUBLES)
if call('HGET', KEYS[1], 'rebuilding') then return redis.error_reply('REBUILDING what is stored here') end
local applied_offset = tonumber(call('HGET', KEYS[1], 'profiles') or '-1')

local profiles, histories = {}, {}
local function load(i)
  local blob = call('GET', KEYS[1 + i])
  local profile = {}
  if blob then
    local kept = byte(blob, 1)
    histories[i] = sub(blob, 2, 1 + kept)
    profile = {unpack_struct(LAYOUT, blob, 2 + kept)}
  else
    histories[i] = ''
    for d = 1, DOUBLES do profile[d] = 0 end
  end
  profiles[i] = profile
  return profile
end

local function shifted(value, shift)
  if shift < -5000 then shift = -5000 end -- ldexp takes a C int; anything this small is 0 already
  return ldexp(value, shift)
end

local function apply_label(i, label)
  local profile = profiles[i] or load(i)
  local fraud, corrects, time = label[3], label[4], label[5]
  local fresh = profile[1] == 0
  local at = 9
  for w = 6, 4 + 2 * halves, 2 do
    local exponent, weight = label[w], label[w + 1]
    local frauds, genuine = profile[at + 1], profile[at + 2]
    local shift = profile[at] - exponent
    if fresh then
      profile[at] = exponent
    elseif shift < 0 then
      frauds, genuine = shifted(frauds, shift), shifted(genuine, shift)
      profile[at] = exponent
    elseif shift > 0 then
      weight = shifted(weight, -shift)
    end
    if fraud == 1 then
      frauds = frauds + weight
      if corrects == 1 then genuine = genuine - weight end
    else
      genuine = genuine + weight
      if corrects == 1 then frauds = frauds - weight end
    end
    if frauds < 0 then frauds = 0 end
    if genuine < 0 then genuine = 0 end
    profile[at + 1], profile[at + 2] = frauds, genuine
    at = at + 3
  end
  profile[1] = profile[1] + 1
  if fraud == 1 then
    profile[2], profile[3] = profile[2] + 1, profile[3] - corrects
    if profile[4] == 0 or time < profile[4] then profile[4] = time end
    if time > profile[5] then profile[5] = time end
    if profile[7] == 0 or time < profile[8] then profile[8] = time end
    profile[7] = profile[7] + 1
  else
    profile[2], profile[3] = profile[2] - corrects, profile[3] + 1
    if time > profile[6] then profile[6] = time end
    profile[7], profile[8] = 0, 0
  end
  histories[i] = sub(char(fraud) .. histories[i], 1, HISTORY)
end

local position, size = 1, #labels
while position <= size do
  local touched = byte(labels, position + 8)
  local layout = '<dBBBd' .. rep('dd', halves) .. rep('I4', touched)
  local label = {unpack_struct(layout, labels, position)}
  if label[1] > applied_offset then
    for e = 6 + 2 * halves, 5 + 2 * halves + touched do apply_label(label[e], label) end
  end
  position = label[#label]
end

if tonumber(ARGV[3]) > applied_offset then call('HSET', KEYS[1], 'profiles', ARGV[3]) end
for i, profile in pairs(profiles) do
  local history = histories[i]
  call('SET', KEYS[1 + i], char(#history) .. history .. pack_struct(LAYOUT, unpack(profile, 1, DOUBLES)))
end
return 1
